"""The hypervisor that our tests play is one to VMware's own open-vm-tools, which our agent follows.

Else the two could be wrong in the same way. vmtoolsd is Debian's, and runs as on VMware but for
what tells it where it is.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.tether import modules, vmware
from agent.tether.appearance import Appearance
from agent.tether.tclo import Tclo
from tests.guests import vmx
from tests.guests.open_vm_tools import daemon_arguments, make_shim, vmtoolsd
from tests.images.cache import ROOT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        vmware.is_here(modules.read_pci_ids()), reason="VMware itself answers in this machine"
    ),
]

TEXT = "hello from a variable"
REQUESTS = ["reset", "ping", "Capabilities_Register", "Set_Option broadcastIP 1", "Foo bar"]


@pytest.fixture(scope="module")
def shim(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mmdebstrap", "gcc"):
        tool(name)
    return make_shim(tmp_path_factory.mktemp("shim"))


def trace(command: list[str], scenario: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Run a command under the tests' backdoor; return what it said, and what was seen of it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.guests.backdoor", *command],
        input=json.dumps({"variables": {"guestinfo.a": TEXT}, **scenario}).encode(),
        capture_output=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    said, _, seen = done.stdout.decode().strip().rpartition("\n")
    found: dict[str, Any] = json.loads(seen)
    return said, found


@pytest.mark.parametrize(
    "scenario",
    [{}, {"blocks": False}, {"blocks": False, "checkpoint_every": 7}, {"cookies": False}],
    ids=["blocks", "words", "checkpoints", "no cookies"],
)
def test_the_backdoor_is_one(shim: Path, scenario: dict[str, Any]) -> None:
    said, seen = trace(vmtoolsd(shim, "--cmd", "info-get guestinfo.a"), scenario)
    assert (said, seen["code"], seen["left_open"]) == (TEXT, 0, 0)
    assert bool(seen["counts"]["blocks"]) == scenario.get("blocks", True)
    assert bool(seen["counts"]["checkpoints"]) == ("checkpoint_every" in scenario)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[vmx.Vmx]:
    """Answer on the port of calls, a unix socket in the test's folder."""
    known = vmx.Vmx({"guestinfo.a": TEXT.encode()})
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "976"))
        listener.listen()

        def answer() -> None:
            connected, _ = listener.accept()
            with connected:
                vmx.serve(connected, known)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield known
        thread.join(10)


def test_packets_are_what_they_should_be(shim: Path, served: vmx.Vmx, tmp_path: Path) -> None:
    command = vmtoolsd(shim, "--cmd", "info-get guestinfo.a", sockets=tmp_path)
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert done.stdout.decode().strip() == TEXT
    assert [call.rstrip(b"\0") for call in served.calls] == [b"info-get guestinfo.a"]


def test_the_agent_answers_as_vmtoolsd_does(shim: Path, tmp_path: Path) -> None:
    command = vmtoolsd(shim, *daemon_arguments(tmp_path, ["powerOps", "guestInfo"]))
    _said, seen = trace(command, {"requests": REQUESTS, "until_answered": True})
    theirs = {call.rstrip("\0") for call in seen["calls"]}
    ours: list[str] = []

    def call(request: bytes) -> None:
        ours.append(request.decode())

    tclo = Tclo(
        call,
        Appearance(call, host_name="guest"),
        stop=lambda: True,
        restart=lambda: True,
        resumed=lambda: None,
    )
    answers = []
    for request in REQUESTS:
        answer, follow = tclo.take(request.encode())
        answers.append(answer.decode())
        follow()
    assert answers == seen["answers"]
    # The version is another one, and vmtoolsd has its look around later.
    version = "tools.set.versiontype 2147483647 4"
    told = [one for one in ours if one not in (version, "SetGuestInfo  1 guest")]
    assert [one for one in told if one not in theirs] == []
    assert version in ours
    assert any(one.split()[0::2] == version.split()[0::2] for one in theirs)
