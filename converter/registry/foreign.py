"""Bytes from an address that an image names, outside of any registry.

Such an address is a stranger's: nothing that we know goes there, no credential, no token, no
cookie, and nothing but https is spoken unless that was asked for. What arrives is not verified.
Going on in the middle is `download`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

from converter.errors import AuthError, IntegrityError, NotFoundError, UnavailableError
from converter.registry import failures
from converter.registry.options import RegistryOptions
from converter.registry.pace import retry_after_seconds
from converter.registry.parts import BlobPart, BlobPlace, is_part, part_of, range_header
from converter.registry.patience import Patience
from converter.registry.transport import Request, Transport, place

_NOT_THERE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


@contextmanager
def foreign_place(url: str, options: RegistryOptions, *, what: str) -> Iterator[BlobPlace]:
    """Yield the blob at `url`, to be downloaded; `what` names it in errors.

    Of `options` only what concerns the connection is used. Its parts raise UnavailableError,
    NotFoundError and AuthError. Raises IntegrityError for an address that may not be followed.
    """
    _check_address(url, options, what)
    host = place(url)
    with closing(Transport(options)) as transport:

        @contextmanager
        def part(start: int) -> Iterator[BlobPart]:
            request = Request("GET", url, {"Accept": "*/*", **range_header(start)})
            with transport.send(request, what) as response:
                where = place(response.url)
                if not is_part(response, start, host=where, what=what):
                    wish = retry_after_seconds(response.headers.get("Retry-After"))
                    raise _refused(response.status_code, where, what, wish)
                chunks = transport.body(response, what)
                yield part_of(response, start, chunks, host=where, what=what)

        yield BlobPlace(host, what, part, lambda: Patience(options.pace, options.retries))


def _check_address(url: str, options: RegistryOptions, what: str) -> None:
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


def _refused(status: int, where: str, what: str, wish_seconds: float | None) -> Exception:
    if status in _NOT_THERE:
        return NotFoundError(f"{where} answered {status}: it has no {what}.")
    if status in _REFUSED:
        return AuthError(
            f"{where} answered {status} when asked for {what}.",
            expected="an address for everybody: credentials are never sent there",
        )
    text, right = f"{where} answered {status} when asked for {what}.", "200, and the content"
    if status not in failures.RETRIED_STATUSES:
        return UnavailableError(text, expected=right)
    error = failures.TransientError(text, expected=right)
    error.wait_seconds = wish_seconds
    return error
