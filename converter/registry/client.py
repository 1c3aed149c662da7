"""A registry over HTTP: manifests and blobs by name. (OCI distribution specification 1.1, "Pull")

Owns the order of one request: who we are, what to send again, which answers are right. It hands out
bytes and does not verify them: what their digest should be is known to the caller, in
`converter.image`. It knows nothing of disks. Resuming is in `download`, pushing in `push`, and
what comes in pages in `listing`; all of them stand on `exchange`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Self
from urllib.parse import quote, urlencode, urljoin

import requests

from converter.errors import SaltflatError
from converter.registry import failures
from converter.registry.auth.authenticator import Authenticator, Scope
from converter.registry.auth.lookup import look_up
from converter.registry.auth.token import MAX_TOKEN_BODY_BYTES, NO_POST, ServiceAnswer
from converter.registry.options import RegistryOptions
from converter.registry.pace import retry_after_seconds
from converter.registry.parts import BlobPart, BlobPlace, is_part, part_of, range_header
from converter.registry.patience import Patience
from converter.registry.transport import MakeBody, Request, Transport, origin, place

__all__ = ["MAX_MANIFEST_BYTES", "ManifestAnswer", "RegistryClient", "RegistryOptions"]

MAX_MANIFEST_BYTES = 4 << 20  # distribution-spec: nobody may expect more to be taken
_OK = (HTTPStatus.OK,)
_INSUFFICIENT_SCOPE = re.compile(r'\berror\s*=\s*"?insufficient_scope\b', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ManifestAnswer:
    """A manifest's bytes and what the registry said of them; None where it said nothing."""

    raw: bytes
    media_type: str | None
    content_digest: str | None


