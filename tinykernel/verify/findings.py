"""What verifying says: what is sound, and what is not. Only values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked and is sound: `subject` names it, `summary` says what it is."""

    subject: str
    summary: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is not what a record says, and what to do about it."""

    subject: str
    what: str
    hint: str


Finding = Check | Fault
