"""Mutual proof of the key, and the keys of a session. Owns HELLO, HELLO_ACK, READY and REFUSE.

    host                                        guest
    HELLO (nonce)            ------------>
                             <------------      HELLO_ACK (nonce, nonce of the HELLO)
    READY                    ------------>

The greetings are tagged with keys derived from the shared key alone; everything after them with
keys derived from the shared key and both greetings. So HELLO_ACK proves the guest fresh (it holds
the host's nonce), READY proves the host (its key needs the guest's nonce). The host speaks first
on every connection, in a new epoch: a serial line has no carrier, so a HELLO of a newer epoch is
how a guest learns that the line was cut.
"""

from __future__ import annotations

import hmac
from typing import NamedTuple, Optional

from agent.wire.c_frame import (
    GREETING,
    HELLO_SECONDS,
    KEY_SIZE,
    MIN_PAYLOAD,
    NONCE_SIZE,
    PROTOCOL_VERSION,
    REFUSAL,
    SESSION_SIZE,
    FrameType,
    Reason,
    Role,
)
from agent.wire.events import Counters, ProtocolError
from agent.wire.frames import Frame, Sealer


def derive(key: bytes, label: bytes, *parts: bytes) -> bytes:
    """Return 32 bytes for one purpose: hmac-sha256 of the label and the parts, each of fixed size.

    Raises ValueError when the key has not the one size that is allowed.
    """
    if len(key) != KEY_SIZE:
        raise ValueError("the key must be %d bytes, not %d" % (KEY_SIZE, len(key)))
    return hmac.new(key, b"saltflat wire\0" + label + b"\0" + b"".join(parts), "sha256").digest()


class KeyPair:
    """The tags of one phase: `ours` for what this end sends, `theirs` for what it receives."""

    def __init__(self, role: Role, key: bytes, phase: bytes, *transcript: bytes) -> None:
        host = Sealer(derive(key, phase + b" host", *transcript))
        guest = Sealer(derive(key, phase + b" guest", *transcript))
        # One key per direction, so that no frame can be reflected to who sent it.
        self.ours, self.theirs = (host, guest) if role is Role.HOST else (guest, host)


class Greeting(NamedTuple):
    """The payload of HELLO and HELLO_ACK; fields as GREETING_FIELDS."""

    version: int
    role: int
    reserved: int
    max_payload: int
    window: int
    epoch: int
    received: int
    session: bytes
    nonce: bytes
    peer_nonce: bytes = bytes(NONCE_SIZE)

    def encode(self) -> bytes:
        """Return the payload."""
        return GREETING.pack(*self)

    @classmethod
    def decode(cls, payload: bytes, role: Role) -> Greeting:
        """Return what `role` greeted with.

        Raises ProtocolError: the tag was good, so a wrong payload is no accident.
        """
        if len(payload) != GREETING.size:
            raise ProtocolError("a greeting of %d bytes" % len(payload))
        greeting = cls(*GREETING.unpack(payload))
        if greeting.role != role.value:
            raise ProtocolError("a greeting in the role %d" % greeting.role)
        if not MIN_PAYLOAD <= greeting.max_payload <= greeting.window:
            raise ProtocolError("a greeting with room for no frame")
        return greeting


def stated_version(payload: bytes) -> int:
    """Return the version of a greeting or refusal: the one field that no version may ever move."""
    return int.from_bytes(payload[:2], "big")


class Handshake:
    """What both ends share: identity, greeting keys, and the session's keys once agreed."""

    role: Role

    def __init__(self, key: bytes, nonce: bytes, max_payload: int, window: int) -> None:
        if len(nonce) < NONCE_SIZE:
            raise ValueError("the nonce must be at least %d bytes" % NONCE_SIZE)
        self._key = key
        self._seed = nonce
        self._max_payload = max_payload
        self._window = window
        self._count = 0
        self.greeting_keys = KeyPair(self.role, key, b"greeting")
        self.session_keys: Optional[KeyPair] = None

    @property
    def complete(self) -> bool:
        """Whether the peer of the current epoch has proved that it holds the key."""
        raise NotImplementedError

    def restart(self, now: float, received: int) -> None:
        """Prove it all again over a new connection; `received` is the next sequence expected."""
        raise NotImplementedError

    def receive(
        self, frame: Frame, now: float, received: int, counters: Counters
    ) -> Optional[Greeting]:
        """Take a greeting; return the peer's when it completes the handshake.

        Raises ProtocolError when the ends cannot go together.
        """
        raise NotImplementedError

    def confirm(self) -> Optional[Greeting]:
        """Note a frame under the session's keys; return the peer's greeting if that completes."""
        return None

    def next_sealed(self, now: float) -> Optional[bytes]:
        """Return the handshake frame that is due, if one is."""
        raise NotImplementedError

    def deadline(self) -> Optional[float]:
        """Return when a greeting is to be repeated."""
        raise NotImplementedError

    def _fresh_nonce(self) -> bytes:
        """Return a nonce for one greeting.

        The seed itself never goes on the line, so one seed serves every epoch.
        """
        self._count += 1
        return derive(self._key, b"nonce", self._count.to_bytes(8, "big"), self._seed)[:NONCE_SIZE]

    def _greeting(
        self, epoch: int, received: int, session: bytes, peer_nonce: bytes = bytes(NONCE_SIZE)
    ) -> bytes:
        return Greeting(
            version=PROTOCOL_VERSION,
            role=self.role.value,
            reserved=0,
            max_payload=self._max_payload,
            window=self._window,
            epoch=epoch,
            received=received,
            session=session,
            nonce=self._fresh_nonce(),
            peer_nonce=peer_nonce,
        ).encode()

    def _agree(self, hello: bytes, answer: bytes) -> KeyPair:
        return KeyPair(self.role, self._key, b"session", hello, answer)


