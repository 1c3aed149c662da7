"""The disk map of a small image, number by number against qemu-img and debugfs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from converter.cli.images import image_of_bundle
from converter.diskmap.model import DiskMap, MapFile
from converter.diskmap.runs import Runs, common, joined, length, without
from converter.events import ignore
from converter.store.bundle import read_bundle
from converter.survey import survey
from tests.images.disks import debugfs
from tests.images.layout import LayoutWriter
from tests.images.tarball import TarBuilder
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration

BLOCK = 4096
HOSTILE_NAME = b"big/</title>\xff\x1b"


def _base(tar: TarBuilder) -> None:
    tar.directory("big")
    tar.noise("big/gone", 3 << 20)
    tar.noise("big/stays", 2 << 20)
    tar.noise("big/halved", 1 << 20)
    tar.hardlink("big/the same", "big/stays")
    tar.file("small", b"small")
    tar.directory("many")
    for number in range(300):
        tar.file(f"many/{number}", b"x" * 100)


def _change(tar: TarBuilder) -> None:
    tar.whiteout("big/gone")
    tar.noise("big/halved", 1 << 19)
    tar.file(HOSTILE_NAME, b"y" * 300_000)
    tar.symlink("long", "t" * 200)


@pytest.fixture(scope="module")
def bundle(saltflat: Saltflat, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of three layers, one of which changes nothing, on a disk of 64 MiB."""
    folder = tmp_path_factory.mktemp("map")
    layout = LayoutWriter(folder / "layout")
    layout.layer(_base, comment="/bin/sh -c #(nop) ADD base")
    layout.layer(lambda _tar: None, comment="nothing")
    layout.layer(_change, comment="RUN /bin/sh -c change # buildkit")
    layout.finish(config={"Cmd": ["/small"]})
    convert = ("convert", "--store", folder / "store", "--capacity", "64M")
    saltflat.good(*convert, f"oci:{folder / 'layout'}:latest", "-o", folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def disk(bundle: Path) -> DiskMap:
    """Return the map of the bundle."""
    read = read_bundle(bundle)
    return survey(read, image_of_bundle(read), monitor=ignore)


@pytest.fixture(scope="module")
def raw(
    bundle: Path, tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ...]:
    """Return the disk as it is with each link on top, flattened by qemu-img."""
    folder = tmp_path_factory.mktemp("raw")
    found = []
    for number, link in enumerate(read_bundle(bundle).disks):
        found.append(folder / f"{number}.raw")
        command = [tool("qemu-img"), "convert", "-f", "vmdk", "-O", "raw", link, found[-1]]
        subprocess.run(command, check=True, timeout=60)
    return tuple(found)


def blocks(tool: Callable[[str], str], raw: Path, path: bytes | str) -> Runs:
    """Return where debugfs finds the content of a file, or all that a directory has."""
    answer = debugfs(tool, raw, f'blocks "{path if isinstance(path, str) else path.decode()}"')
    numbers = [int(word) for word in answer.split()]
    return joined((number * BLOCK, (number + 1) * BLOCK) for number in numbers)


def test_what_a_link_holds_is_what_qemu_finds_in_it(
    bundle: Path, disk: DiskMap, tool: Callable[[str], str]
) -> None:
    for link, path in zip(disk.links, read_bundle(bundle).disks, strict=True):
        command = [tool("qemu-img"), "map", "--output=json", "-f", "vmdk", path]
        done = subprocess.run(command, check=True, timeout=60, capture_output=True)
        held = joined(
            (entry["start"], entry["start"] + entry["length"])
            for entry in json.loads(done.stdout)
            if entry["depth"] == 0 and entry["data"]
        )
        assert link.held == held
        assert link.file_bytes == path.stat().st_size
        # The four kinds are all of it, and no two share anything.
        assert sum(map(length, link.contents)) == length(held)


def test_files_lie_where_debugfs_finds_them(
    disk: DiskMap, raw: tuple[Path, ...], tool: Callable[[str], str]
) -> None:
    base, top = disk.links
    below, whole = raw
    stays = blocks(tool, whole, "/big/stays")
    assert (length(stays), without(stays, base.files)) == (2 << 20, ())
    halved = blocks(tool, whole, "/big/halved")
    assert (length(halved), without(halved, top.files)) == (1 << 19, ())
    for path in ("/small", "/many/7", "/many/299"):
        assert without(blocks(tool, whole, path), base.files) == ()
    # What the upper layer took away is in the lower link all the same.
    for path, size in (("/big/gone", 3 << 20), ("/big/halved", 1 << 20)):
        lost = blocks(tool, below, path)
        assert (length(lost), without(lost, base.replaced)) == (size, ())
    # Directories are structure, of the link that has their last form.
    assert without(blocks(tool, whole, "/many"), base.structure) == ()
    assert without(blocks(tool, whole, "/big"), top.structure) == ()
    assert without(blocks(tool, below, "/big"), base.replaced) == ()


def test_unused_is_what_no_bitmap_knows(
    disk: DiskMap, raw: tuple[Path, ...], tool: Callable[[str], str]
) -> None:
    for link, image in zip(disk.links, raw, strict=True):
        assert link.unused
        for runs, answer in ((link.unused, b"not in use"), (link.replaced, b"marked in use")):
            for first, end in runs[:40]:
                begin = max(first, BLOCK)  # debugfs does not answer for block 0
                count = (end - begin) // BLOCK
                found = debugfs(tool, image, f"testb {begin // BLOCK} {count}").splitlines()
                assert len(found) == count
                assert all(line.endswith(answer) for line in found)


def test_all_content_and_no_more(
    disk: DiskMap, raw: tuple[Path, ...], tool: Callable[[str], str]
) -> None:
    """The finished disk's blocks in use are the links' files and structure, and what is nowhere.

    Nowhere in a link are metadata of zeros: inode tables, and a journal, that nobody has used.
    """
    told = debugfs(tool, raw[-1], "show_super_stats -h").decode()
    count, free = (
        int(re.findall(rf"^{name}: +(\d+)$", told, re.MULTILINE)[0])
        for name in ("Block count", "Free blocks")
    )
    found = joined(run for link in disk.links for run in (*link.files, *link.structure))
    held = joined(run for link in disk.links for run in link.held)
    metadata = debugfs(tool, raw[-1], "blocks <8>").split()
    journal = joined((int(at) * BLOCK, (int(at) + 1) * BLOCK) for at in metadata)
    tables = [
        int(at)
        for at in re.findall(
            r"inode table at (\d+)", debugfs(tool, raw[-1], "show_super_stats").decode()
        )
    ]
    table_blocks = int(re.findall(r"^Inode blocks per group: +(\d+)$", told, re.MULTILINE)[0])
    places = joined([*journal, *((at * BLOCK, (at + table_blocks) * BLOCK) for at in tables)])
    absent = length(without(places, held))
    assert length(found) + absent == (count - free) * BLOCK
    assert length(common(found, held)) == length(found)


def test_the_heaviest_are_named_and_what_is_gone_is_among_them(disk: DiskMap) -> None:
    base, top = disk.links
    assert base.heaviest == (
        MapFile(b"big/gone", 3 << 20, gone=True),
        MapFile(b"big/stays", 2 << 20),
        MapFile(b"big/halved", 1 << 20, gone=True),
        MapFile(b"many/0", BLOCK),
        MapFile(b"many/1", BLOCK),
        MapFile(b"many/10", BLOCK),
    )
    assert top.heaviest == (
        MapFile(b"big/halved", 1 << 19),
        MapFile(HOSTILE_NAME, 74 * BLOCK),
        MapFile(b"long", BLOCK),
    )


def test_layers_are_told_with_what_made_them(disk: DiskMap) -> None:
    layers = [layer for link in disk.links for layer in link.layers]
    assert [(layer.number, layer.created_by) for layer in layers] == [
        (1, "/bin/sh -c #(nop) ADD base"),
        (3, "RUN /bin/sh -c change # buildkit"),
    ]
    assert disk.layers_without_link == 1


def test_the_command_writes_both_and_says_what_it_always_says(
    saltflat: Saltflat, bundle: Path, tmp_path: Path
) -> None:
    inspect = ("inspect", "--format", "json", bundle)
    plain = saltflat.good(*inspect)
    for name in ("map.svg", "map.html"):
        twice = []
        for command in (saltflat.good, saltflat.afresh):
            assert command(*inspect, "--map", tmp_path / name) == plain
            twice.append((tmp_path / name).read_bytes())
        assert twice[0] == twice[1]
        texts = "".join(ET.fromstring(twice[0]).itertext())
        assert "big/</title>\\xff\\x1b" in texts
        assert "ADD base" in texts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.html", "map.svg"]


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        ("bundle", "-", b"ends with .svg or .html"),
        ("bundle", "map.png", b"ends with .svg or .html"),
        ("bundle", "none/map.svg", b"cannot be written"),
        ("oci:layout", "map.svg", b"saltflat convert"),
    ],
)
def test_what_cannot_be_drawn_is_a_usage_error(
    saltflat: Saltflat, bundle: Path, tmp_path: Path, source: str, name: str, said: bytes
) -> None:
    place = name if name == "-" else tmp_path / name
    done = saltflat("inspect", bundle if source == "bundle" else source, "--map", place)
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"digest": "sha257:00"}, b"neither sha256 nor sha512"),
        ({"digest": "sha256:" + "0" * 64}, b"has the digest"),
        ({"links": []}, b"has no links"),
    ],
)
def test_a_bundle_that_is_not_what_it_says_is_not_drawn(
    saltflat: Saltflat, bundle: Path, tmp_path: Path, wrong: dict[str, object], said: bytes
) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    document = json.loads((copy / "bundle.json").read_bytes())
    (copy / "bundle.json").write_text(json.dumps(document | wrong))
    done = saltflat("inspect", copy, "--map", tmp_path / "map.svg")
    assert (done.returncode, done.stdout) == (5, b"")
    assert said in done.stderr
    assert not (tmp_path / "map.svg").exists()
