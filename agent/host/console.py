"""The last lines that the guest printed. Owns a bounded memory of console text, for diagnosis."""

from __future__ import annotations

from agent.host.status import printable

_KEPT_BYTES = 8192
_SHOWN_LINES = 12


class ConsoleTail:
    """Keep the end of what was printed, however much that is."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def write(self, data: bytes) -> None:
        """Take console bytes; the oldest make room."""
        self._kept += data
        if len(self._kept) > 2 * _KEPT_BYTES:
            del self._kept[:-_KEPT_BYTES]

    def text(self) -> str:
        """Return the last lines, safe to show."""
        lines = self._kept[-_KEPT_BYTES:].decode("utf-8", "replace").splitlines()
        shown = [printable(line).rstrip() for line in lines]
        return "\n".join([line for line in shown if line][-_SHOWN_LINES:])
