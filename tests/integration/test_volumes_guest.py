"""Volumes in real machines: found, filled from the image, mounted in order, and left clean.

Many cases share a boot. The judges are e2fsck, qemu-img, and the kernel of this host, which mounts
the volumes afterwards where the tests are root.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.host.transport import UnixListener, private_directory
from converter.layer.entry import Entry, Kind
from converter.machine.model import CHANNEL_NAME, Channel, GuestConfig, RunConfig
from converter.machine.qemu_command import (
    CONFIG_FILE,
    FW_CFG_NAME,
    KERNEL_COMMAND_LINE,
    Accelerator,
    base_arguments,
    disk_nodes,
)
from converter.machine.volume_disks import guest_volumes, make_overlays, volume_arguments
from converter.volume.mount import VolumeMount
from converter.volume.request import VolumeRequest
from converter.volume.volumes import Volumes
from tests.guests import trees
from tests.guests.host import BOOT_SECONDS, GuestHost, Record
from tests.guests.trees import file, folder, symlink
from tests.images import prepared
from tests.images.trees import Node, differences, read_tree
from tinykernel.record import load_boot_image

pytestmark = [pytest.mark.integration, pytest.mark.vm]

MIB = 1 << 20
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
        file("large/file", os.urandom(1 << 20) * 100),
    ]


@dataclass
class Machine:
    """A machine with volumes that runs, and the host that speaks with it."""

    process: subprocess.Popen[bytes]
    folder: Path
    host: GuestHost
    number: int = 0

    @property
    def main(self) -> Record:
        return self.host.processes[0]

    def run(self, kind: str = "exec", stdin: bytes | None = None, **fields: object) -> Record:
        """Run something beside the main process, to its end."""
        self.number += 1
        record = self.host.start(self.number, kind, **fields)
        if stdin is not None:
            self.host.write(self.number, stdin, end=True)
        self.host.wait(lambda: record.closed)
        return record

    def shell(self, script: str) -> str:
        """Run a script that must succeed; return what it says."""
        record = self.run(args=["/bin/sh", "-ec", script])
        assert record.code == 0, (script, record.stdout, record.stderr, record.messages)
        return record.stdout.decode()

    def end(self) -> None:
        """End the machine in an orderly way."""
        self.host.endpoint.control({"type": "power-off"})
        self.host.wait(lambda: self.process.poll() is not None, 60)
        assert self.process.returncode == 0
        console = (self.folder / "console.log").read_text(errors="replace")
        assert "still in use" not in console, console


@contextlib.contextmanager
def booted(volumes: Volumes, link: Path, mounts: tuple[VolumeMount, ...]) -> Iterator[Machine]:
    """Boot a machine whose main process waits for its stdin to end."""
    machine_id = secrets.token_hex(32)
    place = volumes.root.parent / "machines" / machine_id
    place.mkdir(parents=True)
    volumes.attach(machine_id, machine_id[:6], mounts)
    (boot_folder,) = (prepared.boot_store() / "boot").glob("*/boot.json")
    boot = load_boot_image(boot_folder.parent)
    run = RunConfig(args=("/bin/sh", "-c", "cat; exit 3"), stdin=True)
    guest = GuestConfig(root_uuid=ROOT_UUID, hostname="guest", image={}, run=run)
    key = secrets.token_bytes(32)
    with (
        private_directory() as sockets,
        UnixListener(sockets / "line") as listener,
        volumes.lend(machine_id, machine_id[:6], mounts) as lent,
    ):
        make_overlays(place, lent)
        told = guest_volumes(mounts, lent)
        (place / CONFIG_FILE).write_bytes(guest.encode(Channel.VIRTIO_SERIAL, key, told))
        shutil.copyfile(link, place / "scratch.vmdk")
        arguments = base_arguments(Accelerator("tcg", (7, 2)), boot.kernel, boot.initrd)
        arguments += ["-append", f"{KERNEL_COMMAND_LINE} tether.config=fw_cfg", "-m", "256"]
        arguments += ["-fw_cfg", f"name={FW_CFG_NAME},file={CONFIG_FILE}"]
        for node in disk_nodes([], temporary=True):
            arguments += ["-blockdev", json.dumps(node)]
        arguments += ["-device", "pvscsi,id=scsi", "-device", "scsi-hd,bus=scsi.0,drive=scratch"]
        arguments += volume_arguments(lent)
        arguments += ["-chardev", f"socket,id=line,path={sockets}/line,server=off,reconnect=1"]
        arguments += ["-device", "virtio-serial-pci"]
        arguments += ["-device", f"virtserialport,chardev=line,name={CHANNEL_NAME}"]
        arguments += ["-chardev", "null,id=nothing"]
        arguments += ["-device", "isa-serial,chardev=nothing,index=0"]
        with (place / "qemu.log").open("wb") as log:
            process = subprocess.Popen(
                arguments,
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[one.descriptor for one in lent],
            )
        host = GuestHost(listener, key)
        try:
            main = host.processes[0]
            host.wait(lambda: bool(main.messages) or process.poll() is not None, BOOT_SECONDS)
            console = (place / "console.log").read_text(errors="replace")
            assert process.poll() is None, console + (place / "qemu.log").read_text()
            yield Machine(process, place, host)
        finally:
            host._lose()
            process.kill()
            process.wait(30)


@pytest.fixture(scope="module")
def link(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("busybox", "qemu-img", "qemu-system-x86_64", "e2fsck"):
        tool(name)
    target = tmp_path_factory.mktemp("root") / "root.vmdk"
    return trees.write_tree(target, image(), uuid=ROOT_UUID, capacity_bytes=512 * MIB)


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(tmp_path / "state")


def used_volume(volumes: Volumes, name: str, entries: list[Entry], size_bytes: int) -> None:
    """Make a volume that has been used before."""
    made = volumes.create(name, size_bytes=size_bytes)
    volumes.disk(name).unlink()
    trees.write_tree(volumes.disk(name), entries, uuid=str(made.uuid), capacity_bytes=size_bytes)


def digest(path: Path) -> str:
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


def request(name: str, target: str, **fields: object) -> VolumeRequest:
    size_bytes = 128 * MIB
    return VolumeRequest(name=name, target=target, size_bytes=size_bytes, **fields)  # type: ignore[arg-type]  # fields pass through


def test_a_machine_with_every_kind_of_volume(
    volumes: Volumes, link: Path, tool: Callable[[str], str], tmp_path: Path
) -> None:
    used_volume(volumes, "full", [file("used", b"used\n")], 128 * MIB)
    interrupted = [
        folder("", xattrs=((b"trusted.saltflat.filling", b""),)),
        file("who", b"ends half w"),
        *(file(f"a/b/c/{number}") for number in range(50)),
    ]
    used_volume(volumes, "half", interrupted, 128 * MIB)
    mounts = volumes.prepare(
        [
            request("data", "/data"),
            request("nested", "/data/sub/nested"),
            request("further", "/data/not/there/yet"),
            request("nocopy", "/nocopy", copy=False),
            request("full", "/full"),
            request("half", "/half"),
            request("blank", "/blank"),
            request("linked", "/link/place"),
            request("etc", "/etc"),
            request("shm", "/dev/shm"),
            request("ro", "/ro", read_only=True),
            request("twice", "/one"),
            request("twice", "/two", read_only=True),
            VolumeRequest(target="/unnamed", size_bytes=64 * MIB),
        ]
    )
    before = digest(volumes.disk("ro"))
    with booted(volumes, link, mounts) as machine:
        assert "started" in machine.main.messages, machine.main.messages
        shell = machine.shell
        options = {
            fields[4]: fields[5].split(",")
            for fields in map(str.split, shell("cat /proc/self/mountinfo").splitlines())
        }
        targets = {"/link/place": "/far/away/place"}
        for mount in mounts:
            found = options[targets.get(mount.target, mount.target)]
            assert ("ro" if mount.read_only else "rw") in found
            assert {"nosuid", "nodev", "noexec"}.isdisjoint(found)
        assert not any("/volumes" in target for target in options)
        # Copied from the image before anything was mounted, nested volumes too.
        assert shell("cat /data/sub/nested/inner /data/many/499") == "inner\n499\n"
        assert shell("ls /nocopy; cat /full/used; ls /full; ls -A /half; cat /half/whole") == (
            "used\nused\nwhole\nwhole\n"
        )
        assert shell("stat -c '%a %u %g' /blank /data") == "700 3 4\n1777 33 44\n"
        assert shell("cat /ro/image; ls /data/not/there/yet | wc -l") == "image\n0\n"
        # The network files are above a volume at /etc.
        assert shell("cat /etc/hostname; id -u app; cat /proc/mounts | grep -c ' /etc/'") == (
            "guest\n1000\n3\n"
        )
        assert shell("echo 1 > /one/file; cat /two/file; echo 2 > /dev/shm/x") == "1\n"
        for path in ("/ro/new", "/two/new", "/ro/image"):
            refused = machine.run(args=["/bin/sh", "-c", f"echo x > {path}"])
            assert b"Read-only file system" in refused.stderr
        shell(
            "echo kept > /data/new; echo deep > /data/not/there/yet/x; echo n > /data/sub/nested/n"
        )
        shell("echo far > /link/place/x; echo x > /unnamed/x; mkdir /half/new")
        # Copies go where the process's files are.
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            member = tarfile.TarInfo("copied-in")
            member.size = 3
            tar.addfile(member, io.BytesIO(b"in\n"))
        assert machine.run("copy-in", archive.getvalue(), path="/data").code == 0
        out = machine.run("copy-out", path="/data/sub/nested")
        with tarfile.open(fileobj=io.BytesIO(out.stdout)) as tar:
            assert {"nested", "nested/inner", "nested/n"} <= set(tar.getnames())
        machine.end()
    assert digest(volumes.disk("ro")) == before
    assert not any(user.running for name in volumes.names() for user in volumes.users(name))
    for name in volumes.names():
        with flat(volumes.disk(name), tool):
            pass
    if os.geteuid() == 0:
        compare_with_image(volumes, link, tool, tmp_path)


def compare_with_image(
    volumes: Volumes, link: Path, tool: Callable[[str], str], tmp_path: Path
) -> None:
    """Hold what was copied against the image, by the host's kernel."""
    with flat(link, tool) as raw, kernel_mount(raw, tmp_path / "mount") as mount:
        wanted = read_tree(mount)
    trees_of = {}
    for name in ("data", "nested", "further", "half", "etc", "linked"):
        with (
            flat(volumes.disk(name), tool) as raw,
            kernel_mount(raw, tmp_path / "mount") as mount,
        ):
            trees_of[name] = read_tree(mount)
            if name == "data":
                sparse = (mount / "sparse").stat()
                assert sparse.st_blocks * 512 <= 16384
    data = trees_of["data"]
    added = {name for name in data if name.split(b"/")[0] in (b"new", b"copied-in", b"not")}
    assert added == {b"new", b"copied-in", b"not", b"not/there", b"not/there/yet"}
    kept = {name: node for name, node in data.items() if name not in added}
    found = differences(below(wanted, b"data"), kept, unpacked_ns=2**80)
    # The process has put names into the top folder since.
    assert [line for line in found if not line.startswith("b'': mtime_ns")] == []
    assert set(trees_of["nested"]) == {b"", b"inner", b"n"}
    assert set(trees_of["further"]) == {b"", b"x"}
    assert set(trees_of["half"]) == {b"", b"whole", b"new"}
    assert set(trees_of["linked"]) == {b"", b"x"}
    assert not trees_of["half"][b""].xattrs
    assert {b"passwd", b"group", b"hosts"} <= set(trees_of["etc"])


