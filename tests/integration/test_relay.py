"""The relay as a process, with a real guest end on its line and real clients at its door."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import threading
import time

import pytest

from agent.host import (
    AbortedError,
    DetachedError,
    SignalInbox,
    Stdio,
)
from agent.host import client as clients
from agent.host.client.connection import Connection
from agent.host.relay import write_key
from agent.host.relay.c_relay import STDIN_HEADER, FrameKind
from agent.wire import STDOUT
from tests.integration.relay_guest import Guest, Program
from tests.integration.relay_runs import (
    Attached,
    RelayProcess,
    logged,
    machine_folder,
    null,
    relayed,
    run,
    until,
)

pytestmark = pytest.mark.integration


def test_sixteen_of_five_hundred_kills():
    rng = random.Random(11)
    assert [failure for _ in range(4) for failure in run(rng.getrandbits(32), kills=4)] == []


def test_one_who_comes_after_the_end_gets_output_and_status():
    program = Program(out=b"out" * 1000, err=b"err", code=3, reads=False)
    with relayed(program) as (relay, guest, folder):
        guest.join()
        late = Attached(relay.address, None)
        late.join(20)
        assert (late.result.code, bytes(late.out), bytes(late.err)) == (3, b"out" * 1000, b"err")
        silent = Attached(relay.address, None, replay="none")
        silent.join(20)
        assert (silent.result.code, bytes(silent.out)) == (3, b"")
        part = Attached(relay.address, None, replay=1)
        part.join(20)
        assert part.result.code == 3
        assert clients.wait(relay.address).code == 3
        relay.kill()
        assert clients.saved_status(folder).code == 3
        saved = [e for e in clients.saved_logs(folder) if isinstance(e, clients.Output)]
        assert b"".join(e.data for e in saved if e.stderr) == b"err"
        relay.start()
        assert clients.wait(relay.address).code == 3


def test_many_who_come_after_the_end_are_all_served_though_nothing_else_happens():
    # A client that reads while the relay finds it blocked: nobody wakes the relay but itself.
    output = random.Random(3).randbytes(900_000)
    with relayed(Program(out=output, code=3, reads=False)) as (relay, guest, _folder):
        guest.join()
        for _ in range(40):
            late = Attached(relay.address, None)
            late.join(20)
            assert (late.result.code, bytes(late.out) == output) == (3, True)


def test_several_clients_see_the_same_and_their_stdin_is_interleaved():
    program = Program(out=random.Random(1).randbytes(300_000), ends=False)
    with relayed(program) as (relay, guest, _folder):
        manners = clients.Manners(end_stdin=False)
        first = Attached(relay.address, b"a" * 100_000, manners=manners)
        second = Attached(relay.address, b"b" * 100_000, manners=manners)
        until(lambda: program.stdin.count(b"a") == 100_000 == program.stdin.count(b"b"))
        program.ends, program.reads = True, False
        first.join(20)
        second.join(20)
        assert first.out == second.out == program.out
        assert first.result.code == second.result.code == 0
        guest.join()


def test_a_relay_that_can_write_nothing_down_takes_nothing_until_it_can():
    """Neither what the guest says nor what a client gives is lost or doubled."""
    program = Program(out=random.Random(7).randbytes(200_000), ends=False)
    with machine_folder() as (folder, line, key), contextlib.ExitStack() as stack:
        relay = RelayProcess(folder, line)
        stack.callback(relay.kill)
        usual = resource.prlimit(relay.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(relay.process.pid, resource.RLIMIT_FSIZE, (100_000, usual[1]))
        guest = Guest(line, key, program)
        stack.callback(guest.close)
        until(lambda: clients.describe(relay.address)["condition"] == "stuck")
        given = b"z" * 10_000
        Attached(relay.address, given)
        assert "File too large" in clients.describe(relay.address)["detail"]
        assert (len(logged(folder, STDOUT)) < 100_000, program.stdin) == (True, b"")
        resource.prlimit(relay.process.pid, resource.RLIMIT_FSIZE, usual)
        until(lambda: (logged(folder, STDOUT), program.stdin) == (program.out, given))
        assert clients.describe(relay.address)["condition"] == "alive"


def test_a_client_that_comes_back_on_another_connection_has_its_stdin_taken_once():
    """Its first connection was lost, with or without the relay's having seen that."""

    def attach(writer: bytes) -> tuple[Connection, int]:
        connection = stack.enter_context(Connection(relay.address))
        answer = connection.ask({"type": "attach", "stdin": True, "writer": writer.hex()})
        return connection, answer["taken"]

    def give(connection: Connection, offset: int, data: bytes) -> None:
        connection.send_frame(FrameKind.STDIN, STDIN_HEADER.pack(offset), data)

    program = Program(ends=False)
    with machine_folder() as (folder, line, key), contextlib.ExitStack() as stack:
        relay = RelayProcess(folder, line)
        stack.callback(relay.kill)
        for letter, is_seen in ((b"a", True), (b"b", False)):
            first, taken = attach(letter * 16)
            assert taken == 0, "there is no guest yet that could take any"
            give(first, 0, letter * 300)
            if is_seen:
                first.close()
            clients.describe(relay.address)  # asked later, answered later
            again, taken = attach(letter * 16)
            give(again, taken, letter * (1000 - taken))
            again.close()
            clients.describe(relay.address)
        guest = Guest(line, key, program)
        stack.callback(guest.close)
        until(lambda: len(program.stdin) >= 2000)
        last, taken = attach(b"z" * 16)
        give(last, taken, b"z")
        until(lambda: b"z" in program.stdin)
        assert (program.stdin.count(b"a"), program.stdin.count(b"b")) == (1000, 1000)


