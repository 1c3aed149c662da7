"""The one error tree. Owns what went wrong and its exit code; imports nothing of ours.

Library code raises, only `converter.cli` prints and exits. Every error says what happened, what was
expected, and what to do next. Exit codes are documented in docs/exit-codes.md.
"""

from __future__ import annotations

from typing import ClassVar

INTERRUPTED = 130  # the exit code after Ctrl-C, which is no error: as shells have it


class SaltflatError(Exception):
    """Report a failure that a person can act on.

    `what` is one sentence about what happened; `expected` what would have been right; `hint` the
    next step. `kind` names the class for machines (the JSON error), `exit_code` is the process's.
    `cause` is a finer name than `kind`, where a program would act on the difference.
    """

    kind: ClassVar[str] = "failure"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        expected: str | None = None,
        hint: str | None = None,
        cause: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.hint = hint
        self.cause = cause

    def add_context(self, where: str) -> None:
        """Say where it happened: "layer 2/4 (sha256:...): what". For whoever passes an error on."""
        self.what = f"{where}: {self.what}"
        self.args = (self.what,)


class UsageError(SaltflatError):
    """The request itself is wrong: a bad option, reference or file."""

    kind = "usage"
    exit_code = 2


class NotFoundError(SaltflatError):
    """What was named does not exist: image, tag, bundle, boot image, program."""

    kind = "not-found"
    exit_code = 3


class AuthError(SaltflatError):
    """The other side refused who we are."""

    kind = "authentication"
    exit_code = 4


class IntegrityError(SaltflatError):
    """Bytes are not what their digest, size or format promises."""

    kind = "integrity"
    exit_code = 5


class HypervisorError(SaltflatError):
    """The virtual machine could not be made, started, reached or stopped."""

    kind = "hypervisor"
    exit_code = 6


class PolicyError(SaltflatError):
    """A rule that the user set refuses this."""

    kind = "policy"
    exit_code = 7


class UnavailableError(SaltflatError):
    """A network or registry did not answer; worth a retry."""

    kind = "unavailable"
    exit_code = 8
