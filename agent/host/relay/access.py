"""Who may reach which machine, and do what there. Pure: identities and rules in, an answer out.

Over a Unix socket the file's mode and the peer's uid decide. Over TLS a client proves itself by a
certificate or a token, and a file of rules says what that is worth. Owns the file's format:

    {"schema": 1, "clients": [
      {"certificate": "<sha256 of the DER>", "machines": ["db-*"], "allow": ["attach", "logs"]},
      {"token": "<sha256 of the token>", "machines": ["*"], "allow": ["*"]}]}
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

from agent.host.errors import ChannelError
from agent.host.relay.requests import VERBS

RULES_SCHEMA = 1
EVERYTHING = "*"
_DIGEST_DIGITS = 64
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a client has proved (`uid`, `certificate`: sha256 in hexadecimal) or said (`token`)."""

    uid: int | None = None
    certificate: str | None = None
    token: str | None = None


class Access(Protocol):
    """Decides; see LocalAccess and Rules."""

    def reaches(self, identity: Identity, machine: str) -> bool:
        """Say whether the machine is there for this client at all."""

    def allows(self, identity: Identity, machine: str, verb: str) -> bool:
        """Say whether the client may do this on the machine; see requests.VERBS."""


@dataclass(frozen=True, slots=True)
class LocalAccess:
    """A Unix socket: its owner and root may do everything, nobody else anything."""

    uid: int = os.getuid()

    def reaches(self, identity: Identity, machine: str) -> bool:
        """Say whether this is the owner or root."""
        return identity.uid in {self.uid, 0}

    def allows(self, identity: Identity, machine: str, verb: str) -> bool:
        """Say whether this is the owner or root."""
        return self.reaches(identity, machine)


@dataclass(frozen=True, slots=True)
class Rule:
    """What one client may do: `certificate` or `token` is the sha256 that it must prove."""

    machines: tuple[str, ...]  # patterns of fnmatch, on names
    allow: frozenset[str]
    certificate: str | None = None
    token: str | None = None

    def is_for(self, identity: Identity) -> bool:
        """Say whether the client is the one that the rule is about."""
        if self.certificate is not None:
            return hmac.compare_digest(self.certificate, identity.certificate or "")
        if self.token is None or identity.token is None:
            return False
        digest = hashlib.sha256(identity.token.encode("utf-8", "surrogatepass")).hexdigest()
        return hmac.compare_digest(self.token, digest)

    def covers(self, machine: str) -> bool:
        """Say whether the rule is about this machine."""
        return any(fnmatchcase(machine, pattern) for pattern in self.machines)


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules; what none of them allows is denied."""

    rules: tuple[Rule, ...]

    def reaches(self, identity: Identity, machine: str) -> bool:
        """Say whether a rule is about this client and this machine."""
        return any(rule.is_for(identity) and rule.covers(machine) for rule in self.rules)

    def allows(self, identity: Identity, machine: str, verb: str) -> bool:
        """Say whether one of these rules allows it."""
        return any(
            rule.is_for(identity)
            and rule.covers(machine)
            and (verb in rule.allow or EVERYTHING in rule.allow)
            for rule in self.rules
        )


def read_rules(text: str) -> Rules:
    """Read a file of rules. Raises ChannelError that says which rule is wrong, and how."""
    try:
        document = json.loads(text)
        _expect(isinstance(document, dict), "the document is no object")
        _expect(document.get("schema") == RULES_SCHEMA, f"schema is not {RULES_SCHEMA}")
        _expect(set(document) == {"schema", "clients"}, "members other than schema and clients")
        clients = document["clients"]
        _expect(isinstance(clients, list), "clients is no list")
        return Rules(tuple(_read_rule(number, one) for number, one in enumerate(clients, 1)))
    except ValueError as error:
        raise ChannelError(
            f"The rules of who may reach which machine cannot be read: {error}.",
            expected="the format in docs/relay.md",
        ) from error


def _read_rule(number: int, one: dict[str, Any]) -> Rule:
    where = f"rule {number}"
    _expect(isinstance(one, dict), f"{where} is no object")
    known = {"certificate", "token", "machines", "allow"}
    _expect(set(one) <= known, f"{where} has members other than {', '.join(sorted(known))}")
    _expect(("certificate" in one) != ("token" in one), f"{where} needs a certificate or a token")
    digest = one.get("certificate", one.get("token"))
    _expect(
        isinstance(digest, str) and len(digest) == _DIGEST_DIGITS and set(digest) <= _HEX,
        f"{where} has no sha256 of 64 lower-case hexadecimal digits",
    )
    machines = _texts(one.get("machines"), f"{where}: machines")
    allow = _texts(one.get("allow"), f"{where}: allow")
    verbs = {*VERBS.values(), EVERYTHING}
    _expect(set(allow) <= verbs, f"{where}: allow has something else than {sorted(verbs)}")
    is_certificate = "certificate" in one
    return Rule(
        machines=tuple(machines),
        allow=frozenset(allow),
        certificate=digest if is_certificate else None,
        token=None if is_certificate else digest,
    )


def _texts(value: object, what: str) -> list[str]:
    texts = value if isinstance(value, list) else [None]
    _expect(all(isinstance(text, str) for text in texts), f"{what} is no list of texts")
    return list(texts)


def _expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
