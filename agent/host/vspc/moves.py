"""vMotions under way, and how their targets are known: by the host's sequence and our secret."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.host.vspc.port import Port

if TYPE_CHECKING:
    from agent.host.vspc.line import VmLine


@dataclass(slots=True)
class Vmotion:
    """A vMotion: `cookie` (sequence, secret) is empty until GOAHEAD; `source` None when ended."""

    sequence: bytes
    source: Port | None
    cookie: bytes = b""
    target: Port | None = None


class Moves:
    """The vMotions of all lines, by cookie; `secret` makes the second half of a cookie."""

    def __init__(self, secret: Callable[[], bytes]) -> None:
        self._secret = secret
        self._lines: dict[bytes, VmLine] = {}

    def begin(self, line: VmLine, sequence: bytes) -> bytes:
        """Return a cookie that no other vMotion has."""
        while (cookie := sequence + self._secret()) in self._lines:
            pass
        self._lines[cookie] = line
        return cookie

    def end(self, cookie: bytes) -> None:
        """Forget a vMotion."""
        self._lines.pop(cookie, None)

    def find(self, cookie: bytes) -> VmLine | None:
        """Return the line whose vMotion this is."""
        return self._lines.get(cookie)
