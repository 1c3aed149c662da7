"""A machine's volumes as QEMU's arguments and as the guest's document has them."""

from __future__ import annotations

import itertools
import json
import uuid
from pathlib import Path

import pytest

from converter.errors import IntegrityError
from converter.machine.qemu_command import Accelerator, machine_arguments
from converter.machine.volume_disks import guest_volumes, make_overlays, volume_arguments
from converter.vmdk.reader import read_link
from converter.volume.mount import VolumeMount
from converter.volume.record import Volume
from converter.volume.request import MOST_VOLUMES
from converter.volume.volumes import Lent, Volumes


def lent(number: int, *, read_only: bool = False, disk: Path | None = None) -> Lent:
    volume = Volume(
        name=f"volume-{number}", uuid=uuid.UUID(int=number), size_bytes=1 << 30, created_ns=0
    )
    path = disk or Path(f"/state,x/volumes/volume-{number}/disk.vmdk")
    return Lent(volume=volume, disk=path, read_only=read_only, descriptor=-1)


def options(arguments: list[str], name: str) -> list[str]:
    return [value for flag, value in itertools.pairwise(arguments) if flag == name]


def test_no_volume_no_argument(make_spec) -> None:
    assert volume_arguments([]) == []
    arguments = machine_arguments(
        make_spec(), Accelerator("tcg", (7, 2)), machine="0" * 64, channel="line", temporary=True
    )
    assert sum("scsi-hd" in argument for argument in arguments) == 1


def test_a_volume_is_known_by_its_serial_number() -> None:
    arguments = volume_arguments([lent(5)])
    (node,) = map(json.loads, options(arguments, "-blockdev"))
    assert node["file"] == {
        "driver": "file",
        "filename": "/state,x/volumes/volume-5/disk.vmdk",
    }
    assert node["backing"] is None
    assert "cache" not in node  # what the guest flushes is on the host's disk
    (device,) = options(arguments, "-device")
    assert device == f"scsi-hd,bus=scsi.0,scsi-id=1,drive=volume0,serial={5:032x}"


def test_a_volume_that_is_read_stands_below_a_disk_of_the_machine() -> None:
    nodes = [
        json.loads(node)
        for node in options(volume_arguments([lent(5, read_only=True)]), "-blockdev")
    ]
    assert [node["node-name"] for node in nodes] == ["below0", "volume0"]
    assert nodes[0]["read-only"] is True
    assert nodes[0]["file"]["read-only"] is True
    assert nodes[1]["backing"] == "below0"
    assert nodes[1]["file"]["filename"] == "volume0.vmdk"


def test_every_disk_has_a_place_of_its_own_that_a_guest_looks_at() -> None:
    arguments = volume_arguments([lent(number) for number in range(MOST_VOLUMES)])
    devices = options(arguments, "-device")
    adapters = {"scsi"} | {
        device.partition("id=")[2] for device in devices if device.startswith("pvscsi")
    }
    places = {("scsi.0", 0)}
    for device in devices:
        if device.startswith("scsi-hd"):
            fields = dict(field.split("=") for field in device.split(",")[1:])
            assert fields["bus"].removesuffix(".0") in adapters
            places.add((fields["bus"], int(fields["scsi-id"])))
    assert len(places) == MOST_VOLUMES + 1
    assert len(adapters) == 4
    assert {target for _, target in places} == {*range(16)} - {7}


def test_the_guest_is_told_each_mount_in_its_order() -> None:
    mounts = [
        VolumeMount(name="volume-1", target="/a"),
        VolumeMount(name="volume-2", target="/a/b", read_only=True, copy=False),
        VolumeMount(name="volume-1", target="/c", read_only=True),
    ]
    told = guest_volumes(mounts, [lent(1), lent(2, read_only=True)])
    assert [(one.serial, one.path, one.read_only, one.copy) for one in told] == [
        (f"{1:032x}", "/a", False, True),
        (f"{2:032x}", "/a/b", True, False),
        (f"{1:032x}", "/c", True, True),
    ]


def test_a_new_disk_for_each_start(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    volumes.create("data", size_bytes=1 << 30)
    machine = tmp_path / "machine"
    machine.mkdir()
    reader = lent(1, read_only=True, disk=volumes.disk("data"))
    for _ in range(2):
        make_overlays(machine, [lent(0), reader])
        assert [path.name for path in machine.iterdir()] == ["volume1.vmdk"]
        with read_link(machine / "volume1.vmdk") as overlay, read_link(reader.disk) as below:
            assert overlay.capacity_bytes == below.capacity_bytes
            assert overlay.descriptor.parent is not None
            assert overlay.descriptor.parent.cid == below.descriptor.cid
            assert not any(any(overlay.sparse_extent().read_table(number)) for number in range(32))
        (machine / "volume1.vmdk").write_bytes(b"of the start before")
    reader.disk.write_bytes(b"no disk")
    with pytest.raises(IntegrityError):
        make_overlays(machine, [reader])
