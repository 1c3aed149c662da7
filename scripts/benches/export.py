"""Exports against the programs that do the same, in one run on the same disk.

stream   `saltflat export --type stream` of a bundle, with start and fsync, against `qemu-img
         convert -o subformat=streamOptimized` of the same chain, which does not wait for the disk
flat     `saltflat export --type flat` against `cp --sparse=always` of the raw file that it made,
         and that with `sync` of the copy, for the export is on the disk when it ends; and against
         as many bytes of zeros by `dd conv=fsync`, which is what the disk can do
peak     the memory of the export's one process
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scripts.benches._timed import quietly
from scripts.benches.convert import MORE_PACKAGES
from tests.images import demo, prepared
from tests.images.cache import cache_folder, cached, fingerprint
from tests.images.heavy import peak_of_command
from tests.images.prepared import SALTFLAT

TYPES = ("stream", "flat", "sparse")


def run(rounds: int, *, small: bool = False) -> dict[str, object]:
    """Measure everything `rounds` times, in turns; return medians in seconds and their ratios.

    The image has 603 MiB; a `small` one, the demo image, shows whether the bench itself works.
    """
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        work = Path(name)
        bundle, store = work / "bundle", work / "store"
        source = f"oci:{prepared.demo_layout() if small else large_layout()}:latest"
        quietly([*SALTFLAT, "-q", "convert", "--store", store, source, "-o", bundle])
        links = json.loads((bundle / "bundle.json").read_bytes())["links"]
        top, raw, copy = bundle / links[-1]["file"], work / "flat-flat.vmdk", work / "copy"
        measures: dict[str, Callable[[], object]] = {
            "stream": lambda: _export(bundle, store, work / "stream.vmdk"),
            "qemu-img, streamOptimized": lambda: _qemu(top, work / "qemu.vmdk"),
            "flat": lambda: _export(bundle, store, work / "flat.vmdk"),
            "cp --sparse=always": lambda: _copy(raw, copy),
            "that, and sync": lambda: _copy(raw, copy, sync=True),
            "dd conv=fsync": lambda: _fill(raw, copy),
            "sparse": lambda: _export(bundle, store, work / "sparse.vmdk"),
        }
        sizes: dict[str, int] = {}
        for _ in range(rounds):
            for what, measure in measures.items():
                os.sync()  # what the others left to be written is not this one's
                started = time.perf_counter()
                measure()
                times.setdefault(what, []).append(time.perf_counter() - started)
                made = (work / "stream.vmdk", work / "qemu.vmdk", work / "sparse.vmdk", copy)
                for path in filter(Path.exists, made):
                    sizes[path.name] = path.stat().st_size
                    path.unlink()  # replacing a file costs more than writing one
                for statement in work.glob("*.provenance.json"):
                    statement.unlink()
            raw.unlink()
            (work / "flat.vmdk").unlink()
        peaks = {
            kind: peak_of_command(*_arguments(bundle, store, work / f"{kind}.vmdk"))
            for kind in TYPES
        }
        sizes["chain"] = sum(link["size"] for link in links)
    seconds = {what: round(statistics.median(found), 3) for what, found in times.items()}
    return {
        "rounds": rounds,
        "seconds": seconds,
        "bytes": sizes,
        "peak bytes (bound 200,000,000)": peaks,
        "ratios": {
            "stream / qemu-img (goal 0.2)": _ratio(seconds, "stream", "qemu-img, streamOptimized"),
            "stream / qemu-img, bytes (goal 1.1)": _ratio(sizes, "stream.vmdk", "qemu.vmdk"),
            "flat / cp (goal 1.3)": _ratio(seconds, "flat", "cp --sparse=always"),
            "flat / cp and sync": _ratio(seconds, "flat", "that, and sync"),
            "flat / dd conv=fsync": _ratio(seconds, "flat", "dd conv=fsync"),
        },
    }


def large_layout() -> Path:
    """Return the OCI layout of the image of 603 MiB, made once."""
    key = demo.key() + fingerprint([], *MORE_PACKAGES)
    return cached(cache_folder(), "large-demo", key, lambda out: demo.build(out, MORE_PACKAGES))


def _arguments(bundle: Path, store: Path, out: Path) -> list[str]:
    command = ["export", str(bundle), "--store", str(store), "--type", out.stem]
    return [*command, "-o", str(out)]


def _export(bundle: Path, store: Path, out: Path) -> None:
    quietly([*SALTFLAT, "-q", *_arguments(bundle, store, out)])


def _qemu(top: Path, target: Path) -> None:
    options = ["-f", "vmdk", "-O", "vmdk", "-o", "subformat=streamOptimized"]
    quietly(["qemu-img", "convert", *options, top, target])


def _copy(raw: Path, copy: Path, *, sync: bool = False) -> None:
    quietly(["cp", "--sparse=always", raw, copy])
    if sync:
        quietly(["sync", copy])


def _fill(raw: Path, copy: Path) -> None:
    """Write as many bytes as `raw` has that are no holes."""
    pieces = raw.stat().st_blocks * 512 >> 20
    quietly(["dd", "if=/dev/zero", f"of={copy}", "bs=1M", f"count={pieces}", "conv=fsync"])


def _ratio(found: dict[str, float] | dict[str, int], ours: str, other: str) -> float:
    return round(found[ours] / found[other], 3)
