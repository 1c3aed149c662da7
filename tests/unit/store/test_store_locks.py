"""Who waits for whom: users of a store, and deleters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from converter.errors import SaltflatError
from converter.events import Event, Note
from converter.store.layout import Store
from converter.store.locks import sweeping, using
from tests.images.cache import ROOT

HOLDER = """
import sys
from pathlib import Path
from converter.store.layout import Store
from converter.store.locks import using
store = Store(Path(sys.argv[1]))
with using(store):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(store: Store) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that uses the store until it is killed."""
    command = [sys.executable, "-c", HOLDER, os.fspath(store.root)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield holder
        finally:
            holder.kill()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_deleter_waits_for_users_who_may_come_in_again(store: Store) -> None:
    with using(store), using(store):
        with pytest.raises(SaltflatError, match="has held"), sweeping(store, timeout_seconds=0):
            pass
        with using(store):
            pass
        with pytest.raises(SaltflatError, match="has held"), sweeping(store, timeout_seconds=0):
            pass
    with sweeping(store, timeout_seconds=0):
        pass


def test_who_holds_the_store_comes_in_again_while_a_deleter_waits(store: Store) -> None:
    waiting, deleted = threading.Event(), threading.Event()

    def monitor(event: Event) -> None:
        assert isinstance(event, Note)
        waiting.set()

    def delete() -> None:
        with sweeping(store, timeout_seconds=20, monitor=monitor):
            deleted.set()

    thread = threading.Thread(target=delete)
    with using(store):
        thread.start()
        assert waiting.wait(20)
        with using(store):  # would wait for the deleter, who waits for us
            assert not deleted.is_set()
    thread.join(20)
    assert deleted.is_set()


def test_who_works_for_a_user_goes_past_a_deleter_who_waits_for_that_one(store: Store) -> None:
    waiting, deleted = threading.Event(), threading.Event()

    def delete() -> None:
        with sweeping(store, timeout_seconds=20, monitor=lambda _event: waiting.set()):
            deleted.set()

    thread = threading.Thread(target=delete)
    with held_elsewhere(store) as holder:
        thread.start()
        assert waiting.wait(20)
        with using(store, for_a_user=True):
            holder.kill()
            holder.wait(20)
            assert not deleted.is_set()
            with using(store):
                pass
    thread.join(20)
    assert deleted.is_set()


def test_whoever_comes_while_a_deleter_is_at_work_waits_and_says_so(store: Store) -> None:
    notes: list[Event] = []
    entered = threading.Event()
    told = threading.Event()

    def tell(event: Event) -> None:
        notes.append(event)
        told.set()

    def use() -> None:
        with using(store, monitor=tell):
            entered.set()

    thread = threading.Thread(target=use)
    with sweeping(store):
        thread.start()
        assert told.wait(20)
        assert not entered.is_set()
    thread.join(20)
    assert entered.is_set()
    assert notes == [Note("another process deletes from the store, waiting")]


def test_locks_of_a_killed_process_are_gone(store: Store) -> None:
    with held_elsewhere(store) as holder:
        with pytest.raises(SaltflatError, match="has held"), sweeping(store, timeout_seconds=0):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(20)
    with sweeping(store, timeout_seconds=0):
        pass
