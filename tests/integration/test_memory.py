"""Peak memory of a conversion depends on the number of files, not on what is in them.

The promise: at most 150 MB and 1 KB for each file of the image.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images.cache import ROOT, cache_folder, cached, fingerprint
from tests.images.layout import LayoutWriter
from tests.images.synthetic import Shape, build
from tests.images.tarball import TarBuilder, noise

pytestmark = pytest.mark.integration

BASE_BYTES = 150_000_000
BYTES_PER_FILE = 1_000
MANY_FILES = 60_000
_TELLING = """
import atexit, pathlib, sys
atexit.register(lambda: sys.stderr.write(pathlib.Path("/proc/self/status").read_text()))
from converter.cli import main
main()
"""
ZEROS_BYTES = 2 << 30
NOISE_BYTES = 200 << 20


def _large(tar: TarBuilder) -> None:
    tar.zeros("zeros", ZEROS_BYTES)
    tar.file("noise", noise("large", NOISE_BYTES))


def _build_large(folder: Path) -> None:
    layout = LayoutWriter(folder)
    layout.layer(_large, comment="two large files")
    layout.finish(config={})


def _build_many(folder: Path) -> None:
    build(folder, [Shape(MANY_FILES, 200, 500), Shape(1000, 200, 5, deletes=1000)], seed=1)


def _peak_bytes(layout: Path, store: Path) -> int:
    """Convert in a process of its own, which starts no other, and return its peak memory.

    The process tells it itself: what wait4() reports includes this process's size at the fork.
    """
    done = subprocess.run(
        [sys.executable, "-c", _TELLING, "-q", "convert", "--store", store, f"oci:{layout}:latest"],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    return int(done.stderr.split("VmHWM:")[1].split()[0]) * 1024


def test_layers_of_any_size_take_the_same_memory(tmp_path: Path) -> None:
    key = fingerprint([ROOT / "tests/images", Path(__file__)])
    layout = cached(cache_folder(), "large", key, _build_large)
    peak = _peak_bytes(layout, tmp_path)
    assert peak <= BASE_BYTES + 2 * BYTES_PER_FILE


def test_a_file_takes_at_most_a_kilobyte(tmp_path: Path) -> None:
    key = fingerprint([ROOT / "tests/images", Path(__file__)])
    layout = cached(cache_folder(), "many", key, _build_many)
    peak = _peak_bytes(layout, tmp_path)
    assert peak <= BASE_BYTES + MANY_FILES * BYTES_PER_FILE
