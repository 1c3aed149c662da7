"""Credentials for a repository, from the files and helpers of this machine. Owns the I/O of it."""

from __future__ import annotations

import os
from pathlib import Path

from converter.errors import UsageError
from converter.registry.auth.credential_helper import run_helper
from converter.registry.auth.credentials import Credential, find_credentials

MAX_FILE_BYTES = 1 << 20


def look_up(
    host: str, given: Credential | None, authfile: Path | None, repository: str
) -> Credential | None:
    """Return the credential to show for `repository` at `host`, or None to be anonymous.

    One that was given on the command line goes before all others. Raises UsageError for files that
    cannot be used, AuthError for helpers that fail.
    """
    if given is not None:
        return given
    candidates = find_credentials(
        host,
        repository,
        environment=os.environ,
        home=Path.home(),
        read=_read,
        authfile=authfile,
    )
    for candidate in candidates:
        found = candidate if isinstance(candidate, Credential) else run_helper(candidate)
        if found is not None:
            return found
    return None


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(
            f"The credentials file {path} cannot be read: {error.strerror}.",
            hint="Mend its permissions, or name another with --authfile.",
        ) from None
