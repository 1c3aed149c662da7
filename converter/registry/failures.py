"""What can go wrong with a registry, as errors of ours. Owns the mapping and its hints.

Text that a server sent is shown bounded and with control characters escaped, marked as the
server's. No header and no URL query is ever shown: they may carry credentials.
"""

from __future__ import annotations

import json
import socket
import ssl
from http import HTTPStatus

import requests
import urllib3.exceptions

from converter.errors import AuthError, NotFoundError, SaltflatError, UnavailableError

MAX_ERROR_BODY_BYTES = 16 << 10
_MAX_SHOWN = 200
_MAX_CAUSES = 16

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})

CHECK_NAME = "Check the name and the tag."
PLAIN_HTTP = "If the registry speaks plain HTTP, pass --plain-http."
CHECK_NETWORK = (
    "Check the host's name, and the network and DNS of this host; HTTPS_PROXY names a proxy."
)
CA_FILE = "Pass the registry's certificate authority with --ca-file."

_TIMEOUTS = (TimeoutError, requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)
_REFUSED = urllib3.exceptions.NewConnectionError  # to urllib3 a kind of timeout
TRANSPORT_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError)


class TransientError(UnavailableError):
    """A failure that may have gone when the same is asked again.

    `wait_seconds` is how long the server wants us to wait first; `repeats` is how often it makes
    sense to ask again at most, None if there is no such limit.
    """

    wait_seconds: float | None = None
    repeats: int | None = None


def from_status(
    status: int,
    body: bytes,
    *,
    host: str,
    what: str,
    login_hint: str | None = None,
    wait_seconds: float | None = None,
) -> SaltflatError:
    """Return the error for an answer that is not a success; `what` names what was asked for."""
    said = server_message(body)
    answer = f"{host} answered {status}" + (f" ({said})" if said else "")
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError(f"{what} was not found: {answer}.", hint=CHECK_NAME)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return AuthError(f"{host} refuses access to {what}: {answer}.", hint=login_hint)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        text = f"{host} limits how often it is asked: {answer}."
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        text = f"{host} failed while it was asked for {what}: {answer}."
    else:
        return SaltflatError(f"{host} refused the request for {what}: {answer}.")
    if status not in RETRIED_STATUSES:
        return UnavailableError(text, hint="Try again later.")
    error = TransientError(text, hint="Try again later.")
    error.wait_seconds = wait_seconds
    return error


def from_transport(
    error: Exception, *, host: str, what: str, begun: bool = False
) -> UnavailableError:
    """Return the error for a request that got no whole answer (one of TRANSPORT_ERRORS).

    `begun` says that the answer had begun, so that names and certificates were right.
    """
    causes = _causes(error)
    reason = _reason(causes)
    if not begun and any(_is_lasting_tls_error(cause) for cause in causes):
        untrusted = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)
        return UnavailableError(
            f"No secure connection to {host}: {reason}.",
            expected="TLS with a certificate that is trusted here",
            hint=CA_FILE if untrusted else PLAIN_HTTP,
        )
    if any(isinstance(cause, requests.exceptions.ProxyError) for cause in causes):
        return TransientError(
            f"The proxy on the way to {host} failed: {reason}.",
            hint="Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY.",
        )
    if any(isinstance(cause, _TIMEOUTS) and not isinstance(cause, _REFUSED) for cause in causes):
        return TransientError(
            f"{host} did not answer in time when asked for {what}.", hint="Try again later."
        )
    if begun:
        return TransientError(
            f"{host} broke off while it sent {what}: {reason}.", hint="Try again later."
        )
    unreached = TransientError(
        f"{what} could not be fetched from {host}: {reason}.",
        hint=CHECK_NETWORK
        if any(isinstance(cause, socket.gaierror) for cause in causes)
        else "Check the host and port, and that the registry runs.",
    )
    if any(isinstance(cause, _REFUSED) for cause in causes):
        unreached.repeats = 1  # a refused connection is refused again, unless a server restarts
    return unreached


def server_message(body: bytes) -> str:
    """Return the first error of a distribution-spec error body for people, "" if there is none."""
    try:
        first = json.loads(body)["errors"][0]
        parts = [first.get("code"), first.get("message")]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    text = ": ".join(part for part in parts if isinstance(part, str) and part)
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_MAX_SHOWN])


def _causes(error: BaseException) -> list[BaseException]:
    """Return the error and what it wraps, outermost first.

    Libraries nest causes in arguments (`MaxRetryError(reason=NewConnectionError(...))`) as well as
    in the language's own way.
    """
    causes: list[BaseException] = []
    queue: list[object] = [error]
    while queue and len(causes) < _MAX_CAUSES:
        current = queue.pop(0)
        if isinstance(current, BaseException) and current not in causes:
            causes.append(current)
            queue += [getattr(current, "reason", None), *current.args]
            queue += [current.__cause__, current.__context__]
    return causes


def _is_lasting_tls_error(cause: BaseException) -> bool:
    """Say whether TLS failed for what the peer is, not because the line was cut."""
    cut = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    return isinstance(cause, ssl.SSLError) and not isinstance(cause, cut)


def _reason(causes: list[BaseException]) -> str:
    """Return the innermost cause in the operating system's words.

    The libraries' own texts have object addresses and URLs in them, the latter with queries.
    """
    for cause in reversed(causes):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate cannot be verified ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return f"TLS failed ({cause.reason.replace('_', ' ').lower()})"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return type(causes[-1]).__name__
