"""Who may pull: real registries that ask, real files of skopeo, real helper programs."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from converter.errors import AuthError
from converter.events import ignore
from converter.image.digest import Digest
from converter.image.fetch import fetch_blob
from converter.image.platform import Platform
from converter.image.reference import RegistryReference, parse_source
from converter.image.source import SourceOptions, open_source
from converter.registry.artifacts import ArtifactRepository
from converter.registry.client import RegistryClient
from converter.registry.push import push_blob
from tests.integration.conftest import Saltflat
from tests.integration.registry_server import (
    PASSWORD,
    USER,
    Certificate,
    RegistryServer,
    htpasswd,
    make_certificate,
    registry_server,
)
from tests.integration.token_server import TokenRequest, TokenServer, token_server
from tests.unit.image.samples import Blobs, tagged

pytestmark = pytest.mark.integration

AMD64 = Platform("linux", "amd64")
Tool = Callable[[str], str]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layout")
    blobs = Blobs()
    blobs.write_layout(folder, tagged(blobs.image(b"content" * 1000, b"more" * 1000), "1"))
    return folder


@pytest.fixture(scope="module")
def certificate(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tool("openssl"), tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def guarded(
    tool: Tool,
    tmp_path_factory: pytest.TempPathFactory,
    certificate: Certificate,
    layout: Path,
) -> Iterator[RegistryServer]:
    """Yield a registry with TLS and htpasswd."""
    folder = tmp_path_factory.mktemp("guarded")
    auth = htpasswd(folder / "users")
    with registry_server(
        tool("docker-registry"), folder / "registry", certificate=certificate, auth=auth
    ) as server:
        _skopeo_copy(tool("skopeo"), layout, server, "--dest-cert-dir", certificate.authority)
        yield server


def _skopeo_copy(skopeo: str, layout: Path, server: RegistryServer, *options: str | Path) -> None:
    if options[0] == "--dest-cert-dir":
        folder = Path(options[1]).parent / "for-skopeo"
        folder.mkdir(exist_ok=True)
        (folder / "ca.crt").write_bytes(Path(options[1]).read_bytes())
        options = ("--dest-cert-dir", folder)
    command = [skopeo, "--insecure-policy", "copy", "--quiet", *options]
    command += ["--dest-creds", f"{USER}:{PASSWORD}"]
    target = f"docker://{server.host}/team/app:1"
    subprocess.run([*command, f"oci:{layout}:1", target], check=True, timeout=60)


@pytest.fixture(scope="module")
def tokens(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with token_server(tool("openssl"), tmp_path_factory.mktemp("tokens")) as service:
        yield service


@pytest.fixture(scope="module")
def token_registry(
    tool: Tool, tmp_path_factory: pytest.TempPathFactory, tokens: TokenServer, layout: Path
) -> Iterator[RegistryServer]:
    """Yield a registry that believes the tokens of `tokens` alone; skopeo pushed there with one."""
    folder = tmp_path_factory.mktemp("with-tokens")
    with registry_server(tool("docker-registry"), folder, auth=tokens.auth()) as server:
        _skopeo_copy(tool("skopeo"), layout, server, "--dest-tls-verify=false")
        yield server


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: TokenServer) -> None:
    """Be a user without any credentials, and have the token service as it is at first."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    tokens.requests.clear()
    tokens.takes_posts, tokens.public, tokens.stale = True, "", 0


def write_config(folder: Path, document: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.json"
    file.write_text(json.dumps(document))
    return file


def basic(user: str = USER, password: str = PASSWORD) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def pull(server: RegistryServer, folder: Path, options: SourceOptions) -> list[Path]:
    reference = parse_source(f"{server.host}/team/app:1")
    assert isinstance(reference, RegistryReference)
    with open_source(reference, options) as source:
        image = source.resolve(AMD64)
        return [fetch_blob(source, layer.descriptor, folder, ignore) for layer in image.layers]


def test_skopeo_logs_in_and_we_are_let_in(
    guarded: RegistryServer, certificate: Certificate, tool: Tool, tmp_path: Path
) -> None:
    authfile = tmp_path / "auth.json"
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "ca.crt").write_bytes(certificate.authority.read_bytes())
    login = [tool("skopeo"), "login", "--authfile", authfile, "--cert-dir", trusted]
    login += ["--username", USER, "--password-stdin", guarded.host]
    subprocess.run(login, input=PASSWORD.encode(), check=True, capture_output=True, timeout=60)
    options = SourceOptions(ca_file=certificate.authority, authfile=authfile)
    blobs = pull(guarded, tmp_path / "blobs", options)
    copied = tmp_path / "copied"
    copy = [tool("skopeo"), "--insecure-policy", "copy", "--quiet", "--src-authfile", authfile]
    copy += ["--src-cert-dir", trusted, f"docker://{guarded.host}/team/app:1", f"oci:{copied}:1"]
    subprocess.run(copy, check=True, timeout=60)
    for blob in blobs:
        assert (copied / "blobs/sha256" / blob.name).read_bytes() == blob.read_bytes()


