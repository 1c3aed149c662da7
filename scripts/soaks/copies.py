"""Archives that a hostile guest sends for `cp`: many entries, links that are swapped, names out.

Every archive comes from a few names, so that entries meet: a folder that was a link, a link where
a file was. Beside the target stands a folder that must stay as it is, and memory must not grow.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.host import CopyError
from agent.host.client.unpack import unpack

COUNT = 1_000_000  # entries
_GROWN_KIB = 32 << 10
_LONGEST = 200_000  # entries of one archive
_LONG_SHARE = 0.0005  # of archives are so long, and harmless
_KINDS = (
    *(tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE),
    *(tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, b"Z"),
)
_NAMES = ("a", "b", "c", "d", "..", ".", "", "outside", "x" * 255, "\udcff", "~", "-rf", "a\nb")
_HOSTILE = ("y" * 256, "/etc/passwd", "../outside/new", "a/../../outside/new", "z/" * 300)
_TARGETS = ("..", "../outside", "/etc", "a", "b/c", ".", "../outside/secret", "/proc/self/fd/0")


def run(count: int, seed: int) -> list[str]:
    """Unpack archives with `count` entries in all; return what they did that they must not."""
    rng = random.Random(seed)
    failures: list[str] = []
    sent = archives = refused = longest = 0
    baseline: int | None = None
    with tempfile.TemporaryDirectory(prefix="saltflat-copies-", dir=_memory()) as name:
        while sent < count:
            is_long = sent == 0 or rng.random() < _LONG_SHARE
            entries = min(count // 2, _LONGEST) if is_long else 1 << rng.randrange(1, 10)
            hostility = 0.0 if is_long else rng.choice([0.001, 0.01, 0.2])
            place = Path(name) / str(archives)
            archive = _Archive(random.Random(rng.random()), entries, hostility)
            done, found = _unpack(place, archive)
            failures += [f"archive {archives} of seed {seed}: {text}" for text in found]
            archives += 1
            sent += max(1, archive.entries)
            refused += done is None
            longest = max(longest, done or 0)
            baseline = baseline or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - (baseline or 0)
    if grown > _GROWN_KIB:
        failures.append(f"memory grew by {grown} KiB")
    if not refused or longest < min(count // 2, _LONGEST):
        failures.append(f"{refused} archives refused, the longest of {longest}: no good soak")
    figures = f"{archives} archives, {refused} refused, the longest of {longest} entries"
    print(f"{sent} entries in {figures}; {grown} KiB more than after it", file=sys.stderr)
    return failures


class _Archive:
    """A tar stream that is made while it is read. A few entries in it may be hostile."""

    def __init__(self, rng: random.Random, entries: int, hostility: float) -> None:
        self.entries = 0
        self._rng = rng
        self._hostility = hostility
        self._blocks = self._make(entries)
        self._ready = bytearray()

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer at the end."""
        while len(self._ready) < size and (more := next(self._blocks, b"")):
            self._ready += more
        data = bytes(self._ready[:size])
        del self._ready[:size]
        return data

    def _make(self, entries: int) -> Iterator[bytes]:
        rng = self._rng
        for _ in range(entries):
            self.entries += 1
            info = tarfile.TarInfo()
            info.type = rng.choice(_KINDS) if self.entries > 1 else tarfile.REGTYPE
            info.name = self._name(info.type)
            info.mode = rng.choice([0o644, 0o7777, 0, 0o100, -1])
            info.mtime = rng.choice([0, 1, -1, 1 << 40, 1 << 70])
            info.linkname = rng.choice([rng.choice(_TARGETS), self._name(tarfile.REGTYPE)])
            if not self._hostility:
                info.linkname = "0"
            info.devmajor = info.devminor = 1
            has_content = info.isreg() or info.type == b"Z"
            data = rng.randbytes(rng.choice([0, 1, 513])) if has_content else b""
            info.size = len(data)
            if rng.random() < self._hostility:
                info.name = rng.choice(_HOSTILE)
                info.size = rng.choice([len(data), 1 << 33, 1 << 60])
            header = info.tobuf(rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
            yield header + data + bytes(-len(data) % 512)
        yield bytes(rng.choice([512, 1024, 10240]))

    def _name(self, kind: bytes) -> str:
        rng = self._rng
        if not self._hostility:  # then nothing stands in the way of anything
            return "0" if self.entries == 1 else f"{kind.hex()}{rng.randrange(2000)}"
        return "/".join(rng.choice(_NAMES) for _ in range(rng.choice([1, 1, 2, 3, 8])))


def _memory() -> str | None:
    """Return a folder in memory, where there is one: what is made is gone at once."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _unpack(place: Path, archive: _Archive) -> tuple[int | None, list[str]]:
    """Return how many entries an archive had, None when it was refused; and what went wrong."""
    outside, target = place / "outside", place / "target"
    outside.mkdir(parents=True)
    target.mkdir()
    (outside / "secret").write_text("kept")
    before = _state(place)
    done: int | None = None
    failures = []
    descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(CopyError):
            done = unpack(archive, descriptor).entries
    except Exception as error:  # whatever it is, it is no answer to what a guest sends
        failures.append(f"{type(error).__name__}: {error}")
    finally:
        os.close(descriptor)
    if _state(place) != before:
        failures.append(f"outside of the target is now {_state(place)}")
    shutil.rmtree(place)
    return done, failures


def _state(place: Path) -> list[tuple[str, int, int]]:
    """Return what there is outside of the target: names, modes, numbers of links."""
    paths = [place, *sorted(place.iterdir()), *sorted((place / "outside").iterdir())]
    kept = [path.lstat() for path in paths if path.name != "target"]
    names = [os.fspath(path) for path in paths if path.name != "target"]
    secret = (place / "outside" / "secret").read_text()
    states = [(name, s.st_mode, s.st_nlink) for name, s in zip(names, kept, strict=True)]
    return [*states, (secret, 0, 0)]
