"""How often to ask again. Owns the count of an operation's attempts; when is `pace`'s."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from converter.registry.failures import TransientError
from converter.registry.pace import Pace

_Result = TypeVar("_Result")


class Patience:
    """What is left of one operation's attempts."""

    def __init__(self, pace: Pace, retries: int) -> None:
        self._pace = pace
        self._retries = retries
        self._failed = 0

    def bear(self, error: TransientError) -> None:
        """Wait until it is time to try again; raise `error` when it was tried often enough."""
        limit = self._retries if error.repeats is None else min(self._retries, error.repeats)
        if self._failed >= limit:
            raise error
        self._pace.sleep(self._pace.delay_seconds(self._failed, error.wait_seconds))
        self._failed += 1

    def renew(self) -> None:
        """Forget earlier failures, for there was progress."""
        self._failed = 0

    def repeat(self, attempt: Callable[[], _Result]) -> _Result:
        """Call `attempt` until it does not raise TransientError. Raises the last one it raised."""
        while True:
            try:
                return attempt()
            except TransientError as error:
                self.bear(error)