class HostHandshake(Handshake):
    """Speak first; repeat HELLO until it is answered, then say READY."""

    role = Role.HOST

    def __init__(self, key: bytes, nonce: bytes, max_payload: int, window: int) -> None:
        super().__init__(key, nonce, max_payload, window)
        self._session = derive(key, b"session id", nonce)[:SESSION_SIZE]
        self._epoch = 0
        self._hello = b""
        self._hello_at = 0.0
        self._ready_due = False

    @property
    def complete(self) -> bool:
        return self.session_keys is not None

    def restart(self, now: float, received: int) -> None:
        self._epoch += 1
        self._hello = self._greeting(self._epoch, received, self._session)
        self._hello_at = now
        self._ready_due = False
        self.session_keys = None

    def receive(
        self, frame: Frame, now: float, received: int, counters: Counters
    ) -> Optional[Greeting]:
        ours = Greeting(*GREETING.unpack(self._hello))
        if frame.type == FrameType.REFUSE and len(frame.payload) == REFUSAL.size:
            version, reason, nonce = REFUSAL.unpack(frame.payload)
            if nonce == ours.nonce:
                raise ProtocolError(_refusal_text(version, reason))
        elif frame.type == FrameType.HELLO_ACK:
            if stated_version(frame.payload) != PROTOCOL_VERSION:
                raise ProtocolError(_refusal_text(stated_version(frame.payload), Reason.VERSION))
            theirs = Greeting.decode(frame.payload, Role.GUEST)
            if theirs.peer_nonce == ours.nonce:
                self._ready_due = True  # also when repeated: then our READY was lost
                if self.session_keys is None:
                    self.session_keys = self._agree(self._hello, frame.payload)
                    return theirs
                return None
        counters.replayed += 1
        return None

    def next_sealed(self, now: float) -> Optional[bytes]:
        if self.session_keys is None:
            if now < self._hello_at:
                return None
            self._hello_at = now + HELLO_SECONDS
            return self.greeting_keys.ours.seal(Frame(FrameType.HELLO, payload=self._hello))
        if not self._ready_due:
            return None
        self._ready_due = False
        return self.session_keys.ours.seal(Frame(FrameType.READY))

    def deadline(self) -> Optional[float]:
        return self._hello_at if self.session_keys is None else None


class GuestHandshake(Handshake):
    """Wait for HELLO; repeat the answer until the host shows that it has it."""

    role = Role.GUEST

    def __init__(self, key: bytes, nonce: bytes, max_payload: int, window: int) -> None:
        super().__init__(key, nonce, max_payload, window)
        self._hello: Optional[Greeting] = None
        self._answer = b""
        self._answer_at: Optional[float] = None
        self._joined: Optional[bytes] = None  # the session that was once established
        self._refusal: Optional[bytes] = None

    @property
    def complete(self) -> bool:
        return self.session_keys is not None and self._answer_at is None

    def restart(self, now: float, received: int) -> None:
        # The answer is repeated rather than forgotten: what looked like a cut to the guest may
        # have been none, and then no new HELLO would ever come.
        if self._hello is not None:
            self._answer_at = now

    def receive(
        self, frame: Frame, now: float, received: int, counters: Counters
    ) -> Optional[Greeting]:
        if frame.type == FrameType.HELLO:
            if stated_version(frame.payload) != PROTOCOL_VERSION:
                self._refuse(frame.payload, Reason.VERSION)
                return None
            hello = Greeting.decode(frame.payload, Role.HOST)
            known = self._hello
            if hello == known and not self.complete:
                self._answer_at = now  # our answer was lost
                return None
            if self._joined is not None and hello.session != self._joined:
                self._refuse(frame.payload, Reason.SESSION)
                return None
            if known is None or hello.session != known.session or hello.epoch > known.epoch:
                self._hello = hello
                self._answer = self._greeting(hello.epoch, received, hello.session, hello.nonce)
                self._answer_at = now
                self.session_keys = self._agree(frame.payload, self._answer)
                return None
        counters.replayed += 1
        return None

    def confirm(self) -> Optional[Greeting]:
        if self.complete or self._hello is None:
            return None
        self._answer_at = None
        self._joined = self._hello.session
        return self._hello

    def next_sealed(self, now: float) -> Optional[bytes]:
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            return self.greeting_keys.ours.seal(Frame(FrameType.REFUSE, payload=refusal))
        if self._answer_at is None or now < self._answer_at:
            return None
        self._answer_at = now + HELLO_SECONDS
        return self.greeting_keys.ours.seal(Frame(FrameType.HELLO_ACK, payload=self._answer))

    def deadline(self) -> Optional[float]:
        return self._answer_at

    def _refuse(self, hello: bytes, reason: int) -> None:
        # The nonce's place is version 1's; a HELLO of a later version that keeps the layout's
        # beginning gets an answer that it can match, any other at least sees a REFUSE.
        nonce = hello[GREETING.size - 2 * NONCE_SIZE : GREETING.size - NONCE_SIZE]
        self._refusal = REFUSAL.pack(PROTOCOL_VERSION, reason, nonce.ljust(NONCE_SIZE, b"\0"))


def _refusal_text(version: int, reason: int) -> str:
    if reason == Reason.VERSION:
        return "the guest speaks protocol version %d, this host version %d" % (
            version,
            PROTOCOL_VERSION,
        )
    if reason == Reason.SESSION:
        return "the guest is in a session with another host process"
    return "the guest refused the session for the unknown reason %d" % reason
