"""When a quiet guest is asked: at once for who waits, hardly ever for nobody."""

from __future__ import annotations

from agent.host.relay.asking import Asking


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
