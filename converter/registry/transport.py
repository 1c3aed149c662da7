"""One HTTP request after another: TLS, proxies, redirects, and bodies that must go on arriving.

Owns whom a secret is shown to: the origin (scheme, host, port) that a request was made for and
nobody else, wherever redirects lead. It repeats nothing; what may be tried again is raised as
`failures.TransientError`.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
import urllib3.exceptions

from converter import __version__
from converter.errors import IntegrityError, UnavailableError, UsageError
from converter.registry import failures
from converter.registry.connections import Adapter
from converter.registry.options import RegistryOptions
from converter.registry.parts import content_length

MIN_PROGRESS_BYTES = 16 << 10
_CHUNK_BYTES = 256 << 10
_MAX_REDIRECTS = 5
_READING = frozenset({"GET", "HEAD"})
_KEEP_METHOD = frozenset({307, 308})

MakeBody = Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask. `authorization` goes to the origin of `url` alone, and so does a body."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    authorization: str | None = field(default=None, repr=False)
    body: bytes | MakeBody | None = field(default=None, repr=False)


class Transport:
    """Make requests under one set of options, for any number of threads. Close it at the end.

    Proxies and certificate bundles are taken from the environment as requests does; ~/.netrc is
    not, for its entries are not meant for registries.
    """

    def __init__(
        self, options: RegistryOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = options
        self._clock = clock
        self._verify = _verification(options)
        self._session = _Session()
        self._session.auth = _no_netrc
        # No registry needs cookies, and what is not kept cannot go astray.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers["User-Agent"] = f"saltflat/{__version__}"
        # Without this, servers may compress on the way what the digest names uncompressed.
        self._session.headers["Accept-Encoding"] = "identity"
        adapter = Adapter()
        self._lines = adapter.lines
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def hang_up(self) -> None:
        """End what other threads are waiting for, and refuse what they ask for later.

        Both raise CancelledError there. A connection that is only just made is waited for.
        """
        self._lines.cut()

    def send(self, request: Request, what: str) -> requests.Response:
        """Make the request and follow redirects; the caller closes the response.

        Raises TransientError and UnavailableError; a status is the caller's to judge.
        """
        url = request.url
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._send_once(request, url, what)
            if not response.is_redirect:
                return response
            with response:
                target = self._redirected(response, what)
                at_home = origin(target) == origin(request.url)
                if request.method not in _READING and not (
                    at_home and response.status_code in _KEEP_METHOD
                ):
                    raise UnavailableError(
                        f"{place(url)} redirects {what}, which is sent to nobody else.",
                        expected="an answer, or a redirect (307, 308) on the same host",
                    )
                url = target
        raise UnavailableError(
            f"{place(request.url)} redirects {what} more than {_MAX_REDIRECTS} times."
        )

    def body(self, response: requests.Response, what: str) -> Iterator[bytes]:
        """Yield a response's bytes as they arrive. Raises TransientError when they stop too early.

        They also stop too early when less than `MIN_PROGRESS_BYTES` arrive in a read timeout.
        """
        where = place(response.url)
        announced = content_length(response)
        got_bytes = slow_bytes = 0
        waited = 0.0
        try:
            while True:
                before = self._clock()
                # One system call's worth: read() would wait until a whole buffer has dripped in.
                chunk = response.raw.read1(_CHUNK_BYTES, decode_content=False)
                if not chunk:
                    break
                got_bytes += len(chunk)
                slow_bytes += len(chunk)
                waited += self._clock() - before
                if slow_bytes >= MIN_PROGRESS_BYTES:
                    slow_bytes, waited = 0, 0.0
                elif waited > self._options.read_timeout_seconds:
                    raise failures.TransientError(
                        f"{where} sends {what} too slowly: {slow_bytes} bytes in {waited:.0f} "
                        "seconds.",
                        expected=f"at least {MIN_PROGRESS_BYTES} bytes in that time",
                        hint="Try again later, or allow more time with --timeout.",
                    )
                yield chunk
        except failures.TRANSPORT_ERRORS as error:
            self._require_lines()
            raise failures.from_transport(error, host=where, what=what, begun=True) from error
        if announced is not None and got_bytes < announced and response.request.method != "HEAD":
            self._require_lines()
            raise failures.TransientError(
                f"{where} closed the connection after {got_bytes} bytes of {what}.",
                expected=f"{announced} bytes",
                hint="Try again later.",
            )

    def whole(self, response: requests.Response, limit_bytes: int, what: str) -> bytes:
        """Return a response's body. Raises IntegrityError if it is longer than the limit."""
        body = bytearray()
        for chunk in self.body(response, what):
            body += chunk
            if len(body) > limit_bytes:
                raise IntegrityError(
                    f"{place(response.url)} sent more than {limit_bytes} bytes as {what}.",
                    expected=f"at most {limit_bytes} bytes",
                )
        return bytes(body)

    def beginning(self, response: requests.Response, what: str) -> bytes:
        """Return the beginning of the body of an answer that is an error, as far as it is there."""
        body = bytearray()
        try:
            for chunk in self.body(response, what):
                body += chunk
                if len(body) > failures.MAX_ERROR_BODY_BYTES:
                    break
        except UnavailableError:
            pass  # the status is what matters
        return bytes(body)

    def _send_once(self, request: Request, url: str, what: str) -> requests.Response:
        self._require_lines()
        options = self._options
        headers = dict(request.headers)
        if request.authorization and origin(url) == origin(request.url):
            headers["Authorization"] = request.authorization
        body = request.body() if callable(request.body) else request.body
        try:
            return self._session.request(
                request.method,
                url,
                headers=headers,
                data=body,
                stream=True,
                timeout=(options.connect_timeout_seconds, options.read_timeout_seconds),
                verify=self._verify,
                allow_redirects=False,
            )
        except failures.TRANSPORT_ERRORS as error:
            self._require_lines()
            raise failures.from_transport(error, host=place(url), what=what) from error
        finally:
            if body is not None and not isinstance(body, bytes):
                body.close()

    def _require_lines(self) -> None:
        if self._lines.are_cut:
            raise CancelledError

    def _redirected(self, response: requests.Response, what: str) -> str:
        try:
            target = urljoin(response.url, response.headers["Location"])
            scheme, _host, _port = origin(target)
        except ValueError:
            scheme = ""
        if scheme == "https" or (scheme == "http" and self._options.plain_http):
            return target
        raise UnavailableError(
            f"{place(response.url)} redirects {what} away from HTTPS.",
            expected="a redirect to an https URL",
            hint=failures.PLAIN_HTTP if scheme == "http" else None,
        )


class _Session(requests.Session):
    """A session that follows no redirect.

    Even when told not to, requests prepares the next request, for which it reads the whole body of
    the redirect into memory and trips over malformed targets.
    """

    def get_redirect_target(self, _response: requests.Response) -> None:
        return None


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a URL: who is asked. Raises ValueError."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port


def place(url: str) -> str:
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