def test_a_client_that_reads_nothing_holds_nobody_but_is_not_robbed():
    """Below the log's cap it costs nothing; at the cap the guest waits for it, until it is let go
    because others wait too."""
    options = '{"stay": true, "segment_bytes": 100000, "log_bytes": 1000000, "hold_seconds": 0.5}'
    program = Program(out=random.Random(2).randbytes(8 << 20), reads=False)
    with relayed(program, options) as (relay, guest, folder):
        reader, writer = os.pipe()
        with null() as nowhere:
            stuck = threading.Thread(
                target=clients.attach,
                args=(relay.address, Stdio(None, writer, nowhere)),
                daemon=True,
            )
            stuck.start()
            until(lambda: clients.describe(relay.address)["end"] > 500_000)
            quick = Attached(relay.address, None, replay="none")
            quick.join(60)
            assert quick.result.code == 0
            guest.join()
            size = sum(path.stat().st_size for path in (folder / "log").iterdir())
            assert size < 1_500_000
            drained = bytearray()
            collector = threading.Thread(
                target=lambda: [
                    drained.extend(d) for d in iter(lambda: os.read(reader, 65536), b"")
                ],
                daemon=True,
            )
            collector.start()
            stuck.join(30)
            os.close(writer)
            collector.join(10)
            os.close(reader)
            assert bytes(drained[:65536]) in program.out


def _drain(descriptor, into):
    while data := os.read(descriptor, 65536):
        into += data


def test_the_only_client_slows_the_guest_down_and_loses_nothing():
    options = '{"stay": true, "segment_bytes": 100000, "log_bytes": 500000}'
    out = random.Random(3).randbytes(4 << 20)
    program = Program(out=out[:1], reads=False, ends=False, code=9)
    with relayed(program, options) as (relay, guest, _folder):
        gate = threading.Event()
        reader, writer = os.pipe()
        got = bytearray()

        def read_slowly():
            got.extend(os.read(reader, 1))
            gate.wait(30)
            while data := os.read(reader, 65536):
                got.extend(data)

        helper = threading.Thread(target=read_slowly, daemon=True)
        helper.start()
        result = []
        with null() as nowhere:
            attached = threading.Thread(
                target=lambda: result.append(
                    clients.attach(relay.address, Stdio(None, writer, nowhere))
                ),
                daemon=True,
            )
            attached.start()
            until(lambda: got)  # it is attached: from here on nothing may be lost to it
            program.out, program.ends = out, True
            until(lambda: clients.describe(relay.address)["end"] > 300_000)
            # Control gets through though the output stands still.
            clients.send_signal(relay.address, 10)
            until(lambda: {"type": "signal", "signal": 10} in program.controls)
            assert program.sent[STDOUT] < len(program.out)
            gate.set()
            attached.join(60)
        os.close(writer)
        helper.join(10)
        os.close(reader)
        assert result[0].code == 9
        assert got == program.out
        guest.join()