def test_readers_share_a_volume_whose_machine_lost_its_power(
    volumes: Volumes, link: Path, tool: Callable[[str], str]
) -> None:
    mounts = volumes.prepare([request("data", "/data")])
    with booted(volumes, link, mounts) as machine:
        machine.shell(
            "echo first > /data/new; sync; echo second >> /data/new; rm /data/plain; sync"
        )
        assert [user.running for user in volumes.users("data")] == [True]
        # Its power is cut: the context's end kills the hypervisor.
    before = digest(volumes.disk("data"))
    readers = [replace(mount, read_only=True) for mount in mounts]
    with (
        booted(volumes, link, tuple(readers)) as one,
        booted(volumes, link, tuple(readers)) as other,
    ):
        for machine in (one, other):
            assert machine.shell("test -e /data/plain || cat /data/new") == "first\nsecond\n"
        one.end()
        other.end()
    assert digest(volumes.disk("data")) == before
    with booted(volumes, link, mounts) as machine:
        # What the image has is not copied over it again.
        assert machine.shell("test -e /data/plain || cat /data/new") == "first\nsecond\n"
        machine.end()
    with flat(volumes.disk("data"), tool):
        pass


@pytest.mark.parametrize(
    ("target", "size_mib", "kind", "says"),
    [
        ("/a-file", 64, "volume", "the volume for /a-file cannot take over"),
        ("/large", 64, "volume", "No space left on device"),
        ("/data", 0, "disk", "has the serial number"),
    ],
)
def test_what_the_guest_cannot_do_reaches_the_host(
    volumes: Volumes, link: Path, target: str, size_mib: int, kind: str, says: str
) -> None:
    size_bytes = (size_mib or 64) * MIB
    mounts = volumes.prepare([VolumeRequest(name="data", target=target, size_bytes=size_bytes)])
    if not size_mib:
        volumes.disk("data").unlink()
        with volumes.disk("data").open("xb", buffering=0) as target_file:
            trees.write_disk(
                target_file, capacity_bytes=64 * MIB, cid=1, writes=(), file_name="disk.vmdk"
            )
    with booted(volumes, link, mounts) as machine:
        machine.host.wait(lambda: machine.main.code is not None, BOOT_SECONDS)
        failure = machine.main.messages["failed"]
        assert (failure["code"], failure["kind"]) == (125, kind)
        assert says in failure["message"]
        machine.host.wait(lambda: machine.process.poll() is not None)
