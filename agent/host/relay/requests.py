"""What clients may ask for. Owns the reading of requests, which anybody may have written. Pure.

Every reader raises ValueError with a sentence for the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.host.relay.c_relay import WRITER_SIZE

MOST = 1 << 62
_LONGEST_SIGNAL = 64
_MOST_ARGUMENTS = 4096
_MOST_SIZE = 65535

# What a rule may allow; each request needs one of them.
VERBS = {
    "attach": "attach",
    "logs": "logs",
    "exec": "exec",
    "copy-in": "copy",
    "copy-out": "copy",
    "wait": "status",
    "status": "status",
    "signal": "signal",
    "stop": "signal",
    "power-off": "signal",
    "resize": "attach",
}


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """Attach to the main process.

    `replay` is how many bytes of what was logged of this boot come first, None all of it;
    `position` goes on where an earlier attachment was cut. With `hold` the guest's output waits
    for this client rather than be lost to it. Ends of the process that stand in the log at or
    before `ends_after` are passed over, when it was started again after them; None is all that
    were logged before this request.
    """

    stdin: bool
    writer: bytes
    replay: int | None
    position: int | None
    hold: bool
    ends_after: int | None


@dataclass(frozen=True, slots=True)
class LogsRequest:
    """Read the log: the last `tail` lines of it, of those what came in [since, until) (ns)."""

    follow: bool
    tail: int | None
    since_ns: int
    until_ns: int
    position: int | None


def read_attach(message: Mapping[str, Any]) -> AttachRequest:
    """Read an attach request."""
    replay = message.get("replay", "all")
    if replay == "none":
        replay = 0
    elif replay != "all":
        replay = _number(message, "replay", MOST)
    writer = bytes.fromhex(_text(message, "writer", "00" * WRITER_SIZE))
    if len(writer) != WRITER_SIZE:
        raise ValueError(f"writer has {len(writer)} bytes, not {WRITER_SIZE}")
    return AttachRequest(
        stdin=_flag(message, "stdin", default=False),
        writer=writer,
        replay=None if replay == "all" else replay,
        position=_optional(message, "position", MOST),
        hold=_flag(message, "hold", default=True),
        ends_after=_optional(message, "ends_after", MOST),
    )


def read_logs(message: Mapping[str, Any]) -> LogsRequest:
    """Read a logs request."""
    return LogsRequest(
        follow=_flag(message, "follow", default=False),
        tail=_optional(message, "tail", MOST),
        since_ns=_optional(message, "since_ns", MOST) or 0,
        until_ns=MOST if (until := _optional(message, "until_ns", MOST)) is None else until,
        position=_optional(message, "position", MOST),
    )


def read_exec(message: Mapping[str, Any]) -> dict[str, Any]:
    """Read an exec request; return it as the guest is told, without the process's number."""
    args = _texts(message, "args")
    if not args:
        raise ValueError("args is empty")
    return {
        "type": "exec",
        "args": args,
        "env": _texts(message, "env"),
        "user": _optional_text(message, "user"),
        "workdir": _optional_text(message, "workdir"),
        "tty": _flag(message, "tty", default=False),
        "stdin": _flag(message, "stdin", default=False),
        "rows": _optional(message, "rows", _MOST_SIZE),
        "cols": _optional(message, "cols", _MOST_SIZE),
    }


def read_copy(message: Mapping[str, Any]) -> dict[str, Any]:
    """Read a copy request; return it as the guest is told, without the process's number."""
    path = _text(message, "path", "")
    if not path:
        raise ValueError("path is empty")
    order: dict[str, Any] = {"type": str(message["type"]), "path": path}
    if order["type"] == "copy-out":
        for name in ("follow", "shallow"):
            order[name] = _flag(message, name, default=False)
    return order


def read_order(message: Mapping[str, Any]) -> dict[str, Any]:
    """Read a request that is one message to the guest; return that message."""
    kind = message.get("type")
    if kind == "signal":
        number = _number(message, "signal", _LONGEST_SIGNAL)
        return {"type": "signal", "signal": number}
    if kind == "stop":
        seconds = message.get("timeout_seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float | None):
            raise ValueError("timeout_seconds is no number")
        if seconds is not None and not -1 <= seconds <= MOST:
            raise ValueError("timeout_seconds is out of bounds")
        wanted = _optional(message, "signal", _LONGEST_SIGNAL)
        return {"type": "stop", "timeout_seconds": seconds, "signal": wanted}
    if kind == "power-off":
        return {"type": "power-off"}
    if kind == "resize":
        rows = _number(message, "rows", _MOST_SIZE)
        return {"type": "resize", "rows": rows, "cols": _number(message, "cols", _MOST_SIZE)}
    raise ValueError(f"{str(kind)[:40]!r} is no request")


def _flag(message: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = message.get(name, default)
    if not isinstance(value, bool):
        raise ValueError(f"{name} is neither true nor false")
    return value


def _number(message: Mapping[str, Any], name: str, most: int) -> int:
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name} is no number from 0 to {most}")
    return value


def _optional(message: Mapping[str, Any], name: str, most: int) -> int | None:
    return None if message.get(name) is None else _number(message, name, most)


def _text(message: Mapping[str, Any], name: str, default: str) -> str:
    value = message.get(name, default)
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"{name} is no text")
    return value


def _optional_text(message: Mapping[str, Any], name: str) -> str | None:
    return None if message.get(name) is None else _text(message, name, "")


def _texts(message: Mapping[str, Any], name: str) -> list[str]:
    value = message.get(name, [])
    if not isinstance(value, list) or len(value) > _MOST_ARGUMENTS:
        raise ValueError(f"{name} is no list, or one of more than {_MOST_ARGUMENTS}")
    if not all(isinstance(text, str) and "\0" not in text for text in value):
        raise ValueError(f"{name} has something else than texts")
    return value
