"""Random bytes each way through a booted guest, over lines that damage and cut; hosts that die.

The guest's process sends back what it is sent, and both ends take a digest. The count is in
KiB of each way over virtio-serial; over the 16550 it is a sixteenth of that.
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
from pathlib import Path

from converter.machine.model import Channel, RunConfig
from tests.guests import disk
from tests.guests.host import BOOT_SECONDS, Faults, booted, served

COUNT = 65536  # KiB
_SERIAL_PART = 16
_WORST_PART = 64  # of the data goes over a line that damages one byte in a thousand
_WORST = Faults(flip=1e-3, drop=1e-4)
FAULTS = {
    Channel.VIRTIO_SERIAL: Faults(flip=2e-6, drop=1e-6, cut=0.001, kill=0.0002),
    Channel.SERIAL: Faults(flip=2e-5, drop=1e-5, cut=0.00002, kill=0.00002),
}


def run(count: int, seed: int) -> list[str]:
    """Send `count` KiB each way over both lines; return what did not arrive as it was sent."""
    failures = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        work = Path(name)
        link = disk.build(work)
        for channel in FAULTS:
            part = 1 if channel is Channel.VIRTIO_SERIAL else _SERIAL_PART
            failures += _send(work, link, channel, (count << 10) // part, seed)
    return failures


def _send(work: Path, link: Path, channel: Channel, size: int, seed: int) -> list[str]:
    data = random.Random(seed).randbytes(size)
    digest = hashlib.sha256(data).hexdigest()
    # tee holds a pipe to sha256sum, whose word goes to stderr.
    script = "mkfifo /p; sha256sum < /p >&2 & tee /p; wait"
    config = RunConfig(args=("/bin/sh", "-c", script), stdin=True)
    with (
        booted(work, link, config, channel=channel) as machine,
        served(machine, seed=seed) as host,
    ):
        main = host.processes[0]
        host.wait(lambda: "started" in main.messages, 2 * BOOT_SECONDS)
        host.write(0, data, end=True)
        host.faults = _WORST
        host.wait(lambda: len(main.stdout) > size // _WORST_PART, 60 + size / 10_000)
        host.faults = FAULTS[channel]
        host.cut()
        host.wait(lambda: len(main.stdout) > size // 2, 60 + size / 10_000)
        host.kill()
        host.wait(lambda: main.code is not None, 60 + size / 10_000)
        seen = hashlib.sha256(main.stdout).hexdigest()
        counted = f"{host.injected} faults, {host.cuts} cuts, {host.kills} kills"
        failures = []
        if main.stderr.split()[:1] != [digest.encode()]:
            failures.append(f"{channel}: the guest had other bytes ({counted})")
        if seen != digest:
            failures.append(f"{channel}: the guest sent other bytes ({counted})")
        if main.code != 0 or main.gap_bytes:
            failures.append(f"{channel}: code {main.code}, {main.gap_bytes} bytes of gaps")
        if not host.injected or host.established < 3:
            failures.append(f"{channel}: too little went wrong ({counted}) to show anything")
        print(f"{channel}: {size} bytes each way, {counted}", file=sys.stderr)
        return failures
