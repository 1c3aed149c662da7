"""Going on after a break: what is asked for next, and what never comes twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from converter.errors import AuthError, IntegrityError, SaltflatError, UnavailableError
from converter.registry.client import RegistryClient, RegistryOptions
from converter.registry.download import RENEWING_BYTES, download
from converter.registry.failures import TransientError
from converter.registry.pace import Pace
from converter.registry.transport import MIN_PROGRESS_BYTES, Transport
from tests.unit.registry.memory_sink import Memory
from tests.unit.registry.scripted_server import Answer, Request, ScriptedServer, scripted_server

DIGEST = "sha256:" + "0" * 64
CONTENT = bytes(range(256)) * 40


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


def start_of(request: Request) -> int:
    asked = request.headers.get("range", "bytes=0-")
    assert asked.startswith("bytes=")
    assert asked.endswith("-")
    return int(asked[6:-1])


def ranged(request: Request, content: bytes = CONTENT, cut_bytes: int = 0) -> Answer:
    """Answer as a proper server does."""
    start = start_of(request)
    if not start:
        return Answer(body=content, cut_bytes=cut_bytes)
    last = len(content) - 1
    headers = {"Content-Range": f"bytes {start}-{last}/{len(content)}"}
    return Answer(206, content[start:], headers, cut_bytes)


def fetch(
    server: ScriptedServer, sink: Memory, *, size_bytes: int = len(CONTENT), retries: int = 3
) -> int:
    options = RegistryOptions(
        plain_http=True, retries=retries, pace=Pace(sleep=lambda _: None), read_timeout_seconds=5
    )
    with RegistryClient(server.host, options) as client:
        return download(client.place_of("a/b", DIGEST), size_bytes, sink)


@pytest.mark.parametrize("at", [1, 255, 256, 5000, len(CONTENT) - 1])
def test_it_goes_on_at_any_byte(server: ScriptedServer, at: int) -> None:
    server.answer = lambda request: ranged(
        request, cut_bytes=0 if start_of(request) else len(CONTENT) - at
    )
    sink = Memory()
    assert fetch(server, sink) == 2
    assert sink.content == CONTENT
    assert [start_of(request) for request in server.requests] == [0, at]


def test_it_begins_with_what_is_there(server: ScriptedServer) -> None:
    server.answer = ranged
    sink = Memory(CONTENT[:777])
    assert fetch(server, sink) == 1
    assert sink.content == CONTENT
    assert [start_of(request) for request in server.requests] == [777]
    assert fetch(server, sink) == 0  # whole: nobody is asked
    assert len(server.requests) == 1


def test_what_comes_twice_is_dropped(server: ScriptedServer) -> None:
    server.answer = lambda _: Answer(body=CONTENT)
    sink = Memory(CONTENT[:777])
    fetch(server, sink)
    assert sink.content == CONTENT


@pytest.mark.parametrize(
    "answer",
    [
        Answer(416),
        Answer(416, headers={"Content-Range": "bytes */*"}),
        Answer(416, headers={"Content-Range": f"bytes */{len(CONTENT)}"}),
        Answer(206, CONTENT[776:], {"Content-Range": f"bytes 776-{len(CONTENT) - 1}/*"}),
        Answer(206, CONTENT[777:]),
        Answer(206, CONTENT[777:], {"Content-Range": "bytes 777"}),
        Answer(206, CONTENT[777:], {"Content-Range": "items 777-778/779"}),
        Answer(206, CONTENT[777:], {"Content-Range": f"bytes 777-778/{'9' * 5000}"}),
    ],
)
def test_ranges_that_are_none(server: ScriptedServer, answer: Answer) -> None:
    server.answer = lambda request: answer if start_of(request) else Answer(body=CONTENT)
    sink = Memory(CONTENT[:777])
    fetch(server, sink)
    assert sink.content == CONTENT
    assert [start_of(request) for request in server.requests] == [777, 0]


def test_a_length_of_thousands_of_digits_says_nothing(server: ScriptedServer) -> None:
    server.answer = lambda _: Answer(body=CONTENT, headers={"Content-Length": "9" * 5000})
    sink = Memory()
    fetch(server, sink)
    assert sink.content == CONTENT


@pytest.mark.parametrize(
    ("content", "start"),
    [(CONTENT[:500], 0), (CONTENT[:500], 100), (CONTENT + b"x", 0), (CONTENT + b"x", 100)],
)
def test_another_size(server: ScriptedServer, content: bytes, start: int) -> None:
    def answer(request: Request) -> Answer:
        if start_of(request) >= len(content):
            return Answer(416, headers={"Content-Range": f"bytes */{len(content)}"})
        return ranged(request, content)

    server.answer = answer
    with pytest.raises(IntegrityError, match=f"{len(content)} bytes long"):
        fetch(server, Memory(CONTENT[:start]))


def test_short_where_there_are_no_ranges(server: ScriptedServer) -> None:
    server.answer = lambda _: Answer(body=CONTENT[:500])
    with pytest.raises(IntegrityError, match="500 bytes long"):
        fetch(server, Memory())
    assert len(server.requests) == 2  # it is given one chance to have been an accident


@pytest.mark.parametrize("retries", [0, 2])
def test_no_progress_has_an_end(server: ScriptedServer, retries: int) -> None:
    server.answer = lambda request: ranged(
        request, cut_bytes=len(CONTENT) - max(10, start_of(request))
    )
    sink = Memory()
    with pytest.raises(TransientError):
        fetch(server, sink, retries=retries)
    assert len(server.requests) == 1 + retries
    assert sink.content == CONTENT[:10]  # for the next one


def test_progress_renews_patience(server: ScriptedServer) -> None:
    content = bytes(4 * RENEWING_BYTES)
    server.answer = lambda request: ranged(
        request, content, max(0, len(content) - start_of(request) - RENEWING_BYTES)
    )
    sink = Memory()
    assert fetch(server, sink, size_bytes=len(content), retries=1) == 4
    assert sink.content == content


def test_a_token_that_expires_in_the_middle(server: ScriptedServer) -> None:
    given: list[str] = []

    def answer(request: Request) -> Answer:
        if request.path.startswith("/token"):
            given.append(f"token-{len(given)}")
            return Answer(body=json.dumps({"token": given[-1]}).encode())
        wanted = "token-1" if start_of(request) else "token-0"
        if request.headers.get("authorization") != f"Bearer {wanted}":
            realm = f'Bearer realm="http://{server.host}/token",error="invalid_token"'
            return Answer(401, headers={"WWW-Authenticate": realm})
        return ranged(request, cut_bytes=0 if start_of(request) else 100)

    server.answer = answer
    sink = Memory()
    fetch(server, sink, retries=1)
    assert sink.content == CONTENT
    assert given == ["token-0", "token-1"]


def test_a_refusal_is_final(server: ScriptedServer) -> None:
    server.answer = lambda request: (
        Answer(403) if start_of(request) else ranged(request, cut_bytes=9)
    )
    with pytest.raises(AuthError):
        fetch(server, Memory())
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("seconds", "bytes_each", "ends"),
    [(0.1, 1, False), (1.0, MIN_PROGRESS_BYTES, False), (1.0, 100, True)],
)
def test_too_slow_is_an_error(seconds: float, bytes_each: int, ends: bool) -> None:
    """Let every read take so long and give so much, by a clock of the test's."""

    class Raw:
        def __init__(self, now: list[float]) -> None:
            self.left, self.now = 40 * bytes_each, now

        def read1(self, _most: int, decode_content: bool) -> bytes:
            assert not decode_content
            self.now[0] += seconds
            size = min(self.left, bytes_each)
            self.left -= size
            return b"x" * size

    class Response:
        url, headers = "http://h/x", {}

        def __init__(self, now: list[float]) -> None:
            self.raw = Raw(now)

    now = [0.0]
    transport = Transport(RegistryOptions(read_timeout_seconds=10), clock=lambda: now[0])
    body: Callable[[], bytes] = lambda: b"".join(transport.body(Response(now), "it"))  # noqa: E731 (read twice)
    if ends:
        with pytest.raises(UnavailableError, match="too slowly"):
            body()
    else:
        assert len(body()) == 40 * bytes_each


def test_errors_that_are_ours_alone(server: ScriptedServer) -> None:
    server.answer = lambda _: Answer(418)
    with pytest.raises(SaltflatError, match="answered 418"):
        fetch(server, Memory())
