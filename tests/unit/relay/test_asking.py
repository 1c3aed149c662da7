"""When a quiet guest is asked: at once for who waits, hardly ever for nobody."""

from __future__ import annotations

from agent.host.loop import slept_seconds
from agent.host.relay.asking import Asking, Looking


def test_nobody_waits():
    asking = Asking(5, 600)
    assert not asking.is_due(599, 0, owes=False)
    assert asking.is_due(600, 0, owes=False)
    assert not asking.is_due(10_000, 0, owes=False)  # it owes an answer to this one
    assert asking.asked_at == 600


def test_who_comes_has_it_asked_once():
    asking = Asking(5, 600)
    asking.want(100)
    assert not asking.is_due(104, 100, owes=False)  # heard just now
    assert asking.is_due(105, 100, owes=False)
    assert asking.heard(106.5) == 1.5
    assert asking.asked_at is None
    assert asking.heard(106.5) is None
    assert not asking.is_due(112, 106.5, owes=False)


def test_who_comes_while_it_talks_needs_no_question():
    asking = Asking(5, 600)
    asking.want(100)
    asking.heard(101)
    assert not asking.is_due(120, 101, owes=False)


def test_what_came_before_the_question_is_no_answer():
    asking = Asking(5, 600)
    asking.want(100)
    assert asking.is_due(106, 99, owes=False)
    assert asking.heard(99) is None
    assert asking.asked_at == 106
    asking.reset()
    assert asking.asked_at is None


def test_a_guest_that_owes_something_is_asked():
    asking = Asking(5, 600)
    assert asking.is_due(5, 0, owes=True)


def test_a_guest_looks_around_now_and_then_and_after_a_pause():
    looking = Looking(0.0, 900.0, 30.0)
    assert not looking.is_due(899.0)
    assert looking.is_due(900.0)
    assert not looking.is_due(901.0)
    looking.paused(902.0)
    assert looking.is_due(902.0)
    assert not looking.is_due(1801.9)
    assert looking.is_due(1802.0)


def test_it_looks_around_for_who_comes_but_not_for_each():
    looking = Looking(0.0, 900.0, 30.0)
    looking.visited(29.9)
    assert not looking.is_due(29.9)
    looking.visited(30.0)
    assert looking.is_due(30.0)
    looking.visited(59.0)
    assert not looking.is_due(59.0)
    looking.visited(60.0)
    assert looking.is_due(61.0)


def test_a_host_that_was_not_suspended_has_slept_no_longer_than_before():
    assert abs(slept_seconds() - slept_seconds()) < 1.0
