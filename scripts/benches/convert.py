"""Conversion against its limit and its peers, all in one run on the same images.

limit      one thread: isal inflate, sha256 of the compressed and of the uncompressed bytes
cold       `saltflat convert` of the large image into an empty store, with start and fsync
pipeline   umoci unpack + mke2fs -d + qemu-img convert -O vmdk of the same image
one layer  a small layer on the cached large image, and the same layer alone on an empty base
listing    stdlib tarfile lists an uncompressed layer of many small files; saltflat converts it
start      `saltflat --version`, and `python -c 'import click'`, ten times each
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from isal import isal_zlib

from scripts.benches._timed import quietly
from tests.images import demo
from tests.images.cache import ROOT, cache_folder, cached, fingerprint
from tests.images.layout import LayoutWriter
from tests.images.prepared import SALTFLAT
from tests.images.synthetic import Shape, build
from tests.images.tarball import TarBuilder

MORE_PACKAGES = ("build-essential", "git", "cmake", "python3-dev", "libboost-dev")
SMALL_FILES = 100_000
STARTS = 10  # of a program, for one measurement of what takes a few hundredths of a second
PACKAGES = ("agent", "converter", "tinykernel")
_CHUNK_BYTES = 256 << 10


def run(rounds: int) -> dict[str, object]:
    """Measure everything `rounds` times, in turns; return medians in seconds and their ratios."""
    key = demo.key() + fingerprint([], *MORE_PACKAGES)
    large = cached(cache_folder(), "large-demo", key, lambda out: demo.build(out, MORE_PACKAGES))
    sources = fingerprint([ROOT / "tests/images", Path(__file__)])
    many = cached(cache_folder(), "many-small", sources, _build_many)
    alone = cached(cache_folder(), "one-layer", sources, _build_alone)
    on_top = cached(cache_folder(), "large-and-one", key + sources, lambda out: _add(large, out))
    # Installed packages are compiled by pip, a source tree only where Python may write beside it.
    quietly([sys.executable, "-m", "compileall", *(ROOT / name for name in PACKAGES)])
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        work = Path(name)
        parent_store = work / "parent"
        _convert(large, parent_store)
        measures: dict[str, Callable[[], object]] = {
            "limit": lambda: _limit(large),
            "cold": lambda: _convert(large, work / "cold"),
            "pipeline": lambda: _pipeline(large, work / "pipeline"),
            "one layer more": lambda: _convert(on_top, work / "grown"),
            "that layer alone": lambda: _convert(alone, work / "alone"),
            "tarfile lists": lambda: _list(work / "many.tar"),
            "many small files": lambda: _convert(many, work / "many"),
            "saltflat --version": lambda: _start("from converter.cli import main; main()"),
            "import click": lambda: _start("import click"),
        }
        _uncompress(many, work / "many.tar")
        for _ in range(rounds):
            for what, measure in measures.items():
                if what == "one layer more":
                    shutil.copytree(parent_store, work / "grown", copy_function=os.link)
                started = time.perf_counter()
                measure()
                times.setdefault(what, []).append(time.perf_counter() - started)
                for made in ("cold", "pipeline", "grown", "alone", "many"):
                    shutil.rmtree(work / made, ignore_errors=True)
    seconds = {what: round(statistics.median(found), 3) for what, found in times.items()}
    return {
        "rounds": rounds,
        "image": _describe(large),
        "seconds": seconds,
        "ratios": {
            "cold / limit (goal 1.8)": _ratio(seconds, "cold", "limit"),
            "cold / pipeline (goal 0.16)": _ratio(seconds, "cold", "pipeline"),
            "one layer more / alone (goal 1.2)": _ratio(
                seconds, "one layer more", "that layer alone"
            ),
            "one layer more / pipeline (goal 0.03)": _ratio(seconds, "one layer more", "pipeline"),
            "tarfile lists / many small files (goal 0.5)": _ratio(
                seconds, "tarfile lists", "many small files"
            ),
            "start / import click (goal 1.5)": _ratio(
                seconds, "saltflat --version", "import click"
            ),
        },
    }


def _ratio(seconds: dict[str, float], ours: str, other: str) -> float:
    return round(seconds[ours] / seconds[other], 3)


def _layers(layout: Path) -> list[Path]:
    index = json.loads((layout / "index.json").read_bytes())
    blobs = layout / "blobs" / "sha256"
    for entry in index["manifests"]:
        if entry["annotations"]["org.opencontainers.image.ref.name"] == "latest":
            manifest = json.loads((blobs / entry["digest"].partition(":")[2]).read_bytes())
            return [blobs / layer["digest"].partition(":")[2] for layer in manifest["layers"]]
    raise LookupError("latest")


def _describe(layout: Path) -> dict[str, int]:
    raw = entries = 0
    for blob in _layers(layout):
        with gzip.open(blob) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
            for member in archive:
                raw += member.size
                entries += 1
    gzipped = sum(blob.stat().st_size for blob in _layers(layout))
    return {"gzip_bytes": gzipped, "content_bytes": raw, "entries": entries}


def _limit(layout: Path) -> None:
    for blob in _layers(layout):
        compressed, plain = hashlib.sha256(), hashlib.sha256()
        inflater = isal_zlib.decompressobj(wbits=31)
        with open(blob, "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK_BYTES):
                compressed.update(chunk)
                plain.update(inflater.decompress(chunk))


def _convert(layout: Path, store: Path) -> None:
    quietly([*SALTFLAT, "-q", "convert", "--store", store, f"oci:{layout}:latest"])


def _pipeline(layout: Path, work: Path) -> None:
    work.mkdir()
    quietly(["umoci", "unpack", "--image", f"{layout}:latest", work / "unpacked"])
    disk = work / "disk.raw"
    quietly(["mke2fs", "-q", "-t", "ext4", "-d", work / "unpacked" / "rootfs", disk, "16G"])
    quietly(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", disk, work / "disk.vmdk"])


def _list(archive: Path) -> None:
    with tarfile.open(archive) as members:
        for _ in members:
            pass


def _start(program: str) -> None:
    for _ in range(STARTS):
        quietly([sys.executable, "-c", program, "--version"])


def _uncompress(layout: Path, target: Path) -> None:
    with gzip.open(_layers(layout)[0]) as plain, target.open("wb") as file:
        shutil.copyfileobj(plain, file)


def _build_many(folder: Path) -> None:
    build(folder, [Shape(SMALL_FILES, 1000, 2000)], seed=1)


def _one_layer(tar: TarBuilder) -> None:
    tar.directory("srv")
    for number in range(5):
        tar.file(f"srv/config-{number}", b"setting = value\n" * 40)


def _build_alone(folder: Path) -> None:
    layout = LayoutWriter(folder)
    layout.layer(_one_layer, comment="one small layer")
    layout.finish(config={})


def _add(layout: Path, target: Path) -> None:
    """Copy an image and put the small layer on it, with umoci's tools."""
    shutil.copytree(layout, target)
    with tempfile.TemporaryDirectory() as name:
        archive = Path(name) / "layer.tar"
        with archive.open("wb") as file:
            tar = TarBuilder(file)
            _one_layer(tar)
            tar.close()
        quietly(["umoci", "raw", "add-layer", "--image", f"{target}:latest", archive])
