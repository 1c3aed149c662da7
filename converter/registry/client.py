"""A registry over HTTP: manifests and blobs by name. (OCI distribution specification 1.1, "Pull")

Owns requests, retries, authentication and redirects. It hands out bytes and does not verify them:
what their digest should be is known to the caller, in `converter.image`. It knows nothing of disks.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urljoin, urlsplit

import requests
import requests.adapters
import urllib3
import urllib3.exceptions
import urllib3.util

from converter.errors import AuthError, IntegrityError, UnavailableError, UsageError
from converter.registry import failures
from converter.registry.challenge import parse_challenges
from converter.registry.token import MAX_TOKEN_BODY_BYTES, BearerToken, request_token

MAX_MANIFEST_BYTES = 4 << 20  # distribution-spec: nobody may expect more to be taken
_CHUNK_BYTES = 256 << 10
_MAX_REDIRECTS = 5
_BACKOFF_SECONDS = 0.5
_MAX_RETRY_AFTER_SECONDS = 20
_RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """How to reach a registry.

    `ca_file` holds certificates in PEM form to trust instead of the usual ones. The read timeout
    is that of one read, not of a whole blob.
    """

    plain_http: bool = False
    tls_verify: bool = True
    ca_file: Path | None = None
    connect_timeout_seconds: float = 10
    read_timeout_seconds: float = 60
    retries: int = 3


@dataclass(frozen=True, slots=True)
class ManifestAnswer:
    """A manifest's bytes and what the registry said of them; None where it said nothing."""

    raw: bytes
    media_type: str | None
    content_digest: str | None


class RegistryClient:
    """Talk to one registry, named by its API host. A context manager, for any number of threads.

    All methods raise NotFoundError, AuthError, UnavailableError, and SaltflatError for answers that
    are none of these. Proxies and certificate bundles are taken from the environment as requests
    does; ~/.netrc is not, for its entries are not meant for registries.
    """

    def __init__(self, host: str, options: RegistryOptions) -> None:
        self._host = host
        self._options = options
        self._base = f"{'http' if options.plain_http else 'https'}://{host.lower()}"
        self._tokens: dict[str, BearerToken] = {}  # by repository, as their scopes are
        self._verify = _verification(options)
        self._session = _Session()
        self._session.auth = _no_netrc
        self._session.headers["User-Agent"] = _user_agent()
        # Without this, servers may compress on the way what the digest names uncompressed.
        self._session.headers["Accept-Encoding"] = "identity"
        adapter = requests.adapters.HTTPAdapter(max_retries=_retries(options.retries))
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.close()

    def manifest(
        self, repository: str, identifier: str, *, accept: tuple[str, ...]
    ) -> ManifestAnswer:
        """Fetch a manifest by tag or digest; `accept` lists the media types that are understood.

        Raises IntegrityError if it is longer than `MAX_MANIFEST_BYTES`.
        """
        mark = "@" if ":" in identifier else ":"
        what = f"image {self._host}/{repository}{mark}{identifier}"
        path = f"/v2/{quote(repository)}/manifests/{quote(identifier, safe=':')}"
        with self._get(path, repository, {"Accept": ", ".join(accept)}, what) as response:
            raw = self._bounded(response, MAX_MANIFEST_BYTES, what)
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
            return ManifestAnswer(
                raw, media_type or None, response.headers.get("Docker-Content-Digest")
            )

    @contextmanager
    def blob(self, repository: str, digest: str) -> Iterator[Iterator[bytes]]:
        """Yield a blob's bytes as they arrive, not verified.

        A connection that ends early raises UnavailableError from the iterator.
        """
        what = f"blob {digest}"
        path = f"/v2/{quote(repository)}/blobs/{quote(digest, safe=':')}"
        with self._get(path, repository, {"Accept": "*/*"}, what) as response:
            yield self._body(response, what)

    @contextmanager
    def _get(
        self, path: str, repository: str, headers: Mapping[str, str], what: str
    ) -> Iterator[requests.Response]:
        url = self._base + path
        response = self._send(url, headers, self._tokens.get(repository), what)
        if response.status_code == HTTPStatus.UNAUTHORIZED and self._is_registry(response.url):
            # Also the way of a token that has expired: the registry asks for a new one.
            with response:
                challenge = response.headers.get("WWW-Authenticate", "")
            self._tokens[repository] = self._authenticate(challenge, repository, what)
            response = self._send(url, headers, self._tokens[repository], what)
        with response:
            if response.status_code != HTTPStatus.OK:
                raise self._refused(response, what)
            yield response

    def _send(
        self, url: str, headers: Mapping[str, str], token: BearerToken | None, what: str
    ) -> requests.Response:
        """Make a GET request, again while the server is busy; follow redirects."""
        # Not left to urllib3, which reads the body of every answer that it gives up into memory.
        for attempt in range(self._options.retries):
            response = self._send_once(url, headers, token, what)
            if response.status_code not in _RETRIED_STATUSES:
                return response
            with response:
                time.sleep(_delay_seconds(response.headers.get("Retry-After"), attempt))
        return self._send_once(url, headers, token, what)

    def _send_once(
        self, url: str, headers: Mapping[str, str], token: BearerToken | None, what: str
    ) -> requests.Response:
        options = self._options
        for _ in range(_MAX_REDIRECTS + 1):
            sent = dict(headers)
            if token and self._is_registry(url):  # the token goes to the registry alone
                sent["Authorization"] = f"Bearer {token.value}"
            try:
                response = self._session.get(
                    url,
                    headers=sent,
                    stream=True,
                    timeout=(options.connect_timeout_seconds, options.read_timeout_seconds),
                    verify=self._verify,
                )
            except failures.TRANSPORT_ERRORS as error:
                raise failures.from_transport(error, host=_place(url), what=what) from error
            if not response.is_redirect:
                return response
            with response:
                url = self._redirected(response, what)
        raise UnavailableError(f"{self._host} redirects {what} more than {_MAX_REDIRECTS} times.")

    def _redirected(self, response: requests.Response, what: str) -> str:
        try:
            target = urljoin(response.url, response.headers["Location"])
            scheme = urlsplit(target).scheme
        except ValueError:
            scheme = ""
        if scheme == "https" or (scheme == "http" and self._options.plain_http):
            return target
        raise UnavailableError(
            f"{self._host} redirects {what} away from HTTPS.",
            expected="a redirect to an https URL",
            hint=failures.PLAIN_HTTP if scheme == "http" else None,
        )

    def _authenticate(self, header: str, repository: str, what: str) -> BearerToken:
        try:
            challenges = parse_challenges(header)
        except ValueError as error:
            raise AuthError(
                f"{self._host} asks for authentication, but its WWW-Authenticate header is {error}."
            ) from None
        for challenge in challenges:
            if challenge.scheme == "bearer":
                return request_token(
                    challenge,
                    default_scope=f"repository:{repository}:pull",
                    allow_plain_http=self._options.plain_http,
                    ask=self._ask_token_service,
                )
        offered = ", ".join(sorted({challenge.scheme for challenge in challenges})) or "none"
        raise AuthError(
            f"{self._host} refuses anonymous access to {what}.",
            expected=f"a registry that hands out anonymous tokens; this one offers: {offered}",
            hint=failures.MAY_NEED_LOGIN,
        )

    def _ask_token_service(self, url: str) -> bytes:
        what = "a token"
        with self._send(url, {"Accept": "application/json"}, None, what) as response:
            if response.status_code != HTTPStatus.OK:
                raise self._refused(response, what)
            return self._bounded(response, MAX_TOKEN_BODY_BYTES, what)

    def _refused(self, response: requests.Response, what: str) -> Exception:
        body = b""
        for chunk in self._body(response, what):
            body += chunk
            if len(body) > failures.MAX_ERROR_BODY_BYTES:
                break
        place = _place(response.url)
        return failures.from_status(response.status_code, body, host=place, what=what)

    def _bounded(self, response: requests.Response, limit: int, what: str) -> bytes:
        body = bytearray()
        for chunk in self._body(response, what):
            body += chunk
            if len(body) > limit:
                raise IntegrityError(
                    f"{self._host} sent more than {limit} bytes as {what}.",
                    expected=f"at most {limit} bytes",
                )
        return bytes(body)

    def _body(self, response: requests.Response, what: str) -> Iterator[bytes]:
        place = _place(response.url)
        announced = response.headers.get("Content-Length", "")
        got_bytes = 0
        try:
            for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
                got_bytes += len(chunk)
                yield chunk
        except failures.TRANSPORT_ERRORS as error:
            raise failures.from_transport(error, host=place, what=what) from error
        # urllib3 1.26 takes an early end for the end.
        if announced.isdecimal() and got_bytes < int(announced):
            raise UnavailableError(
                f"{place} closed the connection after {got_bytes} bytes of {what}.",
                expected=f"{announced} bytes",
                hint="Try again.",
            )

    def _is_registry(self, url: str) -> bool:
        return url.startswith(f"{self._base}/")


