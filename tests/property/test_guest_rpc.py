"""Guest RPC and whatever a hypervisor may do: packets in pieces, any request, any registers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tether.appearance import Appearance
from agent.tether.backdoor_channel import BackdoorChannel
from agent.tether.c_backdoor import RPCI_PROTOCOL
from agent.tether.datamap import Packets, encode_packet, encode_ping
from agent.tether.rpci import RefusalError, RpciError
from agent.tether.tclo import Tclo
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


requests = st.binary(max_size=60) | st.sampled_from(
    [
        b"reset",
        b"OS_Halt\0",
        b"OS_Reboot",
        b"OS_Resume 1",
        b"Capabilities_Register",
        b"Set_Option x",
    ]
)


@given(st.lists(requests, max_size=8), st.sampled_from([None, RefusalError("no"), RpciError("no")]))
def test_any_request_is_answered_and_none_but_these_ends_or_begins_a_process(asked, fault):
    done = []

    def call(_request):
        if fault is not None:
            raise fault

    tclo = Tclo(
        call,
        Appearance(call, host_name="guest"),
        stop=lambda: not done.append("OS_Halt"),
        restart=lambda: not done.append("OS_Reboot"),
        resumed=lambda: None,
    )
    for request in asked:
        answer, follow = tclo.take(request)
        assert answer.startswith((b"OK ", b"ERROR "))
        follow()
    words = [request.rstrip(b"\0").partition(b" ")[0].decode("latin-1") for request in asked]
    assert done == [word for word in words if word in ("OS_Halt", "OS_Reboot")]


class Hypervisor:
    """Ports that leave any registers behind, and refuse everything in the end."""

    def __init__(self, answers):
        self.answers = answers

    def call(self, _command, **_registers):
        return self.answers.pop(0) if self.answers else (0,) * 7

    def block_out(self, _data, **registers):
        return self.call(0, **registers)

    def block_in(self, count, **registers):
        return self.call(0, **registers), bytes(count)


# Mostly what a hypervisor may answer: a success, a message, blocks; a size that is not absurd.
words = st.sampled_from([0, 0x10000, 0x20000, 0x30000, 0x810000, 0x830000, 0x100000, 5])
answers = st.lists(st.tuples(*(words | st.integers(0, 0xFFFFFFFF) for _ in range(7))), max_size=30)


@given(answers, st.binary(max_size=40))
def test_whatever_the_backdoor_leaves_in_registers_is_a_message_or_a_connection_error(given_, sent):
    try:
        channel = BackdoorChannel(Hypervisor([(0, 0, 0x10000, 0, 0, 0, 0), *given_]), RPCI_PROTOCOL)
        channel.send(sent)
        received = channel.receive()
        assert received is None or isinstance(received, bytes)
        channel.close()
    except ConnectionError:
        pass
