"""The rules image: each prefix against `umoci unpack`, attributes against who knows them best."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.images import rules
from tests.images.disks import checked_mount, convert, debugfs
from tests.images.raw_layout import TAG, RawLayer, write_layout
from tests.images.trees import differences, read_tree
from tests.integration.conftest import Saltflat

pytestmark = [pytest.mark.integration, pytest.mark.root]

Tool = Callable[[str], str]
LAYERS = rules.layers()


@pytest.fixture(scope="module")
def rules_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rules")


@pytest.fixture(scope="module")
def base(saltflat: Saltflat, tool: Tool, rules_store: Path) -> Iterator[Path]:
    """Return the mounted first layer; its raw disk lies beside the mount point."""
    work = rules_store / "base"
    source = write_layout(work / "image", [RawLayer(LAYERS[0])])
    disk = convert(saltflat.good, rules_store / "store", source)
    with checked_mount(tool, disk, work) as mount:
        yield mount


@pytest.mark.parametrize("count", range(1, len(LAYERS) + 1))
def test_each_prefix_is_what_umoci_unpacks(
    saltflat: Saltflat, tool: Tool, rules_store: Path, tmp_path: Path, count: int
) -> None:
    image = tmp_path / "image"
    source = write_layout(image, [RawLayer(layer) for layer in LAYERS[:count]])
    disk = convert(saltflat.good, rules_store / "store", source)
    unpacked_ns = time.time_ns()
    unpack = [tool("umoci"), "unpack", "--image", f"{image}:{TAG}", tmp_path / "umoci"]
    subprocess.run(unpack, check=True, capture_output=True, timeout=100)
    with checked_mount(tool, disk, tmp_path) as mount:
        ours = read_tree(mount)
    theirs = read_tree(tmp_path / "umoci" / "rootfs")
    found = differences(theirs, ours, unpacked_ns=unpacked_ns)
    assert not found, "\n".join(found[:20])


def test_our_own_verifier_finds_no_difference(
    saltflat: Saltflat, rules_store: Path, tmp_path: Path
) -> None:
    # It reads disks by code of its own, so that it has every rule a second time.
    source = write_layout(tmp_path / "image", [RawLayer(layer) for layer in LAYERS])
    store = rules_store / "store"
    saltflat.good("convert", "--store", store, "-o", tmp_path / "bundle", source)
    saltflat.good("verify", tmp_path / "bundle", "--image", source)


def test_a_missing_root_entry_and_implicit_parents_are_as_documented(base: Path) -> None:
    # umoci leaves the present time on such folders, so it does not say what is right.
    for path in (base, base / "late", base / "late" / "deeper", base / "pax"):
        status = path.stat()
        found = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)
        assert found == (stat.S_IFDIR | 0o755, 0, 0, 0), path
        assert not os.listxattr(path)
    assert (base / "late" / "folder").stat().st_mtime_ns == 1_500_000_000_250_000_000


def test_there_is_no_lost_and_found(base: Path, tool: Tool) -> None:
    assert not (base / "lost+found").exists()
    listing = debugfs(tool, base.parent / "flat.raw", "ls -p /")
    assert {line.split(b"/")[5] for line in listing.splitlines() if line} >= {b"late", b"links"}
    assert b"lost+found" not in listing


_TAGS = {
    rules.USER_OBJ: "user:",
    rules.USER: "user:",
    rules.GROUP_OBJ: "group:",
    rules.GROUP: "group:",
    rules.MASK: "mask:",
    rules.OTHER: "other:",
}


def _as_text(acl: rules.Acl, prefix: str = "") -> set[str]:
    """Return an ACL's entries as acl(5) writes them."""
    return {
        f"{prefix}{_TAGS[tag]}{'' if who is None else who}:"
        + "".join(sign if bits & bit else "-" for sign, bit in (("r", 4), ("w", 2), ("x", 1)))
        for tag, bits, who in acl
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("acl", _as_text(rules.ACCESS_ACL)),
        ("acls", _as_text(rules.ACCESS_ACL) | _as_text(rules.DEFAULT_ACL, "default:")),
        ("default", {"user::rwx", "group::r-x", "other::r-x"}
                    | _as_text(rules.DEFAULT_ACL, "default:")),
        ("minimal", _as_text(rules.MINIMAL_ACL)),
        ("empty-acls", {"user::rwx", "group::r-x", "other::r-x"}),
    ],
)  # fmt: skip
def test_acls_as_getfacl_tells_them(base: Path, tool: Tool, name: str, expected: set[str]) -> None:
    ask = [tool("getfacl"), "--numeric", "--omit-header", "--no-effective", "--absolute-names"]
    done = subprocess.run(
        [*ask, base / "attributes" / name], capture_output=True, text=True, timeout=60, check=True
    )
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize(
    ("name", "attribute", "acl"),
    [
        ("acl", "system.posix_acl_access", rules.ACCESS_ACL),
        ("acls", "system.posix_acl_access", rules.ACCESS_ACL),
        ("acls", "system.posix_acl_default", rules.DEFAULT_ACL),
    ],
)
def test_acls_as_debugfs_reads_them(
    base: Path, tool: Tool, tmp_path: Path, name: str, attribute: str, acl: rules.Acl
) -> None:
    # libext2fs turns ext4's own encoding into that of the kernel, as the kernel itself does, but
    # where the tag says whom it means, it gives the id as 0.
    value = tmp_path / "value"
    raw = base.parent / "flat.raw"
    debugfs(tool, raw, f"ea_get -f {value} /attributes/{name} {attribute}")
    zeroed = tuple((tag, bits, who or 0) for tag, bits, who in acl)
    assert value.read_bytes() == rules.acl(zeroed)


def test_capabilities_as_getcap_tells_them(base: Path, tool: Tool) -> None:
    folder = base / "attributes"
    ask = [tool("getcap"), "-n", folder / "capability-2", folder / "capability-3"]
    done = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        f"{folder}/capability-2 cap_net_bind_service,cap_net_raw,cap_audit_read=ep",
        f"{folder}/capability-3 cap_net_admin=ep [rootid=100000]",
    ]


@pytest.mark.parametrize("folder", ["many", "many-folder"])
def test_attributes_of_inode_and_block_as_the_kernel_finds_each(base: Path, folder: str) -> None:
    # Asked for one by one: in a block the kernel stops searching behind the place of the name, so
    # that an unsorted block hides attributes from it, of which e2fsck says nothing.
    path = base / "attributes" / folder
    names = os.listxattr(path)
    assert len(names) == 21
    assert all(os.getxattr(path, name) == rules.many_attributes()[name] for name in names)


def test_devices_as_debugfs_reads_them(base: Path, tool: Tool) -> None:
    for name, major, minor in (
        ("overlay-whiteout", 0, 0),
        ("last-char", 4095, 1_048_575),
        ("last-old-block", 255, 255),
        ("first-new-block", 0, 256),
    ):
        status = (base / "attributes" / name).stat()
        assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == (major, minor)
        told = debugfs(tool, base.parent / "flat.raw", f"stat /attributes/{name}").decode()
        assert f"Device major/minor number: {major:02d}:{minor:02d}" in told
