"""How a machine is: what state.json says. Owns the states and their JSON; touches no file.

Imported by the supervisor, which has to start quickly: nothing but the standard library and the
exit status.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.host.relay.life import NO_LIFE, Life, read_life
from agent.host.relay.status import reported_status, status_json
from agent.host.status import ExitStatus

STATE_SCHEMA = 1
UNKNOWN_END = ExitStatus(255)  # of a machine whose process nobody saw ending
CUT_END = ExitStatus(137, signal=9)  # of one whose power was cut


class Status(enum.StrEnum):
    """Docker's words for how a machine is."""

    CREATED = "created"  # never started
    RUNNING = "running"
    EXITED = "exited"  # ended, by itself or not; can be started again
    DEAD = "dead"  # what is left of it cannot be read; can only be removed


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known of a machine's last run. Times are nanoseconds since 1970.

    `hypervisor_exit` is how the hypervisor's process ended, negative for a signal; None when nobody
    saw it. `reason` is a sentence where `end` is not the process's own. `life` is what the guest
    told of restarts and health.
    """

    status: Status = Status.CREATED
    started_ns: int | None = None
    finished_ns: int | None = None
    end: ExitStatus | None = None
    reason: str = ""
    hypervisor_exit: int | None = None
    life: Life = NO_LIFE

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "schema": STATE_SCHEMA,
            "status": self.status.value,
            "started_ns": self.started_ns,
            "finished_ns": self.finished_ns,
            "end": None if self.end is None else status_json(self.end),
            "reason": self.reason,
            "hypervisor_exit": self.hypervisor_exit,
            "life": self.life.to_json(),
        }


def read_state(document: Mapping[str, Any]) -> State:
    """Return what `to_json` wrote. Raises ValueError for anything else."""
    try:
        if document["schema"] != STATE_SCHEMA:
            raise ValueError(f"a state of schema {document['schema']!r}")
        return State(
            status=Status(document["status"]),
            started_ns=_optional(document["started_ns"]),
            finished_ns=_optional(document["finished_ns"]),
            end=reported_status(document["end"]),
            reason=str(document["reason"]),
            hypervisor_exit=_optional(document["hypervisor_exit"]),
            life=read_life(document.get("life")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no state of a machine: {error!r}") from error


def _optional(value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError(f"{value!r} is no number")
    return value
