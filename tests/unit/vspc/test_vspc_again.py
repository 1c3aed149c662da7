"""A VM that comes on another connection without a vMotion, or beside one."""

from __future__ import annotations

from agent.host.vspc.c_vspc import (
    OLDER_CONNECTIONS,
    PEER_SECONDS,
    REPLACED_SECONDS,
    Code,
)
from tests.unit.vspc.fakes import House, complete, moving


def test_a_power_cycle(house: House) -> None:
    old = house.serve("old")
    house.data(old, b"old ")
    new = house.serve("new")
    house.data(new, b"new")
    house.data(old, b"last ")  # was on its way
    assert house.line.room() == 0
    house.end(old)
    assert house.user.received == b"old last new"
    assert house.user.told == ["connected old", "lost", "connected new"]
    assert house.line.send(b"x") == 1
    assert new.to_vm == b"x"


def test_a_host_that_has_died(house: House) -> None:
    old = house.serve("old")
    new = house.serve("new")
    house.data(new, b"new")
    house.scheduler.advance(REPLACED_SECONDS)
    assert old.closed
    assert house.user.received == b"new"


def test_a_vm_that_comes_again_and_again_while_nobody_reads(house: House) -> None:
    house.serve("0")
    house.user.space = 0
    ports = [house.serve(str(number)) for number in range(1, 10)]
    for number, port in enumerate(ports):
        port.held += b"%d" % (number + 1)
    house.scheduler.advance(100)
    assert len(house.line._older) <= OLDER_CONNECTIONS
    house.user.space = 100
    house.line.resume()
    house.scheduler.advance(100)
    assert house.user.received == b"129"  # of the others nothing could be kept
    assert house.user.told[-2:] == ["lost", "connected 9"]
    assert not ports[-1].closed


def test_a_connection_that_says_later_that_it_is_the_target(house: House) -> None:
    source = house.serve("source")
    cookie = house.begin(source)
    target = house.serve("target")  # says who it is, and nothing of a vMotion
    house.data(target, b"new")
    assert house.user.told == ["connected source"]
    house.say(target, Code.VMOTION_PEER, cookie)
    complete(house, target)
    house.end(source)
    house.scheduler.advance(10 * PEER_SECONDS)
    assert house.user.received == b"new"
    assert house.user.told == ["connected source", "moved target"]


def test_a_vm_that_was_started_anew_during_its_vmotion(house: House) -> None:
    source = house.serve("source")
    house.begin(source)
    house.line.send(b"held")
    anew = house.serve("anew")
    house.data(anew, b"boot")
    house.scheduler.advance(2 * PEER_SECONDS)
    assert house.user.received == b""  # the source may still come back
    house.end(source)
    house.scheduler.advance(PEER_SECONDS)
    assert house.user.received == b"boot"
    assert house.user.told == ["connected source", "lost", "connected anew"]
    assert anew.to_vm == b""


def test_parked_connections_go_when_the_vmotion_ends(house: House) -> None:
    source, target, _ = moving(house)
    first = house.serve("first")
    second = house.serve("second")
    assert first.closed
    complete(house, target)
    assert second.closed
    assert not target.closed
    house.end(source)
    assert house.user.told[-1] == "moved target"


def test_a_parked_connection_that_closes(house: House) -> None:
    source = house.serve("source")
    house.begin(source)
    parked = house.serve("parked")
    house.end(parked)
    house.scheduler.advance(2 * PEER_SECONDS)
    house.say(source, Code.VMOTION_ABORT)
    house.data(source, b"on")
    assert house.user.received == b"on"


def test_a_vm_that_comes_back_while_it_prepares_to_move(house: House) -> None:
    source = house.serve("source")
    source.stuck = True
    house.line.send(b"x")
    house.say(source, Code.VMOTION_BEGIN, b"seq")
    anew = house.serve("anew")
    assert house.line.vmotion is None
    house.scheduler.advance(REPLACED_SECONDS)
    assert house.line.current is anew
    assert house.user.told == ["connected source", "lost", "connected anew"]


def test_the_vm_is_slowed_down_by_a_user_without_room(house: House) -> None:
    vm = house.serve("a")
    house.user.space = 3
    house.feed(vm, b"ab" + bytes.fromhex("fff1") + b"cd")  # two pieces in one read
    house.user.space = 0
    assert not vm.wants_read
    house.user.space = 10
    house.line.resume()
    assert vm.wants_read
    assert house.user.received == b"abcd"