class _Session(requests.Session):
    """A session that follows no redirect.

    Even when told not to, requests prepares the next request, for which it reads the whole body of
    the redirect into memory and trips over malformed targets.
    """

    def get_redirect_target(self, _response: requests.Response) -> None:
        return None


def _retries(count: int) -> urllib3.util.Retry:
    """Return how often a request that got no answer at all is made again."""
    return urllib3.util.Retry(
        total=count,
        connect=min(count, 1),  # a refused connection is refused again
        other=0,  # TLS failures do not mend themselves
        status=0,
        redirect=0,
        respect_retry_after_header=False,
        allowed_methods=frozenset({"GET"}),
        backoff_factor=_BACKOFF_SECONDS,
        raise_on_status=False,
        raise_on_redirect=False,
    )


def _delay_seconds(retry_after: str | None, attempt: int) -> float:
    """Return how long to wait before asking again; a server's wish is bounded by ours."""
    wish = None
    if retry_after is not None:
        with suppress(urllib3.exceptions.InvalidHeader):
            wish = urllib3.util.Retry().parse_retry_after(retry_after)
    backoff = _BACKOFF_SECONDS * 2**attempt
    return min(backoff if wish is None else wish, _MAX_RETRY_AFTER_SECONDS)


def _place(url: str) -> str:
    """Return host and port of a URL, fit for a message: no user, no path, no query."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _verification(options: RegistryOptions) -> bool | str:
    if not options.tls_verify:
        # The warning would come from below, once for each request; that it was asked for is known.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        return False
    if options.ca_file is None:
        return True
    try:
        ssl.create_default_context(cafile=options.ca_file)
    except OSError as error:  # ssl.SSLError is one of them
        raise UsageError(
            f"{options.ca_file} cannot be used as a certificate authority: {error.strerror}.",
            expected="a file of certificates in PEM form",
        ) from None
    return str(options.ca_file)


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    # requests looks into ~/.netrc, and overrides our header, unless there is an auth object.
    return request


def _user_agent() -> str:
    try:
        return f"saltflat/{version('saltflat')}"
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "saltflat"
