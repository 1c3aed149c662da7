"""What to answer when a registry asks who we are. Owns tokens and credentials of one registry.

It makes header values and remembers them; which requests carry them is the transport's. Any number
of threads may ask: one of them gets the token, the others take it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from converter.errors import AuthError
from converter.registry.auth.challenge import Challenge, parse_challenges
from converter.registry.auth.credentials import Credential, registry_key
from converter.registry.auth.token import (
    AskService,
    BearerToken,
    Clock,
    basic_authorization,
    request_token,
)

PULL = "pull"
PUSH = "pull,push"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a request is about to do: `actions` ("pull", "pull,push") on a repository."""

    repository: str
    actions: str = PULL

    def __str__(self) -> str:
        """Return the scope as token services know it. (distribution docs/spec/auth/scope.md)"""
        return f"repository:{self.repository}:{self.actions}"


LookUp = Callable[[str], Credential | None]  # by repository


@dataclass(slots=True)
class _Granted:
    """How a scope was opened: the header's value, and what is needed to open it again."""

    authorization: str = field(repr=False)
    token: BearerToken | None = None
    challenge: Challenge | None = None


class Authenticator:
    """Hold what one registry was told and gave. `look_up` is asked once for each repository."""

    def __init__(
        self,
        host: str,
        *,
        look_up: LookUp,
        ask: AskService,
        allow_plain_http: bool,
        clock: Clock = time.monotonic,
    ) -> None:
        self._host = host
        self._look_up = look_up
        self._ask = ask
        self._allow_plain_http = allow_plain_http
        self._clock = clock
        self._lock = threading.Lock()
        self._granted: dict[Scope, _Granted] = {}
        self._credentials: dict[str, Credential | None] = {}

    def authorization(self, scope: Scope) -> str | None:
        """Return the Authorization header for a request, or None when none was asked for yet.

        A token that is about to expire is replaced first. Raises as `answer` does.
        """
        with self._lock:
            granted = self._granted.get(scope)
            if granted is None:
                return None
            if granted.token and granted.challenge and self._clock() >= granted.token.expires:
                granted = self._token(granted.challenge, scope)
                self._granted[scope] = granted
            return granted.authorization

    def answer(self, header: str, scope: Scope, refused: str | None, *, what: str) -> str:
        """Return a new Authorization header for what was refused with this WWW-Authenticate header.

        `refused` is the one that was sent. Raises AuthError when there is nothing better to send.
        """
        with self._lock:
            granted = self._granted.get(scope)
            if granted and granted.authorization != refused:
                return granted.authorization  # another thread was quicker
            granted = self._open(header, scope, refused, what)
            self._granted[scope] = granted
            return granted.authorization

    def login_hint(self, repository: str) -> str:
        """Say what to do when access was refused, given what is known by now."""
        credential = self._credentials.get(repository)
        host = registry_key(self._host)
        if credential is None:
            return (
                f"Log in with `docker login {host}` or `skopeo login {host}`, or check "
                "the name: registries answer so for images that are private or do not exist."
            )
        return (
            f"Check the name, and the credentials from {credential.place}; "
            f"`docker login {host}` makes new ones."
        )

    def _open(self, header: str, scope: Scope, refused: str | None, what: str) -> _Granted:
        try:
            challenges = parse_challenges(header)
        except ValueError as error:
            raise AuthError(
                f"{self._host} asks for authentication, but its WWW-Authenticate header is {error}."
            ) from None
        by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
        if "bearer" in by_scheme:
            return self._token(by_scheme["bearer"], scope)
        credential = self._credential(scope.repository)
        if "basic" in by_scheme and credential and not credential.registry_token:
            authorization = basic_authorization(credential)
            if authorization != refused:
                return _Granted(authorization)
            raise AuthError(
                f"{self._host} refuses the credentials from {credential.place} for {what}.",
                hint=self.login_hint(scope.repository),
            )
        offered = ", ".join(sorted(by_scheme)) or "none"
        raise AuthError(
            f"{self._host} refuses anonymous access to {what}.",
            expected="credentials for it, or a registry that hands out anonymous tokens; this one "
            f"offers: {offered}",
            hint=self.login_hint(scope.repository),
        )

    def _token(self, challenge: Challenge, scope: Scope) -> _Granted:
        credential = self._credential(scope.repository)
        if credential and credential.registry_token:
            return _Granted(f"Bearer {credential.registry_token}")
        asked = tuple(challenge.parameters.get("scope", "").split())
        # A registry asks for what one request needs; a push that begins by looking needs more.
        ours = (str(scope),)
        wider = scope.actions != PULL
        scopes = tuple(dict.fromkeys((*asked, *ours) if wider else asked or ours))
        try:
            token = request_token(
                challenge,
                credential,
                scopes=scopes,
                allow_plain_http=self._allow_plain_http,
                ask=self._ask,
                clock=self._clock,
            )
        except AuthError as error:
            error.hint = error.hint or self.login_hint(scope.repository)
            raise
        if token.refresh and credential and credential.identity_token:
            # The service may give out a new one with each use, after which the old one is void.
            renewed = replace(credential, identity_token=token.refresh)
            self._credentials = {
                name: renewed if known == credential else known
                for name, known in self._credentials.items()
            }
        return _Granted(f"Bearer {token.value}", token, challenge)

    def _credential(self, repository: str) -> Credential | None:
        if repository not in self._credentials:
            self._credentials[repository] = self._look_up(repository)
        return self._credentials[repository]
