"""Which virtual machines are served. Pure: rules and claims in, a verdict out.

A rule is terms that must all hold, `net:10.1.0.0/16,uri:saltflat`; a VM is served when one rule
allows it. Nothing is allowed that no rule allows.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from agent.host.vspc.errors import RuleError
from agent.host.vspc.identity import Claims, read_uuid

KINDS = ("uuid", "name", "uri", "net")


class Verdict(enum.Enum):
    """What is known of whether a VM may be served."""

    YES = enum.auto()
    NO = enum.auto()
    NOT_YET = enum.auto()  # its next claims decide


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: `kind` is one of KINDS; names and URIs are shell patterns."""

    kind: str
    pattern: str

    def judge(self, claims: Claims) -> Verdict:
        """Say whether the claims meet the condition."""
        if self.kind == "net":
            address = ipaddress.ip_address(claims.address.partition("%")[0])
            if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
                address = address.ipv4_mapped
            return _verdict(address in ipaddress.ip_network(self.pattern))
        claimed = {"uuid": claims.uuid, "name": claims.name, "uri": claims.uri}[self.kind]
        if claimed is None:
            return Verdict.NOT_YET
        if self.kind == "uuid":
            return _verdict(claimed == self.pattern)
        return _verdict(fnmatchcase(claimed, self.pattern))


Rule = tuple[Term, ...]


def read_rule(text: str) -> Rule:
    """Read KIND:VALUE[,KIND:VALUE...]. Raises RuleError."""
    return tuple(_term(part.strip(), text) for part in text.split(","))


@dataclass(frozen=True, slots=True)
class AllowList:
    """Rules, of which one must hold; `everybody` needs none."""

    rules: tuple[Rule, ...] = ()
    everybody: bool = False

    def judge(self, claims: Claims) -> Verdict:
        """Say whether a VM with these claims may be served."""
        if self.everybody:
            return Verdict.YES
        verdicts = {_all(term.judge(claims) for term in rule) for rule in self.rules}
        for verdict in (Verdict.YES, Verdict.NOT_YET):
            if verdict in verdicts:
                return verdict
        return Verdict.NO


def _all(verdicts: Iterable[Verdict]) -> Verdict:
    found = set(verdicts)
    for verdict in (Verdict.NO, Verdict.NOT_YET):
        if verdict in found:
            return verdict
    return Verdict.YES


def _verdict(holds: bool) -> Verdict:
    return Verdict.YES if holds else Verdict.NO


def _term(part: str, rule: str) -> Term:
    kind, colon, value = part.partition(":")
    if kind not in KINDS or not colon or not value:
        raise RuleError(
            f"{part!r} in the rule {rule!r} is no condition.",
            expected=f"KIND:VALUE, with a KIND of {', '.join(KINDS)}",
            hint="Write for example net:10.1.0.0/16,uri:saltflat; for a comma in a name write ?.",
        )
    try:
        if kind == "net":
            value = str(ipaddress.ip_network(value, strict=True))
        elif kind == "uuid":
            value = read_uuid(value.encode())
    except ValueError as error:
        raise RuleError(
            f"{part!r} in the rule {rule!r} is not valid: {error}.",
            expected="a network such as 10.1.0.0/16 whose host bits are zero, or a UUID",
        ) from error
    return Term(kind, value)
