"""The rules image: three layers with what the corner image leaves out, and one answer in umoci.

Attributes of every kind that Linux has, headers of every age and dialect, and the rules of
overlaying where they meet: links with links, markers with links, folders declared late. Layers are
plain tar, so that members can be given byte by byte (`tests.images.raw_tar`).
"""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Callable, Mapping

from tests.images import raw_tar
from tests.images.tarball import TarBuilder, noise

Acl = tuple[tuple[int, int, int | None], ...]

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
HIGHEST_ID = 2**32 - 2
# linux/capability.h: VFS_CAP_REVISION_2 and _3 with the effective bit; the latter has a root's uid.
CAPABILITY_V2 = struct.pack("<IIIII", 0x0200_0001, 1 << 10 | 1 << 13, 0, 1 << 5, 0)
CAPABILITY_V3 = struct.pack("<IIIIII", 0x0300_0001, 1 << 12, 0, 0, 0, 100_000)
ACCESS_ACL: Acl = (
    (USER_OBJ, 7, None),
    (USER, 5, 1000),
    (USER, 6, HIGHEST_ID),
    (GROUP_OBJ, 5, None),
    (GROUP, 7, 70_000),
    (MASK, 7, None),
    (OTHER, 1, None),
)
DEFAULT_ACL: Acl = (
    (USER_OBJ, 7, None),
    (USER, 7, 1000),
    (GROUP_OBJ, 0, None),
    (MASK, 5, None),
    (OTHER, 0, None),
)
MINIMAL_ACL: Acl = ((USER_OBJ, 6, None), (GROUP_OBJ, 4, None), (OTHER, 4, None))
# With the names' and values' rounding: 92 bytes in the inode, 4060 in a block.
LARGEST_VALUE = noise("largest", 4096 - 32 - 4 - 16 - 4)


def acl(entries: Acl) -> bytes:
    """Return (tag, permissions, id) entries as the kernel takes them: posix_acl_xattr version 2."""
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, bits, 0xFFFF_FFFF if who is None else who)
        for tag, bits, who in entries
    )


def many_attributes() -> dict[str, bytes]:
    """Return attributes with names and values of many lengths, in every namespace with free names.

    Together they need more than an inode has room for.
    """
    return {
        f"{space}.{'n' * length}{length}": noise(f"{space}{length}", length)
        for space in ("user", "trusted", "security")
        for length in (1, 2, 3, 4, 5, 40, 90)
    }


def layers() -> list[bytes]:
    """Return the layers, base first."""
    return [_archive(members) for members in (_base, _change, _again)]


