"""What can go wrong with a registry, as errors of ours. Owns the mapping and its hints.

Text that a server sent is shown bounded and with control characters escaped, marked as the
server's. No header and no URL query is ever shown: they may carry credentials.
"""

from __future__ import annotations

import json
import ssl
from http import HTTPStatus

import requests
import urllib3.exceptions

from converter.errors import AuthError, NotFoundError, SaltflatError, UnavailableError

MAX_ERROR_BODY_BYTES = 16 << 10
_MAX_SHOWN = 200
_MAX_CAUSES = 16

CHECK_NAME = "Check the name and the tag."
MAY_NEED_LOGIN = "Check the name; registries answer so for images that are private or do not exist."
PLAIN_HTTP = "If the registry speaks plain HTTP, pass --plain-http."
CA_FILE = "Pass the registry's certificate authority with --ca-file."

_TIMEOUTS = (TimeoutError, requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)
_REFUSED = urllib3.exceptions.NewConnectionError  # to urllib3 a kind of timeout
TRANSPORT_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError)


def from_status(status: int, body: bytes, *, host: str, what: str) -> SaltflatError:
    """Return the error for an answer that is not a success; `what` names what was asked for."""
    said = server_message(body)
    answer = f"{host} answered {status}" + (f" ({said})" if said else "")
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError(f"{what} was not found: {answer}.", hint=CHECK_NAME)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return AuthError(f"{host} refuses access to {what}: {answer}.", hint=MAY_NEED_LOGIN)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return UnavailableError(
            f"{host} limits how often it is asked: {answer}.", hint="Try again later."
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError(
            f"{host} failed while it was asked for {what}: {answer}.", hint="Try again later."
        )
    return SaltflatError(f"{host} did not give {what}: {answer}.", expected="200, and the content")


def from_transport(error: Exception, *, host: str, what: str) -> SaltflatError:
    """Return the error for a request that got no whole answer (one of TRANSPORT_ERRORS)."""
    causes = _causes(error)
    reason = _reason(causes)
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        untrusted = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)
        return UnavailableError(
            f"No secure connection to {host}: {reason}.",
            expected="TLS with a certificate that is trusted here",
            hint=CA_FILE if untrusted else PLAIN_HTTP,
        )
    if any(isinstance(cause, requests.exceptions.ProxyError) for cause in causes):
        return UnavailableError(
            f"The proxy on the way to {host} failed: {reason}.",
            hint="Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY.",
        )
    if any(isinstance(cause, _TIMEOUTS) and not isinstance(cause, _REFUSED) for cause in causes):
        return UnavailableError(
            f"{host} did not answer in time when asked for {what}.", hint="Try again later."
        )
    return UnavailableError(
        f"{what} could not be fetched from {host}: {reason}.",
        hint="Check the host and port, and that the registry runs.",
    )


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


def _reason(causes: list[BaseException]) -> str:
    """Return the innermost cause in the operating system's words.

    The libraries' own texts have object addresses and URLs in them, the latter with queries.
    """
    for cause in reversed(causes):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate cannot be verified ({cause.verify_message})"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return type(causes[-1]).__name__
