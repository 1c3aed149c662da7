"""What a client can do with a machine through its relay: one function for each.

They return values and raise errors of agent.host.errors; they print nothing and never exit. The
user's terminal is theirs only as far as `Stdio` says; raw mode is the caller's (terminal.raw_mode).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.host.client.connection import Address, Connection
from agent.host.client.pump import Manners, Pump
from agent.host.errors import GuestLostError
from agent.host.relay.c_relay import WRITER_SIZE, FrameKind
from agent.host.relay.condition import condition_error
from agent.host.relay.status import reported_status
from agent.host.status import ExitStatus
from agent.host.stdio import Stdio

RECONNECT_SECONDS = 30.0


def attach(
    address: Address,
    stdio: Stdio,
    *,
    replay: str | int = "all",
    hold: bool = True,
    manners: Manners | None = None,
    reconnect_seconds: float = RECONNECT_SECONDS,
) -> ExitStatus:
    """Attach to the main process until it ends; return how.

    `replay` is "all" of this boot's output, "none", or the last so many bytes of the log. When the
    relay is killed, the attachment goes on with the next one: no byte is lost or doubled either
    way. With `hold` the guest waits for us when the log is full. A process that has ended already
    gives its output and status. Raises DetachedError, AbortedError, and the errors of conditions
    that are in `manners.fatal`.
    """
    writer = os.urandom(WRITER_SIZE)

    def connect(pump: Pump) -> tuple[Connection, int]:
        connection = Connection(address)
        try:
            request: dict[str, Any] = {
                "type": "attach",
                "stdin": stdio.stdin is not None,
                "writer": writer.hex(),
                "replay": replay,
                "hold": hold,
            }
            if pump.position is not None:
                request["position"] = pump.position
            answer = connection.ask(request)
            pump.position = pump.position or int(answer["position"])
            pump.started = answer.get("started") is not None or pump.started
            return connection, int(answer["taken"])
        except BaseException:
            connection.close()
            raise

    pump = Pump(connect, stdio, manners or Manners(), reconnect_seconds=reconnect_seconds)
    return pump.run()


@dataclass(frozen=True)
class Execution:
    """What to execute, as `docker exec` has it."""

    args: Sequence[str]
    env: Sequence[str] = ()
    user: str | None = None
    workdir: str | None = None
    tty: bool = False
    stdin: bool = False
    size: tuple[int, int] | None = None  # rows, columns of its terminal at the start

    def request(self, *, detach: bool) -> dict[str, Any]:
        """Return the request."""
        rows, cols = self.size or (None, None)
        return {
            "type": "exec",
            "args": list(self.args),
            "env": list(self.env),
            "user": self.user,
            "workdir": self.workdir,
            "tty": self.tty,
            "stdin": self.stdin,
            "rows": rows,
            "cols": cols,
            "detach": detach,
        }


def execute(
    address: Address, execution: Execution, stdio: Stdio, *, manners: Manners | None = None
) -> ExitStatus:
    """Execute another process in the guest; return how it ended.

    Its output comes to us alone, so a relay that is killed ends this with LostError; the process
    goes on. Raises as `attach`.
    """
    return _run(address, execution.request(detach=False), stdio, manners or Manners())


def execute_detached(address: Address, execution: Execution) -> ExitStatus | None:
    """Execute another process and leave it; return once it runs, or why it does not.

    None: it runs. Raises RequestError, GuestLostError.
    """
    with Connection(address) as connection:
        connection.ask(execution.request(detach=True))
        while True:
            frame = connection.next_frame(None)
            event = frame.json() if frame.kind == FrameKind.EVENT else {}
            if event.get("type") == "started":
                return None
            if event.get("type") == "exited":
                return reported_status(event.get("status"))
            _raise_end(event)


def _run(
    address: Address, request: Mapping[str, Any], stdio: Stdio, manners: Manners
) -> ExitStatus:
    def connect(_pump: Pump) -> tuple[Connection, int]:
        connection = Connection(address)
        try:
            connection.ask(request)
        except BaseException:
            connection.close()
            raise
        return connection, 0

    return Pump(connect, stdio, manners).run()


def wait(address: Address) -> ExitStatus:
    """Wait until the main process has ended; return how. Raises MachineEndedError."""
    with Connection(address) as connection:
        connection.ask({"type": "wait"})
        while True:
            frame = connection.next_frame(None)
            event = frame.json() if frame.kind == FrameKind.EVENT else {}
            if event.get("type") == "exited":
                status = reported_status(event.get("status"))
                if status is not None:
                    return status
            _raise_end(event)


def _raise_end(event: Mapping[str, Any]) -> None:
    """Raise when the event says that nothing more will come."""
    if event.get("type") == "lost":
        raise GuestLostError("The guest was restarted while the process ran.")
    if event.get("type") == "condition" and event.get("condition") in {"ended", "fault"}:
        error = condition_error(
            str(event["condition"]),
            float(event.get("seconds", 0)),
            str(event.get("detail", "")),
            str(event.get("console", "")),
        )
        if error is not None:
            raise error


def describe(address: Address) -> dict[str, Any]:
    """Return how things stand, as docs/relay.md has it under `status`."""
    with Connection(address) as connection:
        return dict(connection.ask({"type": "status"})["status"])


def send_signal(address: Address, number: int) -> None:
    """Send a signal to the main process."""
    _order(address, {"type": "signal", "signal": number})


def stop(address: Address, timeout_seconds: float | None) -> None:
    """Send the main process its stop signal, and SIGKILL after the time; return at once."""
    _order(address, {"type": "stop", "timeout_seconds": timeout_seconds})


def power_off(address: Address) -> None:
    """Have the guest end all processes and power off; return at once."""
    _order(address, {"type": "power-off"})


def _order(address: Address, request: Mapping[str, Any]) -> None:
    with Connection(address) as connection:
        connection.ask(request)
