"""Machines with volumes: what they are made of, a guest that runs, and its disks afterwards.

Owns no test. The root disk has a tree of everything that copy-up must be able to copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from agent.host import Stdio, client
from converter.errors import NotFoundError
from converter.layer.entry import Entry, Kind
from converter.machine.local import LocalMachines
from converter.machine.machines import Status
from converter.machine.model import GuestConfig, MachineSpec, RunConfig
from converter.volume.request import VolumeRequest
from converter.volume.volumes import Volumes
from tests.guests import trees
from tests.guests.machines import local_machines, request
from tests.guests.trees import file, folder, symlink
from tests.images import prepared
from tests.images.trees import Node
from tinykernel.record import load_boot_image

MIB = 1 << 20
CAPACITY_BYTES = 512 * MIB
ROOT_UUID = "6f1c9a3e-2222-4222-8333-0123456789ab"
PROGRAM = bytes(range(256)) * 500
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # net_bind_service, effective
NOBODY = 0xFFFFFFFF
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in [(1, 6, NOBODY), (2, 4, 1234), (4, 4, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY)]
)
LONG_NAME = "n" * 255


def data_tree(at: str) -> list[Entry]:
    """Return what copy-up must be able to copy, below the folder `at`."""
    return [
        folder(at, 0o1777, uid=33, gid=44, mtime_ns=1_234_567_890_123_456_789),
        file(f"{at}/plain", b"plain\n", mode=0o640, uid=1000, gid=1001, mtime_ns=5),
        file(f"{at}/empty", b"", mode=0o000),
        file(f"{at}/suid", PROGRAM, mode=0o6755, uid=7),
        file(f"{at}/capable", PROGRAM, mode=0o755, xattrs=((b"security.capability", CAPABILITY),)),
        file(
            f"{at}/attributes",
            xattrs=((b"system.posix_acl_access", ACL), (b"trusted.t", b"\0t"), (b"user.u", b"u")),
            mode=0o640,
        ),
        Entry(
            f"{at}/sparse".encode(),
            Kind.FILE,
            mode=0o600,
            size=64 * MIB + 5,
            data=[memoryview(b"a" * 4096), memoryview(b"end..")],
            segments=((8 * MIB, 4096), (64 * MIB, 5)),
        ),
        symlink(f"{at}/short", "plain", uid=5, gid=6, mtime_ns=7_000_000_008),
        symlink(f"{at}/long", "x" * 3000),
        Entry(f"{at}/device".encode(), Kind.CHARACTER, mode=0o666, major=1, minor=3),
        Entry(f"{at}/block".encode(), Kind.BLOCK, mode=0o640, gid=6, major=8, minor=5),
        Entry(f"{at}/fifo".encode(), Kind.FIFO, mode=0o620, uid=9),
        folder(f"{at}/sub", 0o2750, uid=1000, gid=1000, xattrs=((b"user.d", b"d"),), mtime_ns=99),
        file(f"{at}/sub/\N{LATIN SMALL LETTER E WITH ACUTE}", b"name\n"),
        Entry(f"{at}/sub/again".encode(), Kind.HARDLINK, target=f"{at}/plain".encode()),
        Entry(f"{at}/third".encode(), Kind.HARDLINK, target=f"{at}/plain".encode()),
        folder(f"{at}/sub/nested", 0o700),
        file(f"{at}/sub/nested/inner", b"inner\n"),
        *(file(f"{at}/many/{number}", b"%d\n" % number) for number in range(500)),
        file("/".join([at, *["deep"] * 40, LONG_NAME]), b"deep\n"),
    ]


def image() -> list[Entry]:
    """Return the tree of the root disk."""
    return [
        *trees.busybox(),
        *data_tree("data"),
        file("nocopy/here", b"image\n"),
        file("full/image", b"image\n"),
        file("half/whole", b"whole\n"),
        file("ro/image", b"image\n"),
        folder("blank", 0o700, uid=3, gid=4),
        symlink("link", "/far/away"),
        file("a-file"),
        file("large/file", os.urandom(1 << 20) * 70),
    ]


@dataclass(frozen=True)
class Host:
    """A state folder, and what machines are made from."""

    work: Path
    link: Path

    @property
    def volumes(self) -> Volumes:
        return Volumes(self.work / "state")

    @property
    def machines(self) -> LocalMachines:
        return local_machines(self.work)

    def spec(self, requests: Iterable[VolumeRequest]) -> MachineSpec:
        """Return a machine whose process waits to be stopped."""
        (boot,) = (prepared.boot_store() / "boot").glob("*/boot.json")
        script = "trap 'exit 3' TERM; sleep 100000 & wait"
        return MachineSpec(
            chain=(self.link,),
            capacity_bytes=CAPACITY_BYTES,
            boot=load_boot_image(boot.parent),
            guest=GuestConfig(
                root_uuid=ROOT_UUID,
                hostname="guest",
                image={},
                run=RunConfig(args=("/bin/sh", "-c", script)),
            ),
            memory_mib=256,
            volumes=self.volumes.prepare(requests),
        )

    def create(self, requests: Iterable[VolumeRequest], **options: object) -> str:
        """Make such a machine; return its id."""
        return self.machines.create(request(self.spec(requests), self.work, **options)).id

    @contextlib.contextmanager
    def started(self, machine: str) -> Iterator[Guest]:
        """Start a machine; cut its power if it has not been stopped by the block's end."""
        self.machines.start(machine)
        try:
            guest = Guest(self, machine)
            while client.describe(guest.address)["started"] is None:
                assert self.machines.find(machine).status is Status.RUNNING
                time.sleep(0.05)
            yield guest
        finally:
            with contextlib.suppress(NotFoundError):  # by itself
                self.machines.remove(machine, force=True)


