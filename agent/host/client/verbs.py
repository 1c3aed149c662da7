"""What a client can do with a machine through its relay: one function for each.

They return values and raise errors of agent.host.errors; they print nothing and never exit. The
user's terminal is theirs only as far as `Stdio` says; raw mode is the caller's (terminal.raw_mode).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.host.client.conditions import UNANSWERED, raise_condition
from agent.host.client.connection import RECONNECT_SECONDS, Address, Connection
from agent.host.client.pump import Manners, Pump
from agent.host.client.ready import until_started
from agent.host.errors import GuestLostError
from agent.host.relay.c_relay import WRITER_SIZE, FrameKind
from agent.host.relay.status import reported_status
from agent.host.status import ExitStatus
from agent.host.stdio import Stdio


def attach(
    address: Address,
    stdio: Stdio,
    *,
    replay: str | int = "all",
    hold: bool = True,
    ends_after: int | None = None,
    manners: Manners | None = None,
    reconnect_seconds: float = RECONNECT_SECONDS,
) -> ExitStatus:
    """Attach to the main process until it ends; return how.

    `replay` is "all" of this boot's output, "none", or the last so many bytes of the log. When the
    relay is killed, the attachment goes on with the next one: no byte is lost or doubled either
    way. With `hold` the guest waits for us when the log is full. A process that has ended already
    gives its output and status. Raises DetachedError, AbortedError, and the errors of conditions
    that are in `manners.fatal`.

    It ends with the next end of the process, though it be started again (the status says so).
    `ends_after` is the position in the log from which on an end counts, None for the present one.
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
                "ends_after": ends_after if pump.ends_after is None else pump.ends_after,
            }
            if pump.position is not None:
                request["position"] = pump.position
            answer = connection.ask(request)
            pump.position = pump.position or int(answer["position"])
            pump.ends_after = int(answer["ends_after"])
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
    """Execute another process in the guest, once that has booted; return how it ended.

    Its output comes to us alone, so a relay that is killed ends this with LostError; the process
    goes on. What is on `stdio.stdin` is for it only with `execution.stdin`. Raises as `attach`.
    """
    if not execution.stdin:
        stdio = replace(stdio, stdin=None)
    manners = manners or Manners()
    until_started(address, manners.inbox)
    return _run(address, execution.request(detach=False), stdio, manners)


def execute_detached(address: Address, execution: Execution) -> ExitStatus | None:
    """Execute another process and leave it; return once it runs, or why it does not.

    None: it runs. Raises RequestError, and the error of a guest that does not answer.
    """

    def judge(event: Mapping[str, Any]) -> None:
        _raise_end(event, UNANSWERED)

    until_started(address)
    with Connection(address) as connection:
        connection.ask(execution.request(detach=True), on_event=judge)
        while True:
            frame = connection.next_frame(None)
            event = frame.json() if frame.kind == FrameKind.EVENT else {}
            if event.get("type") == "started":
                return None
            if event.get("type") == "exited":
                return reported_status(event.get("status"))
            judge(event)


def _run(
    address: Address, request: Mapping[str, Any], stdio: Stdio, manners: Manners
) -> ExitStatus:
    def connect(pump: Pump) -> tuple[Connection, int]:
        connection = Connection(address)
        try:
            connection.ask(request, on_event=pump.judge)
        except BaseException:
            connection.close()
            raise
        return connection, 0

    return Pump(connect, stdio, manners).run()


def wait(address: Address) -> ExitStatus:
    """Wait until the main process has ended; return how. Raises MachineEndedError.

    The next end counts, though the process be started again: the status says so.
    """
    status = wait_until(address, None)
    assert status is not None
    return status


def wait_until(
    address: Address, deadline: float | None, *, fatal: frozenset[str] = frozenset()
) -> ExitStatus | None:
    """Wait as `wait` does, until `deadline` of the monotonic clock; None: it has not ended.

    Raises the errors of the conditions in `fatal` too, when they are overdue.
    """
    with Connection(address) as connection:
        connection.ask({"type": "wait"})
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and not connection.wait(left):
                return None
            frame = connection.next_frame(None)
            event = frame.json() if frame.kind == FrameKind.EVENT else {}
            if event.get("type") == "exited":
                status = reported_status(event.get("status"))
                if status is not None:
                    return status
            _raise_end(event, fatal)


def _raise_end(event: Mapping[str, Any], fatal: frozenset[str] = frozenset()) -> None:
    """Raise when the event says that nothing more will come, or is one that we do not wait for."""
    if event.get("type") == "lost":
        raise GuestLostError("The guest was restarted while the process ran.")
    raise_condition(event, fatal)


def send_signal(address: Address, number: int) -> None:
    """Send a signal to the main process."""
    _order(address, {"type": "signal", "signal": number})


def stop(address: Address, timeout_seconds: float | None, number: int | None = None) -> None:
    """Send the main process its stop signal or `number`, and SIGKILL after the time.

    Return at once. The process is not started again.
    """
    _order(address, {"type": "stop", "timeout_seconds": timeout_seconds, "signal": number})


def power_off(address: Address) -> None:
    """Have the guest end all processes and power off; return at once."""
    _order(address, {"type": "power-off"})


def _order(address: Address, request: Mapping[str, Any]) -> None:
    with Connection(address) as connection:
        connection.ask(request)
