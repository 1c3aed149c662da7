"""Bearer tokens from a token service. Owns the exchange; whom to show the token is the client's.

Sources: distribution docs/spec/auth/token.md. This is the anonymous form of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from converter.errors import AuthError
from converter.registry.challenge import Challenge

MAX_TOKEN_BODY_BYTES = 1 << 20
_MAX_TOKEN_LENGTH = 64 << 10  # what HTTP servers take as one header line at most

AskService = Callable[[str], bytes]  # URL to response body


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A secret for one registry. Its value is in no repr, so that no log can have it."""

    value: str = field(repr=False)


def request_token(
    challenge: Challenge, *, default_scope: str, allow_plain_http: bool, ask: AskService
) -> BearerToken:
    """Get an anonymous token as a Bearer `challenge` tells.

    `ask` makes the GET request. `default_scope` is asked for if the challenge has no scope. Raises
    AuthError for a challenge that cannot be followed and an answer without a token.
    """
    realm = challenge.parameters.get("realm", "")
    scheme, host = _scheme_and_host(realm)
    if not host or scheme not in ({"https", "http"} if allow_plain_http else {"https"}):
        raise AuthError(
            "The registry names no token service that can be asked safely.",
            expected="a realm that is an https URL",
        )
    query = {"scope": challenge.parameters.get("scope") or default_scope}
    if "service" in challenge.parameters:
        query["service"] = challenge.parameters["service"]
    try:
        answer = json.loads(ask(f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"))
    except (ValueError, RecursionError):
        answer = None
    value = answer.get("token") or answer.get("access_token") if isinstance(answer, dict) else None
    # Visible ASCII only: anything else could end the header line and begin another.
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= _MAX_TOKEN_LENGTH
        or not all("!" <= letter <= "~" for letter in value)
    ):
        raise AuthError(
            f"The token service at {host} answered without a usable token.",
            expected='a JSON object with "token" or "access_token"',
        )
    return BearerToken(value)


def _scheme_and_host(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or ""
    except ValueError:
        return "", ""