def test_detach_keys_leave_the_process_alone():
    program = Program(ends=False)
    with relayed(program) as (relay, _guest, _folder), null() as nowhere:
        in_r, in_w = os.pipe()
        os.write(in_w, b"typed\x10\x11never")
        keys = clients.read_keys(clients.DEFAULT_DETACH_KEYS)
        with pytest.raises(DetachedError):
            clients.attach(
                relay.address,
                Stdio(in_r, nowhere, nowhere),
                manners=clients.Manners(detach_keys=keys),
            )
        until(lambda: program.stdin == b"typed")
        assert not program.stdin_ended
        os.close(in_r)
        os.close(in_w)


class Late(Program):
    """Does nothing until it is told to: what a guest does that boots."""

    boots = True

    def __call__(self, guest, events):
        return not self.boots and super().__call__(guest, events)


@pytest.mark.parametrize("attaches", ["before the start", "after it", "after it, to another relay"])
def test_signals_go_to_the_process(attaches):
    """A client hears of the start whenever it comes, and from then on its signals have a target."""
    program = Late(ends=False)
    program.boots = attaches == "before the start"
    heard = threading.Event()

    def listen(event):
        if event["type"] == "started":
            assert event["pid"] == 1
            heard.set()

    with relayed(program) as (relay, _guest, _folder):
        if not program.boots:
            until(lambda: (clients.describe(relay.address)["started"] or {}).get("pid") == 1)
        if attaches == "after it, to another relay":
            relay.kill()
            relay.start()
        inbox = SignalInbox()
        manners = clients.Manners(inbox=inbox, on_event=listen)
        attached = Attached(relay.address, None, manners=manners)
        program.boots = False
        assert heard.wait(20)
        inbox.put(signal.SIGTERM)
        until(lambda: {"type": "signal", "signal": 15} in program.controls)
        if attaches == "before the start":
            relay.kill()  # and the client of a relay that was started again knows it still
            relay.start()
            inbox.put(signal.SIGHUP)
            until(lambda: {"type": "signal", "signal": 1} in program.controls)
        program.ends, program.reads = True, False
        attached.join(20)
        assert attached.result.code == 0
        inbox.close()


def test_a_signal_before_the_start_ends_the_client_and_nothing_else():
    """As with docker's client: before there is a process, the signal is for the client."""
    program = Late(reads=False)
    with relayed(program) as (relay, guest, _folder):
        inbox = SignalInbox()
        inbox.put(signal.SIGINT)
        attached = Attached(relay.address, None, manners=clients.Manners(inbox=inbox))
        attached.join(20)
        assert isinstance(attached.result, AbortedError)
        assert attached.result.signal == signal.SIGINT
        inbox.close()
        program.boots = False
        guest.join()
        assert clients.wait(relay.address).code == 0
        assert program.controls == []


def test_logs_follow_tail_and_tell_the_streams_apart():
    program = Program(out=b"1\n2\n3\n", err=b"bad\n", reads=False, code=4)
    with relayed(program) as (relay, guest, folder):
        followed = list(clients.logs(relay.address, follow=True))
        outputs = [entry for entry in followed if isinstance(entry, clients.Output)]
        assert b"".join(e.data for e in outputs if not e.stderr) == b"1\n2\n3\n"
        assert b"".join(e.data for e in outputs if e.stderr) == b"bad\n"
        assert all(abs(e.time_ns - time.time_ns()) < 60e9 for e in outputs)
        (ended,) = [e for e in followed if isinstance(e, clients.Note) and e.kind == "ended"]
        assert ended.status.code == 4
        guest.join()
        last = clients.logs(relay.address, clients.Query(tail=1))
        whole = b"".join(e.data for e in last if isinstance(e, clients.Output))
        assert whole in (b"3\n", b"bad\n")
        future = clients.Query(since_ns=time.time_ns() + 10**12)
        for read in (clients.logs(relay.address, future), clients.saved_logs(folder, future)):
            assert not [e for e in read if isinstance(e, clients.Output)]
        past = clients.Query(until_ns=1)
        assert not [e for e in clients.logs(relay.address, past) if isinstance(e, clients.Output)]


