"""What the relay says of how things stand, as the error that it means. Owns which end a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.host.relay.condition import condition_error

# Nothing more will come, whoever waits.
FINAL = frozenset(("ended", "fault", "forgotten"))
# The guest does not answer: it may again, but a person in front of a terminal should be told.
UNANSWERED = frozenset(("never-connected", "no-hello", "silent", "disconnected"))


def raise_condition(event: Mapping[str, Any], fatal: frozenset[str] = frozenset()) -> None:
    """Raise what a `condition` event means, when that is overdue and final or in `fatal`."""
    condition = str(event.get("condition"))
    if event.get("type") != "condition" or event.get("overdue") is not True:
        return
    if condition in fatal | FINAL:
        error = condition_error(
            condition,
            float(event.get("seconds", 0)),
            str(event.get("detail", "")),
            str(event.get("console", "")),
            str(event.get("line", "")),
        )
        if error is not None:
            raise error
