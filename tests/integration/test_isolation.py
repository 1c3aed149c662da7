"""What a process reaches of the machine that it runs in: nothing, unless it is privileged.

tests/guests/escape.py tries, as root with Docker's default capabilities, in the product itself:
the command, the converted image, the booted guest. The same attempts by a privileged process show
that they are real: docs/docker-compat.md says what such a process can reach.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.images import escape
from tests.integration.conftest import Saltflat

pytestmark = [pytest.mark.integration, pytest.mark.vm, pytest.mark.timeout(300)]

PRIVILEGED_REACHES = {
    "disks",
    "memory",
    "kernel memory",
    "device file system",
    "all ports",
    "the backdoor's port",
    "sysfs writable",
    "kernel settings",
    "kernel keys",
    "the machine's console",
    "control group",
    "sysrq",
    "the kernel's log",
    "unmount the root and come back",
}


def attempts(saltflat: Saltflat, store: Path, *flags: str) -> dict[str, str]:
    source = f"oci:{escape.layout()}:latest"
    done = saltflat("run", "--rm", "--store", store, *flags, source, timeout_seconds=250)
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr.decode()
    assert lines[-1] == "end "
    found = {}
    for line in lines[:-1]:
        word, _, rest = line.partition(" ")
        name, _, why = rest.partition("|")
        found[name] = why if word == "refused" else "reached"
    return found


def reached(found: dict[str, str]) -> set[str]:
    return {name for name, why in found.items() if why == "reached"}


def test_root_cannot_reach_the_machine(saltflat: Saltflat, store: Path) -> None:
    found = attempts(saltflat, store)
    assert len(found) >= 40
    assert not reached(found)


def test_an_init_and_a_dhcp_client_are_no_ways_out(saltflat: Saltflat, store: Path) -> None:
    """The one is a copy of the agent, with the agent's memory, in the process's own world.

    The other is a process in the agent's world, and needs files that would be deleted else.
    """
    assert not reached(attempts(saltflat, store, "--init", "--network", "dhcp"))


def test_the_attempts_are_real(saltflat: Saltflat, store: Path) -> None:
    found = attempts(saltflat, store, "--privileged")
    assert reached(found) >= PRIVILEGED_REACHES, found
