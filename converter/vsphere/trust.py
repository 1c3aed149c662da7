"""Which server is believed to be the right one: by authority, by thumbprint, or not at all.

Owns TLS contexts and thumbprints. pyvmomi's own thumbprints are not used: it checks them only where
the usual verification has failed, and the first such failure turns verification off for every later
connection. Here the context itself looks at each connection's certificate.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.errors import UsageError

_SEPARATORS = re.compile(r"[:\s]")
_HEX = re.compile(r"[0-9a-f]+")
_SHA1_DIGITS = 40
_SHA256_DIGITS = 64


class ThumbprintError(ssl.SSLError):
    """The server's certificate is another one; `found` is its SHA-256 thumbprint."""

    def __init__(self, found: str) -> None:
        super().__init__(f"the certificate has the thumbprint {found}")
        self.found = found


@dataclass(frozen=True, slots=True)
class Trust:
    """What makes a server the right one: the strictest of what is there counts, and it alone.

    One of `thumbprints` (as `read_thumbprint` gives them) that the certificate has; else one of
    `ca_files` (PEM) that vouches for it; else nothing if it is `insecure`; else the system's
    authorities.
    """

    ca_files: tuple[Path, ...] = ()
    thumbprints: tuple[str, ...] = ()
    insecure: bool = False

    @property
    def verifies(self) -> bool:
        """Say whether a wrong server would be noticed."""
        return bool(self.thumbprints or self.ca_files) or not self.insecure

    @property
    def told(self) -> str:
        """Return the way in words."""
        if self.thumbprints:
            return "by thumbprint"
        if self.ca_files:
            return f"by {', '.join(map(str, self.ca_files))}"
        return "by nothing (insecure)" if self.insecure else "by the system's authorities"

    def context(self) -> ssl.SSLContext:
        """Return a context for connections to the server. Raises UsageError on a bad CA file."""
        if self.thumbprints:
            return _PinnedContext(self.thumbprints)
        if not self.verifies:
            return _unverified()
        # Not create_default_context: from Python 3.13 on it asks for extensions
        # (VERIFY_X509_STRICT) that certificates of vSphere's own authorities lack.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if not self.ca_files:
            context.load_default_certs()
        for file in self.ca_files:
            try:
                context.load_verify_locations(file)
            except (OSError, ssl.SSLError) as error:
                reason = getattr(error, "strerror", None) or error
                raise UsageError(
                    f"{file} cannot be used as a certificate authority: {reason}.",
                    expected="a file of certificates in PEM form",
                ) from error
        return context


def read_thumbprint(text: str) -> str:
    """Return a SHA-1 or SHA-256 thumbprint as digits in lower case, whatever separates them.

    Raises UsageError if it is neither.
    """
    digits = _SEPARATORS.sub("", text.rpartition("=")[2]).lower()  # openssl writes NAME= before
    if len(digits) not in (_SHA1_DIGITS, _SHA256_DIGITS) or not _HEX.fullmatch(digits):
        raise UsageError(
            f"{text!r} is no thumbprint of a certificate.",
            expected="SHA-256 or SHA-1 as 64 or 40 hexadecimal digits, with or without colons",
            hint="openssl x509 -noout -fingerprint -sha256 -in CERTIFICATE prints it.",
        )
    return digits


def thumbprint(certificate: bytes) -> str:
    """Return the SHA-256 thumbprint of a certificate (DER) as people write it."""
    return hashlib.sha256(certificate).digest().hex(":").upper()


def presented_thumbprint(host: str, port: int, timeout_seconds: float) -> str | None:
    """Return the thumbprint of whatever certificate a server shows, None if it shows none.

    For an error message alone: what is not trusted is looked at and nothing is sent to it.
    """
    try:
        with (
            socket.create_connection((host, port), timeout_seconds) as plain,
            _unverified().wrap_socket(plain, server_hostname=host) as secured,
        ):
            certificate = secured.getpeercert(binary_form=True)
    except OSError:
        return None
    return thumbprint(certificate) if certificate else None


class _PinnedContext(ssl.SSLContext):
    """Takes a connection whose certificate has one of some thumbprints, and no other."""

    _pins: frozenset[str]

    def __new__(cls, _pins: Iterable[str]) -> _PinnedContext:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, pins: Iterable[str]) -> None:
        self._pins = frozenset(pins)
        self.check_hostname = False
        self.verify_mode = ssl.CERT_NONE  # `wrap_socket` does it

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:  # noqa: ANN401 - the base's own, passed on as they came
        secured = super().wrap_socket(sock, *args, **options)
        certificate = secured.getpeercert(binary_form=True) or b""
        prints = {
            hashlib.sha256(certificate).hexdigest(),
            hashlib.sha1(certificate, usedforsecurity=False).hexdigest(),  # what hosts print
        }
        if not self._pins & prints:
            secured.close()
            raise ThumbprintError(thumbprint(certificate))
        return secured


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
