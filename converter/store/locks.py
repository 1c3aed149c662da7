"""Locks between processes. The kernel drops them with their holder, so a crash leaves none."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.errors import SaltflatError

_POLL_SECONDS = 0.2


@contextmanager
def locked(
    path: Path,
    *,
    timeout_seconds: float = 3600,
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Hold the lock file `path` exclusively; wait for whoever holds it, telling `on_wait` once.

    Raises SaltflatError after `timeout_seconds`. The file stays: removing it would let two
    processes lock two files of one name.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + timeout_seconds
        waiting = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    on_wait()
                    waiting = True
                if time.monotonic() > deadline:
                    raise SaltflatError(
                        f"Another process has held {path} for {timeout_seconds:.0f} seconds.",
                        hint="See what it does, or end it: the lock goes with it.",
                    ) from None
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)