@pytest.mark.parametrize(
    ("auths", "said", "hint"),
    [
        ({}, "refuses anonymous access", "docker login HOST"),
        ({"HOST": {"auth": basic(password="wrong")}}, "refuses access", "docker login HOST"),
        ({"HOST/other": {"auth": basic()}}, "refuses anonymous access", "skopeo login HOST"),
    ],
)
def test_not_let_in(
    saltflat: Saltflat,
    guarded: RegistryServer,
    certificate: Certificate,
    tmp_path: Path,
    auths: dict[str, object],
    said: str,
    hint: str,
) -> None:
    document = json.loads(json.dumps({"auths": auths}).replace("HOST", guarded.host))
    authfile = write_config(tmp_path, document)
    done = saltflat(
        *("inspect", "--authfile", authfile, "--ca-file", certificate.authority),
        *("--format", "json", f"{guarded.host}/team/app:1"),
    )
    assert done.returncode == AuthError.exit_code
    error = json.loads(done.stderr)["error"]
    assert said in error["what"]
    assert hint.replace("HOST", guarded.host) in error["hint"].lower()
    for secret in (PASSWORD, basic(), basic(password="wrong"), "wrong"):
        assert secret.encode() not in done.stderr


@pytest.mark.parametrize("key", ["HOST", "HOST/team", "HOST/team/app", "https://HOST/v1/"])
def test_keys_of_a_file(
    guarded: RegistryServer, certificate: Certificate, tmp_path: Path, key: str
) -> None:
    auths = {
        key.replace("HOST", guarded.host): {"auth": basic()},
        f"{guarded.host}/te": {"auth": basic("nobody")},
    }
    authfile = write_config(tmp_path, {"auths": auths})
    options = SourceOptions(ca_file=certificate.authority, authfile=authfile)
    assert len(pull(guarded, tmp_path / "blobs", options)) == 2


def test_the_password_comes_from_standard_input(
    saltflat: Saltflat, guarded: RegistryServer, certificate: Certificate, tmp_path: Path
) -> None:
    command = ["inspect", "--ca-file", certificate.authority, "--username", USER]
    reference = f"{guarded.host}/team/app:1"
    done = saltflat(*command, "--password-stdin", reference, stdin=f"{PASSWORD}\n".encode())
    assert done.returncode == 0, done.stderr
    for arguments, stdin, said in (
        (["--password-stdin"], b"wrong\n", b"the credentials from the command line"),
        (["--password-stdin"], b"", b"no password"),
        ([], b"", b"go together"),
    ):
        done = saltflat(*command, *arguments, reference, stdin=stdin)
        assert done.returncode in {2, 4}
        assert said in done.stderr
    both = ["run", "-i", "--store", tmp_path, "--username", USER, "--password-stdin", reference]
    done = saltflat(*both, stdin=f"{PASSWORD}\n".encode())
    assert done.returncode == 125
    assert b"would read standard input" in done.stderr


