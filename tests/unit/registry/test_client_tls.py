"""The HTTP client and TLS: whom it trusts, and what it does not do without."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from converter.errors import AuthError, UnavailableError
from converter.registry.client import RegistryClient, RegistryOptions
from tests.certificates import self_signed
from tests.unit.registry.scripted_server import Answer, ScriptedServer, scripted_server


@pytest.fixture(scope="module")
def certificate(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Return a self-signed certificate for 127.0.0.1, and its key."""
    return self_signed(tool("openssl"), tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificate: tuple[Path, Path]) -> Iterator[ScriptedServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with scripted_server(context) as script:
        script.answer = lambda _: Answer(body=b"{}")
        yield script


def fetch(server: ScriptedServer, **options: object) -> bytes:
    with RegistryClient(server.host, RegistryOptions(retries=0, **options)) as client:
        return client.manifest("a", "1", accept=()).raw


def test_a_stranger_is_not_trusted(server: ScriptedServer) -> None:
    with pytest.raises(UnavailableError, match="certificate cannot be verified") as caught:
        fetch(server)
    assert "--ca-file" in str(caught.value.hint)
    assert server.requests == []


def test_the_ca_file_is_trusted(
    server: ScriptedServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetch(server, ca_file=certificate[0]) == b"{}"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    assert fetch(server) == b"{}"


def test_no_verification_on_request(server: ScriptedServer) -> None:
    assert fetch(server, tls_verify=False) == b"{}"


def test_no_way_back_to_plain_http(server: ScriptedServer, certificate: tuple[Path, Path]) -> None:
    with scripted_server() as plain:
        server.answer = lambda _: Answer(307, headers={"Location": f"http://{plain.host}/x"})
        with pytest.raises(UnavailableError, match="away from HTTPS"):
            fetch(server, ca_file=certificate[0])
        challenge = f'Bearer realm="http://{plain.host}/token"'
        server.answer = lambda _: Answer(401, headers={"WWW-Authenticate": challenge})
        with pytest.raises(AuthError, match="no token service that can be asked safely"):
            fetch(server, ca_file=certificate[0])
        assert plain.requests == []
