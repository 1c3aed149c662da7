"""Volumes in real machines: found, filled from the image, mounted in order, and left clean.

Many cases share a boot. The judges are e2fsck, qemu-img, and the kernel of this host, which mounts
the volumes afterwards where the tests are root.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.host import Stdio, client
from converter.errors import IntegrityError, NotFoundError, UsageError
from converter.layer.entry import Entry, Kind
from converter.machine.directory import MachineFolder
from converter.machine.local import LocalMachines
from converter.machine.machines import Status
from converter.machine.model import GuestConfig, MachineSpec, RunConfig
from converter.vmdk.scratch import write_disk
from converter.volume.mount import VolumeMount
from converter.volume.request import VolumeRequest
from converter.volume.volumes import Volumes
from tests.guests import trees
from tests.guests.machines import local_machines, request
from tests.guests.trees import file, folder, symlink
from tests.images import prepared
from tests.images.trees import Node, differences, read_tree
from tinykernel.record import load_boot_image

pytestmark = [pytest.mark.integration, pytest.mark.vm]

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


@pytest.fixture(scope="module")
def link(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("busybox", "qemu-img", "qemu-system-x86_64", "e2fsck"):
        tool(name)
    target = tmp_path_factory.mktemp("root") / "root.vmdk"
    return trees.write_tree(target, image(), uuid=ROOT_UUID, capacity_bytes=CAPACITY_BYTES)


@pytest.fixture
def host(tmp_path: Path, link: Path) -> Host:
    return Host(tmp_path, link)


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


def wanted(name: str, target: str, **fields: object) -> VolumeRequest:
    """Return the request for a small volume with a name."""
    return VolumeRequest(name=name, target=target, size_bytes=128 * MIB, **fields)  # type: ignore[arg-type]  # fields pass through


@pytest.mark.timeout(600)
def test_a_machine_with_every_kind_of_volume(host: Host, tool: Callable[[str], str]) -> None:
    volumes = host.volumes
    used_volume(volumes, "full", [file("used", b"used\n")], 128 * MIB)
    interrupted = [
        folder("", xattrs=((b"trusted.saltflat.filling", b""),)),
        file("who", b"ends half w"),
        *(file(f"a/b/c/{number}") for number in range(50)),
    ]
    used_volume(volumes, "half", interrupted, 128 * MIB)
    requests = [
        wanted("data", "/data"),
        wanted("nested", "/data/sub/nested"),
        wanted("further", "/data/not/there/yet"),
        wanted("nocopy", "/nocopy", copy=False),
        wanted("full", "/full"),
        wanted("half", "/half"),
        wanted("blank", "/blank"),
        wanted("linked", "/link/place"),
        wanted("etc", "/etc"),
        wanted("shm", "/dev/shm"),
        wanted("ro", "/ro", read_only=True),
        wanted("twice", "/one"),
        wanted("twice", "/two", read_only=True),
        VolumeRequest(target="/unnamed", size_bytes=64 * MIB),
        *(wanted("further", f"/more/{number}") for number in range(2)),
        *(wanted(f"many{number}", f"/many/{number}", read_only=True) for number in range(6)),
    ]
    machine = host.create(requests)
    before = digest(volumes.disk("ro"))
    with host.started(machine) as guest:
        shell = guest.shell
        options = {
            fields[4]: fields[5].split(",")
            for fields in map(str.split, shell("cat /proc/self/mountinfo").splitlines())
        }
        targets = {"/link/place": "/far/away/place"}
        for one in requests:
            found = options[targets.get(one.target, one.target)]
            assert ("ro" if one.read_only else "rw") in found
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
            assert "Read-only file system" in guest.execute(f"echo x > {path}")[1]
        shell("echo kept > /data/new; echo deep > /data/not/there/yet/x")
        shell("echo n > /data/sub/nested/n; echo far > /link/place/x; echo x > /unnamed/x")
        shell("mkdir /half/new")
        # Copies go where the process's files are.
        (host.work / "copied-in").write_text("in\n")
        client.copy_in(guest.address, str(host.work / "copied-in"), "/data")
        assert shell("cat /data/copied-in") == "in\n"
        client.copy_out(guest.address, "/data/sub/nested", str(host.work / "out"))
        assert (host.work / "out/inner").read_text() == "inner\n"
        assert (host.work / "out/n").read_text() == "n\n"
        with pytest.raises(UsageError, match="in use"):
            volumes.remove("data", force=True)
        guest.stop()
        with pytest.raises(UsageError, match="in use"):
            volumes.remove("data")
    assert digest(volumes.disk("ro")) == before
    assert (
        len(volumes.names()) == 19
    )  # the unnamed one too, for it was not removed with its machine
    assert not any(volumes.users(name) for name in volumes.names())
    for name in volumes.names():
        with flat(volumes.disk(name), tool):
            pass
    if os.geteuid() == 0:
        compare_with_image(host, tool)


def compare_with_image(host: Host, tool: Callable[[str], str]) -> None:
    """Hold what was copied against the image, by the host's kernel."""
    place = host.work / "mount"
    with flat(host.link, tool) as raw, kernel_mount(raw, place) as mount:
        image_tree = read_tree(mount)
    found = {}
    for name in ("data", "nested", "further", "half", "etc", "linked"):
        with flat(host.volumes.disk(name), tool) as raw, kernel_mount(raw, place) as mount:
            found[name] = read_tree(mount)
            if name == "data":
                assert (mount / "sparse").stat().st_blocks * 512 <= 16384
    data = found["data"]
    added = {name for name in data if name.split(b"/")[0] in (b"new", b"copied-in", b"not")}
    assert added == {b"new", b"copied-in", b"not", b"not/there", b"not/there/yet"}
    kept = {name: node for name, node in data.items() if name not in added}
    unlike = differences(below(image_tree, b"data"), kept, unpacked_ns=2**80)
    # The process has put names into the top folder since.
    assert [line for line in unlike if not line.startswith("b'': mtime_ns")] == []
    assert set(found["nested"]) == {b"", b"inner", b"n"}
    assert set(found["further"]) == {b"", b"x"}
    assert set(found["half"]) == {b"", b"whole", b"new"}
    assert set(found["linked"]) == {b"", b"x"}
    assert not found["half"][b""].xattrs
    assert {b"passwd", b"group", b"hosts"} <= set(found["etc"])


