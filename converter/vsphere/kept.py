"""Sessions that outlive a command, one small file for each server and user. Owns the files alone.

A session is as good as its password for as long as it lives, so a file is its owner's alone (0600),
and one that anybody else could have read or written is not used. Nothing here is precious: whatever
is wrong with a file, the answer is another login.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from contextlib import suppress
from pathlib import Path

from converter.atomic import make_directory, write_atomic
from converter.vsphere.settings import Settings

_SCHEMA = 1
_FOLDER = "vsphere"
_LIMIT_BYTES = 4096
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeptSessions:
    """The sessions under a state folder."""

    def __init__(self, state_root: Path) -> None:
        """Use `state_root`/vsphere, which need not be there."""
        self._folder = state_root / _FOLDER

    def load(self, settings: Settings) -> str | None:
        """Return the session kept for a server and user, None if there is none that is safe."""
        try:
            descriptor = os.open(self._file(settings), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if about.st_uid != os.geteuid() or about.st_mode & _OTHERS:
                return None
            raw = file.read(_LIMIT_BYTES)
        try:
            document = json.loads(raw)
        except ValueError:
            return None
        if not isinstance(document, dict) or document.get("schema") != _SCHEMA:
            return None
        session = document.get("session")
        # What a cookie may be made of; anything else is not from us.
        return session if isinstance(session, str) and session.isprintable() else None

    def save(self, settings: Settings, session: str) -> None:
        """Keep a session, in place of the one before. Raises OSError."""
        if not self._folder.is_dir():
            make_directory(self._folder)
            self._folder.chmod(0o700)
        document = {
            "schema": _SCHEMA,
            "url": settings.address.url,
            "user": settings.username,
            "session": session,
        }
        write_atomic(self._file(settings), json.dumps(document).encode(), mode=0o600)

    def forget(self, settings: Settings) -> None:
        """Remove a session, if there is one. Raises OSError."""
        with suppress(FileNotFoundError):
            self._file(settings).unlink()

    def _file(self, settings: Settings) -> Path:
        key = f"{settings.address.url}\n{settings.username}".encode()
        return self._folder / f"session-{hashlib.sha256(key).hexdigest()[:32]}.json"
