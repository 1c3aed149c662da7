"""A blob on its way: who may write it, and where the next one goes on."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from converter.errors import IntegrityError, NotFoundError, UnavailableError
from converter.events import Event, Note, StepAdvanced, ignore
from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.image.fetch import blob_path, fetch_blob
from converter.image.model import Descriptor, Image
from converter.image.partial import STALL_SECONDS, partial_blob, partial_path
from converter.image.platform import Platform
from converter.image.sink import CheckedSink
from tests.images.cache import ROOT

CONTENT = bytes(range(256)) * 20_000
SIZE = len(CONTENT)


def descriptor(content: bytes = CONTENT, algorithm: str = "sha256") -> Descriptor:
    return Descriptor(c.LAYER_TAR, Digest.of(content, algorithm), len(content))


class Resuming:
    """A source that gives a blob from where it is, up to `until`, and then breaks."""

    def __init__(self, content: bytes = CONTENT, until: int | None = None) -> None:
        self.content, self.until = content, until
        self.asked: list[int] = []

    def receive(self, _descriptor: Descriptor, into: CheckedSink) -> None:
        self.asked.append(into.position)
        into.write(self.content[into.position : self.until])
        if self.until is not None:
            raise UnavailableError("broken")
        into.check()

    def resolve(self, platform: Platform) -> Image:
        raise NotFoundError(str(platform))

    def local_blob(self, _descriptor: Descriptor) -> None:
        return None

    def hang_up(self) -> None:
        raise NotImplementedError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("until", [1, 1 << 20, SIZE - 1, SIZE])
def test_the_next_one_goes_on(tmp_path: Path, until: int, algorithm: str) -> None:
    wanted = descriptor(algorithm=algorithm)
    with pytest.raises(UnavailableError):
        fetch_blob(Resuming(until=until), wanted, tmp_path, ignore)
    path = blob_path(tmp_path, wanted.digest)
    assert names(tmp_path) == [partial_path(path).name]
    source = Resuming()
    assert fetch_blob(source, wanted, tmp_path, ignore) == path
    assert source.asked == [until]
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o7777 == 0o644
    assert names(tmp_path) == [path.name]


def test_nothing_stays_of_nothing_and_of_what_is_wrong(tmp_path: Path) -> None:
    for source, error in (
        (Resuming(until=0), UnavailableError),
        (Resuming(CONTENT[:-1] + b"x"), IntegrityError),
        (Resuming(CONTENT + b"x"), IntegrityError),
    ):
        with pytest.raises(error):
            fetch_blob(source, descriptor(), tmp_path, ignore)
        assert names(tmp_path) == []


def test_what_is_too_long_is_begun_anew(tmp_path: Path) -> None:
    path = blob_path(tmp_path, descriptor().digest)
    path.parent.mkdir()
    partial_path(path).write_bytes(CONTENT + b"more")
    source = Resuming()
    fetch_blob(source, descriptor(), tmp_path, ignore)
    assert source.asked == [0]
    assert path.read_bytes() == CONTENT


def test_a_file_of_another_size_is_replaced(tmp_path: Path) -> None:
    path = blob_path(tmp_path, descriptor().digest)
    path.parent.mkdir()
    path.write_bytes(b"short")
    fetch_blob(Resuming(), descriptor(), tmp_path, ignore)
    assert path.read_bytes() == CONTENT


@contextmanager
def held(path: Path, content: bytes) -> Iterator[None]:
    """Let a process of another program hold the blob's lock, with `content` in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path(path).write_bytes(content)
    command = ["flock", "--exclusive", "--no-fork", str(partial_path(path))]
    with subprocess.Popen(
        [*command, "sh", "-c", "echo locked; exec sleep 100"], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            holder.kill()


def test_a_process_that_dies_is_followed(tmp_path: Path) -> None:
    path = blob_path(tmp_path, descriptor().digest)
    source = Resuming()
    events: list[Event] = []
    waiting = threading.Event()

    def monitor(event: Event) -> None:
        events.append(event)
        if isinstance(event, Note):
            waiting.set()

    with held(path, CONTENT[:1234]):
        thread = threading.Thread(target=fetch_blob, args=(source, descriptor(), tmp_path, monitor))
        thread.start()
        assert waiting.wait(20)
        assert source.asked == []
        assert not path.exists()
    thread.join(20)
    assert source.asked == [1234]
    assert path.read_bytes() == CONTENT
    assert [event for event in events if isinstance(event, Note)] == [
        Note(f"pull {path.name[:12]}: another process fetches it, waiting")
    ]
    assert StepAdvanced(f"pull {path.name[:12]}", 1234) in events


def test_a_process_that_stands_still_is_not_waited_for(tmp_path: Path) -> None:
    path = blob_path(tmp_path, descriptor().digest)
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += max(seconds, 1.0)

    with (
        held(path, CONTENT[:1234]),
        pytest.raises(UnavailableError, match="has fetched nothing"),
        partial_blob(
            path, descriptor(), step="it", monitor=ignore, clock=lambda: now[0], sleep=sleep
        ),
    ):
        pass
    assert STALL_SECONDS < now[0] < STALL_SECONDS + 10


def test_two_threads_share_one_download(tmp_path: Path) -> None:
    sources = [Resuming() for _ in range(4)]
    threads = [
        threading.Thread(target=fetch_blob, args=(source, descriptor(), tmp_path, ignore))
        for source in sources
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(source.asked for source in sources) == [[], [], [], [0]]
    assert blob_path(tmp_path, descriptor().digest).read_bytes() == CONTENT


def test_the_lock_is_the_file_that_has_the_name(tmp_path: Path) -> None:
    """Let three wait for a file: its holder renames it, removes it, puts another in its place."""
    path = blob_path(tmp_path, descriptor().digest)
    path.parent.mkdir()
    temp = partial_path(path)
    for what, asked in (("rename", []), ("remove", [0]), ("replace", [10])):
        temp.write_bytes(CONTENT)
        source = Resuming()
        waiting = threading.Event()

        def monitor(event: Event, waiting: threading.Event = waiting) -> None:
            if isinstance(event, Note):
                waiting.set()

        with temp.open() as holder:
            fcntl.flock(holder, fcntl.LOCK_EX)
            thread = threading.Thread(
                target=fetch_blob, args=(source, descriptor(), tmp_path, monitor)
            )
            thread.start()
            assert waiting.wait(20)
            temp.rename(path) if what == "rename" else temp.unlink()
            if what == "replace":
                temp.write_bytes(CONTENT[:10])
        thread.join(20)
        assert source.asked == asked
        assert path.read_bytes() == CONTENT
        assert names(tmp_path) == [path.name]
        path.unlink()


def test_a_killed_process_leaves_what_it_had(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from converter.events import ignore
from converter.image.fetch import fetch_blob
from tests.unit.image.test_partial import Resuming, descriptor
class Dying(Resuming):
    def receive(self, descriptor, into):
        into.write(self.content[:3_000_000])
        os.kill(os.getpid(), signal.SIGKILL)
fetch_blob(Dying(), descriptor(), Path(sys.argv[1]), ignore)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        env={"PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert done.returncode == -9
    source = Resuming()
    fetch_blob(source, descriptor(), tmp_path, ignore)
    assert source.asked == [3_000_000]
