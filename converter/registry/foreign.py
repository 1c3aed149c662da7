"""Bytes from an address that an image names, outside of any registry.

Such an address is a stranger's: nothing that we know goes there, no credential, no token, no
cookie, and nothing but https is spoken unless that was asked for. What arrives is not verified.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

import requests

from converter.errors import AuthError, IntegrityError, NotFoundError, UnavailableError
from converter.registry import failures
from converter.registry.client import RegistryOptions

_CHUNK_BYTES = 256 << 10
_MAX_REDIRECTS = 5
_NOT_THERE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


@contextmanager
def get_foreign(url: str, options: RegistryOptions, *, what: str) -> Iterator[Iterator[bytes]]:
    """Yield the bytes at `url` as they arrive; `what` names them in errors.

    Of `options` only what concerns the connection is used. Raises UnavailableError, NotFoundError,
    AuthError, and IntegrityError for an address that may not be followed.
    """
    with _Session() as session:
        session.auth = _nobody
        response = _follow(session, url, options, what)
        with response:
            place = _place(response.url)
            if response.status_code in _NOT_THERE:
                raise NotFoundError(f"{place} answered {response.status_code}: it has no {what}.")
            if response.status_code in _REFUSED:
                raise AuthError(
                    f"{place} answered {response.status_code} when asked for {what}.",
                    expected="an address for everybody: credentials are never sent there",
                )
            if response.status_code != HTTPStatus.OK:
                raise UnavailableError(
                    f"{place} answered {response.status_code} when asked for {what}.",
                    expected="200, and the content",
                )
            yield _body(response, place, what)


class _Session(requests.Session):
    """A session that leaves redirects to us: requests would read their bodies into memory."""

    def get_redirect_target(self, _response: requests.Response) -> None:
        return None


def _follow(
    session: requests.Session, url: str, options: RegistryOptions, what: str
) -> requests.Response:
    for _ in range(_MAX_REDIRECTS + 1):
        _check_scheme(url, options, what)
        try:
            response = session.get(
                url,
                headers={"Accept": "*/*", "Accept-Encoding": "identity"},
                stream=True,
                timeout=(options.connect_timeout_seconds, options.read_timeout_seconds),
                verify=str(options.ca_file) if options.ca_file else options.tls_verify,
            )
        except failures.TRANSPORT_ERRORS as error:
            raise failures.from_transport(error, host=_place(url), what=what) from error
        if not response.is_redirect:
            return response
        with response:
            url = _joined(response.url, response.headers["Location"])
            session.cookies.clear()
    raise UnavailableError(f"{_place(url)} redirects {what} more than {_MAX_REDIRECTS} times.")


def _joined(base: str, target: str) -> str:
    try:
        return urljoin(base, target)
    except ValueError:
        return target  # it will be refused as it is


def _check_scheme(url: str, options: RegistryOptions, what: str) -> None:
    try:
        parts = urlsplit(url)
        scheme, host, has_user = parts.scheme, parts.hostname, "@" in parts.netloc
    except ValueError:
        scheme, host, has_user = "", None, False
    if host and not has_user and (scheme == "https" or (scheme == "http" and options.plain_http)):
        return
    raise IntegrityError(
        f"The image names an address for {what} that is not followed: {url[:120]!a}.",
        expected="an https address without a user",
        hint=failures.PLAIN_HTTP if scheme == "http" else None,
    )


def _body(response: requests.Response, place: str, what: str) -> Iterator[bytes]:
    announced = response.headers.get("Content-Length", "")
    got_bytes = 0
    try:
        for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
            got_bytes += len(chunk)
            yield chunk
    except failures.TRANSPORT_ERRORS as error:
        raise failures.from_transport(error, host=place, what=what) from error
    if announced.isdecimal() and got_bytes < int(announced):  # urllib3 1.26 takes that for the end
        raise UnavailableError(
            f"{place} closed the connection after {got_bytes} bytes of {what}.",
            expected=f"{announced} bytes",
            hint="Try again.",
        )


def _place(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    # Without an auth object, requests looks into ~/.netrc.
    return request
