"""A relay for many machines: one MachineRelay for each of the roster, whichever VM comes for it.

Owns which line carries which machine, as the concentrator's Backend, and what the roster's changes
mean for who is served already. A machine's relay is there before its VM and stays after it, so that
its log can be read and its silence diagnosed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import deque

from agent.host.errors import ChannelError
from agent.host.loop import Loop
from agent.host.relay.machine import MachineRelay
from agent.host.relay.options import RelayOptions
from agent.host.relay.roster import Identity, Mark, Roster
from agent.host.vspc.errors import BusyError
from agent.host.vspc.identity import Claims
from agent.host.vspc.seam import Backend, Line, LineUser, Log, Notice

_LOOK_SECONDS = 1.0  # between two looks at the roster
_OPENED_AT_ONCE = 16  # machines; each costs files, and others wait meanwhile
_DROP_BYTES = 65536  # at a time, of what a VM says that is no machine
_LOCK_NAME = "lock"


class Machines:
    """The machines of a roster. Is the concentrator's Backend; `find` is for a Door.

    VMs that are no machine of the roster are handed to `strangers`, or refused without one. Raises
    ChannelError, BusyError.
    """

    def __init__(
        self,
        roster: Roster,
        loop: Loop,
        *,
        log: Log,
        options: RelayOptions | None = None,
        strangers: Backend | None = None,
    ) -> None:
        self.roster = roster
        self.loop = loop
        self.log = log
        self.options = options or RelayOptions()
        self._strangers = strangers
        self._machines: dict[str, Machine] = {}
        self._plugs: set[Plug] = set()  # of VMs that are connected and no machine's
        self._unseen: deque[str] = deque()  # machines that are still to be looked at
        self._lock = _lock(roster)
        self._seen: object = None
        self._refresh()
        self._timer = loop.call_at(loop.now() + _LOOK_SECONDS, self._look)

    def open(self, line: Line, claims: Claims) -> LineUser:
        """Return the user of the line of a VM that has been identified. Raises ChannelError."""
        identity = self.roster.resolve(line.uuid, claims.name)
        if identity is None:
            if self._strangers is not None:
                return self._strangers.open(line, claims)
            raise ChannelError(
                "no machine was added that has its UUID, or its name and no UUID",
                hint="Add it before its first boot: saltflat vspc add.",
            )
        machine = self._machine(identity.name)
        if machine is not None and machine.is_taken:
            raise ChannelError(f"machine {identity.name} is another VM of this name, which runs")
        return Plug(self, line)

    def find(self, name: str) -> MachineRelay | None:
        """Return the relay of a machine by its name; None when there is no such machine."""
        machine = self._machine(name)
        return None if machine is None else machine.relay

    def find_for(self, line: Line, claims: Claims) -> Machine | None:
        """Return the machine that a VM is."""
        identity = self.roster.resolve(line.uuid, claims.name)
        return None if identity is None else self._machine(identity.name)

    def wait(self, plug: Plug) -> None:
        """Remember a VM that is no machine of the roster now."""
        self._plugs.add(plug)

    def forget(self, plug: Plug) -> None:
        """Forget a VM that waited."""
        self._plugs.discard(plug)

    def close(self) -> None:
        """Write down what there is, and close everything."""
        self._timer.cancel()
        self._unseen.clear()
        for machine in self._machines.values():
            machine.close()
        self._machines.clear()
        os.close(self._lock)

    # --- the roster ------------------------------------------------------------------------------

    def _look(self) -> None:
        self._timer = self.loop.call_at(self.loop.now() + _LOOK_SECONDS, self._look)
        if self.roster.changes() != self._seen:
            self._refresh()

    def _refresh(self) -> None:
        """Have a relay for each machine that there is, with the key that it has.

        Thousands take a while, in which others are served; a machine that is asked for has one at
        once.
        """
        self._seen = self.roster.changes()
        names = self.roster.names()
        for gone in self._machines.keys() - set(names):
            self._drop(gone)
        for plug in list(self._plugs):
            plug.try_again()
        if not self._unseen and names:
            self.loop.call_soon(self._look_at_some)
        self._unseen = deque(names)

    def _look_at_some(self) -> None:
        for _ in range(min(_OPENED_AT_ONCE, len(self._unseen))):
            self._machine(self._unseen.popleft())
        if self._unseen:
            self.loop.call_soon(self._look_at_some)

    def _machine(self, name: str) -> Machine | None:
        """Return a machine as the roster has it now."""
        machine = self._machines.get(name)
        mark = self.roster.mark(name)
        if machine is not None and machine.mark == mark:
            return machine
        identity = self.roster.identity(name)
        if identity is None:
            self._drop(name)
            return None
        if machine is not None and machine.identity.uuid != identity.uuid:
            self._drop(name)  # removed, and added again as another VM's
            machine = None
        try:
            if machine is None:
                machine = self._machines[name] = Machine(identity, mark, self)
            else:
                machine.refresh(identity, mark)
        except ChannelError as error:
            self.log(Notice(f"machine {name} cannot be served: {error}", warning=True))
            self._drop(name)
            return None
        return machine

    def _drop(self, name: str) -> None:
        machine = self._machines.pop(name, None)
        if machine is not None:
            machine.close()


class Machine:
    """One machine of the roster: its relay, and the VM that is it, if that is connected.

    To the relay this is its line (seam.Line), whichever VM's line that is.
    """

    def __init__(self, identity: Identity, mark: Mark, machines: Machines) -> None:
        """Raises ChannelError when its folder cannot be used."""
        self.identity = identity
        self.mark = mark
        self.uuid = identity.uuid or identity.name
        self._machines = machines
        self._plug: Plug | None = None
        self.relay = self._open()

    def _open(self) -> MachineRelay:
        name = self.identity.name

        def notice(said: Notice) -> None:
            self._machines.log(Notice(f"machine {name}: {said.text}", said.warning, said.minor))

        return MachineRelay(
            self._machines.roster.folder(name),
            self,
            self._machines.loop,
            options=self._machines.options,
            notice=notice,
        )

    def refresh(self, identity: Identity, mark: Mark) -> None:
        """Begin anew with another key, if it has one. Raises ChannelError."""
        before, self.mark = self.mark, mark
        self.identity = identity
        if mark.key == before.key:
            return
        self.relay.close()
        self._machines.log(Notice(f"machine {identity.name} has another key"))
        self.relay = self._open()
        if self._plug is not None and self._plug.line.claims is not None:
            self.relay.connected(self._plug.line.claims)

    @property
    def is_taken(self) -> bool:
        """Whether a VM is connected that has proved to be this machine."""
        return self._plug is not None and self.relay.session.endpoint.established

    def plug_in(self, plug: Plug, claims: Claims) -> bool:
        """Let a VM be this machine; return whether it may. The last one that comes may.

        Unless one is there that has proved itself: a name is but a claim.
        """
        if self._plug is not None and self._plug is not plug:
            if self.is_taken:
                return False
            self.unplug(self._plug, "another VM of this name is connected")
        self._plug = plug
        self.relay.connected(claims)
        return True

    def unplug(self, plug: Plug, reason: str) -> None:
        """Learn that a VM is gone."""
        if self._plug is plug:
            self._plug = None
            plug.machine = None
            self.relay.lost(reason)

    def close(self) -> None:
        """Let go of it; a VM that was it is no machine's now."""
        plug, self._plug = self._plug, None
        self.relay.close()
        if plug is not None:
            plug.machine = None
            self._machines.wait(plug)
            plug.line.resume()

    # --- seam.Line -------------------------------------------------------------------------------

    @property
    def claims(self) -> Claims | None:
        """What the VM says about itself; None when there is none."""
        return None if self._plug is None else self._plug.line.claims

    def room(self) -> int:
        """Return how many bytes `send` takes now."""
        return 0 if self._plug is None else self._plug.line.room()

    def send(self, data: bytes) -> int:
        """Queue bytes for the VM; return how many were taken."""
        return 0 if self._plug is None else self._plug.line.send(data)

    def resume(self) -> None:
        """Say that there is room again for what the VM says."""
        if self._plug is not None:
            self._plug.line.resume()


