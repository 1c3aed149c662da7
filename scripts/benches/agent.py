"""What the agent costs a guest: its memory, and how often it wakes one up. scripts/bench agent.

Memory is Rss of /proc/1/smaps_rollup, read by a process beside the agent, in the median of the
rounds; a round is a boot, with a network. Wake-ups are counted once, over a minute in which nothing
happens: with nobody attached to the relay, and with a client.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from agent.wire import STDIN, stream_of
from converter.machine.model import RunConfig
from tests.guests import disk
from tests.guests.host import BOOT_SECONDS, GuestHost, served
from tests.guests.relayed import relayed
from tests.guests.watched import Memory, watched
from tests.integration.relay_runs import Attached, until

QUIET_SECONDS = 60.0
IDLE_EXECS = 100
UNREAD_EXECS = 20
_UNREAD_BYTES = 1 << 20
OUTPUT_BYTES = 64 << 20
_SETTLE_SECONDS = 8.0  # after the last byte: a question for the client that came, acknowledgements
_PATIENCE_SECONDS = 300.0
_MAIN = RunConfig(args=("/bin/sh", "-c", "read line"), stdin=True)
_MAC = "02:42:00:00:00:01"
_NETWORK = {"interfaces": [{"mac": _MAC, "dhcp": True}]}  # what `run` gives a machine
_CARD = (
    *("-netdev", "user,id=net0"),
    *("-device", f"virtio-net-pci,netdev=net0,mac={_MAC},romfile="),
)


def run(rounds: int) -> dict[str, object]:
    """Measure memory in so many boots, and wake-ups in one; return both as a document."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        work = Path(name)
        link = disk.build(work)
        found = [memory(work, link) for _ in range(rounds)]
        quiet = wake_ups(work, link, QUIET_SECONDS)
    middle = {when: _median([one[when] for one in found]) for when in found[0]}
    per_exec = (middle["100 idle execs"].rss - middle["64 MiB of output"].rss) / IDLE_EXECS
    return {
        "rounds": rounds,
        "KiB resident": {when: one.rss for when, one in middle.items()},
        "KiB proportional": {when: one.pss for when, one in middle.items()},
        "KiB anonymous": {when: one.anonymous for when, one in middle.items()},
        "KiB for an idle exec": {"resident (goal 64)": per_exec},
        f"wake-ups in {QUIET_SECONDS:g} s (goal 0)": quiet,
    }


def _median(found: list[Memory]) -> Memory:
    return Memory(
        rss=statistics.median_low(one.rss for one in found),
        pss=statistics.median_low(one.pss for one in found),
        anonymous=statistics.median_low(one.anonymous for one in found),
    )


def memory(work: Path, link: Path, output_bytes: int = OUTPUT_BYTES) -> dict[str, Memory]:
    """Boot a machine; return the agent's memory with its main process alone, and then."""
    with (
        watched(work, link, _MAIN, network=_NETWORK, devices=_CARD) as (machine, watcher),
        served(machine) as host,
    ):
        host.wait(lambda: "started" in host.processes[0].messages, BOOT_SECONDS)
        found = {"the main process alone (goal 13671)": watcher.memory()}
        script = f"yes | head -c {output_bytes}"
        output = host.start(1, args=["/bin/sh", "-c", script])
        host.wait(lambda: output.closed, _PATIENCE_SECONDS)
        found[f"{output_bytes >> 20} MiB of output"] = watcher.memory()
        with _idle_execs(host, IDLE_EXECS):
            found["100 idle execs"] = watcher.memory()
        found["after they ended"] = watcher.memory()
        with _idle_execs(host, UNREAD_EXECS) as numbers:
            _leave_unread(host, numbers)
            found["20 execs that leave 1 MiB each unread"] = watcher.memory()
        return found


@contextlib.contextmanager
def _idle_execs(host: GuestHost, count: int) -> Iterator[range]:
    """Have processes that only sleep, and end them."""
    numbers = range(2, 2 + count)
    records = [host.start(number, args=["sleep", "100000"], stdin=True) for number in numbers]
    host.wait(lambda: all("started" in record.messages for record in records), _PATIENCE_SECONDS)
    yield numbers
    for number in numbers:
        host.endpoint.control({"type": "signal", "process": number, "signal": 9})
    host.wait(lambda: all(record.closed for record in records), _PATIENCE_SECONDS)


def _leave_unread(host: GuestHost, numbers: range) -> None:
    """Send each process what it does not read, as far as there is credit for it."""
    for number in numbers:
        host.write(number, bytes(_UNREAD_BYTES))
    streams = [stream_of(number, STDIN) for number in numbers]
    host.wait(
        lambda: (
            not host.endpoint.unacknowledged() and not any(map(host.endpoint.writable, streams))
        ),
        _PATIENCE_SECONDS,
    )


def wake_ups(work: Path, link: Path, seconds: float) -> dict[str, int]:
    """Boot two machines behind relays; return how often each agent woke up in so many seconds.

    The same seconds: the machines know nothing of each other.
    """
    places = [Path(tempfile.mkdtemp(dir=work)) for _ in range(2)]
    with (
        watched(places[0], link, _MAIN) as (left, left_watcher),
        relayed(left) as left_guest,
        watched(places[1], link, _MAIN) as (attached_to, watcher),
        relayed(attached_to) as guest,
    ):
        until(lambda: left_guest.describe()["started"], BOOT_SECONDS)
        until(lambda: guest.describe()["started"], BOOT_SECONDS)
        attached = Attached(guest.address, None, reconnect_seconds=0.0)
        watchers = {"nobody is attached": left_watcher, "a client is attached": watcher}
        time.sleep(_SETTLE_SECONDS)
        before = {who: one.wake_ups() for who, one in watchers.items()}
        time.sleep(seconds)
        found = {who: one.wake_ups() - before[who] for who, one in watchers.items()}
    attached.join(_PATIENCE_SECONDS)  # its relay is gone
    return found