def test_output_that_nobody_took_is_a_gap_in_the_log():
    class Ringing(Program):
        def __call__(self, guest, events):
            guest.endpoint.keep_newest(STDOUT)
            return super().__call__(guest, events)

    program = Ringing(out=b"x" * 3_000_000, reads=False)
    with machine_folder() as (folder, line, key):
        guest = Guest(line, key, program, buffer_bytes=100_000)
        until(lambda: program.said_exit)  # with no host at all
        relay = RelayProcess(folder, line)
        try:
            entries = list(clients.logs(relay.address, follow=True))
            (gap,) = [e for e in entries if isinstance(e, clients.Note) and e.kind == "gap"]
            kept = sum(len(e.data) for e in entries if isinstance(e, clients.Output))
            assert gap.count + kept == 3_000_000
            guest.join()
        finally:
            guest.close()
            relay.kill()


def test_a_guest_that_was_restarted_begins_another_boot_in_the_same_log():
    with machine_folder() as (folder, line, key):
        relay = RelayProcess(folder, line)
        try:
            first = Program(out=b"first", ends=False)
            guest = Guest(line, key, first)
            until(lambda: logged(folder, STDOUT) == b"first")
            guest.close()
            second = Program(out=b"second", reads=False, code=2)
            relay.kill()
            relay.start()  # goes on with a session that the new guest has never heard of
            guest = Guest(line, key, second)
            attached = Attached(relay.address, None)
            until(lambda: second.said_exit)
            attached.join(20)
            assert logged(folder, STDOUT) == b"firstsecond"
            after = Attached(relay.address, None)
            after.join(20)
            assert (after.result.code, bytes(after.out)) == (2, b"second")
            guest.close()
        finally:
            relay.kill()


def test_a_start_that_failed_is_no_matter_of_the_next_one():
    class Fails(Program):
        def __call__(self, guest, _events):
            if not self.said_exit:
                self.said_exit = True
                for stream in self.sent:
                    guest.endpoint.finish(stream)
                guest.endpoint.control(
                    {"type": "failed", "code": 127, "kind": "command", "message": "no such"}
                )
            return not guest.endpoint.unacknowledged()

    with machine_folder() as (folder, line, key):
        relay = RelayProcess(folder, line)
        try:
            guest = Guest(line, key, Fails())
            for _ in range(2):
                attached = Attached(relay.address, None)
                attached.join(20)
                assert (attached.result.code, attached.result.failure.kind) == (127, "command")
            guest.join()
            relay.kill()
            relay.start()
            guest = Guest(line, key, Program(out=b"runs", reads=False, code=2))
            until(lambda: clients.describe(relay.address)["started"])  # till then it is the old one
            attached = Attached(relay.address, None)
            attached.join(20)
            assert (attached.result.code, bytes(attached.out)) == (2, b"runs")
            assert attached.result.failure is None
            guest.close()
        finally:
            relay.kill()


def test_who_follows_the_log_goes_on_with_the_next_relay():
    program = Program(out=b"before\n", reads=False, ends=False)
    with relayed(program) as (relay, guest, _folder):
        followed = clients.logs(relay.address, follow=True)
        seen = bytearray()
        while seen != b"before\n":
            entry = next(followed)
            seen += entry.data if isinstance(entry, clients.Output) else b""
        relay.kill()
        relay.start()
        program.out += b"after\n"
        program.ends = True
        seen += b"".join(e.data for e in followed if isinstance(e, clients.Output))
        assert seen == b"before\nafter\n"
        guest.join()


def test_a_new_key_begins_a_new_session():
    with relayed(Program(ends=False)) as (relay, _guest, folder):
        until(lambda: clients.describe(relay.address)["condition"] == "alive")
        before = clients.describe(relay.address)["session"]
        relay.kill()
        write_key(folder, os.urandom(32))
        relay.start()
        assert clients.describe(relay.address)["session"] != before
