"""Bearer tokens from a token service. Owns the exchange; whom to show the token is the client's.

Sources: distribution docs/spec/auth/token.md (GET) and docs/spec/auth/oauth.md (POST).
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlencode, urlsplit

from converter.errors import AuthError
from converter.registry.auth.challenge import Challenge
from converter.registry.auth.credentials import Credential

MAX_TOKEN_BODY_BYTES = 1 << 20
CLIENT_ID = "saltflat"
DEFAULT_LIFETIME_SECONDS = 60.0  # token.md: "expires_in", when it is left out
_EARLY_SHARE = 0.1  # of its life, a token is replaced so much before its end
_MAX_TOKEN_LENGTH = 64 << 10  # what HTTP servers take as one header line at most
NO_POST = frozenset(  # what services without the OAuth2 form answer to it
    {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}
)
_NAMELESS_USER = "<token>"

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """What a token service said: status, body, and the text of its Date header."""

    status: int
    body: bytes = field(repr=False)
    date: str = ""


class AskService(Protocol):
    """Makes one request of a token service: a GET, or a POST if there is a form."""

    def __call__(
        self, url: str, *, authorization: str | None, form: Mapping[str, str] | None
    ) -> ServiceAnswer:
        """Return a success, or one of the statuses that say that there is no POST.

        `authorization` and `form` are secrets for this URL's host alone. Raises the client's errors
        for any other answer.
        """


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A secret for one registry. Its value is in no repr, so that no log can have it.

    It is to be replaced once the clock that it was made with says `expires`. `refresh` is an
    identity token that came with it, "" if none did.
    """

    value: str = field(repr=False)
    expires: float = float("inf")
    refresh: str = field(default="", repr=False)


def request_token(
    challenge: Challenge,
    credential: Credential | None,
    *,
    scopes: Iterable[str],
    allow_plain_http: bool,
    ask: AskService,
    clock: Clock = time.monotonic,
) -> BearerToken:
    """Get a token as a Bearer `challenge` tells: with `credential`, or anonymously without one.

    Raises AuthError for a challenge that cannot be followed and an answer without a token, and what
    `ask` raises.
    """
    realm = challenge.parameters.get("realm", "")
    scheme, host = _scheme_and_host(realm)
    if not host or scheme not in ({"https", "http"} if allow_plain_http else {"https"}):
        raise AuthError(
            "The registry names no token service that can be asked safely.",
            expected="a realm that is an https URL",
        )
    query = [("scope", scope) for scope in scopes]
    if "service" in challenge.parameters:
        query.append(("service", challenge.parameters["service"]))
    answer = None
    if credential and credential.identity_token:
        form = {
            "grant_type": "refresh_token",
            "service": challenge.parameters.get("service", ""),
            "client_id": CLIENT_ID,
            "scope": " ".join(scope for name, scope in query if name == "scope"),
            "refresh_token": credential.identity_token,
        }
        answer = ask(realm, authorization=None, form=form)
    if answer is None or answer.status in NO_POST:
        if credential and credential.username:
            query.append(("account", credential.username))
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        authorization = basic_authorization(credential) if credential else None
        answer = ask(url, authorization=authorization, form=None)
    return _read(answer, host, clock)


def basic_authorization(credential: Credential) -> str:
    """Return the header's value that shows a credential. (RFC 7617)

    An identity token without a password stands in its place, as services without POST take it.
    """
    user = credential.username or _NAMELESS_USER
    secret = credential.password or credential.identity_token
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode("ascii")


def _read(answer: ServiceAnswer, host: str, clock: Clock) -> BearerToken:
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        document = None
    document = document if isinstance(document, dict) else {}
    value = document.get("token") or document.get("access_token")
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
    lifetime = document.get("expires_in")
    if not isinstance(lifetime, int | float) or isinstance(lifetime, bool) or lifetime <= 0:
        lifetime = DEFAULT_LIFETIME_SECONDS
    # Both instants are the service's, so that its clock may differ from ours.
    lifetime -= _age_seconds(document.get("issued_at"), answer.date)
    refresh = document.get("refresh_token")
    return BearerToken(
        value,
        clock() + lifetime * (1 - _EARLY_SHARE),
        refresh if isinstance(refresh, str) else "",
    )


def _age_seconds(issued: object, date: str) -> float:
    """Return how old a token was when it was handed out; 0 where that is not said."""
    with suppress(ValueError, TypeError, OverflowError):
        if isinstance(issued, str):
            age = parsedate_to_datetime(date) - datetime.fromisoformat(issued)
            return max(0.0, age.total_seconds())
    return 0.0


def _scheme_and_host(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or ""
    except ValueError:
        return "", ""
