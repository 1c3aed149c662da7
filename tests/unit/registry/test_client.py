"""The HTTP client against a scripted server: what proper registries do not do."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from converter.errors import (
    AuthError,
    IntegrityError,
    NotFoundError,
    SaltflatError,
    UnavailableError,
    UsageError,
)
from converter.registry.client import (
    MAX_MANIFEST_BYTES,
    ManifestAnswer,
    RegistryClient,
    RegistryOptions,
)
from tests.unit.registry.scripted_server import Answer, Request, ScriptedServer, scripted_server

ACCEPT = ("application/one", "application/two")
DIGEST = "sha256:" + "0" * 64
TOKEN = "c2VjcmV0.VG9rZW4"  # what must never be seen where it does not belong


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def other() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


def client(server: ScriptedServer | str, **options: object) -> RegistryClient:
    host = server if isinstance(server, str) else server.host
    options = {"plain_http": True, "retries": 0, "read_timeout_seconds": 5, **options}
    return RegistryClient(host, RegistryOptions(**options))


def manifest(server: ScriptedServer | str, **options: object) -> ManifestAnswer:
    with client(server, **options) as registry:
        return registry.manifest("a/b", "1", accept=ACCEPT)


def blob(server: ScriptedServer | str, **options: object) -> bytes:
    with client(server, **options) as registry:
        place = registry.place_of("a/b", DIGEST)

        def attempt() -> bytes:
            with place.part(0) as part:
                return b"".join(part.chunks)

        return place.patience().repeat(attempt)


def test_what_is_asked_and_what_is_given(server: ScriptedServer) -> None:
    headers = {"Content-Type": "application/one; charset=utf-8", "Docker-Content-Digest": DIGEST}
    server.answer = lambda _: Answer(body=b"{}", headers=headers)
    assert manifest(server) == ManifestAnswer(b"{}", "application/one", DIGEST)
    (request,) = server.requests
    assert request.path == "/v2/a/b/manifests/1"
    assert request.headers["accept"] == "application/one, application/two"
    assert request.headers["user-agent"].startswith("saltflat")
    assert "authorization" not in request.headers


def test_content_is_never_decoded(server: ScriptedServer) -> None:
    # A layer is gzip already; a server that labels it so must not make us hash something else.
    server.answer = lambda _: Answer(body=b"\x1f\x8bnot ours", headers={"Content-Encoding": "gzip"})
    assert blob(server) == b"\x1f\x8bnot ours"
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, SaltflatError),
        (403, AuthError),
        (404, NotFoundError),
        (429, UnavailableError),
        (500, UnavailableError),
        (503, UnavailableError),
    ],
)
def test_refusals(server: ScriptedServer, status: int, error: type[SaltflatError]) -> None:
    body = {"errors": [{"code": "SOME_CODE", "message": "some words\x1b[2J"}]}
    server.answer = lambda _: Answer(status, json.dumps(body).encode())
    for ask, what in ((manifest, f"{server.host}/a/b:1"), (blob, DIGEST)):
        with pytest.raises(error) as caught:
            ask(server)
        assert caught.value.kind == error.kind
        assert f"{server.host} answered {status} (SOME_CODE: some words?[2J)" in caught.value.what
        assert what in caught.value.what or status == 429


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"errors": []}', b'{"errors": [7]}', b"[" * 9999]
)
def test_refusals_without_sense(server: ScriptedServer, body: bytes) -> None:
    server.answer = lambda _: Answer(404, body)
    with pytest.raises(NotFoundError, match=r"answered 404\.$"):
        manifest(server)


def test_a_busy_registry_is_asked_again(server: ScriptedServer) -> None:
    now = {"Retry-After": "0"}
    past = {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}
    # The body of an answer that is given up is of no interest: reading it would fail.
    busy = [Answer(503, b"busy", headers=now, cut_bytes=1), Answer(429, headers=past)]
    answers = iter([*busy, Answer(body=b"{}")])
    server.answer = lambda _: next(answers)
    assert manifest(server, retries=3).raw == b"{}"
    assert len(server.requests) == 3


def test_patience_has_an_end(server: ScriptedServer) -> None:
    server.answer = lambda _: Answer(503, headers={"Retry-After": "0"})
    with pytest.raises(UnavailableError):
        manifest(server, retries=2)
    assert len(server.requests) == 3


def test_a_manifest_that_is_too_long(server: ScriptedServer) -> None:
    server.answer = lambda _: Answer(body=b"x" * (MAX_MANIFEST_BYTES + 1))
    with pytest.raises(IntegrityError, match="sent more than 4194304 bytes"):
        manifest(server)


def test_a_connection_that_breaks_off(server: ScriptedServer) -> None:
    server.answer = lambda _: Answer(body=b"x" * 1_000_000, cut_bytes=1)
    with pytest.raises(UnavailableError):
        blob(server)


def test_a_server_that_stalls(server: ScriptedServer) -> None:
    go_on = threading.Event()
    server.answer = lambda _: Answer(stall=go_on)
    try:
        with pytest.raises(UnavailableError, match="did not answer in time"):
            blob(server, read_timeout_seconds=0.1)
    finally:
        go_on.set()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UnavailableError, match="Connection refused") as caught:
        manifest(host, retries=3)
    assert host in caught.value.what
    assert "registry runs" in str(caught.value.hint)


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_resolver(*_arguments: object, **_named: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_resolver)
    with pytest.raises(UnavailableError, match="Name or service not known") as caught:
        manifest("registry.invalid", retries=0)
    assert "DNS" in str(caught.value.hint)


def test_no_tls_there(server: ScriptedServer) -> None:
    with pytest.raises(UnavailableError) as caught:
        manifest(server, plain_http=False)
    assert "--plain-http" in str(caught.value.hint)
    assert "_ssl.c" not in caught.value.what
    assert server.requests == []


def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "absent.pem"):
        with pytest.raises(UsageError, match="certificate authority"):
            client("localhost", ca_file=tmp_path / name)


def with_tokens(server: ScriptedServer, challenge: str, token_body: bytes | None = None) -> None:
    """Make the server a registry with a token service: 401 and `challenge` without the token."""

    def answer(request: Request) -> Answer:
        if request.path.startswith("/token"):
            body = json.dumps({"token": TOKEN}).encode() if token_body is None else token_body
            return Answer(body=body)
        if request.headers.get("authorization") == f"Bearer {TOKEN}":
            return Answer(body=b"content")
        return Answer(401, headers={"WWW-Authenticate": challenge})

    server.answer = answer


def test_an_anonymous_token(server: ScriptedServer) -> None:
    realm = f'realm="http://{server.host}/token?x=1"'
    with_tokens(
        server, f'Basic realm="a, b", Bearer {realm},service="s t",scope="repository:q:pull"'
    )
    with client(server) as registry:
        assert registry.manifest("a/b", "1", accept=ACCEPT).raw == b"content"
        with registry.place_of("a/b", DIGEST).part(0) as part:
            assert b"".join(part.chunks) == b"content"
    assert server.paths() == [
        "/v2/a/b/manifests/1",
        "/token?x=1&scope=repository%3Aq%3Apull&service=s+t",
        "/v2/a/b/manifests/1",
        f"/v2/a/b/blobs/{DIGEST}",  # the token is kept
    ]
    assert "authorization" not in server.requests[1].headers


def test_a_token_without_scope_and_by_its_other_name(server: ScriptedServer) -> None:
    body = json.dumps({"access_token": TOKEN}).encode()
    with_tokens(server, f'Bearer realm="http://{server.host}/token"', body)
    assert manifest(server).raw == b"content"
    assert server.paths()[1] == "/token?scope=repository%3Aa%2Fb%3Apull"


def test_an_expired_token_is_replaced(server: ScriptedServer) -> None:
    valid = iter(["one", "two"])
    state = {"token": ""}

    def answer(request: Request) -> Answer:
        if request.path.startswith("/token"):
            state["token"] = next(valid)
            return Answer(body=json.dumps({"token": state["token"]}).encode())
        if request.headers.get("authorization") == f"Bearer {state['token']}":
            return Answer(body=b"content")
        return Answer(
            401, headers={"WWW-Authenticate": f'Bearer realm="http://{server.host}/token"'}
        )

    server.answer = answer
    with client(server) as registry:
        registry.manifest("a/b", "1", accept=ACCEPT)
        state["token"] = "expired"
        assert registry.manifest("a/b", "1", accept=ACCEPT).raw == b"content"


@pytest.mark.parametrize(
    ("challenge", "body", "said"),
    [
        ("", None, "refuses anonymous access"),
        ('Basic realm="x"', None, "refuses anonymous access"),
        ("Bearer (", None, "malformed at character 8"),
        ("Bearer", None, "no token service"),
        ('Bearer realm="file:///etc/passwd"', None, "no token service"),
        ('Bearer realm="http://[::1/token"', None, "no token service"),
        ('Bearer realm="http://HOST/token"', b"no JSON", "without a usable token"),
        ('Bearer realm="http://HOST/token"', b'{"token": 7}', "without a usable token"),
        ('Bearer realm="http://HOST/token"', b'{"token": "a\\r\\nX: y"}', "without a usable token"),
        ('Bearer realm="http://HOST/token"', b'{"token": "wrong"}', "refuses access"),
        ('Bearer realm="http://HOST/nothing"', None, "refuses access"),
    ],
)
def test_no_way_in(server: ScriptedServer, challenge: str, body: bytes | None, said: str) -> None:
    with_tokens(server, challenge.replace("HOST", server.host), body)
    with pytest.raises(AuthError, match=said):
        manifest(server)


def test_a_token_goes_to_its_registry_alone(server: ScriptedServer, other: ScriptedServer) -> None:
    with_tokens(server, f'Bearer realm="http://{server.host}/token"')
    at_home = server.answer

    def redirect(request: Request) -> Answer:
        answer = at_home(request)
        if answer.body != b"content" or request.path == "/v2/again":
            return answer
        target = "/v2/again" if "manifests" in request.path else f"http://{other.host}/stored?sig=1"
        # The body of a redirect is of no interest: reading it would fail.
        return Answer(307, b"moved", headers={"Location": target}, cut_bytes=1)

    server.answer = redirect
    other.answer = lambda _: Answer(body=b"from elsewhere")
    assert manifest(server).raw == b"content"
    assert server.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"
    assert blob(server) == b"from elsewhere"
    assert "authorization" not in other.requests[0].headers


def test_a_401_from_elsewhere_is_not_answered(
    server: ScriptedServer, other: ScriptedServer
) -> None:
    server.answer = lambda _: Answer(302, headers={"Location": f"http://{other.host}/x"})
    challenge = f'Bearer realm="http://{other.host}/token"'
    other.answer = lambda _: Answer(401, headers={"WWW-Authenticate": challenge})
    with pytest.raises(AuthError, match=f"{other.host} answered 401"):
        blob(server)
    assert other.paths() == ["/x"]


def test_redirects_without_end(server: ScriptedServer) -> None:
    server.answer = lambda request: Answer(307, headers={"Location": request.path + "x"})
    with pytest.raises(UnavailableError, match="more than 5 times"):
        blob(server)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://h/x", "http://[::1/x"])
def test_redirects_to_nowhere(server: ScriptedServer, target: str) -> None:
    server.answer = lambda _: Answer(307, headers={"Location": target})
    with pytest.raises(UnavailableError):
        blob(server)


def test_netrc_is_left_alone(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with_tokens(server, f'Bearer realm="http://{server.host}/token"')
    assert manifest(server).raw == b"content"
    basic = base64.b64encode(b"me:secret").decode()
    assert all(basic not in str(request.headers) for request in server.requests)


def test_secrets_are_in_no_error_and_no_repr(server: ScriptedServer, other: ScriptedServer) -> None:
    with_tokens(server, f'Bearer realm="http://{server.host}/token"')
    with client(server) as registry:
        registry.manifest("a/b", "1", accept=ACCEPT)
        assert TOKEN not in repr(vars(registry))
        other.answer = lambda _: Answer(500)
        location = f"http://{other.host}/stored?signature=hush"
        server.answer = lambda _: Answer(307, headers={"Location": location})
        part = registry.place_of("a/b", DIGEST).part(0)
        with pytest.raises(UnavailableError) as caught, part:
            pass
        said = f"{caught.value.what} {caught.value.expected} {caught.value.hint}"
        assert TOKEN not in said
        assert "hush" not in said
