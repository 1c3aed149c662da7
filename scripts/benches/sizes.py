"""The sizes of links whose layers change little of much, each beside its bound. No clock in it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

from tests.images.cache import ROOT
from tests.images.prepared import SALTFLAT
from tests.images.small_changes import build, measure


def run(_rounds: int) -> dict[str, object]:
    """Convert the image once: sizes repeat to the byte."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        work = Path(name)
        build(work / "layout")
        done = subprocess.run(
            [
                *SALTFLAT,
                *("-q", "convert", "--format", "json", "--store", work / "store"),
                f"oci:{work / 'layout'}:latest",
            ],
            check=True,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=600,
        )
        links = [Path(link["file"]) for link in json.loads(done.stdout)["links"]]
        sizes = measure(links)
        return {
            "bytes": {what: size.size for what, size in sizes.items()},
            "bounds": {what: size.bound for what, size in sizes.items()},
            "grains of lower links that are changed": {
                what: size.older_grains for what, size in sizes.items()
            },
        }
