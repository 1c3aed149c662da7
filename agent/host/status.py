"""How a run ended. Owns the exit status and its reading from control messages, which a guest, and
so nobody to be trusted, has written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

_KIND_CHARACTERS = 64
_MESSAGE_CHARACTERS = 2000
_START_FAILURES = (125, 126, 127)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the process could not be started: a word for programs and a sentence for people."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """The end of the guest's process.

    `code` is what a shell would see, 128 + `signal` when a signal ended it. `failure` is set when
    there was never a process; then `code` is 125, 126 or 127 as with docker. With `restarts` the
    guest starts it again: this end is not the machine's.
    """

    code: int
    signal: int | None = None
    core: bool = False
    oom: bool = False
    failure: Failure | None = None
    restarts: bool = False


def exit_status(message: Mapping[str, object]) -> ExitStatus | None:
    """Return the status that a control message reports, None when it reports none.

    Raises ValueError when the guest reports one that cannot be.
    """
    code = message.get("code")
    if message.get("type") == "exited":
        signal = message.get("signal")
        if not _is_byte(code) or not (signal is None or _is_byte(signal)):
            raise ValueError("an exit status that no process can have")
        return ExitStatus(
            code=code,
            signal=signal,
            core=message.get("core") is True,
            oom=message.get("oom") is True,
            restarts=message.get("restarts") is True,
        )
    if message.get("type") == "failed":
        if not _is_byte(code) or code not in _START_FAILURES:
            raise ValueError("a start failure with a code other than 125, 126 or 127")
        failure = Failure(
            kind=printable(str(message.get("kind", "unknown")))[:_KIND_CHARACTERS],
            message=printable(str(message.get("message", "")))[:_MESSAGE_CHARACTERS],
        )
        return ExitStatus(code=code, failure=failure)
    return None


def printable(text: str) -> str:
    """Return text that can be shown on a terminal: no control character, no escape sequence."""
    return "".join(
        character if character.isprintable() else " " if character.isspace() else "\ufffd"
        for character in text
    )


def _is_byte(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255
