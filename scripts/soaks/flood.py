"""A guest's process that writes without end: to a client that reads slowly, and to nobody at all.

The first is slowed down, and yet hears at once of resize and stop, by the guest's own clock; the
second is not, and what its ring has lost is told. The count is in MB that each of them writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGWINCH
from typing import Any

from agent.host import SignalInbox, Stdio
from agent.host import client as clients
from converter.machine.model import RunConfig
from tests.guests import disk
from tests.guests.host import BOOT_SECONDS, booted
from tests.guests.relayed import RelayedGuest, relayed
from tests.integration.relay_runs import Attached, null, until

COUNT = 200  # MB
_MB = 1_000_000
_RING_BYTES = 1 << 20
_LOG = {"log_bytes": 1_000_000, "segment_bytes": 250_000}
# What may be on its way between the process and the end of the log, and behind the log.
_ON_THE_WAY = 2_000_000
_MEASURES = 9
_ANSWER_SECONDS = 1.0
_PATIENCE_SECONDS = 120.0
_SLOWEST = 200_000  # bytes a second

# Raw, for what is written is to be what is read. A trap tells when the signal came.
_WRITER = """
stty raw -echo
trap 'read up rest < /proc/uptime; echo $up > /winch' WINCH
trap 'read up rest < /proc/uptime; echo $up > /term' TERM
mkfifo /p; sha256sum < /p > /sum & summing=$!
head -c {size} /dev/urandom | tee /p & writing=$!
while kill -0 $writing 2>/dev/null; do wait $writing; done
wait $summing
cat /sum; exit 9
"""
_CLOCK = """
while read line; do
    read up rest < /proc/uptime; winch=0; term=0
    test -e /winch && read winch < /winch; test -e /term && read term < /term
    echo $up ${winch:-0} ${term:-0}
done
"""  # empty, while a trap writes it anew
_BLOCKS = "i=0; while test $i -lt {count}; do yes $i | head -c 1000000; i=$((i+1)); done; exit 7"


def run(count: int, seed: int) -> list[str]:
    """Have `count` MB written to each; return what did not hold. `seed` changes nothing."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        work = Path(name)
        link = disk.build(work)
        return [*_to_a_slow_client(work, link, count), *_to_nobody(work, link, count)]


# --- a client that reads slowly -------------------------------------------------------------------


def _to_a_slow_client(work: Path, link: Path, count: int) -> Iterator[str]:
    size = count * _MB
    script = _WRITER.format(size=size)
    config = RunConfig(args=("/bin/sh", "-c", script), tty=True, stdin=True, rows=24, cols=80)
    with (
        booted(work, link, config) as machine,
        relayed(machine, options=_LOG) as guest,
        _SlowClient(guest.address) as client,
        _Clock(guest.address) as clock,
    ):
        until(lambda: client.got > _MB, BOOT_SECONDS + _PATIENCE_SECONDS)  # the log is full
        resizes = [_answer(clock, client.resize, 1) for _ in range(_MEASURES)]
        stops = [_answer(clock, lambda: clients.stop(guest.address, 3600), 2) for _ in range(3)]
        told = guest.describe()
        ahead = told["end"] - client.got
        client.hurry()
        client.join(_PATIENCE_SECONDS + size / _SLOWEST)
        for what, waits in (("resize", resizes), ("stop", stops)):
            text = ", ".join(f"{wait:.2f}" for wait in waits)
            print(f"slow client: {what} came after {text} s of the guest's", file=sys.stderr)
            if statistics.median(waits) > _ANSWER_SECONDS:  # one may have met a host without time
                yield f"{what} came after {text} s of the guest's"
        print(f"slow client: {ahead} bytes behind the process", file=sys.stderr)
        if ahead > _LOG["log_bytes"] + _ON_THE_WAY or told["ended"]:
            yield f"the process was {ahead} bytes ahead of its client, ended: {told['ended']}"
        output, said = client.output[:size], client.output[size:].split()[:1]
        if said != [hashlib.sha256(output).hexdigest().encode()] or len(output) != size:
            yield f"the client got other bytes, {len(client.output)} of {size}"
        if getattr(client.result, "code", None) != 9:
            yield f"the slow client ended with {client.result!r}"


def _answer(clock: _Clock, ask: Callable[[], object], which: int) -> float:
    """Return how long by the guest's clock something took to reach the process, at most."""
    asked = clock.read()[0]
    ask()
    until(lambda: clock.read()[which] >= asked, _PATIENCE_SECONDS)
    return clock.read()[which] - asked