def helper(folder: Path, script: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_a_helper_program(
    guarded: RegistryServer,
    certificate: Certificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = json.dumps({"ServerURL": "x", "Username": USER, "Secret": PASSWORD})
    helper(
        tmp_path / "bin",
        f"read -r server; echo \"$1 $server\" > {tmp_path}/asked; echo '{answer}'",
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    options = SourceOptions(ca_file=certificate.authority)
    for number, document in enumerate(
        ({"credsStore": "test"}, {"credHelpers": {guarded.host: "test"}, "auths": {}})
    ):
        write_config(tmp_path / "home/.docker", document)
        assert len(pull(guarded, tmp_path / f"blobs-{number}", options)) == 2
        assert (tmp_path / "asked").read_text() == f"get {guarded.host}\n"
        (tmp_path / "asked").unlink()


def test_a_token_for_a_password(
    token_registry: RegistryServer, tokens: TokenServer, tmp_path: Path
) -> None:
    auths = {token_registry.host: {"auth": basic()}}
    authfile = write_config(tmp_path, {"auths": auths})
    options = SourceOptions(plain_http=True, authfile=authfile)
    assert len(pull(token_registry, tmp_path / "blobs", options)) == 2
    (asked,) = tokens.requests  # one token for manifest, configuration and layers
    assert asked.method == "GET"
    assert asked.authorization == f"Basic {basic()}"
    assert asked.fields["scope"] == ["repository:team/app:pull"]
    assert asked.fields["account"] == [USER]


@pytest.mark.parametrize("takes_posts", [True, False])
def test_a_token_for_an_identity_token(
    token_registry: RegistryServer, tokens: TokenServer, tmp_path: Path, takes_posts: bool
) -> None:
    tokens.takes_posts = takes_posts
    entry = {"auth": basic(), "identitytoken": tokens.refresh_token}
    authfile = write_config(tmp_path, {"auths": {token_registry.host: entry}})
    options = SourceOptions(plain_http=True, authfile=authfile)
    assert len(pull(token_registry, tmp_path / "blobs", options)) == 2
    assert [asked.method for asked in tokens.requests] == ["POST"] + ["GET"] * (not takes_posts)
    form = tokens.requests[0].fields
    assert form["grant_type"] == ["refresh_token"]
    assert form["scope"] == ["repository:team/app:pull"]
    assert not tokens.requests[0].authorization


def test_a_registry_token_is_shown_as_it_is(
    token_registry: RegistryServer, tokens: TokenServer, tmp_path: Path
) -> None:
    fields = {"scope": ["repository:team/app:pull"]}
    _, document = tokens.answer(TokenRequest("GET", f"Basic {basic()}", fields))
    auths = {token_registry.host: {"registrytoken": document["token"]}}
    options = SourceOptions(plain_http=True, authfile=write_config(tmp_path, {"auths": auths}))
    tokens.requests.clear()
    assert len(pull(token_registry, tmp_path / "blobs", options)) == 2
    assert tokens.requests == []


def test_anonymous_tokens(
    token_registry: RegistryServer, tokens: TokenServer, tmp_path: Path
) -> None:
    options = SourceOptions(plain_http=True)
    with pytest.raises(AuthError, match="refuses access") as caught:
        pull(token_registry, tmp_path / "blobs", options)
    assert f"docker login {token_registry.host}" in str(caught.value.hint)
    tokens.public = "team/app"
    assert len(pull(token_registry, tmp_path / "blobs", options)) == 2
    assert all(not asked.authorization for asked in tokens.requests)


def test_a_token_that_is_void_is_an_end(
    token_registry: RegistryServer, tokens: TokenServer, tmp_path: Path
) -> None:
    tokens.public, tokens.stale = "team/app", 1
    with pytest.raises(AuthError):
        pull(token_registry, tmp_path / "blobs", SourceOptions(plain_http=True))
    assert len(tokens.requests) == 1


def test_a_refused_password_for_a_token(
    token_registry: RegistryServer, tokens: TokenServer, tmp_path: Path
) -> None:
    auths = {token_registry.host: {"auth": basic(password="wrong")}}
    authfile = write_config(tmp_path, {"auths": auths})
    options = SourceOptions(plain_http=True, authfile=authfile)
    with pytest.raises(AuthError, match="who is that") as caught:
        pull(token_registry, tmp_path / "blobs", options)
    assert str(authfile) in str(caught.value.hint)
    said = f"{caught.value.what} {caught.value.expected} {caught.value.hint}"
    assert "wrong" not in said
    assert quote(basic(password="wrong")) not in said


def test_pushing_asks_for_more_than_pulling(
    token_registry: RegistryServer, tokens: TokenServer, tmp_path: Path
) -> None:
    content = b"a blob of ours"
    digest = str(Digest.of(content))
    auths = {token_registry.host: {"auth": basic()}}
    authfile = write_config(tmp_path, {"auths": auths})
    options = SourceOptions(plain_http=True, authfile=authfile)
    with RegistryClient(token_registry.host, options) as client:
        repository = ArtifactRepository(client, "team/new")
        assert not repository.has_blob(digest)
        push_blob(client, "team/new", digest, len(content), lambda: io.BytesIO(content))
        assert repository.has_blob(digest)
        assert len(tokens.requests) == 1  # what looking asks for is enough for sending
        assert "repository:team/new:pull,push" in tokens.requests[0].fields["scope"]
    assert token_registry.blob_file(digest).read_bytes() == content
