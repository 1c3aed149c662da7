"""Packets of guest RPC, in pieces of any size: the same payloads, or ValueError alone."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tether.datamap import Packets, encode_packet, encode_ping
from tests.guests import vmx

payloads = st.lists(st.binary(min_size=1, max_size=200), max_size=5)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(payloads, st.lists(st.integers(0, 2000), max_size=20))
def test_packets_come_out_as_they_went_in_however_the_stream_is_cut(sent, cuts):
    stream = b"".join(vmx.encode(payload) for payload in sent)
    packets = Packets()
    assert [out for piece in pieces_of(stream, cuts) for out in packets.take(piece)] == sent


@given(st.binary(max_size=300))
def test_ours_are_read_as_they_are_by_another_reader(payload):
    class Connected:
        left = encode_packet(payload) + encode_ping()

        def recv(self, count):
            data, self.left = self.left[:count], self.left[count:]
            return data

    connected = Connected()
    assert vmx.read(connected) == (1, payload or None)
    assert vmx.read(connected) == (2, None)
    assert vmx.read(connected) is None


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda rest: b"\0\0\0\x14" + rest))
def test_any_bytes_are_packets_or_a_value_error_the_same_in_one_piece_or_many(stream):
    def outcome(pieces):
        packets, found = Packets(), []
        try:
            for piece in pieces:
                for payload in packets.take(piece):
                    found.append(payload)
        except ValueError:
            found.append(None)
        return found

    assert outcome([stream]) == outcome([stream[at : at + 1] for at in range(len(stream))])


@pytest.mark.parametrize("length", [(1 << 20) + 1, 0xFFFFFFFF])
def test_a_length_that_no_hypervisor_sends_is_refused_at_once(length):
    with pytest.raises(ValueError, match="a packet of"):
        list(Packets().take(length.to_bytes(4, "big")))
