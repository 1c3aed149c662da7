"""Peak memory of conversions, each beside its bound. No clock in it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.images.heavy import MANY_FILES, bound_bytes, large_layer, many_files, peak_bytes

GB = 10**9


def run(_rounds: int) -> dict[str, object]:
    """Convert each image once, the process being the whole tree of processes."""
    images = {
        "a layer of 5 GB, half zeros, half noise": (large_layer(5 * GB // 2, 5 * GB // 2), 2),
        f"{MANY_FILES:,} files in two layers": (many_files(), MANY_FILES),
    }
    peaks, bounds = {}, {}
    for what, (layout, files) in images.items():
        with tempfile.TemporaryDirectory(dir="/var/tmp") as store:
            peaks[what] = peak_bytes(layout, Path(store))
        bounds[what] = bound_bytes(files)
    return {"peak bytes": peaks, "bounds": bounds}