class RegistryClient:
    """Talk to one registry, named by its API host. A context manager, for any number of threads.

    All methods raise NotFoundError, AuthError, UnavailableError, and SaltflatError for answers that
    are none of these; UsageError for credentials files that are malformed.
    """

    def __init__(self, host: str, options: RegistryOptions) -> None:
        self.host = host
        self._options = options
        self._base = f"{'http' if options.plain_http else 'https'}://{host.lower()}"
        self._transport = Transport(options)
        self._authenticator = Authenticator(
            host,
            look_up=partial(look_up, host, options.credential, options.authfile),
            ask=self._ask_token_service,
            allow_plain_http=options.plain_http,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._transport.close()

    def hang_up(self) -> None:
        """End what other threads are asking, and whatever is asked later, with CancelledError."""
        self._transport.hang_up()

    def manifest(
        self, repository: str, identifier: str, *, accept: tuple[str, ...]
    ) -> ManifestAnswer:
        """Fetch a manifest by tag or digest; `accept` lists the media types that are understood.

        Raises IntegrityError if it is longer than `MAX_MANIFEST_BYTES`.
        """
        mark = "@" if ":" in identifier else ":"
        what = f"image {self.host}/{repository}{mark}{identifier}"
        path = f"/v2/{quote(repository)}/manifests/{quote(identifier, safe=':')}"
        headers = {"Accept": ", ".join(accept)}

        def attempt() -> ManifestAnswer:
            with self.exchange("GET", path, Scope(repository), what, headers=headers) as response:
                raw = self.whole(response, what)
                media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
                return ManifestAnswer(
                    raw, media_type or None, response.headers.get("Docker-Content-Digest")
                )

        return self.patience().repeat(attempt)

    def place_of(self, repository: str, digest: str) -> BlobPlace:
        """Return where a blob is, for `download`, which fetches it in as many parts as it takes."""
        return BlobPlace(
            self.host, f"blob {digest}", partial(self._part, repository, digest), self.patience
        )

    @contextmanager
    def _part(self, repository: str, digest: str, start: int) -> Iterator[BlobPart]:
        path = f"/v2/{quote(repository)}/blobs/{quote(digest, safe=':')}"
        what = f"blob {digest}"
        request = Request("GET", self._base + path, {"Accept": "*/*", **range_header(start)})
        with self._send(request, Scope(repository), what) as response:
            if not is_part(response, start, host=place(response.url), what=what):
                raise self._refused(response, repository, what)
            chunks = self._transport.body(response, what)
            yield part_of(response, start, chunks, host=self.host, what=what)

    def whole(self, response: requests.Response, what: str) -> bytes:
        """Return a document that `exchange` got, of at most `MAX_MANIFEST_BYTES`.

        Raises TransientError, and IntegrityError if it is longer.
        """
        return self._transport.whole(response, MAX_MANIFEST_BYTES, what)

    def patience(self) -> Patience:
        """Return a fresh budget of attempts, for whoever repeats `exchange`."""
        return Patience(self._options.pace, self._options.retries)

    @contextmanager
    def exchange(
        self,
        method: str,
        target: str,
        scope: Scope,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | MakeBody | None = None,
        expect: tuple[int, ...] = _OK,
    ) -> Iterator[requests.Response]:
        """Make one request of this registry and yield its answer, of a status that is expected.

        `target` is a path, or a URL that the registry gave (an upload's). A request that is refused
        for lack of authentication is made again, once, with what the registry asks for. `what`
        names the thing in messages. Raises, beside the class's other errors, TransientError, which
        `patience().repeat` bears.
        """
        request = Request(method, urljoin(f"{self._base}/", target), headers or {}, body=body)
        with self._send(request, scope, what) as response:
            if response.status_code not in expect:
                raise self._refused(response, scope.repository, what)
            yield response

    def _send(self, request: Request, scope: Scope, what: str) -> requests.Response:
        ours = self._is_ours(request.url)
        shown = self._authenticator.authorization(scope) if ours else None
        response = self._transport.send(replace(request, authorization=shown), what)
        if not (ours and self._is_ours(response.url) and _asks(response)):
            return response
        # Also the way of a token that has expired: the registry asks for a new one.
        with response:
            challenge = response.headers.get("WWW-Authenticate", "")
            self._transport.beginning(response, what)  # all of it, usually: the connection stays
        shown = self._authenticator.answer(challenge, scope, shown, what=what)
        return self._transport.send(replace(request, authorization=shown), what)

    def _is_ours(self, url: str) -> bool:
        return origin(url) == origin(self._base)

    def _refused(self, response: requests.Response, repository: str, what: str) -> SaltflatError:
        return failures.from_status(
            response.status_code,
            self._transport.beginning(response, what),
            host=place(response.url),
            what=what,
            login_hint=self._authenticator.login_hint(repository),
            wait_seconds=retry_after_seconds(response.headers.get("Retry-After")),
        )

    def _ask_token_service(
        self, url: str, *, authorization: str | None, form: Mapping[str, str] | None
    ) -> ServiceAnswer:
        what = "a token"
        headers = {"Accept": "application/json"}
        if form is None:
            request = Request("GET", url, headers, authorization)
        else:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            request = Request("POST", url, headers, body=urlencode(form).encode())
        with self._transport.send(request, what) as response:
            status = response.status_code
            if form is not None and status in NO_POST:
                return ServiceAnswer(status, b"")
            if status != HTTPStatus.OK:
                raise failures.from_status(
                    status,
                    self._transport.beginning(response, what),
                    host=place(response.url),
                    what=what,
                    wait_seconds=retry_after_seconds(response.headers.get("Retry-After")),
                )
            raw = self._transport.whole(response, MAX_TOKEN_BODY_BYTES, what)
            return ServiceAnswer(status, raw, response.headers.get("Date", ""))


def _asks(response: requests.Response) -> bool:
    """Say whether this answer is a question: who are you, or may you do this as well?"""
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        return True
    challenge = response.headers.get("WWW-Authenticate", "")
    return response.status_code == HTTPStatus.FORBIDDEN and bool(
        _INSUFFICIENT_SCOPE.search(challenge)
    )
