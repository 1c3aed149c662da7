"""One VM's line over its connections: vMotion by every road, and a VM that simply comes back."""

from __future__ import annotations

import pytest

from agent.host.vspc.c_vspc import (
    COMPLETE_SECONDS,
    DRAIN_BYTES,
    DRAIN_SECONDS,
    GOAHEAD_SECONDS,
    HOLD_BYTES,
    MOVE_SECONDS,
    QUEUE_BYTES,
    Code,
)
from tests.unit.vspc.fakes import UUID, House, complete, moving


def test_bytes_go_both_ways(house: House) -> None:
    vm = house.serve("a")
    house.data(vm, b"\xff\0hi")
    assert house.user.received == b"\xff\0hi"
    assert house.line.send(b"\xff\0yo") == 4
    assert vm.to_vm == b"\xff\0yo"
    assert house.user.told == ["connected a"]


def test_what_came_before_the_vm_was_known_counts(house: House) -> None:
    vm = house.connect()
    house.data(vm, b"boot text ")
    house.introduce(vm)
    house.data(vm, b"and more")
    assert house.user.received == b"boot text and more"


# --- a vMotion -----------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [b"seq", b"seqs001"])
def test_a_vmotion(house: House, token: bytes) -> None:
    source, target, cookie = moving(house)
    assert cookie == b"seqs001"
    assert house.line.send(b"held") == 4
    house.data(source, b"tail ")
    house.data(target, b"new ")
    assert (source.to_vm, target.to_vm) == (b"", b"")
    complete(house, target, token)
    assert target.to_vm == b"held"  # without waiting for the source to close
    assert house.user.received == b"tail "
    house.data(source, b"end ")
    house.end(source)
    assert house.user.received == b"tail end new "
    house.data(target, b"on")
    assert house.user.received == b"tail end new on"
    assert house.user.told == ["connected source", "moved target"]
    assert source.closed
    assert not target.closed
    assert house.registry._moves.find(cookie) is None


def test_a_source_that_closes_before_complete(house: House) -> None:
    source, target, _ = moving(house)
    house.line.send(b"held")
    house.data(target, b"new")
    house.end(source)
    assert house.user.received == b"new"
    assert house.user.told[-1] == "moved target"
    assert target.to_vm == b""
    complete(house, target)
    assert target.to_vm == b"held"
    assert house.user.told == ["connected source", "moved target"]


def test_a_source_that_closes_before_the_target_comes(house: House) -> None:
    source = house.serve("source")
    cookie = house.begin(source)
    house.data(source, b"old ")
    house.end(source)
    assert house.user.told == ["connected source"]  # on its way, not lost
    assert house.line.send(b"held") == 4
    target = house.connect("target", opening=False)
    house.say(target, Code.VMOTION_PEER, cookie)  # before its options and its name
    house.data(target, b"early ")  # the source has ended: nothing can come before this
    assert house.user.received == b"old early "
    house.introduce(target)
    assert target.heard(Code.WILL_PROXY) == b""
    complete(house, target)
    assert target.to_vm == b""  # it has not agreed to BINARY yet
    house.feed(target, bytes.fromhex("fffd00"))
    assert target.to_vm == b"held"
    house.data(target, b"new")
    assert house.user.received == b"old early new"


def test_a_source_that_never_closes(house: House) -> None:
    source, target, _ = moving(house)
    complete(house, target)
    house.data(target, b"new")
    house.scheduler.advance(DRAIN_SECONDS - 1)
    house.data(source, b"late ")
    house.scheduler.advance(DRAIN_SECONDS - 1)
    assert (house.user.received, source.closed) == (b"late ", False)
    house.scheduler.advance(1)
    assert (house.user.received, source.closed) == (b"late new", True)


