"""Addresses that images name: what is sent there, and what is not followed."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from converter.errors import AuthError, IntegrityError, NotFoundError, SaltflatError
from converter.errors import UnavailableError as Unavailable
from converter.registry.download import download
from converter.registry.foreign import foreign_place
from converter.registry.options import RegistryOptions
from converter.registry.pace import Pace
from tests.certificates import self_signed
from tests.unit.registry.memory_sink import Memory
from tests.unit.registry.scripted_server import Answer, Request, ScriptedServer, scripted_server

BODY = bytes(range(256)) * 2000
SECRETS = ("authorization", "cookie", "proxy-authorization", "referer")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        script.answer = lambda _: Answer(body=BODY, headers={"Set-Cookie": "a=b"})
        yield script


def get(url: str, *, plain_http: bool = True, ca_file: Path | None = None) -> bytes:
    options = RegistryOptions(plain_http=plain_http, retries=0, ca_file=ca_file)
    return fetch(url, options)


def fetch(url: str, options: RegistryOptions) -> bytes:
    sink = Memory()
    with foreign_place(url, options, what="layer x") as place:
        download(place, len(BODY), sink)
    return bytes(sink.content)


def test_nothing_that_we_know_is_sent(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with scripted_server() as other:
        other.answer = server.answer
        targets = {"/a": "/moved", "/moved": f"http://{other.host}/b"}
        server.answer = lambda request: Answer(
            302, headers={"Location": targets[request.path], "Set-Cookie": "a=b"}
        )
        assert get(f"http://{server.host}/a") == BODY
        requests = [*server.requests, *other.requests]
        assert [request.path for request in requests] == ["/a", "/moved", "/b"]
    for request in requests:
        assert not request.headers.keys() & set(SECRETS)
        assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "https://user:secret@127.0.0.1/x",
        "https://",
        "//127.0.0.1/x",
        "https://[x",
        "",
    ],
)
def test_addresses_that_are_not_followed(url: str) -> None:
    with pytest.raises(IntegrityError, match="an address for layer x that is not followed"):
        get(url, plain_http=False)


def test_plain_http_is_spoken_on_request_alone(server: ScriptedServer) -> None:
    with pytest.raises(IntegrityError) as caught:
        get(f"http://{server.host}/x", plain_http=False)
    assert "--plain-http" in str(caught.value.hint)
    assert server.requests == []
    assert get(f"http://{server.host}/x") == BODY


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(404), NotFoundError),
        (Answer(410), NotFoundError),
        (Answer(401, headers={"WWW-Authenticate": "Basic realm=x"}), AuthError),
        (Answer(403), AuthError),
        (Answer(500), Unavailable),
        (Answer(204), Unavailable),
        (Answer(302, headers={"Location": "/again"}), Unavailable),
        (Answer(302, headers={"Location": "file:///etc/passwd"}), Unavailable),
        (Answer(302, headers={"Location": "http://[x"}), Unavailable),
        (Answer(body=BODY, cut_bytes=7), Unavailable),
    ],
)
def test_answers_that_are_not_the_content(
    server: ScriptedServer, answer: Answer, error: type[SaltflatError]
) -> None:
    server.answer = lambda _: answer
    with pytest.raises(error):
        get(f"http://{server.host}/x")
    assert all("authorization" not in request.headers for request in server.requests)


def test_nobody_there() -> None:
    with scripted_server() as gone:
        host = gone.host
    with pytest.raises(Unavailable):
        get(f"http://{host}/x")


def test_tls(tool: Callable[[str], str], tmp_path: Path, server: ScriptedServer) -> None:
    trust, key = self_signed(tool("openssl"), tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trust, key)

    def answer(request: Request) -> Answer:
        if request.path == "/down":
            return Answer(302, headers={"Location": f"http://{server.host}/x"})
        return Answer(body=BODY)

    with scripted_server(context) as secure:
        secure.answer = answer
        url = f"https://{secure.host}"
        assert get(f"{url}/x", plain_http=False, ca_file=trust) == BODY
        with pytest.raises(Unavailable, match="certificate cannot be verified"):
            get(f"{url}/x", plain_http=False)
        with pytest.raises(Unavailable, match="away from HTTPS"):
            get(f"{url}/down", plain_http=False, ca_file=trust)
        assert server.requests == []


def test_a_busy_address_is_asked_again(server: ScriptedServer) -> None:
    answers = iter([Answer(503, headers={"Retry-After": "0"}), Answer(body=BODY)])
    server.answer = lambda _: next(answers)
    options = RegistryOptions(plain_http=True, retries=1)
    assert fetch(f"http://{server.host}/x", options) == BODY


def test_a_break_costs_nothing_twice(server: ScriptedServer) -> None:
    def answer(request: Request) -> Answer:
        asked = request.headers.get("range")
        if asked is None:
            return Answer(body=BODY, cut_bytes=len(BODY) - 1000)
        assert asked == "bytes=1000-"
        headers = {"Content-Range": f"bytes 1000-{len(BODY) - 1}/{len(BODY)}"}
        return Answer(206, BODY[1000:], headers)

    server.answer = answer
    options = RegistryOptions(plain_http=True, retries=1, pace=Pace(sleep=lambda _: None))
    assert fetch(f"http://{server.host}/x", options) == BODY
    assert len(server.requests) == 2
