"""VMware's backdoor at the processor's level: our machine code, and a hypervisor that answers it.

`tests.guests.backdoor` traces an ordinary process, and answers the `in`, `rep outsb` and `rep insb`
at which the processor stops it. vmtoolsd of open-vm-tools was run under the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.tether import modules, vmware
from agent.tether.tclo_lines import POLL_SECONDS

pytestmark = pytest.mark.skipif(
    vmware.is_here(modules.read_pci_ids()), reason="VMware itself answers in this machine"
)
ROOT = Path(__file__).resolve().parents[3]
CALLS = ["info-get guestinfo.a", "info-get guestinfo.b", "info-set guestinfo.c \u2026and more"]
LONG = "x" * 70001  # no multiple of a word
REQUESTS = ["reset", "Capabilities_Register", "Set_Option broadcastIP 1", "OS_Reboot", "OS_Resume"]


def trace(scenario, *, attend=False):
    """Return what the guest's program said, and what the hypervisor saw."""
    command = [sys.executable, "-m", "tests.guests.backdoor"]
    command += [sys.executable, "-m", "tests.guests.backdoor_guest", json.dumps(CALLS)]
    command += ["attend"] if attend else []
    scenario = {"variables": {"guestinfo.a": LONG}, **scenario}
    done = subprocess.run(
        command,
        input=json.dumps(scenario).encode(),
        capture_output=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    *said, seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert seen["code"] == 0, done.stderr.decode()
    return said, seen


@pytest.mark.parametrize(
    ("scenario", "blocks"),
    [
        ({}, True),
        ({"blocks": False, "variables": {"guestinfo.a": "short"}}, False),
        ({"cookies": False}, True),
        ({"checkpoint_every": 3}, True),
        ({"blocks": False, "checkpoint_every": 11, "variables": {"guestinfo.a": "short"}}, False),
        ({"lose_at": 2}, True),
    ],
    ids=["blocks", "words", "no cookies", "checkpoints", "words, checkpoints", "channels are lost"],
)
def test_calls(scenario, blocks):
    (time, *replies), seen = trace({**scenario, "unix_ns": 1_700_000_000_123_456_000})
    assert time == 1_700_000_000_123_456_000
    assert replies == [
        scenario.get("variables", {"guestinfo.a": LONG})["guestinfo.a"],
        ["No value found"],
        "",
    ]
    assert seen["variables"]["guestinfo.c"].encode("latin-1").decode() == "\u2026and more"
    assert list(dict.fromkeys(seen["calls"])) == [call.encode().decode("latin-1") for call in CALLS]
    assert bool(seen["counts"]["blocks"]) == blocks
    assert bool(seen["counts"]["checkpoints"]) == ("checkpoint_every" in scenario)
    assert seen["counts"]["opened"] == 1 + ("lose_at" in scenario)
    assert seen["left_open"] == 0


def test_requests_are_asked_for_ten_times_a_second_and_answered():
    said, seen = trace({"requests": [*REQUESTS, "Foo", "OS_Halt"]}, attend=True)
    assert seen["answers"] == ["OK ATR toolbox", *["OK "] * 4, "ERROR Unknown Command", "OK "]
    assert said[-1]["done"] == ["restart", "resumed", "stop"]
    assert said[-1]["shortest"] >= POLL_SECONDS - 1e-9
    assert seen["variables"]["guestinfo.ip"] == "10.0.2.15"
    for call in ("tools.set.versiontype 2147483647 4", "tools.os.statechange.status 1 1"):
        assert call in seen["calls"]
    assert seen["left_open"] == 0


def test_where_no_hypervisor_answers_the_program_lives():
    """The processor stops the child that tries; that is all."""
    command = [sys.executable, "-m", "tests.guests.backdoor_guest", "[]"]
    done = subprocess.run(command, capture_output=True, timeout=60, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"null\n", b"")


def test_a_time_that_the_hypervisor_does_not_tell():
    (time, *_), _seen = trace({"unix_ns": 0})
    assert time is None
