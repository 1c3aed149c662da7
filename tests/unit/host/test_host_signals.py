"""Signals on their way into a loop: none is lost, whenever it comes."""

from __future__ import annotations

import select
import sys

from agent.host.signals import SignalInbox


def test_a_signal_that_comes_while_others_are_taken_is_not_lost():
    inbox = SignalInbox()
    sent = []

    def interrupt(frame, _event, _argument):
        """Have a signal arrive before each instruction of `drain`, as the interpreter would."""
        if frame.f_code is not SignalInbox.drain.__code__:
            return None
        frame.f_trace_opcodes = True
        if len(sent) < 200:  # or `drain` would have no end
            sent.append(len(sent))
            inbox.put(sent[-1])
        return interrupt

    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        taken = inbox.drain()
    finally:
        sys.settrace(before)
    if taken != sent:
        assert select.select([inbox.fileno()], [], [], 0)[0], "nobody would look again"
        taken += inbox.drain()
    assert taken == sent
    inbox.close()
