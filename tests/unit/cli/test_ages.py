"""Spans of time in docker's words."""

from __future__ import annotations

import pytest

from converter.cli.ages import ago, duration_words
from converter.cli.durations import SECOND_NS

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "Less than a second"),
        (0.999, "Less than a second"),
        (1, "1 second"),
        (1.999, "1 second"),
        (2, "2 seconds"),
        (59.9, "59 seconds"),
        (MINUTE, "About a minute"),
        (2 * MINUTE - 1, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (HOUR - 1, "59 minutes"),
        (HOUR, "About an hour"),
        (HOUR + 30 * MINUTE - 1, "About an hour"),
        (HOUR + 30 * MINUTE, "2 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (14 * DAY - HOUR, "13 days"),
        (14 * DAY, "2 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
        (3653 * DAY, "10 years"),
    ],
)
def test_words(seconds, words):
    assert duration_words(seconds) == words


def test_ago_is_counted_from_the_clock_that_is_given():
    assert ago(1000 * SECOND_NS, 1180 * SECOND_NS) == "3 minutes ago"


def test_a_clock_that_was_set_back_makes_no_future():
    assert ago(2000 * SECOND_NS, 1000 * SECOND_NS) == "Less than a second ago"
