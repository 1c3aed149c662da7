"""Mutual proof of the key, and the keys of a session. Owns the order of HELLO, HELLO_ACK, READY.

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

from agent.hints import NamedTuple, Optional
from agent.wire.c_frame import (
    GREETING,
    HELLO_SECONDS,
    NONCE_SIZE,
    OLDEST_VERSION,
    PROTOCOL_VERSION,
    REFUSAL,
    SESSION_SIZE,
    FrameType,
    Reason,
    Role,
)
from agent.wire.events import Counters, RefusedError
from agent.wire.frames import Frame
from agent.wire.greeting import (
    Greeting,
    KeyPair,
    common_version,
    derive,
    encode_refusal,
    refusal_text,
)
from agent.wire.state import SessionState


class Identity(NamedTuple):
    """Who this end is, the same for all its connections."""

    key: bytes
    nonce: bytes  # at least NONCE_SIZE random bytes, never used before with this key
    max_payload: int
    window: int
    features: int


class Progress(NamedTuple):
    """How far this end's link is."""

    received: int  # the next sequence that it expects
    acknowledged: int  # the first sequence that the peer has not acknowledged
    sent: int  # the next sequence that it will send


class Handshake:
    """What both ends share: identity, greeting keys, and the session's keys once agreed."""

    role: Role

    def __init__(self, identity: Identity) -> None:
        if len(identity.nonce) < NONCE_SIZE:
            raise ValueError("the nonce must be at least %d bytes" % NONCE_SIZE)
        self._identity = identity
        self._count = 0
        self.greeting_keys = KeyPair(self.role, identity.key, b"greeting")
        self.session_keys: Optional[KeyPair] = None

    @property
    def features(self) -> int:
        """What this end can do."""
        return self._identity.features

    @property
    def complete(self) -> bool:
        """Whether the peer of the current epoch has proved that it holds the key."""
        raise NotImplementedError

    def restart(self, now: float, progress: Progress) -> None:
        """Prove it all again over a new connection."""
        raise NotImplementedError

    def receive(
        self, frame: Frame, now: float, progress: Progress, counters: Counters
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
        count = self._count.to_bytes(8, "big")
        return derive(self._identity.key, b"nonce", count, self._identity.nonce)[:NONCE_SIZE]

    def _greeting(self, received: int, session: bytes, **fields: object) -> Greeting:
        identity = self._identity
        return Greeting(
            role=self.role.value,
            oldest=OLDEST_VERSION,
            max_payload=identity.max_payload,
            window=identity.window,
            received=received,
            session=session,
            nonce=self._fresh_nonce(),
            **fields,  # type: ignore[arg-type]  # the rest of the fields, by name
        )

    def _agree(self, hello: bytes, answer: bytes) -> KeyPair:
        return KeyPair(self.role, self._identity.key, b"session", hello, answer)


class HostHandshake(Handshake):
    """Speak first; repeat HELLO until it is answered, then say READY.

    `session` and `incarnation` are of the session that a host process before this one was in, if
    there was one, and `joined` says whether that one had it established.
    """

    role = Role.HOST

    def __init__(
        self,
        identity: Identity,
        *,
        session: Optional[bytes] = None,
        incarnation: int = 1,
        joined: bool = False,
    ) -> None:
        super().__init__(identity)
        if session is None:
            session = derive(identity.key, b"session id", identity.nonce)[:SESSION_SIZE]
        self.session = session
        self.incarnation = incarnation
        self.joined = joined
        self._epoch = 0
        self._hello = b""
        self._nonce = b""
        self._hello_at = 0.0
        self._ready_due = False

    @property
    def complete(self) -> bool:
        return self.session_keys is not None

    def restart(self, now: float, progress: Progress) -> None:
        self._epoch += 1
        hello = self._greeting(
            progress.received,
            self.session,
            version=PROTOCOL_VERSION,
            epoch=self._epoch,
            incarnation=self.incarnation,
            joined=int(self.joined),
            features=self._identity.features,
        )
        self._hello, self._nonce = hello.encode(), hello.nonce
        self._hello_at = now
        self._ready_due = False
        self.session_keys = None

    def receive(
        self, frame: Frame, now: float, progress: Progress, counters: Counters
    ) -> Optional[Greeting]:
        if frame.type == FrameType.REFUSE and len(frame.payload) >= REFUSAL.size:
            version, reason, nonce = REFUSAL.unpack_from(frame.payload)
            if nonce == self._nonce:
                raise RefusedError(refusal_text(version, reason), reason)
        elif frame.type == FrameType.HELLO_ACK and len(frame.payload) >= GREETING.size:
            theirs = Greeting.decode(frame.payload, Role.GUEST)
            if theirs.peer_nonce == self._nonce:
                if not OLDEST_VERSION <= theirs.version <= PROTOCOL_VERSION:
                    raise RefusedError(refusal_text(theirs.version, Reason.VERSION), Reason.VERSION)
                self._ready_due = True  # also when repeated: then our READY was lost
                if self.session_keys is None:
                    self.session_keys = self._agree(self._hello, frame.payload)
                    self.joined = True
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

    def __init__(self, identity: Identity) -> None:
        super().__init__(identity)
        self._hello: Optional[Greeting] = None
        self._hello_payload = b""
        self._answer = b""
        self._answer_at: Optional[float] = None
        self._joined: Optional[bytes] = None  # the session that was once established
        self._refusal: Optional[bytes] = None

    @property
    def complete(self) -> bool:
        return self.session_keys is not None and self._answer_at is None

    def restart(self, now: float, progress: Progress) -> None:
        # The answer is repeated rather than forgotten: what looked like a cut to the guest may
        # have been none, and then no new HELLO would ever come.
        if self._hello is not None:
            self._answer_at = now

    def receive(
        self, frame: Frame, now: float, progress: Progress, counters: Counters
    ) -> Optional[Greeting]:
        if frame.type == FrameType.HELLO:
            version = common_version(frame.payload)
            if version is None:
                self._refuse(frame.payload, Reason.VERSION)
                return None
            hello = Greeting.decode(frame.payload, Role.HOST)
            if frame.payload == self._hello_payload and not self.complete:
                self._answer_at = now  # our answer was lost
                return None
            reason = self._objection(hello, progress)
            if reason is not None:
                self._refuse(frame.payload, reason)
                return None
            if self._is_newer(hello):
                self._accept(frame.payload, hello, version, now, progress)
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

    def _objection(self, hello: Greeting, progress: Progress) -> Optional[int]:
        """Return why we cannot go on with this host, if we cannot."""
        if self._joined is not None and hello.session != self._joined:
            return Reason.SESSION
        known = self._hello is not None and self._hello.session == hello.session
        if (hello.joined and not known) or hello.received > progress.sent:
            return Reason.UNKNOWN
        if self._is_newer(hello) and hello.received < progress.acknowledged:
            return Reason.FORGOTTEN
        return None

    def _is_newer(self, hello: Greeting) -> bool:
        known = self._hello
        return (
            known is None or hello.session != known.session or hello.connection > known.connection
        )

    def _accept(
        self, payload: bytes, hello: Greeting, version: int, now: float, progress: Progress
    ) -> None:
        features = hello.features & self._identity.features
        self._hello = hello._replace(version=version, features=features)
        self._hello_payload = payload
        self._answer = self._greeting(
            progress.received,
            hello.session,
            version=version,
            epoch=hello.epoch,
            peer_nonce=hello.nonce,
            incarnation=hello.incarnation,
            joined=int(self._joined is not None),
            features=features,
        ).encode()
        self._answer_at = now
        self.session_keys = self._agree(payload, self._answer)

    def _refuse(self, hello: bytes, reason: int) -> None:
        self._refusal = encode_refusal(hello, reason)


def make_handshake(role: Role, identity: Identity, state: Optional[SessionState]) -> Handshake:
    """Return a role's handshake; `state` is what a host process before this one has left."""
    if role is Role.GUEST:
        return GuestHandshake(identity)
    if state is None:
        return HostHandshake(identity)
    return HostHandshake(
        identity,
        session=state.session,
        incarnation=state.incarnation + 1,
        joined=state.joined,
    )