class _Layer(TarBuilder):
    """Members by their meaning, and by their bytes."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.raw = file.write


def _archive(members: Callable[[_Layer], None]) -> bytes:
    file = io.BytesIO()
    tar = _Layer(file)
    members(tar)
    tar.close()
    return file.getvalue()


def _base(tar: _Layer) -> None:
    # There is no entry for the root, and `late` is declared by the next layer alone.
    tar.file("late/folder/file", b"before its folder")
    tar.directory("late/folder", mode=0o2750, uid=3, gid=4, mtime="1500000000.25")
    tar.file("late/deeper/and/deeper/file", b"")
    _attributes(tar)
    _old_dialects(tar)
    _pax(tar)

    # Names that come twice, as one kind after the other.
    tar.file("twice/kinds", b"file")
    tar.directory("twice/kinds")
    tar.file("twice/kinds/inner", b"in the folder")
    tar.symlink("twice/kinds", "nowhere")
    tar.device("twice/kinds", "fifo")
    tar.directory("twice/folder", mode=0o700, xattrs={"user.first": b"1"})
    tar.file("twice/folder/stays", b"")
    tar.directory("twice/folder", mode=0o755, xattrs={"user.second": b"2"})

    # A link's own attributes do not count; its file's do.
    tar.file("links/target", b"target", mode=0o640, uid=5, gid=6, xattrs={"user.of": b"target"})
    tar.hardlink("links/name", "links/target", mode=0o4777, uid=9, gid=9, mtime=5)
    tar.file("links/kept", b"old content, kept by its other name")
    tar.hardlink("links/keeper", "./links//kept")
    tar.file("links/kept", b"new content")
    tar.hardlink("links/over", "links/target")
    tar.hardlink("links/over", "links/kept")
    tar.symlink("links/soft", "target", mtime="77.5")
    tar.hardlink("links/soft-name", "links/soft")
    tar.directory("links/far/real")
    tar.symlink("links/way", "far/real")
    tar.file("links/way/file", b"through a link")
    tar.hardlink("links/through", "links/way/file")
    for number in range(20):
        tar.hardlink(f"links/many/{number}", "links/target")

    # What the next layers change.
    for name in ("opaque", "opaque-linked", "deleted", "twisted"):
        tar.file(f"over/{name}/lower", name.encode())
        tar.file(f"over/{name}/sub/lower", b"")
    tar.symlink("over/way", "opaque-linked")
    tar.symlink("over/gone-way", "deleted")
    tar.symlink("over/folder-link", "opaque")
    tar.file("over/file", b"")
    tar.file("over/lower-goes", b"")
    tar.file("over/to-be-linked", b"linked before it goes")
    large = {"user.large": noise("large folder", 3000), "user.small": b"1"}
    tar.directory("over/large", mode=0o711, xattrs=large)
    tar.file("over/large/lower", b"")
    # Markers in the lowest layer have nothing to hide.
    tar.whiteout("over/never")
    tar.opaque("over/never-folder")
    tar.file("over/never-folder/file", b"")


def _attributes(tar: _Layer) -> None:
    for mode in (0, 0o644, 0o7755):  # Linux knows one mode of symbolic links
        tar.symlink(f"attributes/link-{mode:o}", "x", mode=mode)
    tar.device("attributes/overlay-whiteout", "char", 0, 0, mode=0)
    tar.device("attributes/last-char", "char", 4095, 1_048_575)
    tar.device("attributes/last-old-block", "block", 255, 255)
    tar.device("attributes/first-new-block", "block", 0, 256)
    tar.file("attributes/capability-2", xattrs={"security.capability": CAPABILITY_V2}, mode=0o755)
    tar.file("attributes/capability-3", xattrs={"security.capability": CAPABILITY_V3}, mode=0o755)
    access, default = {"system.posix_acl_access": acl(ACCESS_ACL)}, acl(DEFAULT_ACL)
    tar.file("attributes/acl", mode=0o771, xattrs=access)
    tar.directory("attributes/acls", mode=0o2771,
                  xattrs={**access, "system.posix_acl_default": default})  # fmt: skip
    tar.directory("attributes/default", xattrs={"system.posix_acl_default": default})
    minimal = {"system.posix_acl_access": acl(MINIMAL_ACL)}  # says no more than the mode
    tar.file("attributes/minimal", mode=0o644, xattrs=minimal)
    minimal = {"system.posix_acl_default": acl(MINIMAL_ACL)}
    tar.directory("attributes/minimal-default", xattrs=minimal)
    empty = {"system.posix_acl_access": acl(()), "system.posix_acl_default": acl(())}
    tar.directory("attributes/empty-acls", xattrs=empty)
    tar.symlink("attributes/acl-on-link", "acl", xattrs=access)
    # One inode's worth, one block's worth, and both with names of every length and namespace.
    tar.file("attributes/in-inode", xattrs={"user.a": b"x" * 64})
    tar.file("attributes/just-not", xattrs={"user.a": b"x" * 72})
    tar.file("attributes/block", xattrs={"user.a": LARGEST_VALUE})
    tar.file("attributes/both", xattrs={"user.b": b"y" * 64, "user.aaaa": LARGEST_VALUE})
    tar.file("attributes/many", xattrs=many_attributes())
    tar.directory("attributes/many-folder", xattrs=many_attributes())
    tar.file("attributes/long-name", xattrs={"user." + "n" * 250: b"long"})
    # What Linux has no place for, every unpacker leaves out.
    tar.file("attributes/foreign",
             xattrs={"com.apple.quarantine": b"0081", "user.kept": b"1"})  # fmt: skip


def _old_dialects(tar: _Layer) -> None:
    def member(name: bytes, data: bytes = b"", typeflag: bytes = b"0", **fields: bytes) -> None:
        tar.raw(raw_tar.header(name, typeflag, size=len(data), **fields) + raw_tar.padded(data))

    no_magic = {"magic": bytes(8)}
    member(b"old/v7", b"before POSIX", b"\0", **no_magic)
    member(b"old/v7-folder/", b"", b"\0", mode=b"0000750\0", **no_magic)
    member(b"old/v7-link", b"", b"2", linkname=b"v7", **no_magic)
    member(b"old/blanks", b"x", mode=b"   644 \0", uid=b"     7 \0", gid=b" 10\0\0\0\0\0")
    member(b"old/mode-with-type", b"", mode=b"0100751\0")
    member(b"old/socket-mode", b"", mode=b"0140600\0")
    member(b"old/folder-mode-with-type/", b"", b"5", mode=b"0041711\0")
    member(b"old/file-with-slash/", b"still a file")
    member(b"old/" + b"n" * 96, b"a name that fills its field")
    member(b"name", b"", prefix=b"old/prefix")
    member(b"version", b"", prefix=b"old/prefix", magic=b"ustar\0  ")
    member(b"old/gnu", b"", magic=b"ustar  \0", prefix=b"00000000001\0" * 2)  # its atime and ctime
    member(b"go-1.7", b"", magic=b"ustar  \0", prefix=b"old/prefix-in-a-gnu-header")
    device = {"devmajor": raw_tar.number(1, 8), "devminor": raw_tar.number(3, 8)}
    member(b"old/v7-device", b"", b"3", **no_magic, **device)
    member(b"old/gnu-device", b"", b"3", magic=b"ustar  \0", **device)
    numbers = {"uid": raw_tar.number(3_000_000_000, 8), "gid": raw_tar.number(HIGHEST_ID, 8)}
    member(b"old/base-256", b"", magic=b"ustar  \0", **numbers)
    member(b"old/base-256-time", b"", magic=b"ustar  \0", mtime=raw_tar.number(-86_400))
    size = b"\x80" + (4).to_bytes(11, "big")
    tar.raw(raw_tar.header(b"old/base-256-size", size=size) + raw_tar.padded(b"four"))
    # A long name ends at its NUL, whatever follows; the header's own name is a cut of it.
    long_name = b"old/" + b"l" * 150 + b"\0and what was there before"
    tar.raw(raw_tar.header(b"././@LongLink", b"L", size=len(long_name), magic=b"ustar  \0"))
    tar.raw(raw_tar.padded(long_name))
    member(b"old/lll", b"long", magic=b"ustar  \0")
    long_link = b"t" * 200 + b"\0"
    tar.raw(raw_tar.header(b"././@LongLink", b"K", size=len(long_link), magic=b"ustar  \0"))
    tar.raw(raw_tar.padded(long_link))
    member(b"old/long-link", b"", b"2", magic=b"ustar  \0", linkname=b"ttt")
    # A size on what has no content has no content behind it.
    tar.raw(raw_tar.header(b"old/sized-folder", b"5", size=700))
    tar.raw(raw_tar.header(b"old/sized-link", b"1", size=700, linkname=b"old/v7"))


def _pax(tar: _Layer) -> None:
    def member(records: Mapping[str, object], name: bytes, data: bytes, size: int) -> None:
        tar.raw(raw_tar.pax(list(records.items())))
        tar.raw(raw_tar.header(name, size=size) + raw_tar.padded(data))

    member({"size": 6}, b"pax/size", b"longer", 1)
    member({"size": 0}, b"pax/no-size", b"", 512)
    member({"path": "pax/path", "uid": 70_000, "gid": 80_000, "mtime": "3.5"}, b"x", b"", 0)
    # A record without a value leaves the header's own.
    empty = {"path": "", "uid": "", "gid": "", "size": "", "mtime": "", "linkpath": ""}
    member(empty, b"pax/empty-records", b"five!", 5)
    member({"path": "pax/first", "uid": 1}, b"x", b"", 0)
    tar.raw(raw_tar.pax([("path", "pax/wrong"), ("uid", 5), ("path", "pax/last-record-wins")]))
    tar.raw(raw_tar.header(b"x"))
    raw_name = {"hdrcharset": "BINARY", "path": "pax/binary-\udcff\udcfe"}
    member(raw_name, b"x", b"", 0)
    member(
        {"comment": "c", "atime": "1.5", "ctime": "2.5", "VENDOR.key": "a=b"}, b"pax/other", b"", 0
    )
    member({"path": "pax/a=b"}, b"x", b"", 0)
    # GNU's long names count more than a record, and the last extended header more than the first.
    long_name = raw_tar.header(b"L", b"L", size=9) + raw_tar.padded(b"pax/long\0")
    tar.raw(raw_tar.pax([("path", "pax/not-this")]) + long_name + raw_tar.header(b"x"))
    long_name = long_name.replace(b"pax/long", b"pax/Long")
    tar.raw(long_name + raw_tar.pax([("path", "pax/nor-this")]) + raw_tar.header(b"x"))
    tar.raw(raw_tar.pax([("uid", 5)]) + raw_tar.pax([("gid", 6)]) + raw_tar.header(b"pax/gid-6"))
    tar.file("pax/" + "/".join(["p" * 255] * 6), b"255 bytes, six times")


def _change(tar: _Layer) -> None:
    tar.directory("./", mode=0o711, uid=11, gid=12, mtime=1, xattrs={"user.root": b"1"})
    tar.directory("late", mode=0o1770, gid=4, mtime="1500000001.5", xattrs={"user.late": b"1"})
    tar.directory("late/deeper", mode=0o500)
    # Folders, links to them, and files in each other's place.
    tar.directory("over/folder-link")
    tar.file("over/folder-link/inner", b"no longer in over/opaque")
    tar.file("over/file/../file", b"the same file")
    tar.file("over/twisted", b"a folder, a file,")
    tar.directory("over/twisted", mode=0o750)
    tar.file("over/twisted/sub", b"and a folder again")
    # Markers through links, before and after what is new, and on the link itself.
    tar.file("over/way/fresh", b"")
    tar.opaque("over/way")
    tar.whiteout("over/gone-way")
    tar.whiteout("over/no/such/place")
    tar.opaque("over/no/such/place")
    tar.opaque("over/opaque")
    tar.file("over/opaque/sub/fresh", b"")
    tar.directory("over/large", mode=0o755, xattrs={"user.large": noise("other", 3500)})
    tar.opaque("over/large")
    tar.whiteout("over/deleted/sub")
    tar.file("over/deleted/sub", b"a file where a folder was")
    tar.file("over/lower-goes", b"a marker behind its own name means the one below")
    tar.whiteout("over/lower-goes")
    # Names of files below: one more, then the first one goes in the same layer.
    tar.hardlink("over/linked", "over/to-be-linked")
    tar.whiteout("over/to-be-linked")
    tar.hardlink("links/again", "links/way/file")
    tar.hardlink("links/soft-again", "links/soft-name")
    tar.whiteout("links/soft")
    tar.whiteout("links/far")
    for number in range(0, 20, 2):
        tar.whiteout(f"links/many/{number}")
    tar.hardlink("links/many/1", "links/kept")  # in the place of a name of another file
    tar.hardlink("links/many/3", "links/target")  # of its own: nothing changes
    # Attributes go with the content: what the new entry does not say is gone.
    tar.file("attributes/capability-2", b"rewritten", mode=0o755)
    tar.directory("attributes/acls", mode=0o755)
    tar.directory("attributes/many-folder", xattrs={"user.one": b"left"})


def _again(tar: _Layer) -> None:
    tar.directory(".", mode=0o1755, uid=0, gid=7, mtime="2.75", xattrs={"trusted.root": b"2"})
    tar.file("over/twisted", b"and a file at last")
    tar.directory("over/deleted", mode=0o700)
    tar.whiteout("over/deleted")
    tar.file("over/deleted/back", b"", form=tarfile.GNU_FORMAT)
    tar.whiteout("over/large")
    tar.directory("over/large", mode=0o700)
    tar.whiteout("links/again")
    tar.whiteout("links/through")
    tar.file("links/soft-again", b"its other name stays a link")
    tar.whiteout("late/deeper/and/deeper/file")
    tar.opaque("links/many")
    tar.whiteout("../../old/../old/v7")
    tar.whiteout("/old/v7-link")
    tar.hardlink("links/many/new", "links/name")
