"""Pulling from a registry on loopback, against skopeo, in one run on the same image.

skopeo     `skopeo copy docker://IMAGE oci:DIR:latest`: manifest, configuration, layers
saltflat   a fresh process that resolves the image and has the pipeline's own `fetch_blob` bring
           every layer into a store's folder of blobs, as many at a time as `convert` does

Both begin with an empty folder, verify every byte and end with every blob under its digest. No verb
only fetches, so the second is a program of six lines; it also makes each blob durable (fsync),
which skopeo does not. CPU time is that of the process and its children, user and system.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from scripts.benches._timed import quietly
from tests.images.cache import ROOT, cache_folder, cached, fingerprint
from tests.images.layout import LayoutWriter
from tests.images.tarball import TarBuilder, noise
from tests.integration.registry_server import registry_server

LAYER_MB = (120, 60, 30, 20, 8, 2)
_FETCH = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from converter.events import ignore
from converter.image.fetch import PARALLEL_FETCHES, fetch_blob
from converter.image.platform import Platform
from converter.image.reference import parse_source
from converter.image.source import SourceOptions, open_source
with open_source(parse_source(sys.argv[1]), SourceOptions(plain_http=True)) as source:
    image = source.resolve(Platform("linux", "amd64"))
    with ThreadPoolExecutor(PARALLEL_FETCHES) as threads:
        fetched = [
            threads.submit(fetch_blob, source, layer.descriptor, Path(sys.argv[2]), ignore)
            for layer in image.layers
        ]
        for blob in fetched:
            blob.result()
"""


def run(rounds: int) -> dict[str, object]:
    """Measure both `rounds` times, in turns; return medians in seconds and their ratios."""
    sources = [ROOT / "tests/images/layout.py", ROOT / "tests/images/tarball.py"]
    key = fingerprint(sources, str(LAYER_MB))
    layout = cached(cache_folder(), "pull", key, _build)
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        work = Path(name)
        with registry_server("docker-registry", work / "registry") as registry:
            image = f"{registry.host}/bench/pull:1"
            copy = ["skopeo", "--insecure-policy", "copy", "--quiet"]
            target = ["--dest-tls-verify=false", f"oci:{layout}:latest", f"docker://{image}"]
            quietly([*copy, *target])
            out = work / "out"
            source = ["--src-tls-verify=false", f"docker://{image}", f"oci:{out}:latest"]
            fetch = [sys.executable, "-c", _FETCH, image, os.fspath(out)]
            measures: dict[str, Callable[[], None]] = {
                "skopeo": partial(quietly, [*copy, *source]),
                "saltflat": partial(quietly, fetch),
            }
            for _ in range(rounds):
                for what, measure in measures.items():
                    started, cpu = time.perf_counter(), _children_seconds()
                    measure()
                    seconds.setdefault(what, []).append(time.perf_counter() - started)
                    used = _children_seconds() - cpu
                    seconds.setdefault(f"{what}, processor", []).append(used)
                    shutil.rmtree(out)
    medians = {what: round(statistics.median(found), 3) for what, found in seconds.items()}
    return {
        "rounds": rounds,
        "image": {"layers": len(LAYER_MB), "bytes": sum(LAYER_MB) << 20},
        "seconds": medians,
        "ratios": {
            "saltflat / skopeo (goal 1.3)": round(medians["saltflat"] / medians["skopeo"], 3),
            "saltflat / skopeo, processor (goal 1.0)": round(
                medians["saltflat, processor"] / medians["skopeo, processor"], 3
            ),
        },
    }


def _children_seconds() -> float:
    """Return the processor time of all children that have ended. (The registry has not.)"""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _build(folder: Path) -> None:
    layout = LayoutWriter(folder)
    for number, megabytes in enumerate(LAYER_MB):
        layout.layer(partial(_layer, number, megabytes << 20), comment=f"{megabytes} MiB of noise")
    layout.finish(config={})


def _layer(number: int, size_bytes: int, tar: TarBuilder) -> None:
    tar.file(f"noise-{number}", noise(f"pull-{number}", size_bytes))
