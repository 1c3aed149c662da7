"""Layers that other programs wrote, against what those programs make of them.

skopeo compresses the same image in every way that it knows; bsdtar writes attributes in its own
dialect and unpacks them again.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images import rules
from tests.images.disks import checked_mount, convert
from tests.images.raw_layout import TAG, RawLayer, write_layout
from tests.images.trees import differences, read_tree
from tests.integration.conftest import Saltflat
from tests.integration.elsewhere import disk_digests

pytestmark = pytest.mark.integration

Tool = Callable[[str], str]
# RFC 8878 section 3.1.2; zstd:chunked keeps its table of contents in such frames.
SKIPPABLE_FRAME = bytes.fromhex("502a4d18")
ZSTD_FRAME = bytes.fromhex("28b52ffd")
TWINS = {"gzip": b"\x1f\x8b", "zstd": ZSTD_FRAME, "zstd:chunked": ZSTD_FRAME}


def _copy(tool: Tool, source: str, target: str, *options: str) -> None:
    command = [tool("skopeo"), "--insecure-policy", "copy", "--quiet", *options, source, target]
    subprocess.run(command, check=True, timeout=100)


def _blobs(layout: Path) -> list[bytes]:
    """Return the layers' blobs."""

    def blob(digest: str) -> bytes:
        return (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()

    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads(blob(index["manifests"][0]["digest"]))
    return [blob(layer["digest"]) for layer in manifest["layers"]]


def test_skopeos_twins_of_an_image_are_the_same_disks(
    saltflat: Saltflat, tool: Tool, tmp_path: Path
) -> None:
    layers = [RawLayer(layer) for layer in rules.layers()]
    plain = write_layout(tmp_path / "plain", layers)
    convert(saltflat.good, tmp_path / "store", plain)
    expected = disk_digests(tmp_path / "store")
    assert len(expected) == len(layers)
    uncompressed = f"dir:{tmp_path}/uncompressed"  # skopeo leaves alone what it thinks compressed
    _copy(tool, f"{plain}:{TAG}", uncompressed, "--dest-decompress")
    for form, magic in TWINS.items():
        layout = tmp_path / form.replace(":", "-")
        options = ["--dest-compress", "--dest-compress-format", form]
        _copy(tool, uncompressed, f"oci:{layout}:{TAG}", *options)
        for blob in _blobs(layout):
            assert blob.startswith(magic)
            assert (SKIPPABLE_FRAME in blob) == (form == "zstd:chunked")
        store = tmp_path / f"store-{layout.name}"
        convert(saltflat.good, store, f"oci:{layout}:{TAG}")
        assert disk_digests(store) == expected, form


NAMES = ["plain", "with space", "per%41cent", "eq=uals", "\u00fc", "new\nline", "empty"]


@pytest.fixture(scope="module")
def attributed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with attributes and names that need to be encoded."""
    folder = tmp_path_factory.mktemp("attributed")
    file = folder / "file"
    file.write_bytes(b"x")
    for name in NAMES:
        value = b"" if name == "empty" else name.encode() + bytes(range(256))
        os.setxattr(file, f"user.{name}", value)
    os.setxattr(file, "trusted.kept", b"\0\xff")
    below = folder / "below"
    below.mkdir()
    os.setxattr(below, "user.folder", b"1")
    raw = os.fsencode(below)
    for name in (b"caf\xe9", b"\xff\xfe", b"n" * 255):
        Path(os.fsdecode(raw + b"/" + name)).write_bytes(name)
    os.utime(below / ("n" * 255), ns=(0, 1_600_000_000_123_456_789))
    return folder


@pytest.mark.root
@pytest.mark.parametrize("dialect", ["LIBARCHIVE", "SCHILY", "ALL"])
def test_bsdtars_attributes_and_raw_names_are_what_bsdtar_unpacks(
    saltflat: Saltflat, tool: Tool, attributed: Path, tmp_path: Path, dialect: str
) -> None:
    archive, unpacked = tmp_path / "layer.tar", tmp_path / "unpacked"
    unpacked.mkdir()
    bsdtar = tool("bsdtar")
    options = ["--format", "pax", "--options", f"pax:xattrheader={dialect}"]
    write = [bsdtar, *options, "-cf", f"{archive}", "-C", f"{attributed}", "file", "below"]
    subprocess.run(write, check=True, timeout=60)
    content = archive.read_bytes()
    assert (b"LIBARCHIVE.xattr.user.with%20space=" in content) == (dialect != "SCHILY")
    assert (b"SCHILY.xattr.trusted.kept=\0\xff" in content) == (dialect != "LIBARCHIVE")
    assert b"hdrcharset=BINARY" in content  # names that are not UTF-8 stand as they are
    unpack = [bsdtar, "-xpf", f"{archive}", "--xattrs", "-C", f"{unpacked}"]
    subprocess.run(unpack, check=True, timeout=60)
    source = write_layout(tmp_path / "image", [RawLayer(content)])
    disk = convert(saltflat.good, tmp_path / "store", source, "--capacity", "64m")
    with checked_mount(tool, disk, tmp_path) as mount:
        ours = read_tree(mount)
    theirs = read_tree(unpacked)
    del ours[b""], theirs[b""]  # no entry tells of the root
    assert len(ours) == 5
    assert len(ours[b"file"].xattrs) == len(NAMES) + 1 + (5 if dialect == "ALL" else 0)
    assert not differences(theirs, ours, unpacked_ns=2**80)
