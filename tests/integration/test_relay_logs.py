"""What readers of a relay's log get, and that they get it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

import pytest

from agent.host import client as clients
from agent.host.client.connection import Connection
from agent.host.client.logs import Query
from agent.host.errors import RelayError
from agent.wire import STDOUT
from tests.integration.relay_guest import Program
from tests.integration.relay_runs import logged, relayed, until

pytestmark = pytest.mark.integration


class Reading(threading.Thread):
    """Somebody who reads logs until there is no relay; `out` is the output in them."""

    def __init__(self, entries: Iterable[object]) -> None:
        super().__init__(daemon=True)
        self.out = b""
        self._entries = entries
        self.start()

    def run(self) -> None:
        with suppress(RelayError):
            for entry in self._entries:
                self.out += entry.data if isinstance(entry, clients.Output) else b""


def test_who_reads_logs_is_served_to_the_end_though_most_of_them_are_passed_over():
    """The machine says nothing more: nobody wakes the relay but itself."""
    # More than the relay reads at once, then two lines.
    program = Program(out=b"x" * 700_000 + b"\na\nb\n", ends=False)
    with relayed(program) as (relay, _guest, folder):
        until(lambda: logged(folder, STDOUT) == program.out)
        after = time.time_ns() + 1
        for query, follow, expected in (
            (Query(since_ns=after), False, b""),
            (Query(tail=2, since_ns=after), False, b""),
            (Query(tail=2), False, b"a\nb\n"),
            (Query(until_ns=1), True, b""),
            (Query(tail=2, until_ns=1), True, b""),
            (Query(since_ns=1, until_ns=after), False, program.out),
        ):
            reading = Reading(clients.logs(relay.address, query, follow=follow))
            reading.join(20)
            assert not reading.is_alive(), query
            assert reading.out == expected, query


def test_who_follows_from_the_end_on_misses_nothing_while_there_is_no_relay(monkeypatch):
    """It was told where it begins, though it has seen no output yet when the relay is killed."""
    asked, go_on = threading.Event(), threading.Event()

    class Slow(Connection):
        """A connection that is made when it may be, and says when its request was answered."""

        def __init__(self, *arguments):
            assert not asked.is_set() or go_on.wait(20)
            super().__init__(*arguments)

        def ask(self, *arguments, **options):
            answer = super().ask(*arguments, **options)
            asked.set()
            return answer

    # Not by its path: that leads to the function of the same name.
    logs = sys.modules[Query.__module__]
    monkeypatch.setattr(logs, "Connection", Slow)
    program = Program(out=b"before\n", ends=False)
    with relayed(program) as (relay, _guest, folder):
        until(lambda: logged(folder, STDOUT) == b"before\n")
        reading = Reading(clients.logs(relay.address, Query(tail=0), follow=True))
        assert asked.wait(20)
        relay.kill()
        program.out += b"meanwhile\n"
        relay.start()
        until(lambda: logged(folder, STDOUT) == b"before\nmeanwhile\n")
        go_on.set()
        until(lambda: reading.out == b"meanwhile\n", 20)
        monkeypatch.setattr(logs, "RECONNECT_SECONDS", 0.0)  # there will be no other relay
    reading.join(20)
    assert not reading.is_alive()