@dataclass(frozen=True)
class Guest:
    """A machine that runs."""

    host: Host
    id: str

    def execute(self, script: str) -> tuple[int, str]:
        """Run a script in it; return its exit code and all that it says."""
        output = self.host.work / f"output-{self.id[:8]}"
        with output.open("wb") as file:
            stdio = Stdio(None, file.fileno(), file.fileno())
            execution = client.Execution(["/bin/sh", "-ec", script])
            status = client.execute(self.address, execution, stdio)
        assert status.failure is None, status
        return status.code, output.read_text()

    def shell(self, script: str) -> str:
        """Run a script that must succeed; return what it says."""
        code, said = self.execute(script)
        assert code == 0, (script, said)
        return said

    @property
    def address(self) -> client.Address:
        return self.host.machines.address(self.id)

    def stop(self) -> None:
        """End the machine in an orderly way."""
        self.host.machines.stop(self.id, 30)
        assert self.host.machines.wait(self.id).code == 3
        assert "still in use" not in self.host.machines.console(self.id)


def used_volume(volumes: Volumes, name: str, entries: list[Entry], size_bytes: int) -> None:
    """Make a volume that has been used before."""
    made = volumes.create(name, size_bytes=size_bytes)
    volumes.disk(name).unlink()
    trees.write_tree(volumes.disk(name), entries, uuid=str(made.uuid), capacity_bytes=size_bytes)


def digest(path: Path) -> str:
    """Return a file's sha256."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextlib.contextmanager
def flat(disk: Path, tool: Callable[[str], str]) -> Iterator[Path]:
    """Yield the disk as a raw image, which e2fsck must find clean without a journal to replay."""
    raw = disk.with_suffix(".raw")
    subprocess.run(["qemu-img", "check", "-q", disk], check=True, timeout=60)
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True, timeout=60)
    try:
        done = subprocess.run(
            [tool("e2fsck"), "-fn", raw], capture_output=True, text=True, timeout=100, check=False
        )
        said = done.stdout + done.stderr
        assert (done.returncode, "? no" in said) == (0, False), said
        assert "journal" not in said, said
        yield raw
    finally:
        raw.unlink()


@contextlib.contextmanager
def kernel_mount(raw: Path, place: Path) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop,ro,noload", raw, place], check=True, timeout=60)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True, timeout=60)


def below(tree: dict[bytes, Node], top: bytes) -> dict[bytes, Node]:
    """Return the part of a tree below a folder, as a tree."""
    return {
        name[len(top) + 1 :]: replace(node, same_file_as=node.same_file_as[len(top) + 1 :])
        for name, node in tree.items()
        if name == top or name.startswith(top + b"/")
    }


def wanted(name: str, target: str, **fields: object) -> VolumeRequest:
    """Return the request for a small volume with a name."""
    return VolumeRequest(name=name, target=target, size_bytes=128 * MIB, **fields)  # type: ignore[arg-type]  # fields pass through
