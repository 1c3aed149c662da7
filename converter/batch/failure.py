"""Errors as plain values, which processes send each other, and which of several is the worst."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from converter.errors import (
    INTERRUPTED,
    AuthError,
    HypervisorError,
    IntegrityError,
    NotFoundError,
    PolicyError,
    SaltflatError,
    UnavailableError,
    UsageError,
)

# The batch ends with the first of these that an image failed with: what most needs a person first,
# what another run may mend last.
_WORST_FIRST = tuple(
    kind.exit_code
    for kind in (
        IntegrityError,
        SaltflatError,
        HypervisorError,
        AuthError,
        UsageError,
        PolicyError,
        NotFoundError,
        UnavailableError,
    )
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed: a `converter.errors.SaltflatError` as plain values."""

    kind: str
    exit_code: int
    what: str
    expected: str | None = None
    hint: str | None = None
    cause: str | None = None

    def at_line(self, line: int) -> Failure:
        """Return the failure of what stands in that line of a file."""
        return replace(self, what=f"line {line}: {self.what}")


def failure_of(error: BaseException) -> Failure:
    """Return what is to be told of an error; of one that is none of ours, that it is a bug."""
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        error = SaltflatError(f"{error.strerror or error}{where}.")
    elif not isinstance(error, SaltflatError):
        error = SaltflatError(
            f"saltflat has a bug: {type(error).__name__}: {error}",
            hint="Convert this image alone with --debug and report what it prints.",
        )
    return Failure(error.kind, error.exit_code, error.what, error.expected, error.hint, error.cause)


def exit_code_of(error: BaseException) -> int:
    """Return what a command ends with that `error` ends."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return failure_of(error).exit_code


def worst_exit_code(failures: Iterable[Failure]) -> int:
    """Return the exit code of all failures together, 0 if there is none."""
    codes = {failure.exit_code for failure in failures}
    return next(
        (code for code in _WORST_FIRST if code in codes), SaltflatError.exit_code if codes else 0
    )