@pytest.mark.timeout(600)
def test_readers_share_a_volume_whose_machine_lost_its_power(
    host: Host, tool: Callable[[str], str]
) -> None:
    volumes = host.volumes
    writer = host.create([wanted("data", "/data")], name="writer")
    with host.started(writer) as guest:
        guest.shell("echo first > /data/new; sync; echo second >> /data/new; rm /data/plain; sync")
        with pytest.raises(UsageError, match=r"the machine writer .* writes to it"):
            host.machines.start(host.create([wanted("data", "/data", read_only=True)]))
        os.kill(supervisor_of(host, writer), signal.SIGKILL)
        # Whatever is killed of us, the volume is taken as long as the hypervisor runs.
        assert [user.running for user in volumes.users("data") if user.name == "writer"] == [True]
    # Its power was cut.
    before = digest(volumes.disk("data"))
    readers = [host.create([wanted("data", "/data", read_only=True)]) for _ in range(2)]
    with host.started(readers[0]) as one, host.started(readers[1]) as other:
        for guest in (one, other):
            assert guest.shell("test -e /data/plain || cat /data/new") == "first\nsecond\n"
        one.stop()
        other.stop()
    assert digest(volumes.disk("data")) == before
    with host.started(host.create([wanted("data", "/data")], auto_remove=True)) as guest:
        # What the image has is not copied over it again.
        assert guest.shell("test -e /data/plain || cat /data/new") == "first\nsecond\n"
        host.machines.stop(guest.id, 30)
    with flat(volumes.disk("data"), tool):
        pass


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("target", "kind", "says"),
    [
        ("/a-file", "volume", "the volume for /a-file cannot take over"),
        ("/large", "volume", "No space left on device"),
        ("/data", "disk", "has the serial number"),
    ],
)
def test_what_the_guest_cannot_do_reaches_the_host(
    host: Host, target: str, kind: str, says: str
) -> None:
    first = VolumeRequest(name="data", target=target, size_bytes=64 * MIB)
    if kind == "disk":  # there is one, but no file system is on it
        host.volumes.create("data", size_bytes=64 * MIB)
        host.volumes.disk("data").unlink()
        with host.volumes.disk("data").open("xb", buffering=0) as blank:
            write_disk(blank, capacity_bytes=64 * MIB, cid=1, writes=(), file_name="disk.vmdk")
    machine = host.create([first, VolumeRequest(target="/unnamed", size_bytes=64 * MIB)])
    host.machines.start(machine)
    status = host.machines.wait(machine)
    assert status.failure is not None
    assert (status.code, status.failure.kind) == (125, kind)
    assert says in status.failure.message
    host.machines.remove(machine, volumes=True)
    assert host.volumes.names() == ["data"]


def test_a_machine_that_cannot_be_made_leaves_no_volume(host: Host) -> None:
    host.volumes.create("data", size_bytes=64 * MIB)
    (host.work / "state/volumes/data/volume.json").write_bytes(b"{}")
    spec = host.spec([VolumeRequest(target="/unnamed", size_bytes=64 * MIB)])
    damaged = VolumeMount(name="data", target="/data")
    with pytest.raises(IntegrityError):
        host.machines.create(request(replace(spec, volumes=(*spec.volumes, damaged)), host.work))
    assert host.machines.list() == ()
    assert host.volumes.names() == ["data"]
    assert host.volumes.users("data") == ()


def supervisor_of(host: Host, machine: str) -> int:
    owner = MachineFolder(host.work / "state/machines" / machine).supervisor()
    assert owner is not None
    return owner.mark.pid
