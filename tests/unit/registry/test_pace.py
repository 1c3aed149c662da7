"""When to ask again: backoff, dice, the server's wish, and an end."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from converter.registry.failures import TransientError
from converter.registry.pace import Pace, retry_after_seconds
from converter.registry.patience import Patience

NOW = datetime(1994, 11, 6, 8, 49, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("attempt", "wish", "dice", "seconds"),
    [
        (0, None, 0.0, 0.25),
        (0, None, 1.0, 0.5),
        (2, None, 0.5, 1.5),
        (5, None, 0.0, 8.0),
        (9999, None, 1.0, 20.0),
        (0, 3.0, 0.7, 3.0),
        (0, 86400.0, 0.7, 60.0),
        (4, 0.0, 0.7, 0.0),
    ],
)
def test_how_long_to_wait(attempt: int, wish: float | None, dice: float, seconds: float) -> None:
    assert Pace(dice=lambda: dice).delay_seconds(attempt, wish) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        (" 120 ", 120.0),
        ("-3", None),
        ("soon", None),
        ("", None),
        ("9" * 400, 999_999_999.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 30.0),
        ("Sun, 06 Nov 1994 08:49:37 -0000", 30.0),
        ("Sun, 06 Nov 1994 08:48:37 GMT", 0.0),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        (f"Sun, 06 Nov {'9' * 30} 08:49:37 GMT", None),
        (f"Sun, 06 Nov 1994 08:49:37 +{'9' * 30}", None),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(text, now=lambda: NOW) == seconds


def failing(times: int, *, wish: float | None = None, repeats: int | None = None) -> list[object]:
    """Return what an operation does that fails so many times and then succeeds."""
    error = TransientError("no")
    error.wait_seconds, error.repeats = wish, repeats
    return [*[error] * times, "done"]


def play(script: list[object], retries: int) -> tuple[object, list[float]]:
    slept: list[float] = []
    patience = Patience(Pace(sleep=slept.append, dice=lambda: 1.0), retries)
    steps = iter(script)

    def attempt() -> object:
        step = next(steps)
        if isinstance(step, Exception):
            raise step
        return step

    return patience.repeat(attempt), slept


def test_it_is_tried_again_and_again() -> None:
    assert play(failing(0), 3) == ("done", [])
    assert play(failing(3), 3) == ("done", [0.5, 1.0, 2.0])
    assert play(failing(2, wish=7.0), 3) == ("done", [7.0, 7.0])


@pytest.mark.parametrize(("times", "retries", "repeats"), [(4, 3, None), (1, 0, None), (2, 9, 1)])
def test_it_has_an_end(times: int, retries: int, repeats: int | None) -> None:
    with pytest.raises(TransientError):
        play(failing(times, repeats=repeats), retries)


def test_progress_renews_it() -> None:
    slept: list[float] = []
    patience = Patience(Pace(sleep=slept.append, dice=lambda: 1.0), 1)
    for _ in range(3):
        patience.bear(TransientError("no"))
        patience.renew()
    assert slept == [0.5, 0.5, 0.5]
    patience.bear(TransientError("no"))
    with pytest.raises(TransientError):
        patience.bear(TransientError("no"))