class _SlowClient:
    """A client with a terminal, and somebody behind it who reads a little now and then."""

    def __init__(self, address: clients.Address) -> None:
        self.result: Any = None
        self.output = bytearray()
        self._hurries = threading.Event()
        self._inbox = SignalInbox()
        self._rows = 24
        self._reader, self._writer = os.pipe()
        self._threads = [
            threading.Thread(target=self._attach, args=(address,), daemon=True),
            threading.Thread(target=self._read, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> _SlowClient:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._inbox.close()

    @property
    def got(self) -> int:
        """How many bytes were read."""
        return len(self.output)

    def resize(self) -> None:
        """Change the terminal's size."""
        self._rows += 1
        self._inbox.put(SIGWINCH)

    def hurry(self) -> None:
        """Read as fast as it goes from now on."""
        self._hurries.set()

    def join(self, seconds: float) -> None:
        """Wait for the end."""
        for thread in self._threads:
            thread.join(seconds)

    def _attach(self, address: clients.Address) -> None:
        manners = clients.Manners(inbox=self._inbox, terminal_size=lambda: (self._rows, 80))
        with null() as nowhere:
            try:
                stdio = Stdio(None, self._writer, nowhere)
                self.result = clients.attach(address, stdio, manners=manners)
            except Exception as error:  # shown by the verdict
                self.result = error
            finally:
                os.close(self._writer)

    def _read(self) -> None:
        while data := os.read(self._reader, 16384):
            self.output += data
            if self.got > _MB:
                self._hurries.wait(0.1)
        os.close(self._reader)


class _Clock:
    """A shell in the guest that says what time it is there, and when signals came."""

    def __init__(self, address: clients.Address) -> None:
        self._in_r, self._in_w = os.pipe()
        self._out_r, self._out_w = os.pipe()
        self._thread = threading.Thread(target=self._execute, args=(address,), daemon=True)
        self._begun = False

    def __enter__(self) -> _Clock:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._in_w)
        self._thread.join(_PATIENCE_SECONDS)
        for descriptor in (self._in_r, self._out_r, self._out_w):
            os.close(descriptor)

    def read(self) -> list[float]:
        """Return the time, when the last resize came, and when stop came."""
        if not self._begun:
            self._begun = True
            self._thread.start()
        os.write(self._in_w, b"\n")
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self._out_r, 100)
        return [float(word) for word in line.split()]

    def _execute(self, address: clients.Address) -> None:
        execution = clients.Execution(("/bin/sh", "-c", _CLOCK), stdin=True)
        # It ends with the machine, when its client has nobody to tell.
        with null() as nowhere, contextlib.suppress(clients.LostError):
            clients.execute(address, execution, Stdio(self._in_r, self._out_w, nowhere))


# --- nobody at all --------------------------------------------------------------------------------


def _to_nobody(work: Path, link: Path, count: int) -> Iterator[str]:
    config = RunConfig(args=("/bin/sh", "-c", _BLOCKS.format(count=count)))
    rules: dict[str, object] = {"ring_bytes": _RING_BYTES, "linger_seconds": 600}
    with booted(work, link, config, output=rules) as machine:
        ended = "the host is not there"

        def waits_or_gone() -> bool:
            return ended in machine.console() or not machine.machine.is_alive()

        until(waits_or_gone, 2 * BOOT_SECONDS + 2 * count)
        if ended not in machine.console():
            yield f"the machine has gone: {machine.console()}"
            return
        with relayed(machine) as guest:
            yield from _read_the_end("once it has ended", guest, count)
            if machine.machine.wait(BOOT_SECONDS) != 0:
                yield "the machine did not switch itself off"
            yield from _read_the_end("when the machine has gone", guest, count)
            guest.relay.kill()
            guest.relay.start()
            yield from _read_the_end("from another relay", guest, count)


def _read_the_end(when: str, guest: RelayedGuest, count: int) -> Iterator[str]:
    gaps: list[int] = []

    def listen(event: dict[str, Any]) -> None:
        if event["type"] == "gap":
            gaps.append(event["count"])

    attached = Attached(guest.address, None, manners=clients.Manners(on_event=listen))
    attached.join(_PATIENCE_SECONDS)
    got = len(attached.out)
    print(f"attached {when}: {got} bytes, {sum(gaps)} in {len(gaps)} gaps", file=sys.stderr)
    if getattr(attached.result, "code", None) != 7:
        yield f"{when}: the client ended with {attached.result!r}"
    if got + sum(gaps) != count * _MB or (count > 1 and not gaps):
        yield f"{when}: {got} bytes and gaps of {gaps} are not {count} MB"
    if got < min(count * _MB, _RING_BYTES * 9 // 10) or attached.out != _end_of_blocks(count, got):
        yield f"{when}: the {got} bytes are not the last ones"


def _end_of_blocks(count: int, size: int) -> bytes:
    first = max(0, count - 1 - size // _MB)
    lines = (b"%d\n" % number for number in range(first, count))
    return b"".join((line * _MB)[:_MB] for line in lines)[-size:]
