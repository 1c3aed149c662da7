"""What the ends say of themselves before they trust each other, and the keys that follow from it.

Owns the payloads of HELLO, HELLO_ACK and REFUSE, and the derivation of keys; no state.
"""

from __future__ import annotations

from agent.bare_hashes import hmac_sha256
from agent.hints import NamedTuple, Optional, Tuple
from agent.wire.c_frame import (
    GREETING,
    KEY_SIZE,
    MIN_PAYLOAD,
    NONCE_OFFSET,
    NONCE_SIZE,
    OLDEST_VERSION,
    PROTOCOL_VERSION,
    REFUSAL,
    Reason,
    Role,
)
from agent.wire.events import ProtocolError
from agent.wire.frames import Sealer


def derive(key: bytes, label: bytes, *parts: bytes) -> bytes:
    """Return 32 bytes for one purpose: hmac-sha256 of the label and the parts, each with its size.

    Raises ValueError when the key has not the one size that is allowed.
    """
    if len(key) != KEY_SIZE:
        raise ValueError("the key must be %d bytes, not %d" % (KEY_SIZE, len(key)))
    text = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac_sha256(key, b"saltflat wire\0" + label + b"\0" + text)


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
    oldest: int
    max_payload: int
    window: int
    epoch: int
    received: int
    session: bytes
    nonce: bytes
    peer_nonce: bytes = bytes(NONCE_SIZE)
    incarnation: int = 1
    joined: int = 0
    features: int = 0

    def encode(self) -> bytes:
        """Return the payload."""
        return GREETING.pack(*self)

    @classmethod
    def decode(cls, payload: bytes, role: Role) -> Greeting:
        """Return what `role` greeted with; what a later version adds at the end is left out.

        Raises ProtocolError: the tag was good, so a wrong payload is no accident.
        """
        if len(payload) < GREETING.size:
            raise ProtocolError("a greeting of %d bytes" % len(payload))
        greeting = cls(*GREETING.unpack_from(payload))
        if greeting.role != role.value:
            raise ProtocolError("a greeting in the role %d" % greeting.role)
        if not MIN_PAYLOAD <= greeting.max_payload <= greeting.window:
            raise ProtocolError("a greeting with room for no frame")
        return greeting

    @property
    def connection(self) -> Tuple[int, int]:
        """The order of a session's connections: host process, then epoch."""
        return self.incarnation, self.epoch


def common_version(payload: bytes) -> Optional[int]:
    """Return the newest version that we and the sender of a greeting speak, if there is one.

    Versions stand at the same place in every greeting; in version 1's `oldest` is 0.
    """
    newest, oldest = int.from_bytes(payload[:2], "big"), int.from_bytes(payload[3:4], "big")
    version = min(newest, PROTOCOL_VERSION)
    return version if version >= max(OLDEST_VERSION, oldest) else None


def encode_refusal(hello: bytes, reason: int) -> bytes:
    """Return the payload of the REFUSE for a HELLO of any version."""
    nonce = hello[NONCE_OFFSET : NONCE_OFFSET + NONCE_SIZE].ljust(NONCE_SIZE, b"\0")
    return REFUSAL.pack(PROTOCOL_VERSION, reason, nonce)


def refusal_text(version: int, reason: int) -> str:
    """Return a sentence for people on why the guest, which speaks `version`, has refused us."""
    if reason == Reason.VERSION:
        return "the guest speaks protocol version %d, this host version %d" % (
            version,
            PROTOCOL_VERSION,
        )
    if reason == Reason.SESSION:
        return "the guest is in a session with another host"
    if reason == Reason.UNKNOWN:
        return "the guest does not know the session: it was restarted"
    if reason == Reason.FORGOTTEN:
        return "the host has lost what it acknowledged: its state is older than the session"
    return "the guest refused the session for the unknown reason %d" % reason
