"""The wire module without a line: 4 KiB frames against the bare keyed hash of the same bytes.

bare      one blake2b with the frame's parameters over each payload, and nothing else
frames    header, crc and tag made, joined into writes of 64 KiB, found again, checked: two hashes
endpoint  two Endpoints face to face: streams, credit, sequence, acknowledgements, events as well

Processor time, the least of all rounds: a busy machine makes nothing look faster.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable

from agent.wire import STDOUT, Data, Endpoint, Role
from agent.wire.c_frame import TAG_PERSON, TAG_SIZE, FrameType
from agent.wire.events import Counters
from agent.wire.frames import Frame, FrameParser, Sealer

PAYLOAD_BYTES = 4096
FRAMES = 4000
_WRITE_FRAMES = 15  # 64 KiB is a few bytes short of sixteen
_KEY = bytes(range(32))
_READ_BYTES = 65536


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Return microseconds per frame, and the rates as parts of the bare hash's."""
    measures: dict[str, Callable[[], None]] = {
        "bare": _bare,
        "frames": _frames,
        "endpoint": _endpoint,
    }
    least = dict.fromkeys(measures, float("inf"))
    for _ in range(rounds):
        for what, work in measures.items():
            started = time.process_time()
            work()
            least[what] = min(least[what], time.process_time() - started)
    return {
        "microseconds per 4 KiB frame": {
            f"wire alone: {what}": round(seconds / FRAMES * 1e6, 2)
            for what, seconds in least.items()
        },
        "ratios": {
            "wire alone: frames, rate / bare hash (goal 0.25)": round(
                least["bare"] / least["frames"], 3
            ),
            "wire alone: both endpoints, rate / bare hash": round(
                least["bare"] / least["endpoint"], 3
            ),
        },
    }


def _payload() -> bytes:
    return random.Random(1).randbytes(PAYLOAD_BYTES)


def _bare() -> None:
    payload = _payload()
    keyed = hashlib.blake2b(key=_KEY, digest_size=TAG_SIZE, person=TAG_PERSON)
    for _ in range(FRAMES):
        digest = keyed.copy()
        digest.update(payload)
        digest.digest()


def _frames() -> None:
    payload = _payload()
    sealer = Sealer(_KEY)
    parser = FrameParser(lambda _type: sealer, PAYLOAD_BYTES, Counters())
    found = 0
    for first in range(0, FRAMES, _WRITE_FRAMES):
        parts: list[bytes] = []
        for number in range(first, min(first + _WRITE_FRAMES, FRAMES)):
            parts += sealer.parts(Frame(FrameType.DATA, 0, STDOUT, number, number + 1, payload))
        for item in parser.feed(b"".join(parts)):
            assert isinstance(item, Frame)
            found += 1
    assert found == FRAMES


def _endpoint() -> None:
    host = Endpoint(Role.HOST, _KEY, nonce=b"h" * 16, max_payload=PAYLOAD_BYTES, now=0.0)
    guest = Endpoint(Role.GUEST, _KEY, nonce=b"g" * 16, max_payload=PAYLOAD_BYTES, now=0.0)
    block = _payload() * (_READ_BYTES // PAYLOAD_BYTES)
    arrived = 0
    while arrived < FRAMES * PAYLOAD_BYTES:
        if guest.writable(STDOUT) >= len(block):
            guest.send(STDOUT, block)
        for event in host.receive(guest.data_to_send(0.0), 0.0):
            if isinstance(event, Data):
                arrived += len(event.data)
                host.consumed(event.stream, len(event.data))
        guest.receive(host.data_to_send(0.0), 0.0)
