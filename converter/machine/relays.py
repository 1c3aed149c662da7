"""Where the keys and lines of machines on other hosts are: a concentrator's directory, or a relay.

Whoever starts or removes a machine needs the directory, since only the relay has keys: it works
beside `saltflat vspc serve`. Whoever only talks to one needs the relay alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.host.client import (
    Address,
    Note,
    Output,
    Query,
    UnixAddress,
    describe,
    logs,
    saved_logs,
    saved_network,
    saved_status,
)
from agent.host.errors import ChannelError, RelayError
from agent.host.relay import SOCKET_NAME
from agent.host.relay.roster import Enrolment, NoMachineError, Roster
from agent.host.relay.status import reported_status
from agent.host.status import ExitStatus
from converter.errors import SaltflatError, UsageError

_ANSWER_SECONDS = 10.0
_WORK_SECONDS = 120.0  # of another process at the same machine


@dataclass(frozen=True, slots=True)
class Relays:
    """A concentrator's `directory` on this host, or else how to find a relay `elsewhere`."""

    directory: Path | None = None
    elsewhere: Callable[[str], Address] | None = None

    def address(self, name: str) -> Address:
        """Return where a machine's relay is. Raises UsageError when nobody said."""
        if self.elsewhere is not None:
            return self.elsewhere(name)
        return UnixAddress(self._directory() / SOCKET_NAME, name)

    def check_directory(self) -> None:
        """Raise UsageError unless the keys are on this host."""
        self._directory()

    def check_answers(self, name: str) -> None:
        """Raise RelayError unless somebody serves; `name` need be no machine."""
        self.address(name).connect(_ANSWER_SECONDS).close()

    def check_name(self, name: str, uuid: str | None = None) -> None:
        """Raise UsageError for a name that another VM's line has."""
        with _translated():
            identity = self._roster().identity(name)
        if identity is not None and (uuid is None or identity.uuid != uuid):
            raise UsageError(
                f"The relays in {self.directory} have a machine {name} already"
                + (f", the VM {identity.uuid}." if identity.uuid else "."),
                hint="Choose another name; if that VM is no more: "
                f"saltflat vspc rm {name} --relays {self.directory}",
            )

    def enrol(self, name: str, uuid: str) -> Enrolment:
        """Give the machine with this UUID a fresh key; nothing under an old one counts then.

        Call it within `working_on`. Raises UsageError for a name that another VM has.
        """
        self.check_name(name, uuid)
        with _translated():
            roster = self._roster()
            try:
                return roster.rekey(name)
            except NoMachineError:
                return roster.add(name, uuid)

    def forget(self, name: str, uuid: str) -> None:
        """Remove a machine's key and log, if they are this VM's."""
        with _translated(), suppress(NoMachineError):
            roster = self._roster()
            identity = roster.identity(name)
            if identity is not None and identity.uuid == uuid:
                roster.remove(name)

    @contextmanager
    def working_on(self, uuid: str) -> Iterator[None]:
        """Be the only one who starts or removes the VM. Raises SaltflatError if others do it."""
        with ExitStack() as alone:
            with _translated():
                alone.enter_context(self._roster().working_on(uuid, _WORK_SECONDS))
            yield

    def end(self, name: str) -> ExitStatus | None:
        """Return how the process of the last boot ended, as far as the relay knows."""
        with suppress(ValueError, RelayError):
            if self.directory is None:
                return reported_status(describe(self.address(name))["ended"])
            folder = self._folder(name)
            return None if folder is None else saved_status(folder)
        return None

    def network(self, name: str) -> Mapping[str, Any] | None:
        """Return what the guest said last of its network, as far as this host knows."""
        if self.directory is None:
            return None
        with suppress(ValueError, ChannelError):
            folder = self._folder(name)
            return None if folder is None else saved_network(folder)
        return None

    def logs(self, name: str, query: Query | None) -> Iterator[Output | Note]:
        """Yield what is in a machine's log, whether it runs or not. Raises RelayError."""
        if self.directory is None:
            return logs(self.address(name), query)
        folder = self._folder(name)
        return iter(()) if folder is None else saved_logs(folder, query)

    def _folder(self, name: str) -> Path | None:
        """Return a machine's folder, None where there is none, or the name is none."""
        roster = self._roster()
        return None if roster.identity(name) is None else roster.folder(name)

    def _directory(self) -> Path:
        if self.directory is None:
            raise UsageError(
                "Where the relays of machines are is not said, and they alone have keys.",
                expected="--relays DIR or SALTFLAT_VSPC_RELAYS, the directory of vspc serve; who "
                "only attaches can do with --relay",
            )
        return self.directory

    def _roster(self) -> Roster:
        return Roster(self._directory())


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ChannelError as error:
        raise SaltflatError(error.what, expected=error.expected, hint=error.hint) from error
    except ValueError as error:
        raise UsageError(f"{error}.") from error
