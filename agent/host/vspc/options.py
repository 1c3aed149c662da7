"""Which telnet options are in use. Owns the negotiation's state; sans-IO.

After RFC 1143's method, without its queue: we ask for everything once, at the beginning, and never
change our mind. A request for what is already so, or the answer to our own request, is not
answered: that keeps two sides that both ask unbidden from answering each other for ever.
"""

from __future__ import annotations

import enum

from agent.host.vspc.c_telnet import DO, DONT, WILL, WONT
from agent.host.vspc.telnet import negotiation


class State(enum.Enum):
    """Where an option of one side stands; one that was never spoken of has no state."""

    ASKED = enum.auto()
    ON = enum.auto()
    OFF = enum.auto()


class Options:
    """The options of both sides of one connection.

    `ours` are those that we use, `theirs` those that we want the other side to use; everything else
    is refused, once for each option.
    """

    __slots__ = ("_ours", "_state", "_theirs")

    def __init__(self, ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
        self._ours = ours
        self._theirs = theirs
        self._state: dict[tuple[bool, int], State] = {}  # (ours?, option)

    def opening(self) -> bytes:
        """Return the requests that begin a connection."""
        for option in self._ours:
            self._state[True, option] = State.ASKED
        for option in self._theirs:
            self._state[False, option] = State.ASKED
        return b"".join(
            [negotiation(WILL, option) for option in self._ours]
            + [negotiation(DO, option) for option in self._theirs]
        )

    def receive(self, command: int, option: int) -> bytes:
        """Take WILL, WONT, DO or DONT; return what is to be answered, if anything."""
        ours = command in (DO, DONT)
        agree, refuse = (WILL, WONT) if ours else (DO, DONT)
        state = self._state.get((ours, option))
        if command in (DO, WILL):
            if state is State.ON:
                return b""
            if option in (self._ours if ours else self._theirs):
                self._state[ours, option] = State.ON
                return b"" if state is State.ASKED else negotiation(agree, option)
            self._state[ours, option] = State.OFF
            return b"" if state is State.OFF else negotiation(refuse, option)
        if state in (State.ON, State.ASKED):
            self._state[ours, option] = State.OFF
        return negotiation(refuse, option) if state is State.ON else b""

    def ours(self, option: int) -> State | None:
        """Return where an option of ours stands."""
        return self._state.get((True, option))

    def theirs(self, option: int) -> State | None:
        """Return where an option of the other side stands."""
        return self._state.get((False, option))
