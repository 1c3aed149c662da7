"""Volumes in real machines: found, filled from the image, mounted in order, and left clean.

Many cases share a boot. The judges are e2fsck, qemu-img, and the kernel of this host, which mounts
the volumes afterwards where the tests are root.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.host import client
from converter.errors import IntegrityError, UsageError
from converter.machine.directory import MachineFolder
from converter.vmdk.scratch import write_disk
from converter.volume.mount import VolumeMount
from converter.volume.request import VolumeRequest
from tests.guests import trees
from tests.guests.machines import request
from tests.guests.trees import file, folder
from tests.images.trees import differences, read_tree
from tests.integration.volume_guests import (
    CAPACITY_BYTES,
    MIB,
    ROOT_UUID,
    Host,
    below,
    digest,
    flat,
    image,
    kernel_mount,
    used_volume,
    wanted,
)

pytestmark = [pytest.mark.integration, pytest.mark.vm]


@pytest.fixture(scope="module")
def link(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("busybox", "qemu-img", "qemu-system-x86_64", "e2fsck"):
        tool(name)
    target = tmp_path_factory.mktemp("root") / "root.vmdk"
    return trees.write_tree(target, image(), uuid=ROOT_UUID, capacity_bytes=CAPACITY_BYTES)


@pytest.fixture
def host(tmp_path: Path, link: Path) -> Host:
    return Host(tmp_path, link)


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
