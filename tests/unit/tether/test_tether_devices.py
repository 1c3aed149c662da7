"""What the guest's hardware needs: drivers, load order, superblocks, memory events."""

from __future__ import annotations

import errno
import json
import os
import struct

import pytest

from agent.tether import c_ext4, c_linux, cgroups, disks, modules, syscalls
from agent.tether.errors import StartError


def superblock(*, blocks=262144, log_block_size=2, features=0, magic=c_ext4.EXT4_SUPER_MAGIC):
    raw = bytearray(c_ext4.SUPERBLOCK_BYTES)
    struct.pack_into("<I", raw, c_ext4.S_BLOCKS_COUNT_LO, blocks & 0xFFFFFFFF)
    struct.pack_into("<I", raw, c_ext4.S_BLOCKS_COUNT_HI, blocks >> 32)
    struct.pack_into("<I", raw, c_ext4.S_LOG_BLOCK_SIZE, log_block_size)
    struct.pack_into("<H", raw, c_ext4.S_MAGIC, magic)
    struct.pack_into("<I", raw, c_ext4.S_FEATURE_INCOMPAT, features)
    raw[c_ext4.S_UUID : c_ext4.S_UUID + 16] = bytes(range(16))
    return bytes(raw)


def test_superblock():
    assert disks.parse_superblock(superblock()) == disks.Ext4Superblock(
        "00010203-0405-0607-0809-0a0b0c0d0e0f", 4096, 262144
    )


def test_high_block_count_needs_its_feature():
    large = (5 << 32) + 7
    assert disks.parse_superblock(superblock(blocks=large)).block_count == 7
    raw = superblock(blocks=large, features=c_ext4.INCOMPAT_64BIT)
    assert disks.parse_superblock(raw).block_count == large


@pytest.mark.parametrize(
    "raw",
    [b"", bytes(1024), superblock()[:1023], superblock(magic=0xEF54), superblock(log_block_size=7)],
)
def test_what_is_no_superblock(raw):
    assert disks.parse_superblock(raw) is None


@pytest.mark.parametrize(
    ("disk_bytes", "expected"),
    [
        pytest.param(1 << 30, None, id="full already"),
        pytest.param((1 << 30) + 4095, None, id="not a whole block more"),
        pytest.param((1 << 30) + 4096, 262145, id="one block more"),
        pytest.param(16 << 30, 4194304, id="much more"),
        pytest.param(1 << 29, None, id="never shrink"),
    ],
)
def test_growth(disk_bytes, expected):
    assert disks.growth_in_blocks(disks.parse_superblock(superblock()), disk_bytes) == expected


def test_drivers_are_named_once_in_bus_order():
    ids = [
        (0x8086, 0x29C0),
        c_linux.PCI_VIRTIO_CONSOLE,
        c_linux.PCI_VMWARE_PVSCSI,
        c_linux.PCI_VIRTIO_1_BLOCK,
        c_linux.PCI_VMWARE_PVSCSI,
    ]
    assert modules.drivers_for(ids) == ["vmw_pvscsi", "sd_mod", "virtio_pci", "virtio_blk"]
    ports = modules.drivers_for(ids, modules.PORT_DRIVERS)
    assert ports == ["virtio_pci", "virtio_console"]


def test_pci_ids(tmp_path):
    for address, vendor, device in (
        ("0000:00:02.0", "15ad", "07c0"),
        ("0000:00:01.0", "1af4", "1003"),
    ):
        folder = tmp_path / address
        folder.mkdir()
        (folder / "vendor").write_text(f"0x{vendor}\n")
        (folder / "device").write_text(f"0x{device}\n")
    expected = [c_linux.PCI_VIRTIO_CONSOLE, c_linux.PCI_VMWARE_PVSCSI]
    assert modules.read_pci_ids(os.fspath(tmp_path)) == expected
    assert modules.read_pci_ids(os.fspath(tmp_path / "none")) == []


@pytest.fixture
def kernel(monkeypatch):
    """A kernel that notes what it is given: (first bytes of the file, parameters)."""
    loaded = []

    def load_module(descriptor, parameters):
        name = os.read(descriptor, 64).decode()
        if name == "refused":
            raise OSError(errno.EINVAL, "Invalid argument")
        if name == "present":
            raise OSError(errno.EEXIST, "File exists")
        loaded.append((name, parameters))

    monkeypatch.setattr(syscalls, "load_module", load_module)
    return loaded


def write_order(folder, depends):
    order = {}
    for name, needs in depends.items():
        (folder / f"{name}.ko").write_text(name)
        order[name] = {"file": os.fspath(folder / f"{name}.ko"), "depends": needs}
    (folder / "order.json").write_text(json.dumps(order))
    return modules.read_order(os.fspath(folder / "order.json"))


def test_modules_load_after_what_they_need_and_once(tmp_path, kernel):
    loader = write_order(
        tmp_path,
        {
            "scsi_common": [],
            "scsi_mod": ["scsi_common"],
            "vmw_pvscsi": ["scsi_common", "scsi_mod"],
            "sd_mod": ["scsi_common", "scsi_mod"],
        },
    )
    for name in ("vmw_pvscsi", "sd_mod", "vmw_pvscsi", "built_in"):
        loader.load(name)
    assert kernel == [
        ("scsi_common", ""),
        ("scsi_mod", "scan=manual"),
        ("vmw_pvscsi", ""),
        ("sd_mod", ""),
    ]


def test_module_that_is_there_is_fine_and_a_refused_one_is_not(tmp_path, kernel):
    loader = write_order(tmp_path, {"present": [], "refused": [], "top": ["present"]})
    loader.load("top")
    assert kernel == [("top", "")]
    with pytest.raises(StartError, match=r"kernel module refused .*Invalid argument") as caught:
        loader.load("refused")
    assert caught.value.kind == "module"


def test_circular_order_ends(tmp_path, kernel):
    write_order(tmp_path, {"a": ["b"], "b": ["a"]}).load("a")
    assert kernel == [("b", ""), ("a", "")]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"file": "/x"}}'])
def test_order_that_is_none(tmp_path, text):
    (tmp_path / "order.json").write_text(text)
    with pytest.raises(StartError, match="not usable"):
        modules.read_order(os.fspath(tmp_path / "order.json"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("low 0\noom 3\noom_kill 2\noom_group_kill 0\n", 2),
        ("oom_kill 0\n", 0),
        ("", 0),
        ("oom_kill x", 0),
    ],
)
def test_oom_kills(text, expected):
    assert cgroups.count_oom_kills(text) == expected
