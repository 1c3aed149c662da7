"""The three ways in which a machine of this host does not answer, through the command line.

Real QEMUs: one that never gets as far as its line, one whose processor never starts, one that is
frozen while its guest runs. Behind a concentrator: tests/integration/vspc/test_vspc_diagnosis.py.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.host import client
from tests.integration.lifecycle import Host, host, until

pytestmark = [pytest.mark.integration, pytest.mark.vm, pytest.mark.timeout(300)]

PATIENCE = "connect=2 hello=2 silence=2"
# Where a test wants another machine than a good one, QEMU becomes that.
QEMU = """#!/bin/sh
case "$TEST_QEMU $*" in
absent*\\ -name\\ *) exec sleep 300 ;;
frozen*\\ -name\\ *) exec {real} "$@" -S ;;
*) exec {real} "$@" ;;
esac
"""


@dataclass(frozen=True)
class Impatient(Host):
    """A host that calls it a fault soon; `qemu` says what becomes of QEMU."""

    qemu: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {
            **super().environment,
            "SALTFLAT_PATIENCE": PATIENCE,
            "TEST_QEMU": self.qemu,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }

    def diagnosed(self, name: str, *said: str) -> None:
        """Check what attach and exec say of a machine, in words and for programs."""
        for verb in (("attach", "--no-stdin", name), ("exec", name, "true")):
            text = self.refused(125, *verb)
            for words in said:
                assert words in text, verb


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    demo_layout: Path,
    boot_store: Path,
    tool: Callable[[str], str],
) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("host")
    (made / "bin").mkdir()
    wrapper = made / "bin" / "qemu-system-x86_64"
    wrapper.write_text(QEMU.format(real=tool("qemu-system-x86_64")))
    wrapper.chmod(0o755)
    with host(made, demo_layout, boot_store):
        yield made


@pytest.fixture
def impatient(folder: Path, demo_layout: Path) -> Callable[[str], Impatient]:
    return lambda qemu: Impatient(folder, f"oci:{demo_layout}:1", qemu)


def test_the_hypervisor_never_connected(impatient: Callable[[str], Impatient]) -> None:
    here = impatient("absent")
    here.good("run", "-d", "--name", "absent", here.image, "sleep", "1000")
    here.diagnosed("absent", "The hypervisor has not connected", "See whether the hypervisor")
    here.good("rm", "-f", "absent")


def test_it_connected_but_the_guest_never_said_hello(
    impatient: Callable[[str], Impatient],
) -> None:
    here = impatient("frozen")
    here.good("run", "-d", "--name", "frozen", here.image, "sleep", "1000")
    here.diagnosed(
        "frozen", "connected, but the guest has not said hello", "The guest did not boot"
    )
    here.good("rm", "-f", "frozen")


def test_the_guest_said_hello_and_went_silent(impatient: Callable[[str], Impatient]) -> None:
    here = impatient("")
    machine = here.good("run", "-d", "--name", "hung", here.image, "sleep", "1000").strip()

    def condition() -> str:
        return str(client.describe(here.address(machine))["condition"])

    until(lambda: condition() == "alive")
    pid = int(here.inspect("hung")["details"]["hypervisor_pid"])
    os.kill(pid, signal.SIGSTOP)
    here.diagnosed(
        "hung", "said hello, but then went silent", "run out of memory, hung or been paused"
    )
    os.kill(pid, signal.SIGCONT)
    until(lambda: condition() == "alive")
    assert here.inside(machine, "echo again") == "again\n"
    here.good("rm", "-f", "hung")


def test_a_setting_that_is_none_is_said(
    impatient: Callable[[str], Impatient], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = impatient("")
    monkeypatch.setattr("tests.integration.test_diagnosis.PATIENCE", "hello=soon")
    text = here.refused(125, "run", "-d", "--name", "wrong", here.image, "true")
    assert "SALTFLAT_PATIENCE: 'hello=soon' is not" in text
