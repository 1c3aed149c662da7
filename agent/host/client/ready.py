"""Wait for a guest that boots: what other requests need before they can be answered.

Owns the patience: for as long as the relay finds nothing wrong, and a signal ends it.
"""

from __future__ import annotations

import select
import signal
from typing import Any

from agent.host.client.conditions import raise_condition
from agent.host.client.connection import Address, Connection
from agent.host.errors import AbortedError, AccessError
from agent.host.signals import SignalInbox

_LOOK_SECONDS = 0.1


def describe(address: Address) -> dict[str, Any]:
    """Return how things stand, as docs/relay.md has it under `status`."""
    with Connection(address) as connection:
        return dict(connection.ask({"type": "status"})["status"])


def until_started(address: Address, inbox: SignalInbox | None = None) -> None:
    """Return when the main process runs, or has ended: a guest that boots is waited for.

    Raises the error of a condition that is overdue, AbortedError for a signal in `inbox`.
    """
    poll = select.poll()
    if inbox is not None:
        poll.register(inbox.fileno(), select.POLLIN)
    while True:
        try:
            status = describe(address)
        except AccessError:
            return  # who may execute need not be allowed to look; the relay waits as well
        if status["started"] is not None or status["ended"] is not None:
            return
        raise_condition({**status, "type": "condition"}, frozenset({str(status["condition"])}))
        poll.poll(_LOOK_SECONDS * 1000)
        for number in inbox.drain() if inbox is not None else ():
            if number != signal.SIGWINCH:
                raise AbortedError(f"The client was ended by signal {number}.", signal=number)
