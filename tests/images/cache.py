"""Things that are slow to make and depend on known inputs: made once, kept under a hash of them.

Two processes may ask at once: one makes it, the other waits. A failed making leaves nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

UNUSED_SECONDS = 14 * 24 * 3600
ROOT = Path(__file__).resolve().parents[2]


def cache_folder() -> Path:
    """Return where tests keep such things: $SALTFLAT_TEST_CACHE, else under the user's cache."""
    if configured := os.environ.get("SALTFLAT_TEST_CACHE"):
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saltflat-test"


def fingerprint(files: Iterable[Path], *texts: str) -> str:
    """Hash the names and contents of `files` (folders: every .py in them) and `texts`."""
    digest = hashlib.sha256()
    for path in sorted(found for file in files for found in _sources(file)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)}\0{len(content)}\0".encode() + content)
    for text in texts:
        digest.update(f"{len(text)}\0{text}".encode())
    return digest.hexdigest()[:16]


def cached(folder: Path, name: str, key: str, make: Callable[[Path], object]) -> Path:
    """Return `folder`/`name`-`key`, calling `make` with a path to fill if it is not there yet.

    Other versions of `name` go when nobody has asked for them for two weeks: another checkout may
    be using them.
    """
    final = folder / f"{name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".lock-{name}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if final.exists():
            os.utime(final)
            return final
        temp = folder / f".tmp-{name}"
        remove(temp)
        make(temp)
        temp.rename(final)
        os.utime(final)
        for old in folder.glob(f"{name}-{'?' * len(key)}"):
            if time.time() - old.stat().st_mtime > UNUSED_SECONDS:
                remove(old)
    return final


def remove(path: Path) -> None:
    """Remove a file or tree if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sources(path: Path) -> Iterable[Path]:
    return path.rglob("*.py") if path.is_dir() else (path,)
