"""What somebody who looks at a host or a server found, one thing each. Only values."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    """How a look ended, in the words of the verb that had it taken.

    Of a host something is `WORSE`, which makes a verb slower or is unproven, or it is `MISSING`.
    Of a server it is a `WARNING`, which may or may not stop import or run, or it `FAILED`.
    """

    OK = "ok"
    WORSE = "worse"
    MISSING = "missing"
    WARNING = "warning"
    FAILED = "failed"

    @property
    def stops(self) -> bool:
        """Say whether some verb cannot do its work for it."""
        return self in (Verdict.MISSING, Verdict.FAILED)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `remedy` is what to do, empty where nothing needs to be done."""

    subject: str
    verdict: Verdict
    detail: str
    remedy: str = ""
