"""The corner image: five layers that hold every odd thing a layer may say.

One function for each layer, one paragraph for each oddity. Everything here is accepted by `umoci
unpack` and has one right answer there, so that the tree can be compared (but for the times of
folders that no entry declares: unpackers leave "now"). Left out, because readers differ or refuse:
a whiteout that follows its own name in the same layer, a file where a parent folder must be, PAX
global headers, GNU sparse members, dates after the year 2446.
"""

from __future__ import annotations

import struct
import tarfile
from pathlib import Path

from tests.images.cache import ROOT, fingerprint
from tests.images.layout import LayoutWriter
from tests.images.tarball import NET_RAW_CAPABILITY, TarBuilder, noise

ZEROS_BYTES = 40 << 20
LONG_NAME = "n" * 255
DEEP_PATH = "/".join(["deep", *(f"{level:03d}" + "d" * 200 for level in range(10))])
LATIN1_NAME = b"caf\xe9"
BROKEN_UTF8_NAME = b"\xff\xfe\x80name"
CONFIG = {
    "Cmd": ["/bin/true"],
    "Env": ["EMPTY=", "SPACES=a b  c", "NO_EQUALS_IN_VALUE=x"],
    "WorkingDir": "/made/by/runtime",
    "User": "4000:4000",
    "Labels": {"org.example.note": 'quotes " and unicode \u00e9'},
}


def key() -> str:
    """Return the hash of everything the image depends on."""
    return fingerprint(ROOT / f"tests/images/{name}.py" for name in ("corner", "layout", "tarball"))


def build(folder: Path) -> str:
    """Write the corner image as an OCI layout; return its manifest digest."""
    layout = LayoutWriter(folder)
    layout.layer(_base, comment="base: kinds, names, owners, times, attributes")
    layout.layer(_grow, comment="grow: links across layers, odd prefixes, replacements")
    layout.layer(_delete, comment="delete: whiteouts and opaque folders")
    layout.layer(lambda _tar: None, comment="empty")
    layout.layer(_rebuild, comment="rebuild: on top of what was deleted; old tar dialects")
    return layout.finish(config=CONFIG)


def _base(tar: TarBuilder) -> None:
    tar.directory("./", mode=0o755, mtime=1)
    for folder in ("usr", "usr/lib", "etc", "dev", "srv", "srv/data", "many"):
        tar.directory(f"./{folder}")
    tar.directory("tmp", mode=0o1777)
    tar.directory("setgid", mode=0o2775, gid=50)
    _kinds(tar)
    _names(tar)
    _owners_and_times(tar)
    _attributes(tar)
    _sizes(tar)

    # A merged /usr and an absolute link: later layers write through both.
    tar.symlink("lib", "usr/lib")
    tar.symlink("data", "/srv/data")
    tar.file("usr/lib/old.so", b"old library")

    # What the later layers delete, replace and link to.
    for name in ("whole", "opaque-first", "opaque-last", "opaque-alone", "opaque-deep"):
        tar.directory(f"gone/{name}")
        tar.file(f"gone/{name}/lower", name.encode())
        tar.directory(f"gone/{name}/sub")
        tar.file(f"gone/{name}/sub/lower", b"x")
    tar.file("gone/single", b"deleted by layer 3")
    tar.file("gone/kept", b"stays")
    tar.file("swap/file-to-dir", b"file")
    tar.directory("swap/dir-to-file")
    tar.file("swap/dir-to-file/inner", b"inner")
    tar.file("swap/file-to-symlink", b"file")
    tar.symlink("swap/symlink-to-dir", "nowhere")
    tar.file("swap/fifo-from-file", b"file")
    tar.directory("swap/dir-attributes", mode=0o700, uid=1, gid=2, xattrs={"user.old": b"1"})
    tar.file("swap/dir-attributes/stays", b"merged, not replaced")
    tar.file("links/first", b"one inode, many names")
    tar.hardlink("links/second", "links/first")
    tar.symlink("links/soft", "first")
    tar.hardlink("links/soft-again", "links/soft")
    for index in range(300):  # more than one directory block of names
        tar.file(f"many/entry-with-a-rather-long-name-{index:04d}", b"%d" % index)


def _kinds(tar: TarBuilder) -> None:
    tar.device("dev/null", "char", 1, 3, mode=0o666)
    tar.device("dev/wide-char", "char", 511, 1_048_575, mode=0o600)
    tar.device("dev/sda", "block", 8, 0, mode=0o660, gid=6)
    tar.device("dev/wide-block", "block", 259, 70_000, mode=0o660, uid=100_000)
    tar.device("dev/queue", "fifo", mode=0o620)
    tar.file("bits/setuid", b"#!/bin/sh\n", mode=0o4755)
    tar.file("bits/setgid", b"#!/bin/sh\n", mode=0o2755)
    tar.file("bits/sticky", b"", mode=0o1644)
    tar.file("bits/nothing", b"secret", mode=0)
    tar.directory("bits/closed", mode=0)


