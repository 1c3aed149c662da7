"""Images that are heavy in one way each, and the peak memory of their conversion.

The promise: at most 150 MB and 1 KB for each file of the image, whatever is in the files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tests.images.cache import ROOT, cache_folder, cached, fingerprint
from tests.images.layout import LayoutWriter
from tests.images.synthetic import Shape, build
from tests.images.tarball import TarBuilder

MANY_FILES = 60_000
_BASE_BYTES = 150_000_000
_BYTES_PER_FILE = 1_000
_TELLING = """
import atexit, pathlib, sys
atexit.register(lambda: sys.stderr.write(pathlib.Path("/proc/self/status").read_text()))
from converter.cli import main
main()
"""


def large_layer(zeros_bytes: int, noise_bytes: int) -> Path:
    """Return an image of one layer with two large files, made once."""

    def write(tar: TarBuilder) -> None:
        tar.zeros("zeros", zeros_bytes)
        tar.noise("noise", noise_bytes)

    def make(folder: Path) -> None:
        layout = LayoutWriter(folder)
        layout.layer(write, comment="two large files")
        layout.finish(config={})

    return _cached(f"large-{zeros_bytes}-{noise_bytes}", make)


def many_files() -> Path:
    """Return an image of many files, of which a second layer deletes some, made once."""
    shapes = [Shape(MANY_FILES, 200, 500), Shape(1000, 200, 5, deletes=1000)]
    return _cached("many", lambda folder: build(folder, shapes, seed=1))


def bound_bytes(files: int) -> int:
    """Return how much memory a conversion of `files` files may take at its peak."""
    return _BASE_BYTES + files * _BYTES_PER_FILE


def peak_bytes(layout: Path, store: Path) -> int:
    """Convert in a process of its own, which starts no other, and return its peak memory."""
    return peak_of_command("convert", "--store", str(store), f"oci:{layout}:latest")


def peak_of_command(*arguments: str, stdin: IO[bytes] | None = None) -> int:
    """Run a command to its good end in a process of its own and return its peak memory in bytes.

    The process tells it itself: what wait4() reports includes this process's size at the fork.
    """
    done = subprocess.run(
        [sys.executable, "-c", _TELLING, "-q", *arguments],
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    return int(done.stderr.split("VmHWM:")[1].split()[0]) * 1024


def _cached(name: str, make: Callable[[Path], object]) -> Path:
    sources = ("heavy.py", "layout.py", "synthetic.py", "tarball.py")
    key = fingerprint([ROOT / "tests/images" / source for source in sources])
    return cached(cache_folder(), name, key, make)
