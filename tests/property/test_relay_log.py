"""Properties of what the relay keeps on disk: any instant may be the last of its process."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.host.relay.c_relay import RecordKind
from agent.host.relay.frames import FrameError, FrameParser, encode_frame
from agent.host.relay.journal import Journal
from agent.host.relay.log import (
    Log,
    Missing,
    read_records,
    segment_path,
    segment_starts,
    tail_position,
)
from agent.host.relay.records import DamagedError, Record, decode_records, encode_record
from agent.host.relay.spool import Spool

_PAYLOADS = st.lists(st.binary(max_size=300), min_size=1, max_size=30)
# What a hostile guest prints: records of its own.
_FORGED = encode_record(RecordKind.EXIT, 0, 1, b"{}")


def _read(folder, position=0):
    found = []
    while chunk := read_records(folder, position, limit=500):
        found += chunk
        position = chunk[-1].end
    return found


@given(payloads=_PAYLOADS, cut=st.integers(0, 10_000), forged=st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_log_cut_anywhere_keeps_what_was_whole(payloads, cut, forged):
    if forged:
        payloads = [payload + _FORGED + payload for payload in payloads]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "log"
        log = Log(folder, segment_bytes=1000, total_bytes=10**9)
        log.recover(None)
        for number, payload in enumerate(payloads):
            log.append(RecordKind.OUTPUT, 2, number, payload)
            log.flush()
        log.close()
        whole = _read(folder)
        assert [record.payload for record in whole] == payloads
        last = segment_starts(folder)[-1]
        path = folder / f"{last:020d}.log"
        path.write_bytes(path.read_bytes()[: max(0, path.stat().st_size - cut)])
        kept = [record for record in whole if record.end <= last + path.stat().st_size]
        log = Log(folder, segment_bytes=1000, total_bytes=10**9)
        log.recover(None)
        log.append(RecordKind.OUTPUT, 2, 0, b"more")
        log.flush()
        log.close()
        again = _read(folder)
        assert [r.payload for r in again] == [r.payload for r in kept] + [b"more"]


@given(payloads=_PAYLOADS, committed=st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_what_the_journal_does_not_know_is_cut_off(payloads, committed):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "log"
        log = Log(folder, segment_bytes=500, total_bytes=10**9)
        log.recover(None)
        ends = [0]
        for payload in payloads:
            log.append(RecordKind.OUTPUT, 2, 0, payload)
            log.flush()
            ends.append(log.end)
        log.close()
        count = min(committed, len(payloads))
        log = Log(folder, segment_bytes=500, total_bytes=10**9)
        log.recover(ends[count])
        assert log.end == ends[count]
        log.close()
        assert [record.payload for record in _read(folder)] == payloads[:count]


@given(payloads=_PAYLOADS, keep=st.integers(0, 5000))
@settings(max_examples=100, deadline=None)
def test_the_cap_holds_and_readers_learn_what_is_missing(payloads, keep):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "log"
        log = Log(folder, segment_bytes=400, total_bytes=1200)
        log.recover(None)
        for payload in payloads:
            log.append(RecordKind.OUTPUT, 2, 0, payload)
            log.flush()
            log.trim(min(keep, log.end))
        log.close()
        found = _read(folder)
        position = 0
        for item in found:
            if isinstance(item, Missing):
                assert item.end <= max(keep, 0)
            position = item.end
        assert position == log.end
        kept = [item.payload for item in found if isinstance(item, Record)]
        assert payloads[len(payloads) - len(kept) :] == kept
        if keep >= log.end:
            size = sum(path.stat().st_size for path in folder.iterdir())
            assert size <= 1200 + 400 + 324


def test_a_segment_that_cannot_be_begun_costs_nothing(tmp_path):
    # As on a disk without room for another file, or without descriptors for one.
    log = Log(tmp_path, segment_bytes=100, total_bytes=10**9)
    log.recover(None)
    payloads = [bytes([letter]) * 90 for letter in b"abcd"]
    log.append(RecordKind.OUTPUT, 2, 0, payloads[0])
    log.flush()
    obstacle = segment_path(tmp_path, log.end)
    obstacle.mkdir()
    log.append(RecordKind.OUTPUT, 2, 0, payloads[1])
    for _ in range(2):  # the relay tries again and again
        with pytest.raises(OSError, match="directory"):
            log.flush()
    obstacle.rmdir()
    for payload in payloads[2:]:
        log.flush()
        log.append(RecordKind.OUTPUT, 2, 0, payload)
    log.flush()
    log.close()
    assert [record.payload for record in _read(tmp_path)] == payloads


@given(text=st.lists(st.binary(max_size=20), max_size=20), lines=st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_the_tail_is_the_last_lines(text, lines):
    text = [piece.replace(b"\r", b"\n").replace(b"a", b"\n") for piece in text]
    whole = b"".join(text)
    expected = b"".join(_lines(whole)[-lines:])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "log"
        log = Log(folder, segment_bytes=200, total_bytes=10**9)
        log.recover(None)
        for piece in text:
            log.append(RecordKind.OUTPUT, 2, 0, piece)
            log.flush()
        log.close()
        steps = tail_position(folder, lines, RecordKind.OUTPUT)
        position, skip = next(step for step in steps if step is not None)
        tail = b"".join(r.payload for r in _read(folder, position))[skip:]
        assert tail == expected


def _lines(data):
    pieces = data.split(b"\n")
    lines = [piece + b"\n" for piece in pieces[:-1]]
    return [*lines, pieces[-1]] if pieces[-1] else lines


@given(data=st.binary(max_size=400), flips=st.lists(st.integers(0, 3000), max_size=3))
@settings(max_examples=300, deadline=None)
def test_records_are_whole_or_an_error(data, flips):
    encoded = bytearray(encode_record(1, 2, 3, data) + encode_record(1, 2, 4, b"second"))
    for flip in flips:
        encoded[flip % len(encoded)] ^= 1
    try:
        found = [record.payload for record in decode_records(bytes(encoded))]
    except DamagedError:
        return
    assert found in ([], [data], [data, b"second"])


@given(
    frames=st.lists(
        st.tuples(st.sampled_from([1, 2, 5, 6, 8]), st.binary(max_size=99)), max_size=8
    ),
    cuts=st.lists(st.integers(0, 900), max_size=8),
)
@settings(max_examples=200, deadline=None)
def test_frames_are_the_same_however_they_are_split(frames, cuts):
    data = b"".join(encode_frame(kind, bytes(18), payload) for kind, payload in frames)
    parser = FrameParser()
    found = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        found += parser.feed(data[start:end])
    assert [(f.kind, f.payload[18:]) for f in found] == frames


@given(data=st.binary(max_size=2000))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_frames_or_an_error(data):
    with contextlib.suppress(FrameError):
        list(FrameParser().feed(data))


@given(cut=st.integers(0, 200), records=st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_a_journal_cut_anywhere_is_one_of_its_states(cut, records):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "journal"
        journal = Journal(path)
        journal.open()
        journal.write({"schema": 1, "key": "k", "boot": 0, "log": 0})
        for number in range(records):
            journal.write({"log": number + 1, "controls": [{"type": "signal", "n": number}]})
        journal.close()
        data = path.read_bytes()
        path.write_bytes(data[: max(0, len(data) - cut)])
        again = Journal(path)
        again.open()
        state = again.state
        assert len(state.unconfirmed) == (state.log_end or 0)
        again.compact(limit=0)
        again.close()
        third = Journal(path)
        third.open()
        assert third.state == state
        third.close()


@given(
    pieces=st.lists(st.tuples(st.integers(0, 3), st.binary(min_size=1, max_size=200)), max_size=30),
    limit=st.integers(0, 2000),
    at=st.integers(0, 100),
)
@settings(max_examples=150, deadline=None)
def test_a_spool_gives_back_the_bytes_that_the_guest_lacks(pieces, limit, at):
    with tempfile.TemporaryDirectory() as name:
        spool = Spool(Path(name) / "stdin")
        spool.keep = 500
        spool.open()
        whole = b""
        taken = {}
        for client, data in pieces:
            writer = bytes([client]) * 16
            spool.append(writer, data)
            spool.compact(limit)
            whole += data
            taken[writer] = taken.get(writer, 0) + len(data)
        spool.close()
        again = Spool(Path(name) / "stdin")
        again.keep = 500
        again.open()
        assert again.end == len(whole)
        assert all(again.taken(writer) == count for writer, count in taken.items())
        offset = max(0, len(whole) - min(at * 5, 500))
        assert again.since(offset) == whole[offset:]
        assert again.since(len(whole) + 1) is None
        again.close()
