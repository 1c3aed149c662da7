"""What a guest tells of its main process while the machine runs: restarts and health. Pure.

Owns the reading of the control messages `restarting`, `started` and `health` of the main process,
which a guest, and so nobody to be trusted, has written, and their sum.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from agent.host.relay.status import status_json
from agent.host.status import ExitStatus, exit_status

_STATUSES = ("starting", "healthy", "unhealthy")
_LOG_ENTRIES = 5
_OUTPUT_BYTES = 8192  # a sentence around 4096 bytes of a check's output
_MOST = 1 << 63

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One run of the health check; `code` is -1 where it has none. Times are by the guest."""

    start_ns: int
    end_ns: int
    code: int
    output: str


@dataclass(frozen=True, slots=True)
class HealthReport:
    """How healthy the process is, and the last checks."""

    status: str
    failing_streak: int = 0
    log: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class Life:
    """The main process over all its starts in one boot. Times are nanoseconds by the host's clock.

    `restarts` is how often it was, or is about to be, started again; `waits` says that it is about
    to be. `end` and `ended_ns` are of its last end before that, `started_ns` of its last start.
    """

    restarts: int = 0
    waits: bool = False
    end: Json | None = None
    ended_ns: int | None = None
    started_ns: int | None = None
    health: HealthReport | None = None

    def to_json(self) -> Json:
        """Return what `read_life` reads."""
        return asdict(self)

    def after(self, message: Mapping[str, Any], now_ns: int) -> Life:
        """Return the life after a control message, the same one if it says nothing of that.

        A `restarting` that does not count on is nothing new. Raises ValueError.
        """
        kind = message.get("type")
        if kind == "restarting" and _number(message, "count") > self.restarts:
            said = status_json(_restarting_status(message))
            count = _number(message, "count")
            return replace(self, restarts=count, waits=True, end=said, ended_ns=now_ns)
        if kind == "started" and self.waits:
            return replace(self, waits=False, started_ns=now_ns)
        if kind == "health":
            return replace(self, health=self._after_check(message))
        return self

    def _after_check(self, message: Mapping[str, Any]) -> HealthReport:
        status = message.get("status")
        if status not in _STATUSES:
            raise ValueError("a health that is none")
        log = () if self.health is None else self.health.log
        result = message.get("result")
        if result is not None:
            log = (*log, _read_check(result))[-_LOG_ENTRIES:]
        return HealthReport(status, _number(message, "streak"), log)


NO_LIFE = Life()


def _restarting_status(message: Mapping[str, Any]) -> ExitStatus:
    status = exit_status({**message, "type": "exited"})
    assert status is not None
    return replace(status, restarts=True)


def read_life(document: Mapping[str, Any] | None) -> Life:
    """Return what `to_json` gave, an empty life for None. Raises ValueError."""
    if document is None:
        return NO_LIFE
    try:
        health = document["health"]
        if health is not None:
            log = tuple(Check(**entry) for entry in health["log"])
            health = HealthReport(**{**health, "log": log})
        return Life(**{**document, "health": health})
    except (KeyError, TypeError) as error:
        raise ValueError(f"no life of a process: {error!r}") from error


def _read_check(result: object) -> Check:
    if not isinstance(result, dict):
        raise ValueError("a check that is none")
    output = result.get("output")
    if not isinstance(output, str) or len(output) > 2 * _OUTPUT_BYTES:
        raise ValueError("a check whose output is too long or none")
    try:
        text = binascii.a2b_base64(output.encode("ascii"), strict_mode=True).decode(
            "utf-8", "replace"
        )
    except ValueError as error:
        raise ValueError("a check whose output is no base64") from error
    code = result.get("code")
    code = -1 if code == -1 and not isinstance(code, bool) else _number(result, "code")
    return Check(_number(result, "start_ns"), _number(result, "end_ns"), code, text)


def _number(message: Mapping[str, Any], name: str) -> int:
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        raise ValueError(f"{name} is no number that makes sense")
    return value
