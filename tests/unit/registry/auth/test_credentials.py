"""Where credentials are looked for, and what the files say."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from converter.errors import UsageError
from converter.registry.auth.credentials import (
    Credential,
    HelperCall,
    find_credentials,
    registry_key,
)

HOME = Path("/home/ali")
RUNTIME = Path("/run/user/7/containers/auth.json")
CONFIG = HOME / ".config/containers/auth.json"
DOCKER = HOME / ".docker/config.json"
OLD = HOME / ".dockercfg"
SECRET = "open sesame"


def entry(user: str, password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def find(
    files: Mapping[Path, object],
    host: str = "h:5000",
    repository: str = "a/b/c",
    *,
    authfile: Path | None = None,
    **environment: str,
) -> list[Credential | HelperCall]:
    raw = {
        path: content if isinstance(content, bytes) else json.dumps(content).encode()
        for path, content in files.items()
    }
    return list(
        find_credentials(
            host,
            repository,
            environment={"XDG_RUNTIME_DIR": "/run/user/7", **environment},
            home=HOME,
            read=raw.get,
            authfile=authfile,
        )
    )


def users(found: list[Credential | HelperCall]) -> list[str]:
    return [item.username if isinstance(item, Credential) else item.name for item in found]


def test_the_order_of_files() -> None:
    def auths(user: str) -> object:
        return {"auths": {"h:5000": entry(user)}}

    files: dict[Path, object] = {
        OLD: {"h:5000": entry("oldest")},
        DOCKER: auths("docker"),
        CONFIG: auths("config"),
        RUNTIME: auths("runtime"),
    }
    assert users(find(files)) == ["runtime", "config", "docker", "oldest"]
    moved = {
        Path("/c/containers/auth.json"): auths("moved config"),
        Path("/d/config.json"): auths("moved docker"),
    }
    found = find({**files, **moved}, XDG_CONFIG_HOME="/c", DOCKER_CONFIG="/d")
    assert users(found) == ["runtime", "moved config", "moved docker", "oldest"]
    named = {Path("/named"): auths("named"), Path("/other"): auths("other")}
    found = find({**files, **named}, REGISTRY_AUTH_FILE="/named")
    assert users(found) == ["named"]
    found = find({**files, **named}, authfile=Path("/other"), REGISTRY_AUTH_FILE="/named")
    assert users(found) == ["other"]
    assert found == [Credential("other", SECRET, place="/other")]


def test_a_named_file_must_be_there() -> None:
    for arguments in ({"authfile": Path("/x")}, {"REGISTRY_AUTH_FILE": "/x"}):
        with pytest.raises(UsageError, match="/x does not exist"):
            find({}, **arguments)
    assert find({}) == []


@pytest.mark.parametrize(
    ("keys", "best"),
    [
        (["h:5000", "h:5000/a", "h:5000/a/b/c", "h:5000/a/b"], "h:5000/a/b/c"),
        (["h:5000", "h:5000/a", "h:5000/a/b/cc"], "h:5000/a"),
        (["h:5000/x", "h", "H:5000"], "H:5000"),
        (["https://h:5000/v1/", "h:5000"], "h:5000"),
        (["https://h:5000/v1/"], "https://h:5000/v1/"),
        (["http://h:5000"], "http://h:5000"),
        (["h:5000/a/", "h"], None),
        (["h:5001", "other/h:5000"], None),
    ],
)
def test_the_longest_namespace(keys: list[str], best: str | None) -> None:
    found = find({CONFIG: {"auths": {key: entry(key.replace(":", "")) for key in keys}}})
    assert users(found)[:1] == ([] if best is None else [best.replace(":", "")])


@pytest.mark.parametrize(
    "key",
    [
        *("docker.io", "index.docker.io", "registry-1.docker.io", "docker.io/library"),
        *("https://index.docker.io/v1/", "https://registry-1.docker.io"),
        "docker.io/library/debian",
    ],
)
def test_docker_hub_has_many_names(key: str) -> None:
    files = {DOCKER: {"auths": {key: entry("ali")}}}
    assert users(find(files, "registry-1.docker.io", "library/debian")) == ["ali"]
    assert registry_key(key) == "docker.io"


def test_helpers() -> None:
    files = {
        DOCKER: {
            "credHelpers": {"h:5000": "own", "other": "others"},
            "auths": {"h:5000": {}},
            "credsStore": "all",
        }
    }
    assert find(files) == [
        HelperCall("own", "h:5000", str(DOCKER)),
        HelperCall("all", "h:5000", str(DOCKER)),
    ]
    hub = {DOCKER: {"credsStore": "all"}}
    (call,) = find(hub, "registry-1.docker.io", "library/debian")
    assert call == HelperCall("all", "https://index.docker.io/v1/", str(DOCKER))


def test_what_an_entry_says() -> None:
    def read(content: object) -> object:
        (found,) = find({CONFIG: {"auths": {"h:5000": content}}})
        return found

    place = str(CONFIG)
    assert read(entry("ali", "a:b")) == Credential("ali", "a:b", place=place)
    assert read({"username": "ali", "password": "x"}) == Credential("ali", "x", place=place)
    padded = base64.b64encode(b"ali:x\0\0").decode()
    assert read({"auth": padded}) == Credential("ali", "x", place=place)
    assert read({**entry("ali"), "identitytoken": "t"}) == Credential(
        "ali", SECRET, identity_token="t", place=place
    )
    assert read({"registrytoken": "t"}) == Credential(registry_token="t", place=place)
    assert Credential.from_helper("<token>", "t", "p") == Credential(identity_token="t", place="p")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"[" * 100_000, b"\xff", b'"x"'),
        *({"auths": []}, {"auths": {"h:5000": 7}}, {"auths": {"h:5000": {"auth": 7}}}),
        *({"auths": {"h:5000": {"auth": "%%%"}}}, {"auths": {"h:5000": {"auth": "YQ=="}}}),
        *({"credHelpers": {"h:5000": 7}}, {"credHelpers": 7}, {"credsStore": ["x"]}),
        {"auths": {"h:5000": {"username": "a", "password": "line\nbreak"}}},
        {"auths": {"h:5000": {"identitytoken": "a\r\nb"}}},
    ],
)
def test_a_file_without_sense_is_named_and_not_shown(content: object) -> None:
    with pytest.raises(UsageError) as caught:
        find({CONFIG: content})
    assert str(CONFIG) in caught.value.what
    assert "YQ" not in str(caught.value)
    assert "break" not in str(caught.value)


def test_no_repr_has_a_secret() -> None:
    credential = Credential("ali", "hush-1", "hush-2", "hush-3", "place")
    assert "hush" not in repr(credential)
    assert "hush" not in str(credential)
    with pytest.raises(UsageError) as caught:
        Credential("a:b", "hush", place="p")
    assert "hush" not in repr(caught.value)
