"""Conversions killed at random instants must leave nothing that a later one mistakes for good.

Each round converts into a fresh store, kills the process without warning, then demands two things:
every file with a final name is byte for byte the reference's, and a second conversion in the same
store ends in the reference exactly.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.images.prepared import SALTFLAT, corner_layout

COUNT = 50
_TIMEOUT_SECONDS = 100
_TEMP_PREFIX = ".tmp-"


def run(count: int, seed: int, source: Path | None = None) -> list[str]:
    """Kill `count` conversions of the OCI layout `source` (default: the corner image)."""
    command = f"oci:{source or corner_layout()}:latest"
    choose = random.Random(seed)
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="saltflat-kill-") as folder:
        reference_store = Path(folder) / "reference"
        first_sign, duration = _convert_timed(reference_store, command)
        reference = _contents(reference_store)
        killed = attempts = 0
        while killed < count:
            attempts += 1
            if attempts > 4 * count + 10:
                return [*failures, f"only {killed} of {attempts} conversions could be killed"]
            # Before the store shows a first sign of life there is nothing to damage.
            delay = choose.uniform(min(0.9 * first_sign, 0.5 * duration), duration)
            store = Path(folder) / f"store-{attempts}"
            undisturbed = _convert_killed(store, command, delay)
            if undisturbed is not None:
                duration = undisturbed  # the machine is less busy than it was
                continue
            killed += 1
            where = f"seed {seed}, kill {killed} after {delay:.3f} s"
            failures += [f"{where}: {line}" for line in _judge(store, command, reference)]
    return failures


def _judge(store: Path, source: str, reference: dict[str, str]) -> list[str]:
    left = _contents(store)
    wrong = [f"left a wrong {name}" for name in left if reference.get(name) != left[name]]
    again = subprocess.run(
        _command(store, source), capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
    )
    if again.returncode:
        return [*wrong, f"the next conversion failed: {again.stderr.decode(errors='replace')}"]
    after = _contents(store)
    different = sorted(
        name for name in {*after, *reference} if after.get(name) != reference.get(name)
    )
    return wrong + [f"the next conversion differs in {name}" for name in different]


def _convert_timed(store: Path, source: str) -> tuple[float, float]:
    """Convert undisturbed; return the seconds to the first file in the store and to the end."""
    started = time.monotonic()
    process = _start(store, source)
    first_sign = None
    while process.poll() is None:
        if time.monotonic() - started > _TIMEOUT_SECONDS:
            _kill(process)
            raise TimeoutError(f"the reference conversion took over {_TIMEOUT_SECONDS} s")
        if first_sign is None and store.exists():
            first_sign = time.monotonic() - started
        time.sleep(0.005)
    duration = time.monotonic() - started
    if process.returncode:
        raise RuntimeError(f"the reference conversion failed with code {process.returncode}")
    return first_sign or 0.0, duration


def _convert_killed(store: Path, source: str, delay: float) -> float | None:
    """Kill a conversion `delay` seconds after its start; return its seconds if it was faster."""
    started = time.monotonic()
    process = _start(store, source)
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        _kill(process)
        return None
    return time.monotonic() - started


def _start(store: Path, source: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        _command(store, source),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that a whole process tree can be killed at one instant
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _command(store: Path, source: str) -> list[str]:
    return [*SALTFLAT, "convert", "--store", os.fspath(store), source]


def _contents(store: Path) -> dict[str, str]:
    """Return the digest of every file under a final name in the chain's part of `store`."""
    found = {}
    for room in ("links", "blobs"):
        for path in sorted((store / room).rglob("*")):
            if path.is_file() and not path.name.startswith(_TEMP_PREFIX):
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                found[os.fspath(path.relative_to(store))] = digest
    return found
