"""All VMs and their lines: who may come in, and to which line what came is handed. Sans-IO.

Owns the way of a connection from its first byte to its line. Whatever is wrong with one connection
ends that connection, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.host.errors import ChannelError
from agent.host.vspc.allow import AllowList, Verdict
from agent.host.vspc.c_vspc import IDENTIFY_SECONDS, UNIDENTIFIED_BYTES
from agent.host.vspc.identity import Claims
from agent.host.vspc.line import VmLine
from agent.host.vspc.moves import Moves
from agent.host.vspc.port import Port
from agent.host.vspc.seam import Backend, Log, Notice, Scheduler
from agent.host.vspc.session import (
    Abort,
    Begin,
    Claimed,
    Complete,
    Peer,
    ProxyAsked,
    Ready,
    SessionEvent,
)
from agent.host.vspc.telnet import Data, TelnetError


class Registry:
    """The lines of all VMs; at most `max_lines` of them are remembered.

    `secret` returns bytes that nobody can guess.
    """

    def __init__(
        self,
        backend: Backend,
        allow: AllowList,
        scheduler: Scheduler,
        *,
        secret: Callable[[], bytes],
        log: Log,
        max_lines: int,
    ) -> None:
        self.lines: dict[str, VmLine] = {}
        self._backend = backend
        self._allow = allow
        self._scheduler = scheduler
        self._moves = Moves(secret)
        self._log = log
        self._max_lines = max_lines

    # --- as connections see it -------------------------------------------------------------------

    def opened(self, port: Port) -> None:
        """Take a new connection, which has a while to say who it is."""

        def overdue() -> None:
            claims = port.session.claims
            lacks = "what its VM is" if not port.session.identified else "its service (DO-PROXY)"
            self._refuse(port, f"{claims} did not say {lacks} within {IDENTIFY_SECONDS} s")

        port.timer = self._scheduler.call_at(self._scheduler.now() + IDENTIFY_SECONDS, overdue)

    def receive(self, port: Port, data: bytes) -> None:
        """Take bytes that came over a connection."""
        try:
            for event in port.session.receive(data):
                self._take(port, event)
                if port.closed:
                    return
        except TelnetError as error:
            self._fail(port, f"{port.session.claims} breaks the protocol: {error}")

    def ended(self, port: Port, why: str) -> None:
        """Learn that nothing more will come over a connection."""
        if port.line is not None:
            port.line.ended(port, why)
        elif not port.closed:
            self._log(Notice(f"{port.session.claims} left before it was served: {why}", minor=True))
            port.close()

    def written(self, port: Port) -> None:
        """Learn that all that was queued for a connection has left."""
        port.session.taken()
        if port.line is not None and not port.closed:
            port.line.flushed(port)

    def close(self) -> None:
        """Let go of all lines."""
        for line in self.lines.values():
            line.user.close()
        self.lines.clear()

    # --- what came -------------------------------------------------------------------------------

    def _take(self, port: Port, event: SessionEvent) -> None:
        line = port.line
        if isinstance(event, Data):
            if line is not None:
                line.data(port, event.data)
                return
            port.held += event.data
            if len(port.held) > UNIDENTIFIED_BYTES:
                sent = f"over {UNIDENTIFIED_BYTES} bytes"
                self._refuse(
                    port, f"{port.session.claims} sent {sent} before it said what VM it is"
                )
        elif isinstance(event, Claimed | ProxyAsked):
            self._judge(port)
        elif isinstance(event, Peer):
            self._peer(port, event.cookie)
        elif isinstance(event, Begin):
            if line is not None:
                line.begin(port, event.sequence)
            else:
                port.session.not_now(event.sequence)
        elif line is not None:
            if isinstance(event, Ready):
                line.ready(port)
            elif isinstance(event, Complete):
                line.complete(port)
            elif isinstance(event, Abort):
                line.abort(port)

    def _judge(self, port: Port) -> None:
        """Let the VM in, or refuse it, as soon as its claims suffice."""
        session = port.session
        claims = session.claims
        if port.line is not None:
            if claims.uuid and claims.uuid != port.line.uuid:
                self._fail(port, f"{claims} is on the line of VM {port.line.uuid}")
            elif claims.uri is not None and not session.proxy_answered:
                session.will_proxy()  # a target, known by its secret
            return
        verdict = self._allow.judge(claims)
        if verdict is Verdict.NO:
            self._refuse(port, f"{claims} with service {claims.uri or '(none yet)'} is not allowed")
        if verdict is not Verdict.YES or claims.uri is None:
            return
        if not session.proxy_answered:
            session.will_proxy()
        if session.identified:
            self._attach(port)

    def _attach(self, port: Port) -> None:
        claims = port.session.claims
        if not claims.uuid:
            self._refuse(port, f"{claims} has no UUID")
            return
        line = self.lines.get(claims.uuid)
        if line is None:
            try:
                line = self._new_line(claims.uuid, claims)
            except ChannelError as error:
                self._refuse(port, f"{claims} cannot be served: {error}")
                return
        elif line.claims is not None and line.claims.uri not in (None, claims.uri):
            # Two ports of one VM would replace each other for ever.
            served = f"its port with service {line.claims.uri} is"
            self._refuse(port, f"{claims} has another port here: {served}, {claims.uri} is not")
            return
        port.cancel_timer()
        line.attach(port)

    def _new_line(self, uuid: str, claims: Claims) -> VmLine:
        if len(self.lines) >= self._max_lines:
            self._forget_one()
        line = VmLine(uuid, scheduler=self._scheduler, moves=self._moves, log=self._log)
        line.user = self._backend.open(line, claims)
        self.lines[uuid] = line
        return line

    def _forget_one(self) -> None:
        """Make a place for another VM: forget, of those that are away, the one known longest."""
        for uuid, line in self.lines.items():
            if line.current is None and line.vmotion is None and line.user.idle():
                line.user.close()
                del self.lines[uuid]
                return
        raise ChannelError(f"{self._max_lines} VMs are connected, which is the limit")

    def _peer(self, port: Port, cookie: bytes) -> None:
        line = self._moves.find(cookie)
        claims = port.session.claims
        if line is None or claims.uuid not in (None, "", line.uuid) or not line.peer(port, cookie):
            port.session.refuse_peer()
            self._fail(port, f"{claims} names a vMotion that is not under way")
        elif claims.uri is not None and not port.session.proxy_answered:
            port.session.will_proxy()

    def _refuse(self, port: Port, why: str) -> None:
        """Send away a VM that has no line yet."""
        if port.session.claims.uri is not None and not port.session.proxy_answered:
            port.session.wont_proxy()
        self._fail(port, why)

    def _fail(self, port: Port, why: str) -> None:
        """Close a connection because of what came over it."""
        self._log(Notice(f"{why}; its connection is closed", warning=True))
        if port.line is not None and not port.closed:
            port.line.ended(port, why)
        port.close(why)
