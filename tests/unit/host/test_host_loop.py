"""The loop that the relay and the concentrator run on."""

from __future__ import annotations

import contextlib
import os
import socket

from agent.host.loop import READABLE, Loop


def test_what_was_ready_of_a_descriptor_is_not_told_of_the_next_one_of_its_number():
    """Whichever of two is told first closes the other, whose number a new socket gets at once."""
    told: list[int] = []
    with contextlib.ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.close)
        pairs = [socket.socketpair() for _ in range(3)]
        for end in (end for pair in pairs for end in pair):
            stack.callback(end.close)
        first, second, new = (pair[0] for pair in pairs)
        for _here, there in pairs[:2]:
            there.close()  # so both are told of: their peers are gone

        def replace(closed: socket.socket) -> None:
            number = closed.fileno()
            loop.forget(number)
            closed.close()
            os.dup2(new.fileno(), number)
            stack.callback(os.close, number)
            loop.watch(number, READABLE, told.append)

        loop.watch(first.fileno(), READABLE, lambda _events: replace(second))
        loop.watch(second.fileno(), READABLE, lambda _events: replace(first))
        loop.turn()
        assert told == []
        pairs[2][1].send(b"now it is ready")
        for end in (first, second):
            if end.fileno() >= 0:
                loop.forget(end.fileno())
        loop.turn()
        assert told == [READABLE]
