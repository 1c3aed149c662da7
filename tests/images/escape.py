"""The image that tries to get out: busybox, and the boot image's own Python with a script.

Python comes from there because it is small, needs nothing else, and is at hand in every test run;
nothing of the agent is taken. What scripts import and the boot image does without is the running
interpreter's.
"""

from __future__ import annotations

import importlib.util
import io
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from tests.images import prepared
from tests.images.cache import ROOT, cache_folder, cached, fingerprint
from tests.images.layout import LayoutWriter
from tests.images.tarball import TarBuilder
from tinykernel import c_newc

SCRIPT = ROOT / "tests" / "guests" / "escape.py"
_PYTHON = "python3.11"
_ADDED = ("contextlib", "ctypes", "ctypes._endian", "selectors", "signal", "socket", "typing")
_LEFT_OUT = ("init", "usr/lib/saltflat", "usr/lib/modules", "dev", "proc", "sys", "tmp")


def layout() -> Path:
    """Return the OCI layout of the image, tag `latest`."""
    inputs = [Path(__file__), SCRIPT, ROOT / "tinykernel"]
    return cached(cache_folder(), "escape", fingerprint(inputs), build)


def build(folder: Path) -> None:
    """Write the layout into `folder`."""
    writer = LayoutWriter(folder)
    writer.layer(_files, comment="python, busybox, script")
    writer.finish(config={"Cmd": [f"/usr/bin/{_PYTHON}", "-ISB", "/escape.py"]})


def _files(tar: TarBuilder) -> None:
    (initrd,) = (prepared.boot_store() / "boot").glob("*/initrd")
    archive = zstandard.ZstdDecompressor().decompressobj().decompress(initrd.read_bytes())
    for name, mode, data in _entries(io.BytesIO(archive)):
        if name.startswith(_LEFT_OUT):
            continue
        if stat.S_ISDIR(mode):
            tar.directory(name)
        elif stat.S_ISLNK(mode):
            tar.symlink(name, data.decode())
        else:
            tar.file(name, data, mode=stat.S_IMODE(mode))
    for name in _ADDED:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        place = f"usr/lib/{_PYTHON}/{name.replace('.', '/')}"
        if spec.submodule_search_locations is not None:
            tar.directory(place)
            place += "/__init__"
        tar.file(f"{place}.py", Path(spec.origin).read_bytes())
    busybox = shutil.which("busybox")
    assert busybox is not None
    tar.directory("tmp", mode=0o1777)
    tar.directory("opt")
    tar.file("opt/busybox", Path(busybox).read_bytes(), mode=0o755)
    tar.file("escape.py", SCRIPT.read_bytes())


def _entries(archive: BinaryIO) -> Iterator[tuple[str, int, bytes]]:
    """Yield name, mode and data of each member of a newc archive."""

    while True:
        header = archive.read(c_newc.HEADER_SIZE)
        values = [int(header[at : at + 8], 16) for at in range(len(c_newc.MAGIC), len(header), 8)]
        fields = dict(zip(c_newc.FIELDS, values, strict=True))
        name = archive.read(fields["namesize"])[:-1].decode()
        archive.read(-archive.tell() % c_newc.ALIGNMENT)
        data = archive.read(fields["filesize"])
        archive.read(-archive.tell() % c_newc.ALIGNMENT)
        if name == c_newc.TRAILER:
            return
        yield name, fields["mode"], data
