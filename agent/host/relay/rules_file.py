"""The file of rules as it is now: read again whenever it has changed. Owns the reading of it.

A file that cannot be read allows nothing: who was struck from it must not go on because of a typo.
"""

from __future__ import annotations

from pathlib import Path

from agent.host.errors import ChannelError
from agent.host.relay.access import Identity, Rules, read_rules
from agent.host.vspc.seam import Log, Notice


class RulesFile:
    """The rules in a file, as access.Access. Raises ChannelError when it is wrong at the start."""

    def __init__(self, path: Path, log: Log) -> None:
        self._path = path
        self._log = log
        self._stamp = self._look()
        self._rules = self._read()

    def reaches(self, identity: Identity, machine: str) -> bool:
        """Say whether a rule is about this client and this machine."""
        return self._now().reaches(identity, machine)

    def allows(self, identity: Identity, machine: str, verb: str) -> bool:
        """Say whether one of the rules allows it."""
        return self._now().allows(identity, machine, verb)

    def _now(self) -> Rules:
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._rules = self._read()
                self._log(Notice(f"the rules in {self._path} were read again"))
            except ChannelError as error:
                self._rules = Rules(())
                text = f"{error} Nobody is let in over TLS until {self._path} is mended."
                self._log(Notice(text, warning=True))
        return self._rules

    def _look(self) -> object:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _read(self) -> Rules:
        try:
            return read_rules(self._path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ChannelError(
                f"The rules of who may reach which machine cannot be read: {error}.",
                expected="the format in docs/relay.md",
            ) from error
