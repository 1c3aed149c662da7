"""Two Endpoints face to face, for the tests of the wire: lossless, and at a time that is given."""

from __future__ import annotations

from agent.wire import Endpoint, Role
from agent.wire.c_frame import FrameType
from agent.wire.events import Counters
from agent.wire.frames import Frame, FrameParser

KEY = bytes(range(32))


def make(role, *, key=KEY, nonce=None, **sizes):
    """Return an Endpoint at time 0."""
    return Endpoint(role, key, nonce=nonce or role.name.encode() * 4, now=0.0, **sizes)


def exchange(host, guest, now=0.0):
    """Let the line move until both are quiet; return the events of both."""
    got = {Role.HOST: [], Role.GUEST: []}
    while True:
        down, up = host.data_to_send(now), guest.data_to_send(now)
        if not down and not up:
            return got[Role.HOST], got[Role.GUEST]
        got[Role.GUEST] += guest.receive(down, now)
        got[Role.HOST] += host.receive(up, now)


def meet(**sizes):
    """Return a host and a guest that have shaken hands."""
    host, guest = make(Role.HOST, **sizes), make(Role.GUEST, **sizes)
    exchange(host, guest)
    assert host.established
    assert guest.established
    return host, guest


def forge(sender, **fields):
    """Return a frame with a good tag of the sender's, whatever is in it.

    `number` and `transmission` of what is sequenced count on from what the sender has sent.
    """
    frame = Frame(**fields)
    if frame.type != FrameType.ACK:
        before = sender._sender._last_transmission
        frame = frame._replace(transmission=before + frame.transmission)
    if frame.type >= FrameType.DATA:
        frame = frame._replace(number=sender._sender.next_sequence + frame.number)
    return sender._handshake.session_keys.ours.seal(frame)


def frames_of(receiver, line):
    """Return the frames on a line, checked with the receiver's keys."""
    parser = FrameParser(receiver._key_for, 1 << 20, Counters())
    return [item for item in parser.feed(line) if isinstance(item, Frame)]
