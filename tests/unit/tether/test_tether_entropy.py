"""The seed of random numbers, against this kernel."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

import pytest

from agent.tether import entropy


@pytest.mark.root
def test_the_kernel_takes_it(monkeypatch, capsys):
    sent = []
    real = fcntl.ioctl

    def watched(descriptor, request, argument):
        assert Path(f"/proc/self/fd/{descriptor}").readlink() == Path("/dev/urandom")
        sent.append((request, argument))
        return real(descriptor, request, argument)

    monkeypatch.setattr(fcntl, "ioctl", watched)
    entropy.seed(bytes(32))
    entropy.seed(b"\1" + bytes(31))
    (first, one), (second, other) = sent
    assert first == second == entropy.RNDADDENTROPY
    for argument in (one, other):
        assert struct.unpack_from("=ii", argument) == (256, 32)
        assert len(argument) == 8 + 32
    assert one != other
    assert bytes(32) not in one  # it is not the key itself
    assert capsys.readouterr().err == ""


def test_a_kernel_that_does_not_is_no_error():
    entropy.seed(bytes(32), os.devnull)
    entropy.seed(bytes(32), "/nonexistent")
