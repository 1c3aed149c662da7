"""One VM's line across its connections: which one's bytes count, and where bytes for the VM go.

Sans-IO: connections are `Port`s, time is a `Scheduler`. At any instant

- `current` is the connection that the VM's bytes go to;
- `_older` are connections that came before it and are read to their ends, one after the other,
  before the first byte of `current` counts;
- `vmotion` is the vMotion under way. From its beginning until COMPLETE or ABORT bytes for the VM
  wait in `_to_vm`: what was queued before is flushed first, and only then GOAHEAD is said;
- `parked` is a connection of the same VM, come during a vMotion, that has not said whether it is
  the vMotion's target. If it never does, the VM was started anew, and it takes over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.host.vspc.c_vspc import (
    COMPLETE_SECONDS,
    DRAIN_BYTES,
    DRAIN_SECONDS,
    GOAHEAD_SECONDS,
    HOLD_BYTES,
    MOVE_SECONDS,
    OLDER_CONNECTIONS,
    PEER_SECONDS,
    QUEUE_BYTES,
    READ_BYTES,
    REPLACED_SECONDS,
)
from agent.host.vspc.identity import Claims
from agent.host.vspc.moves import Moves, Vmotion
from agent.host.vspc.port import Port
from agent.host.vspc.seam import LineUser, Log, Notice, Scheduler, Timer


@dataclass(frozen=True, slots=True)
class Older:
    """A connection that is read to its end; `moves` when the VM goes on at the next one."""

    port: Port
    moves: bool


class VmLine:
    """The line of the VM `uuid`; `user` is to be set before the first connection is attached."""

    user: LineUser

    def __init__(self, uuid: str, *, scheduler: Scheduler, moves: Moves, log: Log) -> None:
        self.uuid = uuid
        self.current: Port | None = None
        self.vmotion: Vmotion | None = None
        self.parked: Port | None = None
        self._scheduler = scheduler
        self._moves = moves
        self._log = log
        self._to_vm = bytearray()  # waits for the end of a vMotion
        self._told = False  # the user knows that the VM is there
        self._older: list[Older] = []
        self._drained_bytes = 0  # of the first of them
        self._timer: Timer | None = None  # of the vMotion
        self._drain_timer: Timer | None = None
        self._pumping = False

    # --- as the user sees it (seam.Line) ---------------------------------------------------------

    @property
    def claims(self) -> Claims | None:
        """What the VM says about itself; None while it has no connection."""
        return None if self.current is None else self.current.session.claims

    def room(self) -> int:
        """Return how many bytes `send` takes now."""
        if self.current is None and self.vmotion is None:
            return 0
        if not all(older.moves for older in self._older):
            return 0  # the user has still to learn that the VM has begun anew
        if self._held_back():
            return max(0, HOLD_BYTES - len(self._to_vm))
        assert self.current is not None
        return max(0, QUEUE_BYTES - len(self.current.session.outgoing))

    def send(self, data: bytes) -> int:
        """Queue bytes for the VM; return how many were taken."""
        taken = data[: self.room()]
        if not taken:
            return 0
        if self._held_back():
            self._to_vm += taken
        else:
            assert self.current is not None
            self.current.session.send(taken)
            self.current.wake()
        return len(taken)

    def resume(self) -> None:
        """Go on reading: the user has room again."""
        self._pump()

    # --- as connections see it -------------------------------------------------------------------

    def reads(self, port: Port) -> bool:
        """Say whether more bytes of this connection can be taken."""
        if port is self._reader():
            return not port.held and self.user.room() > 0
        return len(port.held) < HOLD_BYTES

    def data(self, port: Port, data: bytes) -> None:
        """Take bytes that came over a connection."""
        if self._older and port is self._older[0].port:
            self._drained_bytes += len(data)
            if self._drained_bytes < DRAIN_BYTES:
                self._await_drain()
        if port is self._reader() and not port.held and self.user.room() > 0:
            self.user.receive(data)
        else:
            port.held += data
            port.wake()

    def ready(self, port: Port) -> None:
        """Learn that a connection may now be written to."""
        if port is self.current:
            self._release()

    def flushed(self, port: Port) -> None:
        """Learn that all that was queued for a connection has left."""
        move = self.vmotion
        if move is not None and port is move.source and not move.cookie:
            self._try_go_ahead(move, port)
        elif port is self.current:
            self.user.writable()

    def ended(self, port: Port, why: str) -> None:
        """Learn that nothing more will come over a connection, which is still to be closed."""
        port.ended, port.why_ended = True, why
        if port is self.parked:
            self.parked = None
            port.close()
        elif self.vmotion is not None and self.vmotion.target is port is not self.current:
            self.vmotion.target = None
            self._say(f"the target of its vMotion went away ({why})", warning=True)
            port.close()
        else:
            self._pump()

    def attach(self, port: Port) -> None:
        """Take a connection of this VM that has said who it is, but nothing of a vMotion."""
        port.line = self
        if self.vmotion is None or not self.vmotion.cookie:
            self._end_vmotion("the VM has come back on another connection")
            self._take_over(port, moves=False)
            return
        if self.parked is not None:
            self.parked.close("the VM has come on yet another connection")
        self.parked = port
        self._await_peer(port)

    # --- vMotion, in the order of its words ------------------------------------------------------

    def begin(self, port: Port, sequence: bytes) -> None:
        """Prepare to let the VM move: GOAHEAD follows once all is flushed, or else NOTNOW."""
        if port is not self.current:
            port.session.not_now(sequence)
            port.wake()
            return
        # A host that begins again has given up its first attempt, without a word.
        self._end_vmotion("its host has begun another vMotion")
        self.vmotion = move = Vmotion(sequence, port)
        self._await(GOAHEAD_SECONDS, self._go_ahead_overdue)
        self._say(f"vMotion {sequence.hex()} begins", minor=True)
        self._try_go_ahead(move, port)

    def peer(self, port: Port, cookie: bytes) -> bool:
        """Take the connection of the target; return whether it is acceptable."""
        move = self.vmotion
        if move is None or move.cookie != cookie or port is move.source:
            return False
        if port.line not in (None, self):
            return False
        if move.target is not port:
            if move.target is not None:
                move.target.close("the VM's target has come on another connection")
            if port is self.parked:
                self.parked = None
            port.cancel_timer()
            port.line = self
            move.target = port
        port.session.peer_ok(cookie)
        port.wake()
        self._say(f"vMotion {move.sequence.hex()}: target is {port.session.claims.address}")
        if move.source is None:
            self._promote(move)
        return True

    def complete(self, port: Port) -> None:
        """Let the VM go on at the target; said by any other connection it means nothing."""
        move = self.vmotion
        if move is None or move.target is not port:
            self._say(f"{port.session.claims.address} completes a vMotion that it is no target of")
            return
        self._forget_vmotion()
        self._close_parked("the VM's vMotion has completed on another connection")
        self._say(f"vMotion {move.sequence.hex()} is complete")
        if port is not self.current:
            self._take_over(port, moves=True)
        self._release()

    def abort(self, port: Port) -> None:
        """Let the VM go on at the source; only the source can say so."""
        if self.vmotion is not None and self.vmotion.source is port:
            self._end_vmotion("aborted by its host")

    def _try_go_ahead(self, move: Vmotion, source: Port) -> None:
        if not source.session.outgoing and source.session.ready and not self._older:
            move.cookie = self._moves.begin(self, move.sequence)
            source.session.go_ahead(move.cookie)
            source.wake()
            self._await(MOVE_SECONDS, self._move_overdue)

    def _go_ahead_overdue(self) -> None:
        assert self.vmotion is not None
        source, sequence = self.vmotion.source, self.vmotion.sequence
        assert source is not None  # a source that ends takes a vMotion without a cookie with it
        self._end_vmotion(f"the VM did not take what was queued for it in {GOAHEAD_SECONDS} s")
        source.session.not_now(sequence)
        source.wake()

    def _promote(self, move: Vmotion) -> None:
        """Let the target's bytes count: the source has ended. The VM's own wait for COMPLETE."""
        self.current = move.target
        self._await(COMPLETE_SECONDS, self._move_overdue)
        self._arrive(moves=True)

    def _move_overdue(self) -> None:
        move = self.vmotion
        assert move is not None
        if self.current is not None and self.current is move.target:
            self._say("its source closed and COMPLETE never came; it goes on", warning=True)
            self._forget_vmotion()
            self._release()
        elif self.parked is not None:
            self._take_over_parked()
        elif self.current is not None:
            self._end_vmotion("it did not complete")
        else:
            self._forget_vmotion()
            self._lose("the VM did not come back from its vMotion")

    def _end_vmotion(self, why: str) -> None:
        """Go on without the vMotion, at the source if that is still there."""
        move = self.vmotion
        if move is None:
            return
        self._forget_vmotion()
        self._say(f"vMotion {move.sequence.hex()} is off: {why}", warning=True)
        if move.target is not None and move.target is not self.current:
            move.target.close(f"its vMotion is off: {why}")
        self._close_parked(f"the VM's vMotion is off: {why}")
        self._release()

    def _forget_vmotion(self) -> None:
        assert self.vmotion is not None
        self._moves.end(self.vmotion.cookie)
        self.vmotion = None
        if self._timer is not None:
            self._timer.cancel()

    def _await(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._scheduler.call_at(self._scheduler.now() + seconds, call)

    # --- connections of the same VM that are no target --------------------------------------------

    def _await_peer(self, port: Port) -> None:
        def overdue() -> None:
            if self.current is None:
                self._take_over_parked()
            else:
                self._await_peer(port)  # the source may still end, or abort

        port.cancel_timer()
        port.timer = self._scheduler.call_at(self._scheduler.now() + PEER_SECONDS, overdue)

    def _take_over_parked(self) -> None:
        port, self.parked = self.parked, None
        assert port is not None
        port.cancel_timer()
        self._end_vmotion("the VM was started anew")
        self._take_over(port, moves=False)

    def _close_parked(self, why: str) -> None:
        if self.parked is not None:
            port, self.parked = self.parked, None
            port.close(why)

    # --- from one connection to the next ---------------------------------------------------------

    def _reader(self) -> Port | None:
        """Return the connection whose bytes count now."""
        return self._older[0].port if self._older else self.current

    def _held_back(self) -> bool:
        """Whether bytes for the VM wait."""
        return self.vmotion is not None or self.current is None or not self.current.session.ready

    def _take_over(self, port: Port, *, moves: bool) -> None:
        """Make `port` the current connection; its bytes count once the older ones have ended."""
        if not moves:
            self._to_vm.clear()  # was for a VM that has ended
        old, self.current = self.current, port
        if old is None and not self._older:
            self._arrive(moves=moves)
            return
        if old is not None:
            self._older.append(Older(old, moves))
            old.wake()
        if len(self._older) == 1:
            self._await_drain()
        elif len(self._older) > OLDER_CONNECTIONS:
            superfluous = self._older.pop().port
            superfluous.close("the VM comes on new connections faster than they can be read")
        self._pump()

    def _await_drain(self) -> None:
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        seconds = DRAIN_SECONDS if self._older[0].moves else REPLACED_SECONDS
        when = self._scheduler.now() + seconds
        self._drain_timer = self._scheduler.call_at(when, self._drain_overdue)

    def _drain_overdue(self) -> None:
        older = self._older[0]
        if older.port.held:  # what is slow is the user, not the host
            self._await_drain()
            return
        if older.moves:
            self._say("the source of its vMotion does not close; it is closed", warning=True)
        older.port.ended = True
        self._pump()

    def _pump(self) -> None:
        """Hand over what is held, as far as the user has room, and go on to the next connection."""
        if self._pumping:  # already, further up
            return
        self._pumping = True
        try:
            while (port := self._reader()) is not None:
                if port.held:
                    if self.user.room() <= 0:
                        break
                    piece = bytes(port.held[:READ_BYTES])
                    del port.held[:READ_BYTES]
                    self.user.receive(piece)
                elif port.ended:
                    self._finish(port)
                else:
                    break
        finally:
            self._pumping = False
        if port is not None:
            port.wake()

    def _finish(self, port: Port) -> None:
        """Leave a connection whose bytes have all been received."""
        if self._older:
            moves = self._older.pop(0).moves
            port.close()
            self._drained_bytes = 0
            if self._older:
                self._await_drain()
            elif self._drain_timer is not None:
                self._drain_timer.cancel()
            self._arrive(moves=moves)
            return
        self.current = None
        port.close()
        move = self.vmotion
        if move is not None and move.source is port and move.cookie:
            move.source = None
            if move.target is not None:
                self._promote(move)
            else:
                self._await(COMPLETE_SECONDS, self._move_overdue)
            return
        if move is not None:
            self._forget_vmotion()
        self._lose(port.why_ended)
        if self.parked is not None:
            self._take_over_parked()

    def _arrive(self, *, moves: bool) -> None:
        """Let the next connection's bytes count, and tell the user what that means."""
        port = self._reader()
        if port is None:  # it has ended already, without a byte
            return
        claims = port.session.claims
        if self._told and moves:
            self._say(f"it is at {claims.address} now")
            self.user.moved(claims)
        else:
            if self._told:
                self._lose("the VM has come on another connection")
            self._told = True
            self._say(f"it is connected from {claims.address}")
            self.user.connected(claims)
        self._release()
        move = self.vmotion
        if move is not None and move.source is not None and not move.cookie:
            self._try_go_ahead(move, move.source)  # had to wait for the older connection's end
        self._pump()

    def _release(self) -> None:
        """Send what waited for the end of a vMotion, and let the user go on."""
        if self._held_back():
            return
        assert self.current is not None
        if self._to_vm:
            self.current.session.send(bytes(self._to_vm))
            self._to_vm.clear()
            self.current.wake()
        self.user.writable()

    def _lose(self, why: str) -> None:
        if self._told:
            self._told = False
            self._say(f"it is gone: {why}")
            self.user.lost(why)

    def _say(self, text: str, *, warning: bool = False, minor: bool = False) -> None:
        port = self.current
        name = port.session.claims.name if port is not None else None
        who = f"{self.uuid} ({name})" if name else self.uuid
        self._log(Notice(f"VM {who}: {text}", warning, minor))
