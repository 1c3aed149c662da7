"""To whom a secret is shown: what every server received, wherever the registry led."""

from __future__ import annotations

import base64
import io
import json
import logging
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from converter.errors import AuthError, SaltflatError, UnavailableError
from converter.registry import listing, push
from converter.registry.artifacts import ArtifactRepository
from converter.registry.auth.credentials import Credential
from converter.registry.client import RegistryClient, RegistryOptions
from converter.registry.pace import Pace
from tests.unit.registry.scripted_server import Answer, Request, ScriptedServer, scripted_server

DIGEST = "sha256:" + "0" * 64
TOKEN = "c2VjcmV0.VG9rZW4"
PASSWORD = "hush-password"
IDENTITY = "hush-identity"
BASIC = base64.b64encode(f"ali:{PASSWORD}".encode()).decode()
ALI = Credential("ali", PASSWORD, place="the test")
MANIFEST = {
    "schemaVersion": 2,
    "config": {"mediaType": "application/x", "digest": DIGEST, "size": 0},
    "layers": [],
}
SECRETS = (TOKEN, PASSWORD, IDENTITY, BASIC)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def other() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        script.answer = lambda _: Answer(body=b"from elsewhere")
        yield script


@pytest.fixture
def tokens() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        script.answer = lambda _: Answer(body=json.dumps({"token": TOKEN}).encode())
        yield script


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)


def client(server: ScriptedServer, **options: object) -> RegistryClient:
    values = {
        "plain_http": True,
        "retries": 0,
        "read_timeout_seconds": 5,
        "credential": ALI,
        "pace": Pace(sleep=lambda _: None),
        **options,
    }
    return RegistryClient(server.host, RegistryOptions(**values))


def asks(challenge: str, then: Answer, authorization: str) -> object:
    """Return what a registry does that wants `authorization` and gives `then` for it."""

    def answer(request: Request) -> Answer:
        if request.headers.get("authorization") == authorization:
            return then
        return Answer(401, headers={"WWW-Authenticate": challenge})

    return answer


def bearer(tokens: ScriptedServer) -> str:
    return f'Bearer realm="http://{tokens.host}/token",service="s"'


def received(server: ScriptedServer) -> str:
    return "\n".join(
        f"{request.method} {request.path} {request.headers} {request.body!r}"
        for request in server.requests
    )


def assert_no_secret(text: str) -> None:
    assert not [secret for secret in SECRETS if secret in text]


def read(registry: RegistryClient) -> bytes:
    with registry.place_of("a/b", DIGEST).part(0) as part:
        return b"".join(part.chunks)


def test_nothing_is_shown_before_it_is_asked_for(server: ScriptedServer) -> None:
    server.answer = lambda _: Answer(body=b"open")
    with client(server) as registry:
        assert read(registry) == b"open"
    assert_no_secret(received(server))


def test_a_password_for_a_registry(server: ScriptedServer, other: ScriptedServer) -> None:
    moved = Answer(307, headers={"Location": f"http://{other.host}/stored"})
    server.answer = asks('Basic realm="x"', moved, f"Basic {BASIC}")
    with client(server) as registry:
        assert read(registry) == b"from elsewhere"
        assert read(registry) == b"from elsewhere"
    assert len(server.requests) == 3  # it is asked for once
    assert_no_secret(received(other))


def test_a_password_for_a_token(
    server: ScriptedServer, other: ScriptedServer, tokens: ScriptedServer
) -> None:
    moved = Answer(307, headers={"Location": f"http://{other.host}/stored"})
    server.answer = asks(f"Basic realm=x, {bearer(tokens)}", moved, f"Bearer {TOKEN}")
    with client(server) as registry:
        assert read(registry) == b"from elsewhere"
    assert [request.headers["authorization"] for request in tokens.requests] == [f"Basic {BASIC}"]
    assert BASIC not in received(server)  # the registry sees the token alone
    assert_no_secret(received(other))


def test_a_token_service_that_redirects(
    server: ScriptedServer, other: ScriptedServer, tokens: ScriptedServer
) -> None:
    server.answer = asks(bearer(tokens), Answer(body=b"content"), f"Bearer {TOKEN}")
    tokens.answer = lambda _: Answer(307, headers={"Location": f"http://{other.host}/token"})
    with client(server) as registry, pytest.raises(AuthError):
        read(registry)
    assert_no_secret(received(other))
    # A form would be sent whole: it goes nowhere else at all.
    other.requests.clear()
    identity = Credential(identity_token=IDENTITY, place="the test")
    with client(server, credential=identity) as registry, pytest.raises(UnavailableError):
        read(registry)
    assert IDENTITY in received(tokens)
    assert other.requests == []


