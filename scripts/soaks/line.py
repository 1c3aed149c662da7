"""Random bytes each way through a booted guest, over lines that damage and cut; relays that die.

The guest's process sends back what it is sent, and both ends take a digest; in between are the
relay as a process, killed when a random byte has come back, and a client that is attached all the
while. The count is in KiB of each way over virtio-serial; over the 16550 it is a sixteenth of that.
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
from collections import deque
from pathlib import Path

from agent.wire import STDOUT
from converter.machine.model import Channel, RunConfig
from tests.guests import disk
from tests.guests.host import booted
from tests.guests.line import Faults
from tests.guests.relayed import relayed
from tests.integration.relay_runs import Attached, logged

COUNT = 65536  # KiB
_SERIAL_PART = 16
_WORST_PART = 64  # of the data goes over a line that damages one byte in a thousand
_WORST = Faults(flip=1e-3, burst=1e-5, drop=1e-5)
_FAULTS = {
    Channel.VIRTIO_SERIAL: Faults(
        flip=2e-6, burst=1e-6, drop=1e-6, replay=2e-7, forge=1e-6, cut=1e-7
    ),
    Channel.SERIAL: Faults(flip=2e-5, burst=1e-5, drop=1e-5, replay=2e-6, forge=1e-5, cut=1e-6),
}
# Bytes between two kills, in the mean; a small count has a few kills all the same.
_KILL_BYTES = {Channel.VIRTIO_SERIAL: 1 << 20, Channel.SERIAL: 32 << 10}
_KILLS = 6
_PATIENCE_SECONDS = 120.0
_SLOWEST = 10_000  # bytes a second


def run(count: int, seed: int) -> list[str]:
    """Send `count` KiB each way over both lines; return what did not arrive as it was sent."""
    failures = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        work = Path(name)
        link = disk.build(work)
        for channel in _FAULTS:
            part = 1 if channel is Channel.VIRTIO_SERIAL else _SERIAL_PART
            failures += _send(work, link, channel, (count << 10) // part, seed)
    return failures


def _send(work: Path, link: Path, channel: Channel, size: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    data = rng.randbytes(size)
    digest = hashlib.sha256(data).hexdigest()
    # tee holds a pipe to sha256sum, whose word goes to stderr.
    script = "mkfifo /p; sha256sum < /p >&2 & tee /p; wait"
    config = RunConfig(args=("/bin/sh", "-c", script), stdin=True)
    seconds = _PATIENCE_SECONDS + size / _SLOWEST
    with (
        booted(work, link, config, channel=channel) as machine,
        relayed(machine, faults=_WORST, seed=seed) as guest,
    ):
        attached = Attached(guest.address, data)

        def progress() -> int | None:
            return None if attached.result is not None else len(attached.out)

        worst = size // _WORST_PART
        count = max(_KILLS, size // _KILL_BYTES[channel])
        kills = deque(sorted([rng.randrange(worst), *(rng.randrange(size) for _ in range(count))]))
        for faults, until in ((_WORST, worst), (_FAULTS[channel], size + 1)):
            guest.line.faults = faults
            guest.kill_while(progress, kills, until=until, seconds=seconds)
        attached.join(_PATIENCE_SECONDS)
        counters = guest.describe()["counters"]
        seen = f"{dict(guest.line.counts)}, {guest.kills} kills; {_shown(counters)}"
        print(f"{channel}: {size} bytes each way, {seen}", file=sys.stderr)
        failures = []
        if attached.err.split()[:1] != [digest.encode()]:
            failures.append(f"{channel}: the guest had other bytes ({seen})")
        if hashlib.sha256(attached.out).hexdigest() != digest:
            failures.append(f"{channel}: the client got other bytes, {len(attached.out)} ({seen})")
        if hashlib.sha256(logged(guest.relay.folder, STDOUT)).hexdigest() != digest:
            failures.append(f"{channel}: the log has other bytes ({seen})")
        if getattr(attached.result, "code", None) != 0:
            failures.append(f"{channel}: the client ended with {attached.result!r} ({seen})")
        if not guest.kills or not guest.line.counts["flip"]:
            failures.append(f"{channel}: too little went wrong to show anything ({seen})")
        return failures


def _shown(counters: dict[str, int]) -> str:
    names = ("forged", "replayed", "repeated", "resent", "pieces")
    return ", ".join(f"{counters[name]} {name}" for name in names)