class Plug:
    """The user of one VM's line (seam.LineUser): hands on to the machine that the VM is.

    Which one that is, is asked again at each connection. What a VM says meanwhile is dropped.
    """

    def __init__(self, machines: Machines, line: Line) -> None:
        self.line = line
        self.machine: Machine | None = None
        self._machines = machines

    def connected(self, claims: Claims) -> None:
        """Find the machine that it is."""
        self._machines.forget(self)
        machine = self._machines.find_for(self.line, claims)
        if machine is not None and machine.plug_in(self, claims):
            self.machine = machine
            return
        why = (
            "another VM is that machine"
            if machine is not None
            else "it is no machine that was added"
        )
        self._machines.log(Notice(f"{claims} is not heard: {why}", warning=True))
        self._machines.wait(self)

    def try_again(self) -> None:
        """Find the machine that it is, after the roster has changed."""
        claims = self.line.claims
        machine = None if claims is None else self._machines.find_for(self.line, claims)
        if claims is not None and machine is not None and machine.plug_in(self, claims):
            self._machines.forget(self)
            self.machine = machine

    def moved(self, claims: Claims) -> None:
        """Hand on that the VM is at another host."""
        if self.machine is not None:
            self.machine.relay.moved(claims)

    def lost(self, reason: str) -> None:
        """Hand on that the VM is gone."""
        self._machines.forget(self)
        if self.machine is not None:
            self.machine.unplug(self, reason)

    def room(self) -> int:
        """Return how many bytes may come."""
        return _DROP_BYTES if self.machine is None else self.machine.relay.room()

    def receive(self, data: bytes) -> None:
        """Hand on what the VM says."""
        if self.machine is not None:
            self.machine.relay.receive(data)

    def writable(self) -> None:
        """Hand on that the VM takes bytes again."""
        if self.machine is not None:
            self.machine.relay.writable()

    def idle(self) -> bool:
        """Say whether the line may be forgotten: what counts is with the machine."""
        return self.machine is None

    def close(self) -> None:
        """Let go of the machine."""
        self.lost("the concentrator closed the line")


def _lock(roster: Roster) -> int:
    descriptor = os.open(
        roster.directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"Another process serves {roster.directory}.",
                expected="one relay for a directory",
                hint="Stop the other process, or name another directory.",
            ) from error
        stack.pop_all()
    return descriptor
