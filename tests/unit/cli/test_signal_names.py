"""Signals by name and number."""

from __future__ import annotations

import signal

import pytest

from converter.cli.signal_names import read_signal
from converter.errors import UsageError


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("KILL", 9),
        ("SIGKILL", 9),
        ("sigterm", 15),
        ("hup", 1),
        ("9", 9),
        ("64", 64),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63),
        ("winch", 28),
    ],
)
def test_signals(text, number):
    assert read_signal(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "65", "-9", "SIG", "NOSUCH", "RTMIN-1", "RTMAX+1", "SIG_DFL", "\u0669"]
)
def test_what_is_none(text):
    with pytest.raises(UsageError, match="no signal"):
        read_signal(text)


def test_every_name_of_this_host_is_known():
    for known in signal.Signals:
        assert read_signal(known.name) == known.value