def _names(tar: TarBuilder) -> None:
    tar.directory("names")
    tar.file(f"names/{LONG_NAME}", b"255 bytes")
    tar.file(b"names/" + LATIN1_NAME, b"latin-1")
    tar.file(b"names/" + BROKEN_UTF8_NAME, b"raw bytes in a GNU header", form=tarfile.GNU_FORMAT)
    tar.file("names/\u00e9\u4e16\U0001f600", b"unicode")
    tar.file("names/cafe\u0301", b"decomposed")
    tar.file("names/caf\u00e9", b"composed: another file")
    tar.file("names/new\nline\ttab", b"control characters")
    tar.file('names/quote"back\\slash', b"quotes")
    tar.file("names/ leading and trailing ", b"spaces")
    tar.file("names/-rf", b"looks like an option")
    tar.file("names/.whx", b"not a whiteout")
    tar.file("names/...", b"three dots")
    # Parents that no entry declares: ten folders of 203-byte names.
    tar.file(f"{DEEP_PATH}/leaf", b"deep")
    # ext4 keeps a target of up to 59 bytes in the inode and a longer one in a block.
    tar.symlink("names/link-59", "t" * 59)
    tar.symlink("names/link-60", "t" * 60)
    tar.symlink("names/link-4095", "/".join(["t" * 127] * 32)[:4095])
    tar.symlink(b"names/link-raw", b"\xff\xfetarget")
    tar.symlink("names/link-loop", "link-loop")


def _owners_and_times(tar: TarBuilder) -> None:
    tar.file("owners/high", uid=65_536, gid=70_000)
    tar.file("owners/nobody", uid=65_534, gid=65_534)
    tar.file("owners/highest", uid=4_294_967_294, gid=4_294_967_294)
    tar.directory("owners/folder", uid=3_000_000, gid=4_000_000_000)
    tar.symlink("owners/link", "high", uid=123_456, gid=654_321)
    tar.file("times/epoch", mtime=0)
    tar.file("times/before-epoch", mtime="-86400.5")
    tar.file("times/1901", mtime="-2147483648")
    tar.file("times/nanoseconds", mtime="1600000000.123456789")
    tar.file("times/short-fraction", mtime="1600000000.5")
    tar.file("times/after-2038", mtime="2147483648.000000001")
    tar.file("times/2120", mtime=4_733_510_400)
    tar.symlink("times/link", "epoch", mtime="1234567890.987654321")
    tar.directory("times/folder", mtime="999999999.000000999")
    tar.file("times/folder/later", mtime=1_700_000_000)  # must not touch the folder's time


def _attributes(tar: TarBuilder) -> None:
    tar.file("xattrs/user", xattrs={"user.text": b"value", "user.binary": bytes(range(256))})
    tar.file("xattrs/order", xattrs={f"user.{key}": key.encode() for key in "zyxabc"})
    tar.file("xattrs/big", xattrs={"user.big": noise("xattr", 3000)})
    tar.file("xattrs/trusted", xattrs={"trusted.overlay.note": b"kept"})
    tar.file("xattrs/ping", b"\x7fELF", mode=0o755, xattrs=NET_RAW_CAPABILITY)
    tar.directory("xattrs/folder", xattrs={"user.on-folder": b"1", "trusted.folder": b"2"})
    tar.symlink("xattrs/link", "user", xattrs={"trusted.on-link": b"3"})
    access = _acl(
        (0x01, 6, None), (0x02, 4, 70_000), (0x04, 4, None), (0x10, 4, None), (0x20, 0, None)
    )
    tar.file("acl/file", mode=0o640, xattrs={"system.posix_acl_access": access})
    inherit = _acl(
        (0x01, 7, None), (0x04, 5, None), (0x08, 7, 50), (0x10, 7, None), (0x20, 5, None)
    )
    tar.directory("acl/folder", mode=0o775, xattrs={"system.posix_acl_default": inherit})


def _sizes(tar: TarBuilder) -> None:
    tar.zeros("sizes/zeros", ZEROS_BYTES)
    data, hole = noise("holes", 70_000), bytes(1 << 20)
    tar.file("sizes/holes", data + hole + data[:1] + hole + data + bytes(10))
    for size in (0, 1, 511, 512, 513, 4095, 4096, 4097, 65_535, 65_536, 65_537):
        tar.file(f"sizes/{size}", noise(f"size {size}", size))
    tar.file("sizes/twice", b"first content, overwritten in the same layer")
    tar.file("sizes/twice", b"second", mode=0o600)


