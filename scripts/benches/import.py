"""Imports into a simulated vCenter against exports of the same disk to a file, in one run.

export     `saltflat export --type stream` of an image in the store, with start and fsync
import     `saltflat vsphere import` of it, with start, login, tag and snapshot; the simulator,
           which shares this machine's processors, hashes what it receives and forgets it
--chunked  the same without a first pass
processor  what each took of it, without the simulator: says more than seconds on a busy machine
peak       the memory of an import's one process; also of one that converts the image first
"""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scripts.benches._timed import quietly
from scripts.benches.export import large_layout
from tests.images import prepared
from tests.images.gotools import go_tools
from tests.images.heavy import peak_of_command
from tests.images.prepared import SALTFLAT
from tests.integration.vcsim import vcsim

_PASSWORD = "simulated"


def run(rounds: int, *, small: bool = False) -> dict[str, object]:
    """Measure everything `rounds` times, in turns; return medians in seconds and their ratios.

    The image has 603 MiB; a `small` one, the demo image, shows whether the bench itself works.
    """
    times: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as name,
        vcsim(go_tools()) as address,
    ):
        work = Path(name)
        (work / "password").write_text(_PASSWORD)
        source = f"oci:{prepared.demo_layout() if small else large_layout()}:latest"
        quietly([*SALTFLAT, "-q", "convert", "--store", work / "store", source])
        there = ["--vsphere-url", f"http://me@{address}", "--vsphere-insecure"]
        there += ["--vsphere-password-file", str(work / "password"), "--network", "VM Network"]
        there += ["--state", str(work / "state")]
        count = 0

        def bring(*options: str, store: str = "store") -> list[str]:
            nonlocal count
            count += 1  # a template that is there is not made again
            named = ["--name", f"template-{count}", "--store", str(work / store)]
            return ["vsphere", "import", source, *there, *named, *options]

        size_bytes = 0
        out = work / "stream.vmdk"
        store = ["--store", str(work / "store")]
        measures: dict[str, Callable[[], list[str]]] = {
            "export": lambda: ["export", source, *store, "--type", "stream", "-o", str(out)],
            "import": bring,
            "import --chunked": lambda: bring("--chunked"),
        }
        for _ in range(rounds):
            for what, command in measures.items():
                arguments = command()
                os.sync()  # what the others left to be written is not this one's
                started, used = time.perf_counter(), _processor_seconds()
                quietly([*SALTFLAT, "-q", *arguments])
                times.setdefault(what, []).append(time.perf_counter() - started)
                processor.setdefault(what, []).append(_processor_seconds() - used)
                if out.exists():
                    size_bytes = out.stat().st_size
                    out.unlink()  # replacing a file costs more than writing one
                for statement in work.glob("*.provenance.json"):
                    statement.unlink()
        peaks = {
            "import": peak_of_command(*bring()),
            "import --chunked": peak_of_command(*bring("--chunked")),
            "import that converts": peak_of_command(*bring(store="another")),
        }
    seconds = {what: round(statistics.median(found), 3) for what, found in times.items()}
    taken = {what: round(statistics.median(found), 3) for what, found in processor.items()}
    return {
        "rounds": rounds,
        "seconds": seconds,
        "processor seconds": taken,
        "bytes": {"disk": size_bytes},
        "peak bytes (bound 200,000,000)": peaks,
        "ratios": {
            "import / export (goal 1.1)": round(seconds["import"] / seconds["export"], 3),
            "import --chunked / export": round(seconds["import --chunked"] / seconds["export"], 3),
            "import / export, processor": round(taken["import"] / taken["export"], 3),
        },
    }


def _processor_seconds() -> float:
    """Return what all processes took that ended so far; the simulator is not among them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
