"""Locks between processes. The kernel drops them with their holder, so a crash leaves none.

Two kinds, each a file that only flock(2) looks at:

locks/link-<link id>      exclusive: who makes that link
locks/store, locks/gate   shared: who adds to the store or looks something up to use it; exclusive:
                          who deletes. The gate is passed first, so that new users cannot keep a
                          deleter waiting for ever

A machine needs its links when nobody holds the store: that is what converter.store.pins is for.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from converter.errors import SaltflatError
from converter.events import Monitor, Note, ignore
from converter.store.layout import Store

LINK_PREFIX = "link-"
MARK_PREFIX = "batch-"  # no lock: by it workers of a batch see whether they share the store
SWEEP_TIMEOUT_SECONDS = 600.0
_POLL_SECONDS = 0.05  # a deleter that comes again and again leaves gaps of a tenth of a second


def _silent() -> None:
    """Be told that a lock must be waited for, and say nothing."""


@contextmanager
def locked(
    path: Path,
    *,
    shared: bool = False,
    timeout_seconds: float = 3600,
    on_wait: Callable[[], None] = _silent,
) -> Iterator[None]:
    """Hold the lock file `path`, alone or with others; wait for it, telling `on_wait` once.

    Raises SaltflatError after `timeout_seconds`. The file stays: removing it while somebody may
    come for it would let two processes lock two files of one name.
    """
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + timeout_seconds
        waiting = False
        while True:
            try:
                fcntl.flock(descriptor, operation)
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


@dataclass(slots=True)
class _Use:
    """This process's hold on one store, and how many of its callers count on it."""

    lock: ExitStack
    callers: int = 0


# flock(2) counts open files, not callers. A caller within a caller that waited at the gate, behind
# a deleter that waits for the outer one, would wait for ever: one hold serves a whole process.
_uses: dict[Path, _Use] = {}
_guard = threading.Lock()


@contextmanager
def using(store: Store, *, monitor: Monitor = ignore, for_a_user: bool = False) -> Iterator[None]:
    """Keep everything in `store` from being deleted; may be entered again within itself.

    Converting, and looking up what a machine or a bundle is made of, happen inside. Waits for a
    process that deletes. Raises SaltflatError after an hour. `for_a_user` is for who works for a
    process, on whichever host, that uses the store all the while: there is nobody to wait for, and
    at the gate there may be a deleter who waits for that process.
    """
    path = store.locks / "store"
    waiting = Note("another process deletes from the store, waiting")
    with _guard:
        use = _uses.get(path)
        if use is None:
            use = _Use(ExitStack())
            gate = locked(store.locks / "gate", shared=True, on_wait=lambda: monitor(waiting))
            with nullcontext() if for_a_user else gate:
                use.lock.enter_context(locked(path, shared=True))
            _uses[path] = use
        use.callers += 1
    try:
        yield
    finally:
        with _guard:
            use.callers -= 1
            if not use.callers:
                del _uses[path]
                use.lock.close()


@contextmanager
def sweeping(
    store: Store,
    *,
    timeout_seconds: float = SWEEP_TIMEOUT_SECONDS,
    monitor: Monitor = ignore,
) -> Iterator[None]:
    """Have `store` alone, to delete from it. Not to be entered inside `using`.

    Waits for those who use it; whoever comes meanwhile waits in turn. Raises SaltflatError when
    `timeout_seconds` were not enough.
    """

    def alone(name: str, others: str) -> AbstractContextManager[None]:
        note = Note(f"{others} the store, waiting")
        return locked(
            store.locks / name, timeout_seconds=timeout_seconds, on_wait=lambda: monitor(note)
        )

    with alone("gate", "others come to"), alone("store", "others use"):
        yield
