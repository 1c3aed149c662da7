"""Another key for a guest that runs: whose document counts, and that its process goes on."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from agent.tether import supervisor
from agent.tether.errors import StartError
from agent.tether.renewals import Renewals
from agent.tether.sources import FileSource
from agent.wire import STDERR, STDOUT, Gap
from tests.unit.tether.loop_host import (
    GIVE_UP_SECONDS,
    KEY,
    Clockwork,
    Host,
    exited,
    guest_line,
    launched,
    spawn,
    spawn_plain,
)
from tests.unit.tether.test_tether_beside import ExecHost

NEW_KEY = bytes(reversed(range(32)))


def document(epoch=1, key=NEW_KEY, **members):
    return json.dumps({"schema": 1, "epoch": epoch, "key": key.hex(), **members}).encode()


class Place:
    """A file as the place where documents come from; `put` is what a hypervisor does."""

    def __init__(self, folder):
        self.path = folder / "config"
        self.renewals = Renewals(FileSource(os.fspath(self.path)), 0)

    def put(self, content):
        new = self.path.with_suffix(".new")
        new.write_bytes(content)
        new.rename(self.path)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_a_document_is_taken_once_and_put_out_of_reach(place):
    assert place.renewals.look() is None
    place.put(document(epoch=7))
    assert place.renewals.look() == NEW_KEY
    assert not place.path.exists()
    assert place.renewals.look() is None


def test_only_a_higher_epoch_counts(place):
    place.put(document(epoch=7))
    assert place.renewals.look() == NEW_KEY
    for epoch in (7, 6, 0):
        place.put(document(epoch=epoch, key=KEY))
        assert place.renewals.look() is None
        assert not place.path.exists()
    place.put(document(epoch=8, key=KEY))
    assert place.renewals.look() == KEY


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        document(epoch=0),
        document(epoch=True),
        document(epoch=1.5),
        document(epoch=-1),
        document(epoch=1 << 60),
        document(epoch="1"),
        json.dumps({"schema": 2, "epoch": 1, "key": NEW_KEY.hex()}).encode(),
        json.dumps({"schema": 1, "epoch": 1, "key": "00"}).encode(),
        json.dumps({"schema": 1, "key": NEW_KEY.hex()}).encode(),
    ],
)
def test_what_is_no_document_changes_nothing(content, place, capfd):
    place.put(content)
    assert place.renewals.look() is None
    assert NEW_KEY.hex() not in capfd.readouterr().err
    place.put(document())
    assert place.renewals.look() == NEW_KEY


def guest_of(lines, place):
    return supervisor.Supervisor(guest_line(lines[0]), renew=place.renewals.look)


def test_the_process_goes_on_for_a_host_with_the_new_key(lines, place, monkeypatch):
    """The first host has what was printed, and is gone with it; the second gets the rest."""
    monkeypatch.setattr(supervisor, "RENEW_AWAY_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "RENEW_SECONDS", 0.05)
    script = "echo before; read a; echo got $a; read b; echo and $b >&2; exit 6"
    main = spawn(script, with_stdin=True)
    first = Host(lines[1])
    second = Host(lines[1], stdin=b"old\nnew\n", key=NEW_KEY)

    def swap():
        while b"before" not in first.output[STDOUT]:
            time.sleep(0.01)
        first.left.set()
        first.join()
        place.put(document())
        second.start()

    first.start()
    swapper = threading.Thread(target=swap)
    swapper.start()
    with guest_of(lines, place) as guest:
        guest.supervise(main, stop_signal=15, oom_kills=lambda: 0)
    swapper.join()
    lines[0].close()
    second.join(GIVE_UP_SECONDS)
    assert first.failure is None
    assert second.failure is None
    assert second.gaps == [Gap(STDOUT, 0, len("before\n"))]
    assert second.output == {STDOUT: b"got old\n", STDERR: b"and new\n"}
    started = {"type": "started", "process": 0, "pid": main.pid}
    assert second.controls == [started, exited(6)]


def test_the_end_is_told_to_the_host_with_the_new_key(lines, place, monkeypatch):
    """The process ended, and so did the host that was to hear of it."""
    monkeypatch.setattr(supervisor, "RENEW_AWAY_SECONDS", 0.05)
    place.put(document())
    second = Host(lines[1], key=NEW_KEY)
    companion = Clockwork()
    with guest_of(lines, place) as guest:
        guest.accompany(companion)
        main = spawn("echo last words; exit 3")
        second.start()
        guest.supervise(main, stop_signal=15, oom_kills=lambda: 0)
    lines[0].close()
    second.join(GIVE_UP_SECONDS)
    companion.close()
    assert second.output[STDOUT] == b"last words\n"
    assert second.controls[-1] == exited(3)
    # What was said in the old session is lost with it.
    said = [message["what"] for message in second.controls if message["type"] == "clock"]
    assert said == ["again"]


def test_a_failure_is_told_to_the_host_with_the_new_key(lines, place, monkeypatch):
    monkeypatch.setattr(supervisor, "RENEW_AWAY_SECONDS", 0.05)
    place.put(document())
    second = Host(lines[1], key=NEW_KEY)
    second.start()
    with guest_of(lines, place) as guest:
        guest.report_failure(StartError("disk", "there is none"))
    lines[0].close()
    second.join(GIVE_UP_SECONDS)
    assert [message["kind"] for message in second.controls] == ["disk"]


def test_other_processes_end_with_the_old_session(lines, place, monkeypatch):
    """Their numbers are free again in the new one."""
    monkeypatch.setattr(supervisor, "RENEW_AWAY_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "RENEW_SECONDS", 0.05)
    first = ExecHost(lines[1], {"type": "exec"})
    second = ExecHost(lines[1], {"type": "exec"}, key=NEW_KEY)
    main = spawn("read line; exit 1", with_stdin=True)
    others = []

    def start(_message):
        script = "echo one; exec sleep 1000" if not others else "echo two; exit 4"
        process = spawn_plain(script, with_stdin=True)
        others.append(process.pid)
        return launched(process)

    def swap():
        while first.stdout != b"one\n":
            time.sleep(0.01)
        first.left.set()
        first.join()
        place.put(document())
        second.start()

    first.start()
    swapper = threading.Thread(target=swap)
    swapper.start()
    with guest_of(lines, place) as guest:
        guest.supervise(main, stop_signal=15, oom_kills=lambda: 0, start=start)
    swapper.join()
    lines[0].close()
    second.join(GIVE_UP_SECONDS)
    assert second.failure is None
    assert second.stdout == b"two\n"
    assert second.controls[-1] == exited(1)
    with pytest.raises(ProcessLookupError):
        os.kill(others[0], 0)