def _grow(tar: TarBuilder) -> None:
    # Names of files in a lower layer, and a name whose first one then goes away.
    tar.hardlink("links/third", "links/first")
    tar.hardlink("links/soft-third", "links/soft")
    tar.hardlink("links/survivor", "gone/single")
    tar.file("links/second", b"replaced: first and third keep the old inode")
    # Prefixes that mean the same place.
    tar.file("./prefix/dot", b"./")
    tar.file("/prefix/root", b"/")
    tar.file(".//prefix//double", b"//")
    tar.file("prefix/up/../sideways", b"..")
    # Through a folder link of the layer below, relative and absolute.
    tar.file("lib/new.so", b"lands in usr/lib")
    tar.file("data/new", b"lands in srv/data")
    # One kind in the place of another.
    tar.directory("swap/file-to-dir")
    tar.file("swap/file-to-dir/inner", b"now a folder")
    tar.file("swap/dir-to-file", b"now a file")
    tar.symlink("swap/file-to-symlink", "../links/first")
    tar.directory("swap/symlink-to-dir")
    tar.file("swap/symlink-to-dir/inner", b"x")
    tar.device("swap/fifo-from-file", "fifo")
    # A folder again: attributes are replaced, children stay.
    tar.directory("swap/dir-attributes", mode=0o711, uid=3, gid=4, xattrs={"user.new": b"2"})
    # The same file with other attributes, as a copy-on-write store writes a chmod.
    tar.file("xattrs/user", mode=0o600, uid=9, xattrs={"user.text": b"changed"})
    tar.file("times/epoch", mtime="1.000000001")
    tar.file("sizes/4096", noise("replaced", 5000))
    tar.file("layer-2/added", b"in an undeclared folder")


def _delete(tar: TarBuilder) -> None:
    tar.whiteout("gone/whole")
    tar.whiteout("gone/single")
    tar.whiteout("never-was-here")
    tar.whiteout("gone/neither")
    # Through the folder link.
    tar.whiteout("lib/old.so")
    # The marker stands before, after and without the new children.
    tar.opaque("gone/opaque-first")
    tar.file("gone/opaque-first/fresh", b"1")
    tar.file("gone/opaque-last/fresh", b"2")
    tar.directory("gone/opaque-last/sub")
    tar.file("gone/opaque-last/sub/fresh", b"3")
    tar.opaque("gone/opaque-last")
    tar.opaque("gone/opaque-alone")
    tar.directory("gone/opaque-deep", mode=0o700)
    tar.opaque("gone/opaque-deep")
    tar.file("gone/opaque-deep/a/b/c", b"4")
    # A deleted name that comes back as another kind.
    tar.whiteout("swap/dir-to-file")
    tar.directory("swap/dir-to-file")
    tar.file("swap/dir-to-file/again", b"5")
    # One of several names goes, the inode stays.
    tar.whiteout("links/first")
    tar.whiteout("many/entry-with-a-rather-long-name-0007")
    tar.whiteout(f"names/{LONG_NAME[:200]}")
    tar.whiteout(DEEP_PATH)


def _rebuild(tar: TarBuilder) -> None:
    # Back again, where layer 3 deleted.
    tar.file("gone/whole/reborn", b"6")
    tar.file("gone/single", b"7", form=tarfile.USTAR_FORMAT)
    tar.hardlink("links/first", "links/third")
    # GNU dialect: long names in L and K members, numbers in base 256.
    tar.file(f"gnu/{'g' * 180}", b"long name", form=tarfile.GNU_FORMAT)
    tar.symlink("gnu/long-link", "k" * 300, form=tarfile.GNU_FORMAT)
    tar.file("gnu/owner", uid=3_000_000, gid=4_000_000_000, form=tarfile.GNU_FORMAT)
    # ustar splits a path at a slash into prefix and name.
    tar.file(f"{'p' * 120}/{'q' * 90}", b"prefix field", form=tarfile.USTAR_FORMAT)
    tar.whiteout("swap/file-to-dir")
    tar.whiteout("times/folder")
    tar.file("times/1901", b"with content now", mtime="-2147480000.25")
    tar.directory("./", mode=0o711, uid=7, gid=8, mtime="1600000001.25")


def _acl(*entries: tuple[int, int, int | None]) -> bytes:
    """Pack (tag, permissions, id) entries, in tag order, as posix_acl_xattr version 2."""
    packed = [
        struct.pack("<HHI", tag, bits, 0xFFFF_FFFF if who is None else who)
        for tag, bits, who in entries
    ]
    return struct.pack("<I", 2) + b"".join(packed)
