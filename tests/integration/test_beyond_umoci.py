"""What umoci cannot judge: bounds of time and path, dialects that it refuses or leaves out.

One image, read back by the kernel. What the entries say is the measure; where runtimes go another
way than umoci 0.4, docs/fidelity.md says which one is followed.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.images import raw_tar, rules
from tests.images.disks import checked_mount, convert
from tests.images.raw_layout import RawLayer, write_layout
from tests.images.tarball import TarBuilder
from tests.integration.conftest import Saltflat

pytestmark = [pytest.mark.integration, pytest.mark.root]

SECOND = 10**9
EARLIEST = -(2**31) * SECOND
LATEST = (2**34 - 2**31) * SECOND - 1
TIMES = {  # mtime as pax has it -> nanoseconds that the kernel tells
    "0.000000001": 1,
    "-0.000000001": -1,
    "-0.0000000001": -1,  # rounded down, as POSIX asks
    "1600000000.123456789": 1_600_000_000_123_456_789,
    "-2147483648": EARLIEST,
    "-2147483648.000000001": EARLIEST,  # earlier than ext4 knows: the earliest
    "-99999999999": EARLIEST,
    "2147483647.999999999": 2_147_483_647_999_999_999,
    "2147483648": 2**31 * SECOND,
    "4294967296.5": 2**32 * SECOND + SECOND // 2,
    "15032385535.999999999": LATEST,
    "15032385536": LATEST,  # later than ext4 knows: the latest
    "99999999999": LATEST,
}
LONG_PATH = b"/".join([b"l" * 255] * 15 + [b"m" * 255])  # 4095 bytes
AUFS = b".wh..wh."


@pytest.fixture(scope="module")
def root(
    saltflat: Saltflat, tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    work = tmp_path_factory.mktemp("beyond")
    file = io.BytesIO()
    tar = TarBuilder(file)
    for text in TIMES:
        tar.file(f"times/{text}", mtime=text)
    file.write(raw_tar.header(b"times/gnu-late", mtime=raw_tar.number(1 << 60)))
    file.write(raw_tar.header(b"times/gnu-early", mtime=raw_tar.number(-(1 << 60))))
    tar.file(LONG_PATH, b"4095 bytes of path")
    tar.file("empty-attribute", xattrs={"user.empty": b"", "security.also": b""})
    file.write(raw_tar.pax([("uid", 77), ("path", "elsewhere")], b"g"))
    tar.file("after-global-header", b"own name and owner")
    file.write(raw_tar.header(b"contiguous", b"7", size=4) + raw_tar.padded(b"data"))
    text_acl = [("SCHILY.acl.access", "user::rwx,user:1000:rwx,group::r--,mask::rwx,other::r--")]
    file.write(raw_tar.pax(text_acl) + raw_tar.header(b"text-acl"))
    tar.file("both", xattrs={"system.posix_acl_access": rules.acl(rules.ACCESS_ACL)}, mode=0o600)

    tar.directory(AUFS + b"plnk")
    tar.file(AUFS + b"plnk/12.34", b"has two names", mode=0o640)
    tar.file(AUFS + b"plnk/56.78", b"has none")
    tar.file(AUFS + b"aufs")
    tar.file(AUFS + b"orph/lost", b"no part of the image")
    tar.hardlink("aufs/one", AUFS + b"plnk/12.34")
    tar.hardlink("aufs/two", AUFS + b"plnk/12.34")
    tar.close()
    source = write_layout(work / "image", [RawLayer(file.getvalue())])
    disk = convert(saltflat.good, work / "store", source, "--capacity", "64m")
    with checked_mount(tool, disk, work) as mount:
        yield mount


@pytest.mark.parametrize("text", TIMES)
def test_times_at_their_bounds(root: Path, text: str) -> None:
    assert (root / "times" / text).stat().st_mtime_ns == TIMES[text]


def test_times_of_gnu_headers_beyond_the_bounds(root: Path) -> None:
    assert (root / "times" / "gnu-late").stat().st_mtime_ns == LATEST
    assert (root / "times" / "gnu-early").stat().st_mtime_ns == EARLIEST


def test_the_longest_path(root: Path) -> None:
    assert len(LONG_PATH) == 4095
    here = os.open(root, os.O_PATH | os.O_DIRECTORY)  # with the mount point's it is too long
    for name in LONG_PATH.split(b"/"):
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    with open(here, "rb") as file:
        assert file.read() == b"4095 bytes of path"


def test_attributes_without_a_value_are_kept(root: Path) -> None:
    path = root / "empty-attribute"
    assert sorted(os.listxattr(path)) == ["security.also", "user.empty"]
    assert os.getxattr(path, "user.empty") == b""


def test_global_headers_change_nothing(root: Path) -> None:
    path = root / "after-global-header"
    assert path.read_bytes() == b"own name and owner"
    assert path.stat().st_uid == 0
    assert not (root / "elsewhere").exists()


def test_contiguous_files_are_files(root: Path) -> None:
    assert (root / "contiguous").read_bytes() == b"data"


def test_acls_as_text_are_left_out(root: Path) -> None:
    assert os.listxattr(root / "text-acl") == []


def test_mode_and_acl_that_disagree_are_both_kept(root: Path) -> None:
    # Unpackers disagree too: the one that sets the ACL last changes the mode, the other the ACL.
    path = root / "both"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.getxattr(path, "system.posix_acl_access") == rules.acl(rules.ACCESS_ACL)


def test_aufs_leaves_the_files_that_links_lead_to(root: Path) -> None:
    one, two = root / "aufs" / "one", root / "aufs" / "two"
    assert one.read_bytes() == b"has two names"
    assert one.samefile(two)
    assert (one.stat().st_nlink, stat.S_IMODE(one.stat().st_mode)) == (2, 0o640)
    assert not [path for path in root.iterdir() if path.name.startswith(".wh.")]
