"""tether's loop as a process, without a machine: tether_process.py LINE DOCUMENT SCRIPT [POLICY].

Connects to the Unix socket LINE as its serial port, takes its key from the file DOCUMENT and looks
for another one there, and runs SCRIPT with a shell, again as the restart POLICY has it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from agent.tether import channel, config, supervisor  # noqa: E402 - after the path
from agent.tether.line import Line  # noqa: E402 - as above
from agent.tether.renewals import Renewals  # noqa: E402 - as above
from agent.tether.restart import RestartPolicy  # noqa: E402 - as above
from agent.tether.sources import FileSource  # noqa: E402 - as above
from agent.wire import Endpoint, Role  # noqa: E402 - as above
from tests.unit.tether.loop_host import launched, spawn, spawn_plain  # noqa: E402 - as above


def main() -> None:
    """Live a guest's life."""
    line, document, script, *policy = sys.argv[1:]
    supervisor.RENEW_SECONDS = 1.0  # nobody here needs it to be rare
    source = FileSource(document)
    renewal = config.parse_renewal(config.load_document(source.read()))
    source.forget()
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(line)
    limits = channel.SERIAL_LIMITS
    endpoint = Endpoint(
        Role.GUEST,
        renewal.key,
        nonce=os.urandom(32),
        max_payload=limits.max_payload_bytes,
        window=limits.window_bytes,
        away_seconds=1.0,
        now=time.monotonic(),
    )
    transport = channel.Device(connected.fileno(), limits=limits, read_bytes=65536)
    renewals = Renewals(source, renewal.epoch)
    with supervisor.Supervisor(
        Line(transport, endpoint), linger_seconds=120.0, renew=renewals.look
    ) as guest:
        guest.supervise(
            spawn(script, with_stdin=True),
            stop_signal=signal.SIGTERM,
            policy=RestartPolicy(*policy),
            again=lambda: spawn(script, with_stdin=True),
            oom_kills=lambda: 0,
            start=lambda message: launched(spawn_plain(message["args"][0], with_stdin=True)),
        )


if __name__ == "__main__":
    main()
