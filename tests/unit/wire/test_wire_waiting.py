"""What waits to be sent: pieces of any size go in, any number of bytes comes out, none changed."""

from __future__ import annotations

import random
import sys

from agent.wire.outgoing import _Waiting


def test_bytes_come_out_as_they_went_in() -> None:
    rng = random.Random(1)
    waiting, model = _Waiting(), bytearray()
    for _ in range(3000):
        data = rng.randbytes(rng.choice([0, 1, 1, 1, 100, 4095, 4096, 5000, 20000]))
        waiting.append(data)
        model += data
        assert waiting.size == len(model)
        while len(model) > rng.choice([0, 10000, 50000]):
            count = min(len(model), rng.choice([1, 64, 4096, 5000, 70000]))
            assert bytes(waiting.peek(count)) == model[:count]
            if rng.random() < 0.2:
                waiting.drop(count)
            else:
                assert waiting.take(count) == model[:count]
            del model[:count]
            assert waiting.size == len(model)


def test_a_whole_piece_is_not_copied() -> None:
    waiting = _Waiting()
    piece = bytes(5000)
    waiting.append(piece)
    assert waiting.take(5000) is piece


def test_single_bytes_do_not_take_an_object_each() -> None:
    waiting = _Waiting()
    for _ in range(100_000):
        waiting.append(b"x")
    kept = sum(sys.getsizeof(piece) for piece in waiting._pieces)
    assert kept < 200_000