def test_a_source_that_never_ends(house: House) -> None:
    source, target, _ = moving(house)
    complete(house, target)
    for _ in range(2 * DRAIN_BYTES // QUEUE_BYTES):
        if not source.closed:
            house.data(source, bytes(QUEUE_BYTES))
            house.scheduler.advance(1)
    assert source.closed
    assert house.user.told[-1] == "moved target"
    # Which is not held against the next one.
    cookie = house.begin(target, b"two")
    third = house.connect("third")
    house.say(third, Code.VMOTION_PEER, cookie)
    complete(house, third)
    for _ in range(3):
        house.scheduler.advance(DRAIN_SECONDS - 1)
        house.data(target, b"x")
    assert not target.closed


def test_a_source_is_not_hurried_by_a_user_without_room(house: House) -> None:
    source, target, _ = moving(house)
    house.user.space = 1
    house.data(source, b"s")
    source.held += b"tail"  # came in the same piece
    complete(house, target)
    house.data(target, b"new")
    house.scheduler.advance(10 * DRAIN_SECONDS)
    assert house.user.received == b"s"
    assert not source.closed
    house.user.space = 100
    house.line.resume()
    house.data(source, b", the end, ")
    house.end(source)
    assert house.user.received == b"stail, the end, new"


def test_the_target_is_held_within_a_bound(house: House) -> None:
    source, target, _ = moving(house)
    sent = 0
    while target.wants_read:
        house.data(target, bytes(1000))
        sent += 1000
    assert HOLD_BYTES <= sent < HOLD_BYTES + 1000
    house.end(source)
    assert house.user.received == bytes(sent)
    assert target.wants_read


def test_what_is_for_the_vm_is_held_within_a_bound(house: House) -> None:
    source, target, _ = moving(house)
    assert house.line.send(bytes(2 * HOLD_BYTES)) == HOLD_BYTES
    assert house.line.room() == house.line.send(b"x") == 0
    complete(house, target)
    house.end(source)
    assert target.to_vm == bytes(HOLD_BYTES)
    assert house.line.room() > 0


def test_the_goahead_comes_after_what_is_queued(house: House) -> None:
    source = house.serve("source")
    source.stuck = True
    assert house.line.send(bytes(QUEUE_BYTES)) == QUEUE_BYTES
    house.say(source, Code.VMOTION_BEGIN, b"seq")
    assert house.line.send(b"later") == 5
    house.scheduler.advance(GOAHEAD_SECONDS / 2)
    source.stuck = False
    source.wake()
    assert source.heard(Code.VMOTION_GOAHEAD) == b"seqs001"
    assert source.to_vm == bytes(QUEUE_BYTES)


def test_not_now_and_again(house: House) -> None:
    source = house.serve("source")
    source.stuck = True
    house.line.send(b"first ")
    house.say(source, Code.VMOTION_BEGIN, b"one")
    house.line.send(b"second")
    house.scheduler.advance(GOAHEAD_SECONDS)
    source.stuck = False
    source.wake()
    assert source.heard(Code.VMOTION_NOTNOW) == b"one"
    assert source.heard(Code.VMOTION_GOAHEAD) is None
    assert source.to_vm == b"first second"
    assert house.begin(source, b"two") == b"twos001"


def test_an_abort(house: House) -> None:
    source, target, cookie = moving(house)
    house.line.send(b"held")
    house.say(target, Code.VMOTION_ABORT, b"seq")  # only the source can say so
    assert house.line.vmotion is not None
    house.say(source, Code.VMOTION_ABORT)
    assert source.to_vm == b"held"
    assert target.closed
    house.data(source, b"on")
    assert house.user.received == b"on"
    late = house.connect("late")
    house.say(late, Code.VMOTION_PEER, cookie)
    assert late.heard(Code.VMOTION_PEER_OK) is None
    assert late.heard(Code.UNKNOWN_SUBOPTION_RCVD_2) == bytes([Code.VMOTION_PEER])
    assert late.closed
    assert house.user.told == ["connected source"]


def test_an_abort_before_the_goahead(house: House) -> None:
    source = house.serve("source")
    source.stuck = True
    house.line.send(b"a")
    house.say(source, Code.VMOTION_BEGIN, b"seq")
    house.say(source, Code.VMOTION_ABORT, b"seq")
    house.line.send(b"b")
    source.stuck = False
    source.wake()
    assert source.to_vm == b"ab"
    assert source.heard(Code.VMOTION_GOAHEAD) is None
    house.scheduler.advance(2 * GOAHEAD_SECONDS)
    assert source.heard(Code.VMOTION_NOTNOW) is None


def test_a_host_that_begins_again_without_a_word(house: House) -> None:
    source, target, first = moving(house)
    second = house.begin(source, b"two")
    assert target.closed
    other = house.connect("other")
    house.say(other, Code.VMOTION_PEER, first)
    assert other.closed
    again = house.connect("again")
    house.say(again, Code.VMOTION_PEER, second)
    assert again.heard(Code.VMOTION_PEER_OK) == second


def test_a_target_that_fails_and_one_that_comes_after_it(house: House) -> None:
    source, target, cookie = moving(house)
    house.data(target, b"never")
    house.end(target)
    assert house.user.received == b""
    second = house.connect("second")
    house.say(second, Code.VMOTION_PEER, cookie)
    third = house.connect("third")
    house.say(third, Code.VMOTION_PEER, cookie)
    assert second.closed
    complete(house, third)
    house.end(source)
    house.data(third, b"new")
    assert house.user.received == b"new"
    assert house.user.told[-1] == "moved third"


def test_complete_from_anybody_else_means_nothing(house: House) -> None:
    source, _target, _ = moving(house)
    complete(house, source)
    assert house.line.vmotion is not None
    assert house.line.current is source


def test_a_begin_from_the_target_has_to_wait(house: House) -> None:
    source, target, _ = moving(house)
    house.say(target, Code.VMOTION_BEGIN, b"two")
    assert target.heard(Code.VMOTION_NOTNOW) == b"two"
    complete(house, target)
    house.say(target, Code.VMOTION_BEGIN, b"three")
    assert target.heard(Code.VMOTION_GOAHEAD) is None  # the source is still being read
    house.end(source)
    assert target.heard(Code.VMOTION_GOAHEAD) == b"threes002"


def test_a_vm_that_moves_twice_in_a_row(house: House) -> None:
    first, second, _ = moving(house)
    complete(house, second)
    house.end(first)
    cookie = house.begin(second, b"two")
    third = house.connect("third")
    house.say(third, Code.VMOTION_PEER, cookie)
    complete(house, third)
    house.data(third, b"3")
    house.data(second, b"2")
    house.end(second)
    assert house.user.received == b"23"


def test_two_vms_that_move_at_once(house: House) -> None:
    other_uuid = UUID.replace("5", "6")
    one, other = house.serve("1"), house.serve("2", other_uuid)
    cookies = house.begin(one, b"same"), house.begin(other, b"same")
    assert cookies[0] != cookies[1]
    targets = house.connect("3"), house.connect("4")
    for target, cookie in zip(targets, reversed(cookies), strict=True):
        house.say(target, Code.VMOTION_PEER, cookie)
        complete(house, target, b"same")
    house.end(one)
    house.end(other)
    house.data(targets[0], b"other")
    house.data(targets[1], b"one")
    assert house.user.received == b"one"
    assert house.users[other_uuid].received == b"other"


# --- vMotions that come to nothing ---------------------------------------------------------------


def test_complete_never_comes_and_the_source_is_there(house: House) -> None:
    source, target, _ = moving(house)
    house.line.send(b"held")
    house.scheduler.advance(MOVE_SECONDS)
    assert target.closed
    assert source.to_vm == b"held"


def test_complete_never_comes_and_the_source_has_closed(house: House) -> None:
    source, target, _ = moving(house)
    house.line.send(b"held")
    house.end(source)
    house.scheduler.advance(COMPLETE_SECONDS)
    assert target.to_vm == b"held"
    complete(house, target)  # late, and no news any more
    assert house.user.told == ["connected source", "moved target"]


def test_a_vm_that_does_not_come_back(house: House) -> None:
    source = house.serve("source")
    house.begin(source)
    house.line.send(b"held")
    house.end(source)
    house.scheduler.advance(COMPLETE_SECONDS)
    assert house.user.told == ["connected source", "lost"]
    assert house.line.send(b"x") == 0
    again = house.serve("again")
    assert again.to_vm == b""  # what was for the VM of before is not for this one
    assert house.user.told[-1] == "connected again"


def test_a_target_that_ends_when_the_source_has(house: House) -> None:
    source, target, _ = moving(house)
    house.end(source)
    house.end(target)
    assert house.user.told == ["connected source", "moved target", "lost"]
