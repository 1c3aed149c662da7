"""How to reach registries, as one value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from converter.errors import UsageError
from converter.registry.auth.credentials import Credential
from converter.registry.pace import Pace

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[A-Fa-f0-9:]+\])(?::[0-9]{1,5})?"
_PLACE = re.compile(rf"(?P<host>{_HOST})(?:/(?P<prefix>[a-z0-9._/-]*[a-z0-9]))?/?")
MOST_TIMEOUT_SECONDS = 86_400  # a day; sockets and locks do not take any number
_HTTP = "http://"
_HTTPS = "https://"


@dataclass(frozen=True, slots=True)
class Mirror:
    """A registry to ask before the one that was named: its host, and what precedes repositories.

    `plain_http` is None where the options of the registry itself decide.
    """

    host: str
    prefix: str = ""
    plain_http: bool | None = None

    @classmethod
    def parse(cls, text: str) -> Mirror:
        """Read [http://|https://]HOST[:PORT][/PREFIX]. Raises UsageError."""
        plain_http = True if text.startswith(_HTTP) else False if text.startswith(_HTTPS) else None
        rest = text.removeprefix(_HTTP).removeprefix(_HTTPS)
        found = _PLACE.fullmatch(rest)
        if not found:
            raise UsageError(
                f"{text[:300]!a} is not a mirror.",
                expected="[http://|https://]HOST[:PORT][/PREFIX]",
            )
        return cls(found["host"], found["prefix"] or "", plain_http)

    def __str__(self) -> str:
        return f"{self.host}/{self.prefix}" if self.prefix else self.host


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """How to reach a registry.

    `ca_file` holds certificates in PEM form to trust instead of the usual ones. The read timeout is
    that of one read, not of a whole blob. `retries` is how often something that failed without
    progress is tried again. `credential` is for the registry itself; others, and those of mirrors,
    are looked up in `authfile` or in the usual places. `mirrors` are asked first, in order.
    """

    plain_http: bool = False
    tls_verify: bool = True
    ca_file: Path | None = None
    connect_timeout_seconds: float = 10
    read_timeout_seconds: float = 60
    retries: int = 3
    pace: Pace = field(default_factory=Pace)
    authfile: Path | None = None
    credential: Credential | None = None
    mirrors: tuple[Mirror, ...] = ()
