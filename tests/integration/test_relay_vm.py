"""A booted guest and relays with its key or without: who has none is not heard."""

from __future__ import annotations

import os
import random

import pytest

from agent.host import client as clients
from agent.host.relay import write_key
from converter.machine.model import Channel, RunConfig
from tests.guests.host import BOOT_SECONDS, booted
from tests.guests.line import Faults
from tests.guests.relayed import relayed
from tests.integration.relay_runs import Attached, until

pytestmark = [pytest.mark.integration, pytest.mark.vm]

CAT = RunConfig(args=("/bin/sh", "-c", "cat; exit 4"), stdin=True)


def test_only_who_has_the_key_opens_a_session(boot_store, link, tmp_path):
    """Nobody else does, and who does goes on as if nothing had been in between."""
    data = random.Random(3).randbytes(100_000)
    with booted(tmp_path, link, CAT) as machine:
        right, wrong = tmp_path / "right", tmp_path / "wrong"
        write_key(wrong, os.urandom(32))
        with relayed(machine, folder=right) as guest:
            until(lambda: guest.describe()["condition"] == "alive", BOOT_SECONDS)
        # Now the guest runs and listens, and somebody else greets it.
        with relayed(machine, folder=wrong) as guest:
            until(lambda: guest.describe()["counters"]["frames_sent"] >= 3)
            told = guest.describe()
            assert (told["condition"], told["started"]) == ("no-hello", None)
            assert told["counters"]["frames_received"] == 0
        with relayed(machine, folder=right) as guest:
            attached = Attached(guest.address, data)
            attached.join(BOOT_SECONDS)
            assert (attached.result.code, bytes(attached.out)) == (4, data)


def test_forged_and_repeated_frames_are_dropped_and_counted(boot_store, link, tmp_path):
    """On a line where nothing else is wrong: each of them would be a byte too many."""
    data = random.Random(4).randbytes(2_000_000)
    with (
        booted(tmp_path, link, CAT, channel=Channel.VIRTIO_SERIAL) as machine,
        relayed(machine, faults=Faults(forge=2e-5, replay=1e-5)) as guest,
    ):
        attached = Attached(guest.address, data)
        attached.join(BOOT_SECONDS)
        assert (attached.result.code, bytes(attached.out)) == (4, data)
        counters = clients.describe(guest.address)["counters"]
        assert counters["forged"] > 0
        assert counters["replayed"] > 0
        assert guest.line.counts["connections"] == 1
