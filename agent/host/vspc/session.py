"""One telnet connection of a virtual machine: bytes in, events out; bytes out as one buffer.

Sans-IO. Owns the dialogue of docs "VMware Telnet Extension Commands": options, who the VM is, which
service it wants, and the words of vMotion. Decides nothing: whether a VM may be served, and what a
vMotion does to its line, is said by the caller through `will_proxy`, `go_ahead` and so on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from agent.host.vspc.c_telnet import BINARY, ECHO, SGA
from agent.host.vspc.c_vspc import (
    DIRECTIONS,
    KNOWN_SUBOPTIONS,
    QUESTIONS,
    REPLIES,
    VMWARE_TELNET_EXT,
    Code,
)
from agent.host.vspc.identity import Claims, read_text, read_uuid
from agent.host.vspc.options import Options, State
from agent.host.vspc.telnet import (
    Data,
    Negotiation,
    TelnetDecoder,
    TelnetError,
    escape,
    suboption,
)

_OURS = (BINARY, SGA, ECHO)
_THEIRS = (BINARY, SGA, VMWARE_TELNET_EXT)


@dataclass(frozen=True, slots=True)
class Claimed:
    """`Session.claims` knows more than before."""


@dataclass(frozen=True, slots=True)
class ProxyAsked:
    """The VM asks to be connected to its service: answer with `will_proxy` or `wont_proxy`."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Both sides have agreed that data towards the VM is binary: what was sent may leave."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The source host wants to move the VM: answer with `go_ahead` or `not_now`."""

    sequence: bytes


@dataclass(frozen=True, slots=True)
class Peer:
    """A target host says whose connection this is: answer with `peer_ok` or `refuse_peer`."""

    cookie: bytes  # sequence and secret


@dataclass(frozen=True, slots=True)
class Complete:
    """The VM runs at the target host. `token`: sequence, or sequence and secret."""

    token: bytes


@dataclass(frozen=True, slots=True)
class Abort:
    """The vMotion is off, and the VM goes on at the source. `token` as in Complete, or empty."""

    token: bytes


SessionEvent = Data | Claimed | ProxyAsked | Ready | Begin | Peer | Complete | Abort


class Session:
    """The proxy's side of one connection from `address` (for claims and logs).

    `outgoing` is what is to be written; the caller takes bytes off its front.
    """

    __slots__ = (
        "_asked",
        "_bios_uuid",
        "_decoder",
        "_known_sent",
        "_options",
        "_ready",
        "_replies",
        "_unknown",
        "claims",
        "outgoing",
        "proxy_answered",
    )

    def __init__(self, address: str) -> None:
        self._options = Options(_OURS, _THEIRS)
        self._decoder = TelnetDecoder()
        self.claims = Claims(address)
        self.outgoing = bytearray(self._options.opening())
        self.proxy_answered = False
        self._bios_uuid = ""
        self._known_sent = False
        self._asked: set[int] | None = None  # questions without an answer; None before we ask
        self._unknown: set[int] = set()  # codes that we have refused
        self._ready = False
        self._replies = 0

    @property
    def ready(self) -> bool:
        """Whether bytes may be sent to the VM: whether it has agreed that they are binary."""
        return self._ready

    @property
    def identified(self) -> bool:
        """Whether the VM has said all that it can say about itself."""
        return self._asked is not None and not self._asked

    def receive(self, data: bytes) -> Iterator[SessionEvent]:
        """Yield what `data` means. Raises TelnetError: then the connection is to be closed.

        Every event is to be answered before the next one is taken.
        """
        for event in self._decoder.feed(data):
            if self._replies > REPLIES:
                raise TelnetError(f"it has left {REPLIES} answers unread")
            if isinstance(event, Data):
                yield event
            elif isinstance(event, Negotiation):
                yield from self._negotiate(event)
            elif event.option == VMWARE_TELNET_EXT:
                yield from self._suboption(event.payload)

    def send(self, data: bytes) -> None:
        """Queue bytes for the VM; only when `ready`."""
        assert self._ready
        self.outgoing += escape(data)

    # --- answers ---------------------------------------------------------------------------------

    def will_proxy(self) -> None:
        """Agree to serve the VM."""
        self.proxy_answered = True
        self._say(Code.WILL_PROXY)

    def wont_proxy(self) -> None:
        """Refuse to serve the VM."""
        self.proxy_answered = True
        self._say(Code.WONT_PROXY)

    def go_ahead(self, cookie: bytes) -> None:
        """Let a vMotion begin; `cookie` is its sequence and a secret."""
        self._say(Code.VMOTION_GOAHEAD, cookie)

    def not_now(self, sequence: bytes) -> None:
        """Ask for the vMotion to be put off."""
        self._say(Code.VMOTION_NOTNOW, sequence)

    def peer_ok(self, cookie: bytes) -> None:
        """Accept a target. The document has the sequence alone; hosts take the whole cookie."""
        self._say(Code.VMOTION_PEER_OK, cookie)

    def refuse_peer(self) -> None:
        """Refuse a target. The document has no word for it: other proxies do not know the code."""
        self._say(Code.UNKNOWN_SUBOPTION_RCVD_2, bytes([Code.VMOTION_PEER]))

    def taken(self) -> None:
        """Learn that everything in `outgoing` has been written."""
        self._replies = 0

    # --- what came -------------------------------------------------------------------------------

    def _say(self, code: int, parameters: bytes = b"") -> None:
        self._reply(suboption(VMWARE_TELNET_EXT, bytes([code]) + parameters))

    def _reply(self, answer: bytes) -> None:
        self._replies += 1
        self.outgoing += answer

    def _negotiate(self, event: Negotiation) -> Iterator[SessionEvent]:
        answer = self._options.receive(event.command, event.option)
        if answer:
            self._reply(answer)
        if self._options.theirs(VMWARE_TELNET_EXT) is State.OFF:
            raise TelnetError("it does not speak the VMware extension (telnet option 232)")
        if State.OFF in (self._options.ours(BINARY), self._options.theirs(BINARY)):
            raise TelnetError("it refuses BINARY, without which bytes would be damaged")
        if not self._ready and self._options.ours(BINARY) is State.ON:
            self._ready = True
            yield Ready()

    def _suboption(self, payload: bytes) -> Iterator[SessionEvent]:
        if not payload:
            raise TelnetError("a suboption of the VMware extension has no code")
        code, parameters = payload[0], payload[1:]
        if code == Code.KNOWN_SUBOPTIONS_1:
            yield from self._ask(parameters)
        elif code == Code.UNKNOWN_SUBOPTION_RCVD_1:
            yield from self._unanswered(parameters)
        elif code in QUESTIONS:
            yield from self._learn(code, parameters)
        elif code == Code.DO_PROXY:
            yield self._service(parameters)
        elif code == Code.VMOTION_BEGIN:
            yield Begin(parameters)
        elif code == Code.VMOTION_PEER:
            yield Peer(parameters)
        elif code == Code.VMOTION_COMPLETE:
            yield Complete(parameters)
        elif code == Code.VMOTION_ABORT:
            yield Abort(parameters)
        elif code not in self._unknown:
            self._unknown.add(code)
            self._say(Code.UNKNOWN_SUBOPTION_RCVD_2, bytes([code]))

    def _ask(self, known: bytes) -> Iterator[SessionEvent]:
        """Answer the list of what the VM knows, and ask who it is in words that it knows."""
        if self._known_sent:
            return  # the document: it must never change
        self._known_sent = True
        self._say(Code.KNOWN_SUBOPTIONS_2, KNOWN_SUBOPTIONS)
        asked = {code for code, question in QUESTIONS.items() if {code, question} <= set(known)}
        for code in sorted(asked):
            self._say(QUESTIONS[code])
        # Never-asked questions are answered with nothing, as far as rules are concerned.
        told = {Code.VM_VC_UUID: self.claims.uuid, Code.VM_NAME: self.claims.name}
        self._asked = asked - {code for code, value in told.items() if value is not None}
        yield from self._close_gaps()

    def _unanswered(self, parameters: bytes) -> Iterator[SessionEvent]:
        """Learn that the VM does not know one of our words."""
        if self._asked and parameters:
            self._asked -= {
                c for c, question in QUESTIONS.items() if parameters[0] in (c, question)
            }
            yield from self._close_gaps()

    def _learn(self, code: int, parameters: bytes) -> Iterator[SessionEvent]:
        claims = self.claims
        if code == Code.VM_NAME:
            claims = dataclasses.replace(claims, name=read_text(parameters))
        else:
            try:
                uuid = read_uuid(parameters)
            except ValueError as error:
                raise TelnetError(f"it sends {parameters[:64]!r} as a UUID") from error
            if code == Code.VM_LOCATION_UUID:
                claims = dataclasses.replace(claims, location_uuid=uuid)
            elif code == Code.VM_BIOS_UUID:
                self._bios_uuid = uuid
            elif claims.uuid is not None and claims.uuid != uuid:
                raise TelnetError("it has changed its UUID")
            elif uuid:
                claims = dataclasses.replace(claims, uuid=uuid)
        self.claims = claims
        if self._asked:
            self._asked.discard(code)
        yield from self._close_gaps()

    def _close_gaps(self) -> Iterator[SessionEvent]:
        """Once nothing is open any more, let "not yet" become "nothing"."""
        if self.identified:
            claims = self.claims
            self.claims = dataclasses.replace(
                claims, uuid=claims.uuid or self._bios_uuid, name=claims.name or ""
            )
        yield Claimed()

    def _service(self, parameters: bytes) -> SessionEvent:
        direction = DIRECTIONS.get(parameters[0]) if parameters else None
        if direction is None:
            raise TelnetError("DO-PROXY has no direction, C or S")
        if self.proxy_answered:
            raise TelnetError("it asks for a service twice")
        self.claims = dataclasses.replace(
            self.claims, direction=direction, uri=read_text(parameters[1:])
        )
        return ProxyAsked()