def test_another_port_is_another_host(server: ScriptedServer, other: ScriptedServer) -> None:
    name, port = server.host.split(":")
    assert other.host.startswith(f"{name}:")
    moved = Answer(302, headers={"Location": f"http://{other.host}/v2/a/b/blobs/{DIGEST}"})
    server.answer = asks('Basic realm="x"', moved, f"Basic {BASIC}")
    with client(server) as registry:
        assert read(registry) == b"from elsewhere"
    assert_no_secret(received(other))
    # The same host with a user in its URL, or as an address that only begins like ours, is none.
    for target in (f"http://{server.host}@{other.host}/x", f"http://ali:x@{other.host}/x"):
        again = Answer(302, headers={"Location": target})
        server.answer = asks('Basic realm="x"', again, f"Basic {BASIC}")
        with client(server) as registry, suppress(SaltflatError):
            read(registry)
    assert_no_secret(received(other))
    assert port not in {request.headers["host"] for request in other.requests}


def test_an_upload_goes_to_its_registry_alone(
    server: ScriptedServer, other: ScriptedServer
) -> None:
    there = Answer(202, headers={"Location": f"http://{other.host}/v2/a/b/blobs/uploads/1?x=1"})
    server.answer = asks('Basic realm="x"', there, f"Basic {BASIC}")
    other.answer = lambda _: Answer(201)
    with client(server) as registry:
        push.push_blob(registry, "a/b", DIGEST, 4, lambda: io.BytesIO(b"blob"))
    (sent,) = other.requests
    assert (sent.method, sent.body) == ("PUT", b"blob")
    assert_no_secret(received(other))
    # A challenge of theirs is not answered either.
    other.answer = lambda _: Answer(401, headers={"WWW-Authenticate": 'Basic realm="y"'})
    with client(server) as registry, pytest.raises(AuthError):
        push.push_blob(registry, "a/b", DIGEST, 4, lambda: io.BytesIO(b"blob"))
    assert_no_secret(received(other))


def test_a_body_is_not_redirected_to_another_host(
    server: ScriptedServer, other: ScriptedServer
) -> None:
    server.answer = lambda _: Answer(307, headers={"Location": f"http://{other.host}/x"})
    with client(server) as registry, pytest.raises(UnavailableError, match="nobody else"):
        ArtifactRepository(registry, "a/b").push_manifest(MANIFEST, "1")
    assert other.requests == []


def test_a_list_does_not_go_on_elsewhere(server: ScriptedServer, other: ScriptedServer) -> None:
    link = {"Link": f'<http://{other.host}/v2/a/b/tags/list?last=x>; rel="next"'}
    first = Answer(body=b'{"tags": ["x"]}', headers=link)
    server.answer = asks('Basic realm="x"', first, f"Basic {BASIC}")
    with client(server) as registry, pytest.raises(SaltflatError, match="another place"):
        list(listing.tags(registry, "a/b"))
    assert other.requests == []


def test_cookies_are_not_kept(server: ScriptedServer) -> None:
    server.answer = lambda _: Answer(body=b"x", headers={"Set-Cookie": "a=b"})
    with client(server) as registry:
        read(registry)
        read(registry)
    assert "cookie" not in server.requests[1].headers


def test_no_secret_is_said_or_logged(
    server: ScriptedServer, tokens: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    with client(server) as registry:
        server.answer = asks(bearer(tokens), Answer(body=b"content"), f"Bearer {TOKEN}")
        read(registry)
        said.append(repr(vars(registry)) + repr(vars(vars(registry)["_authenticator"])))
        for broken in (Answer(403), Answer(500), Answer(404), Answer(body=b"xx", cut_bytes=1)):
            server.answer = asks(bearer(tokens), broken, f"Bearer {TOKEN}")
            with pytest.raises(SaltflatError) as caught:
                read(registry)
            said += [repr(caught.value), str(caught.value.expected), str(caught.value.hint)]
    for refusal in (Answer(401), Answer(500), Answer(body=b"nonsense")):
        tokens.answer = lambda _, refusal=refusal: refusal
        with client(server) as registry, pytest.raises(SaltflatError) as caught:
            read(registry)
        said += [repr(caught.value), str(caught.value.expected), str(caught.value.hint)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = ScriptedServer(f"127.0.0.1:{free.getsockname()[1]}")
    with client(nobody) as registry, pytest.raises(SaltflatError) as caught:
        read(registry)
    said.append(repr(caught.value))
    assert "the test" in "".join(said)  # where they came from is said
    assert_no_secret("".join(said))
    assert_no_secret(caplog.text)
