"""One fault at a time in a sound bundle: `verify` finds each and says which it is.

Most faults come with a record that was corrected, as somebody who means it would; then the digests
are no help. A few need the image, since nothing but the image tells what a file should hold.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.errors import IntegrityError
from converter.events import ignore
from converter.ext4 import c_ext4 as c
from converter.image.files import Folder
from converter.image.layout import LayoutSource
from converter.image.platform import Platform
from converter.image.reference import LayoutReference, parse_source
from converter.verification import ImageAtHand, verify
from converter.vmdk.c_vmdk import SECTOR, SPARSE_EXTENT_HEADER
from tests.images.damage import DamagedBundle
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration

BLOCK = c.BLOCK_SIZE
Damage = Callable[[DamagedBundle], None]


@pytest.fixture(scope="module")
def sound(
    saltflat: Saltflat, corner_layout: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    source = f"oci:{corner_layout}:latest"
    saltflat.good("convert", "--store", folder / "store", source, "-o", folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def at_hand(corner_layout: Path) -> ImageAtHand:
    reference = parse_source(f"oci:{corner_layout}:latest")
    assert isinstance(reference, LayoutReference)
    source = LayoutSource(reference, Folder(reference.path))
    image = source.resolve(Platform.parse("linux/amd64"))
    return ImageAtHand(image, source, Path("unused: all blobs are local"))


def _fault(bundle: Path, image: ImageAtHand | None = None) -> str:
    with pytest.raises(IntegrityError) as caught:
        verify(bundle, image=image, monitor=ignore)
    assert caught.value.exit_code == 5
    return f"{caught.value.what} ({caught.value.expected})"


# The record and the files that it names


def _record(**fields: object) -> Damage:
    def damage(bundle: DamagedBundle) -> None:
        bundle.record.update(fields)
        bundle.write_record()

    return damage


def _second_link(name: str, value: object) -> Damage:
    def damage(bundle: DamagedBundle) -> None:
        bundle.record["links"][1][name] = value
        bundle.write_record()

    return damage


def _swap_layers(bundle: DamagedBundle) -> None:
    one, other = bundle.record["links"][:2]
    one["layers"], other["layers"] = other["layers"], one["layers"]
    bundle.write_record()


def _swap_files(bundle: DamagedBundle) -> None:
    one, other = bundle.disks[1:3]
    content = one.read_bytes(), other.read_bytes()
    one.write_bytes(content[1])
    other.write_bytes(content[0])


def _other_document(name: str) -> Damage:
    return lambda bundle: bundle.change_file(name, lambda content: content.extend(b"\n"))


def _cut(index: int) -> Damage:
    def damage(bundle: DamagedBundle) -> None:
        content = bundle.disks[index].read_bytes()
        bundle.disks[index].write_bytes(content[: -4 * SECTOR])

    return damage


def _flip_in_link(bundle: DamagedBundle) -> None:
    content = bundle.disks[2].read_bytes()
    bundle.change_link(2, len(content) // 2, bytes([content[len(content) // 2] ^ 1]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(_flip_in_link, "vmdk has the sha256", id="flipped byte"),
        pytest.param(_cut(3), "vmdk has .* bytes", id="truncated link"),
        pytest.param(lambda bundle: bundle.disks[0].unlink(), "is missing", id="lost link"),
        pytest.param(_swap_files, "vmdk has (the sha256|.* bytes)", id="swapped files"),
        pytest.param(_second_link("sha256", "0" * 64), "has the sha256", id="wrong sha256"),
        pytest.param(_second_link("parent", ""), "link 2 is to stand on ''", id="wrong parent"),
        pytest.param(_swap_layers, "link 1 has the id", id="swapped layers"),
        pytest.param(_second_link("layers", []), "link 2 has the id", id="lost layer"),
        pytest.param(_record(capacity=1), "has the capacity 1", id="wrong capacity"),
        pytest.param(_record(format="flat"), "has the format 'flat'", id="wrong format"),
        pytest.param(
            _record(parameters={"journal": False}), "link 1 has the id", id="other parameters"
        ),
        pytest.param(_record(digest="sha256:" + "0" * 64), "manifest.json", id="other digest"),
        pytest.param(_record(digest="sha1:0"), "has the digest 'sha1:0'", id="no digest"),
        pytest.param(_record(digest=5), "has the digest 5", id="digest of a wrong type"),
        pytest.param(_record(reference="\x1b[2J"), "has the reference", id="unprintable"),
        pytest.param(_other_document("manifest.json"), "manifest.json", id="other manifest"),
        pytest.param(_other_document("config.json"), "config.json has", id="other config"),
        pytest.param(
            lambda bundle: (bundle.folder / "manifest.json").unlink(),
            "manifest.json is missing",
            id="lost manifest",
        ),
    ],
)
def test_record_and_files(sound: Path, tmp_path: Path, damage: Damage, message: str) -> None:
    bundle = DamagedBundle(sound, tmp_path / "bundle")
    damage(bundle)
    assert re.search(message, _fault(bundle.folder))


# VMDK, with a record that was corrected


def _header_field(index: int, value: object) -> Damage:
    def damage(bundle: DamagedBundle) -> None:
        with open(bundle.disks[1], "rb") as file:
            header = list(SPARSE_EXTENT_HEADER.unpack(file.read(SECTOR)))
        header[index] = value
        bundle.change_link(1, 0, SPARSE_EXTENT_HEADER.pack(*header))

    return damage


def _in_descriptor(old: bytes, new: bytes) -> Damage:
    def damage(bundle: DamagedBundle) -> None:
        content = bundle.disks[1].read_bytes()
        at = content.index(old, SECTOR)
        bundle.change_link(1, at, new)

    return damage


def _table_entry(choose: Callable[[list[int]], int]) -> Damage:
    """Give the second entry in use of a grain table another value; `choose` knows all in use."""

    def damage(bundle: DamagedBundle) -> None:
        content = bundle.disks[0].read_bytes()
        directory = SPARSE_EXTENT_HEADER.unpack(content[:SECTOR])[9]
        tables = struct.unpack_from("<32I", content, directory * SECTOR)
        for table in filter(None, tables):
            entries = struct.unpack_from("<512I", content, table * SECTOR)
            used = [slot for slot, entry in enumerate(entries) if entry]
            if len(used) > 1:
                break
        value = struct.pack("<I", choose([entries[slot] for slot in used]))
        bundle.change_link(0, table * SECTOR + used[1] * 4, value)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(_header_field(0, b"KDMW"), "magic", id="magic"),
        pytest.param(_header_field(3, 1), "capacity", id="capacity"),
        pytest.param(_header_field(9, 1 << 40), "director", id="directory's place"),
        pytest.param(_header_field(11, 1), "did not close", id="unclean shutdown"),
        pytest.param(
            _in_descriptor(b"\nCID=", b"\nCID=00000007"), "CID 00000007|with CID", id="cid"
        ),
        pytest.param(_in_descriptor(b"parentCID=", b"parentCID=00000007"), "00000007", id="parent"),
        pytest.param(
            _in_descriptor(b'Hint="', b'Hint="0000000'), "has lost its parent", id="parent's name"
        ),
        pytest.param(_in_descriptor(b"longContentID", b"LongContentID"), "long content", id="id"),
        pytest.param(_in_descriptor(b'SPARSE "', b'SPARSE "0000000'), "the extent", id="extent"),
        pytest.param(
            lambda bundle: bundle.change_link(1, 20 * SECTOR, b"x"), "behind its desc", id="rest"
        ),
        pytest.param(_table_entry(lambda _used: 1 << 31), "beyond the end", id="grain outside"),
        pytest.param(_table_entry(lambda used: used[0]), "two table entries", id="grain twice"),
        pytest.param(_table_entry(lambda used: used[1] + 8), "not aligned", id="grain askew"),
        pytest.param(_table_entry(lambda _used: 0), "are unused", id="grain lost"),
        pytest.param(_table_entry(lambda _used: 5), "before the first", id="grain in the header"),
        pytest.param(_cut(1), "beyond the end of the file", id="truncated"),
        pytest.param(_swap_files, "CID|parent|leads back", id="swapped files"),
    ],
)
def test_links(sound: Path, tmp_path: Path, damage: Damage, message: str) -> None:
    bundle = DamagedBundle(sound, tmp_path / "bundle")
    damage(bundle)
    bundle.seal()
    assert re.search(message, _fault(bundle.folder))


# The file system, with a record that was corrected


def _put(place: Callable[[DamagedBundle], int], value: bytes) -> Damage:
    return lambda bundle: bundle.write(place(bundle), value)


def _superblock(at: int, value: bytes) -> Damage:
    return _put(lambda _bundle: c.SUPERBLOCK_OFFSET + at, value)


def _inode(path: bytes, at: int, value: bytes) -> Damage:
    return _put(lambda bundle: bundle.inode_at(path) + at, value)


def _entry(path: bytes, at: int, value: bytes) -> Damage:
    return _put(lambda bundle: bundle.entry_at(path) + at, value)


def _same_extent(bundle: DamagedBundle) -> None:
    other = bundle.read(bundle.inode_at(b"sizes/4096") + c.I_BLOCK_OFFSET, 60)
    bundle.write(bundle.inode_at(b"sizes/4097") + c.I_BLOCK_OFFSET, other)


def _xattr_block(at: int) -> Callable[[DamagedBundle], int]:
    return lambda bundle: bundle.inodes[b"xattrs/big"].fields.i_file_acl_lo * BLOCK + at


def _unused_inode(bundle: DamagedBundle) -> int:
    return bundle.geometry.inode_tables[0] * BLOCK + 4 * c.INODE_SIZE


def _bitmap(of: str, at: int) -> Callable[[DamagedBundle], int]:
    return lambda bundle: int(getattr(bundle.geometry, of)[0]) * BLOCK + at


def _backup(bundle: DamagedBundle) -> int:
    return bundle.geometry.backup_groups[1] * c.BLOCKS_PER_GROUP * BLOCK


def _other_seed(bundle: DamagedBundle) -> None:
    bundle.write(c.SUPERBLOCK_OFFSET + 0xEC, b"seed")
    for group in bundle.geometry.backup_groups:
        bundle.write(group * c.BLOCKS_PER_GROUP * BLOCK + 0xEC, b"seed")


LINKS, BLOCKS = c.I_LINKS_COUNT_OFFSET, 0x1C


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(_superblock(0x38, b"\0"), "magic number", id="magic"),
        pytest.param(_superblock(0x3A, b"\0"), "not unmounted cleanly", id="state"),
        pytest.param(_superblock(0x04, b"\1"), "superblock counts .* blocks", id="blocks"),
        pytest.param(_superblock(0x0C, b"\1\2"), "counts .* free blocks", id="free blocks"),
        pytest.param(_superblock(0x10, b"\1\2"), "counts .* free inodes", id="free inodes"),
        pytest.param(_superblock(0x68, b"uuid"), "wrong checksum", id="uuid"),
        pytest.param(_superblock(0xEC, b"seed"), "copy in block group 1: .* 0xec", id="hash seed"),
        pytest.param(_other_seed, "UUID, hash seed or label", id="hash seeds"),
        pytest.param(_superblock(0x60, b"\xff"), "superblock has 0xff at byte 0x60", id="feature"),
        pytest.param(_superblock(0x3F0, b"x"), "byte 0x3f0", id="superblock's end"),
        pytest.param(
            _put(lambda _bundle: BLOCK + 0x0C, b"\0\0"), "group 0 .*checksum", id="descriptor"
        ),
        pytest.param(
            _put(lambda _bundle: BLOCK + 32, b"\7"),
            "group 1 has 0x07 at byte 0",
            id="bitmap's place",
        ),
        pytest.param(
            _put(lambda _bundle: BLOCK + 0x1E, b"\0\0"), "group 0 has a wrong checksum", id="crc"
        ),
        pytest.param(_put(_backup, b"\1"), "The copy in block group 3", id="backup"),
        pytest.param(
            _put(lambda bundle: _backup(bundle) + BLOCK, b"\1"),
            "The copy in block group 3: The descriptor",
            id="backup's descriptors",
        ),
        pytest.param(
            _put(_bitmap("block_bitmaps", 0), b"\xfe"), "block 0 is free, but", id="block bitmap"
        ),
        pytest.param(
            _put(_bitmap("inode_bitmaps", 900), b"\1"),
            "inode 7201 is in use, but",
            id="inode bitmap",
        ),
        pytest.param(
            _put(_bitmap("inode_bitmaps", 4095), b"\0"), "inode 32761 is free", id="bitmap's end"
        ),
        pytest.param(
            _put(lambda bundle: bundle.geometry.journal_start * BLOCK + 0x1F, b"\1"),
            "not that of an empty journal",
            id="journal",
        ),
        pytest.param(
            _put(lambda bundle: _unused_inode(bundle) + 3 * c.INODE_SIZE, b"\1"),
            r"inode \(8\)|not in use: i_mode",
            id="journal's inode",
        ),
        pytest.param(_put(_unused_inode, b"\1"), "Inode 5 is not in use, but", id="stray inode"),
        pytest.param(_inode(b"sizes/4096", 1, b"\x41"), "kind DIRECTORY", id="type"),
        pytest.param(_inode(b"sizes/4096", 1, b"\0"), "is not in use: i_mode", id="no type"),
        pytest.param(_inode(b"sizes/65537", 4, b"\1\0\0"), "blocks reach to", id="short size"),
        pytest.param(_inode(b"sizes/4096", LINKS, b"\2"), "1 links more than", id="links"),
        pytest.param(_inode(b"links/third", LINKS, b"\1"), "links fewer than", id="hard links"),
        pytest.param(_inode(b"many", LINKS, b"\7"), "5 links more than", id="folder's links"),
        pytest.param(_inode(b"many", LINKS, b"\1"), "counts 1 link", id="too few for dir_nlink"),
        pytest.param(_inode(b"sizes/4096", BLOCKS, b"\1"), "i_blocks_lo is", id="sectors"),
        pytest.param(_inode(b"sizes/4096", 0x0C, b"\1"), "i_ctime is", id="ctime"),
        pytest.param(_inode(b"sizes/4096", 0x20, b"\1"), "i_flags is", id="flags"),
        pytest.param(_inode(b"sizes/4096", 0x8B, b"\xff"), "nanoseconds", id="nanoseconds"),
        pytest.param(_inode(b"sizes/4096", 0x28, b"\0"), "extent.*magic", id="extent magic"),
        pytest.param(
            _inode(b"sizes/4096", 0x3C, b"\xff\xff\xff\xff"), "lies at block", id="extent outside"
        ),
        pytest.param(
            _inode(b"sizes/4096", 0x3C, b"\1\0\0\0"), "Block 1 is used twice", id="in use"
        ),
        pytest.param(_same_extent, "sizes/4097.*(used twice|i_blocks)", id="shared block"),
        pytest.param(_inode(b"sizes/4096", 0x2E, b"\x05"), "6 levels", id="extent depth"),
        pytest.param(_inode(b"names/link-59", 0x28, b"\0"), "no text of 59", id="fast link"),
        pytest.param(
            _put(lambda bundle: bundle.block_of(b"names/link-60"), b"\0"),
            "no text of 60",
            id="link",
        ),
        pytest.param(_inode(b"dev/null", 0x28, b"\0\0\0\0\7"), "i_block is", id="device"),
        pytest.param(_inode(b"xattrs/order", 0xA3, b"\0"), "magic number", id="xattr magic"),
        pytest.param(_inode(b"xattrs/order", 0xA5, b"\x09"), "name index 9", id="xattr prefix"),
        pytest.param(_put(_xattr_block(0), b"\1"), "xattrs/big.*magic number", id="block magic"),
        pytest.param(_put(_xattr_block(12), b"\1"), "not stored as they", id="block's hash"),
        pytest.param(_put(_xattr_block(4000), b"\1\2"), "not stored as they", id="block's value"),
        pytest.param(_entry(b"sizes/4096", 4, b"\x03"), "rec_len", id="rec_len"),
        pytest.param(_entry(b"sizes/4096", 7, b"\x02"), "kind FILE", id="file type"),
        pytest.param(_entry(b"sizes/4096", 8, b"a/b"), "name b'a/b", id="slash"),
        pytest.param(_entry(b"sizes/4096", 8, b"4097"), "b'4097' twice", id="name twice"),
        pytest.param(_entry(b"sizes/4096", 0, b"\0\0\0\0"), "has no name", id="orphan"),
        pytest.param(_entry(b"sizes/4096", 0, b"\x05\0\0\0"), "a reserved one", id="reserved"),
        pytest.param(_entry(b"sizes/4096", 0, b"\0\0\0\1"), "is no inode", id="no such inode"),
        pytest.param(_entry(b"many", 0, b"\x02\0\0\0"), "reserved", id="loop to the root"),
        pytest.param(
            _put(lambda bundle: bundle.block_of(b"many") + 12, b"\x77"), "its parent", id="dots"
        ),
    ],
)
def test_file_system(sound: Path, tmp_path: Path, damage: Damage, message: str) -> None:
    bundle = DamagedBundle(sound, tmp_path / "bundle")
    damage(bundle)
    bundle.seal()
    fault = _fault(bundle.folder)
    assert re.search(message, fault), fault
    assert fault.startswith("file system: ")


# What only the image tells


def _content(bundle: DamagedBundle) -> None:
    bundle.flip(bundle.block_of(b"sizes/65536") + 60_000)


def _other_file(bundle: DamagedBundle) -> None:
    """Let two names of equal files change places: only which inode is which can tell."""
    ours, theirs = bundle.entry_at(b"sizes/511"), bundle.entry_at(b"sizes/512")
    one, other = bundle.read(ours, 4), bundle.read(theirs, 4)
    bundle.write(ours, other)
    bundle.write(theirs, one)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(_inode(b"sizes/4096", 4, b"\xff\xff"), "the size 65535", id="hole at the end"),
        pytest.param(_content, "sizes/65536' .* has other content", id="content"),
        pytest.param(
            _inode(b"bits/setuid", 0, b"\xff"), r"bits/setuid' .* mode 0o4777\.", id="mode"
        ),
        pytest.param(_inode(b"sizes/4096", 0x78, b"\1"), r"has the uid 65536\.", id="uid"),
        pytest.param(_inode(b"sizes/4096", 0x18, b"\1"), r"has the gid 1\.", id="gid"),
        pytest.param(_inode(b"dev/null", 0x28, b"\5"), r"has the minor 5\. .3,", id="device"),
        pytest.param(_inode(b"names/link-59", 0x28, b"T"), "has the target b'Ttt", id="target"),
        pytest.param(
            _put(lambda bundle: bundle.block_of(b"names/link-60"), b"T"), "target b'Ttt", id="text"
        ),
        pytest.param(_entry(b"sizes/4096", 8, b"4O96"), "sizes/4O96' .* not in the", id="name"),
        pytest.param(_other_file, r"has the size 512\. .511,", id="exchanged files"),
        pytest.param(
            _inode(b"xattrs/folder", 0xFC, b"X"),
            r"xattrs/folder' .* attribute b'(user|trusted)\.",
            id="attribute",
        ),
    ],
)
def test_tree(
    sound: Path, tmp_path: Path, at_hand: ImageAtHand, damage: Damage, message: str
) -> None:
    bundle = DamagedBundle(sound, tmp_path / "bundle")
    damage(bundle)
    assert "has the sha256" in _fault(bundle.folder, at_hand)
    bundle.seal()
    assert verify(bundle.folder, monitor=ignore)  # all is sound in itself
    fault = _fault(bundle.folder, at_hand)
    assert re.search(message, fault), fault
    assert fault.startswith("The tree differs from the image: ")
