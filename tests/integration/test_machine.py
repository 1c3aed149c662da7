"""Machines that really run: QEMU, our boot image, tether, and a disk made by other programs.

The disk is mke2fs's and qemu-img's, so that nothing of our own writers can hide a fault here.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from agent.host.status import ExitStatus
from converter.errors import HypervisorError
from converter.machine.model import Channel, GuestConfig, MachineSpec, RunConfig
from tests.guests.machines import Outcome, run_to_end
from tinykernel.record import BootImage, load_boot_image

pytestmark = [pytest.mark.integration, pytest.mark.vm]

ROOT_UUID = "6b8e54d2-3f0a-4c1e-9f5d-2a7c1b0e9d84"
CAPACITY_BYTES = 64 << 20


@pytest.fixture(scope="module")
def boot(boot_store: Path) -> BootImage:
    (found,) = (boot_store / "boot").glob("*/boot.json")
    return load_boot_image(found.parent)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Two links: a file system with busybox, and a child that nobody wrote to.

    Their folder and names hold what has a meaning to QEMU's own option syntax.
    """
    folder = tmp_path_factory.mktemp("disk") / "a,b"
    root = folder / "root"
    for name in ("bin", "dev", "proc", "sys", "tmp", "run", "etc"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin/busybox")
    for library in _libraries(busybox):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    for name in ("sh", "cat", "echo", "stty", "id", "sleep"):
        (root / "bin" / name).symlink_to("busybox")
    raw, base, top = folder / "raw.img", folder / "base,cache=none.vmdk", folder / "top:1.vmdk"
    _run("mke2fs", "-q", "-t", "ext4", "-U", ROOT_UUID, "-d", str(root), str(raw), "64M")
    _run("qemu-img", "convert", "-O", "vmdk", str(raw), str(folder / "base.vmdk"))
    _run(
        "qemu-img",
        "create",
        "-f",
        "vmdk",
        "-b",
        "base.vmdk",
        "-F",
        "vmdk",
        str(folder / "top.vmdk"),
    )
    (folder / "base.vmdk").rename(base)
    (folder / "top.vmdk").rename(top)
    return base, top


def _libraries(program: str) -> list[str]:
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [word for word in listing.split() if word.startswith("/")]


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture
def spec(boot: BootImage, chain: tuple[Path, ...]) -> MachineSpec:
    return MachineSpec(
        chain=chain,
        capacity_bytes=CAPACITY_BYTES,
        boot=boot,
        guest=GuestConfig(
            root_uuid=ROOT_UUID,
            hostname="0123456789ab",
            image={"Env": ["FROM_IMAGE=1"]},
            run=RunConfig(),
        ),
        memory_mib=256,
    )


def relay(spec: MachineSpec, tmp_path: Path, script: str, stdin: bytes | None = None) -> Outcome:
    """Run `sh -c script` and collect what it wrote; nothing may be left of the machine."""
    run = RunConfig(args=("/bin/sh", "-c", script), stdin=stdin is not None)
    spec = replace(spec, guest=replace(spec.guest, run=run))
    given = tmp_path / "in"
    given.write_bytes(stdin or b"")
    try:
        with given.open() as file:
            descriptor = None if stdin is None else file.fileno()
            return run_to_end(spec, tmp_path, stdin=descriptor, auto_remove=True)
    finally:
        assert [path.name for path in (tmp_path / "state/machines").iterdir()] == [".lock"]
        assert not list((tmp_path / "store/pins").iterdir())


@pytest.mark.parametrize("channel", list(Channel))
def test_output_and_exit_code_come_back(
    spec: MachineSpec, tmp_path: Path, channel: Channel
) -> None:
    before = [link.read_bytes() for link in spec.chain]
    script = "echo out; echo err >&2; echo changed > /etc/changed; exit 7"

    outcome = relay(replace(spec, channel=channel), tmp_path, script)

    assert (outcome.status, outcome.stdout, outcome.stderr) == (ExitStatus(7), b"out\n", b"err\n")
    assert [link.read_bytes() for link in spec.chain] == before


def test_stdin_reaches_the_process_and_ends(spec: MachineSpec, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    outcome = relay(spec, tmp_path, "cat; echo $FROM_IMAGE >&2", stdin=data)
    assert outcome.status.code == 0
    assert outcome.stdout == data
    assert outcome.stderr == b"1\n"


def test_a_kernel_panic_is_recognised(spec: MachineSpec, tmp_path: Path) -> None:
    folder = tmp_path / "no-init"
    shutil.copytree(spec.boot.folder, folder)
    (folder / "initrd").write_bytes(b"")
    boot = replace(spec.boot, folder=folder)
    with pytest.raises(HypervisorError, match="kernel panicked") as caught:
        relay(replace(spec, boot=boot), tmp_path, "true")
    assert "panic" in str(caught.value.hint)


def test_what_qemu_refuses_is_shown(spec: MachineSpec, tmp_path: Path) -> None:
    junk = tmp_path / "junk.vmdk"
    junk.write_bytes(b"junk" * 1000)
    with pytest.raises(HypervisorError, match="ended with status 1") as caught:
        relay(replace(spec, chain=(junk, spec.chain[1])), tmp_path, "true")
    assert "vmdk" in str(caught.value.hint).lower()
