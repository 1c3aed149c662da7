"""Part of a blob, as an HTTP answer gives it. Owns reading what a server says of ranges.

(RFC 9110 sections 14 and 15.3.7; OCI distribution specification 1.1, "Pulling blobs")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus

import requests

from converter.errors import SaltflatError
from converter.registry.patience import Patience

# Nineteen digits are enough for any size, and Python refuses to make a number of thousands.
_NUMBER = r"[0-9]{1,19}"
_CONTENT_LENGTH = re.compile(_NUMBER)
_CONTENT_RANGE = re.compile(
    rf"bytes\s+(?:({_NUMBER})-({_NUMBER})|\*)/({_NUMBER}|\*)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class BlobPart:
    """A blob from the byte `start` on, not verified. `size_bytes` is None where it was not said."""

    start: int
    size_bytes: int | None
    chunks: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class BlobPlace:
    """One blob at one server: `what` and `host` name it in messages.

    `part` opens it from a byte on, or from 0 where the server has no ranges. It makes one attempt,
    and raises RangeRefusedError beside its own errors; the iterator raises TransientError.
    """

    host: str
    what: str
    part: Callable[[int], AbstractContextManager[BlobPart]]
    patience: Callable[[], Patience]


class RangeRefusedError(SaltflatError):
    """The server cannot give the blob from this byte on; `size_bytes` is what it says it has."""

    size_bytes: int | None = None


def range_header(start: int) -> Mapping[str, str]:
    """Return the header that asks for everything from the byte `start` on."""
    return {"Range": f"bytes={start}-"} if start else {}


def content_length(response: requests.Response) -> int | None:
    """Return how long the server says that the body is; None where that is not said."""
    length = response.headers.get("Content-Length", "")
    return int(length) if _CONTENT_LENGTH.fullmatch(length) else None


def is_part(response: requests.Response, start: int, *, host: str, what: str) -> bool:
    """Say whether an answer has the blob, or the part from `start` on; if not, it is an error.

    Raises RangeRefusedError when there is nothing at `start`.
    """
    if start and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        found = _content_range(response)
        refused = RangeRefusedError(f"{host} has nothing of {what} from byte {start} on.")
        refused.size_bytes = int(found[3]) if found and found[3] != "*" else None
        raise refused
    return response.status_code == HTTPStatus.OK or (
        start > 0 and response.status_code == HTTPStatus.PARTIAL_CONTENT
    )


def part_of(
    response: requests.Response, start: int, chunks: Iterator[bytes], *, host: str, what: str
) -> BlobPart:
    """Return the part that an answer has, of which `chunks` are the body.

    Raises RangeRefusedError when it is not the one from `start` on.
    """
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        return BlobPart(0, content_length(response), chunks)
    found = _content_range(response)
    if not found or found[1] is None or int(found[1]) != start:
        raise RangeRefusedError(
            f"{host} sent another part of {what} than it was asked for.",
            expected=f"the bytes from {start} on",
        )
    return BlobPart(start, None if found[3] == "*" else int(found[3]), chunks)


def _content_range(response: requests.Response) -> re.Match[str] | None:
    return _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
