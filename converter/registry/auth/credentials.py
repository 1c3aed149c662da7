"""Credentials and where they are kept. Owns the search order and the form of the files. Pure.

The order of files, and namespaces as keys, are those of containers-auth.json(5); legacy keys,
helpers and identity tokens those of Docker's config.json. Reading a file and running a helper are
the caller's: `find_credentials` gets a function for the one and returns a value for the other.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from converter.errors import UsageError

DOCKER_HUB = "docker.io"
_DOCKER_HUB_LEGACY_KEY = "https://index.docker.io/v1/"  # what `docker login` writes
_DOCKER_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 - the name by which helpers mark a token, no secret

ReadFile = Callable[[Path], bytes | None]  # None where there is no such file


@dataclass(frozen=True, slots=True)
class Credential:
    """One identity at a registry. No repr has a secret in it, so that no log can.

    `identity_token` is an OAuth2 refresh token, `registry_token` a bearer token as it is; one of
    them or the password is set. `place` says where it was found, for messages.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    place: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be sent as it is. (RFC 7617 section 2: no colon, no controls)"""
        secrets = (self.password, self.identity_token, self.registry_token)
        if ":" in self.username or not all(map(_printable, (self.username, *secrets))):
            raise UsageError(
                f"The credentials from {self.place} cannot be used.",
                expected="a user name without a colon, and no control characters",
            )

    @classmethod
    def from_helper(cls, username: str, secret: str, place: str) -> Credential:
        """Return what a credential helper's answer means."""
        if username == _IDENTITY_TOKEN_USER:
            return cls(identity_token=secret, place=place)
        return cls(username, secret, place=place)


@dataclass(frozen=True, slots=True)
class HelperCall:
    """Ask `docker-credential-<name>` for `server`, as a file at `place` says."""

    name: str
    server: str
    place: str


def find_credentials(
    host: str,
    repository: str,
    *,
    environment: Mapping[str, str],
    home: Path,
    read: ReadFile,
    authfile: Path | None = None,
) -> Iterator[Credential | HelperCall]:
    """Yield what may open `repository` at `host`, best first; the first that gives something holds.

    A file that the user named (`authfile`, $REGISTRY_AUTH_FILE) is the only one that is looked at.
    Raises UsageError for a file that is malformed, and for a named one that does not exist.
    """
    host = registry_key(host)
    named = authfile or _path(environment.get("REGISTRY_AUTH_FILE"))
    files = [(named, False)] if named else default_files(environment, home)
    for path, legacy in files:
        raw = read(path)
        if raw is None:
            if path == named:
                raise UsageError(
                    f"{path} does not exist.",
                    expected="the credentials file that --authfile or REGISTRY_AUTH_FILE names",
                )
            continue
        document = _object(raw, path)
        if legacy:
            yield from _entries({"auths": document}, (host,), path)
            continue
        # A helper keeps whole registries; it is asked before the file's own entries.
        for key, name in _mapping(document, "credHelpers", path).items():
            if registry_key(key) == host:
                yield HelperCall(_text(name, path), key, str(path))
        yield from _entries(document, _keys(host, repository), path)
        if document.get("credsStore"):
            server = _DOCKER_HUB_LEGACY_KEY if host == DOCKER_HUB else host
            yield HelperCall(_text(document["credsStore"], path), server, str(path))


def default_files(environment: Mapping[str, str], home: Path) -> list[tuple[Path, bool]]:
    """Return the files to look at when none is named, and whether each has the oldest form."""
    runtime = _path(environment.get("XDG_RUNTIME_DIR"))
    config = _path(environment.get("XDG_CONFIG_HOME")) or home / ".config"
    docker = _path(environment.get("DOCKER_CONFIG")) or home / ".docker"
    files = [(runtime / "containers" / "auth.json", False)] if runtime else []
    return [
        *files,
        (config / "containers" / "auth.json", False),
        (docker / "config.json", False),
        (home / ".dockercfg", True),
    ]


def registry_key(key: str) -> str:
    """Return the host that a file's key means: no scheme, no path, one name for Docker Hub."""
    host = key.removeprefix("https://").removeprefix("http://").partition("/")[0].lower()
    return DOCKER_HUB if host in _DOCKER_HUB_NAMES else host


def _keys(host: str, repository: str) -> tuple[str, ...]:
    """Return the names under which an entry may stand, from the repository up to the host."""
    parts = [host, *repository.split("/")]
    return tuple("/".join(parts[:count]) for count in range(len(parts), 0, -1))


def _entries(
    document: Mapping[str, object], keys: tuple[str, ...], path: Path
) -> Iterator[Credential]:
    auths = _mapping(document, "auths", path)
    host = keys[-1]
    for key in keys:
        # Exactly as it stands first: "docker.io/a" is a namespace, "https://h/v1/" a legacy key.
        exact = [name for name in auths if _namespace(name) == key]
        legacy = [name for name in auths if key == host == registry_key(name) and "://" in name]
        for name in dict.fromkeys([*exact, *legacy]):
            credential = _credential(auths[name], path)
            if credential is not None:
                yield credential


def _namespace(key: str) -> str:
    """Return a key of the newer form with its host normalised; legacy keys stay what they are."""
    if "://" in key:
        return key
    host, slash, rest = key.partition("/")
    return registry_key(host) + slash + rest


def _credential(entry: object, path: Path) -> Credential | None:
    """Read one entry of "auths". An empty one says that a credential store has it."""
    if not isinstance(entry, dict):
        raise _malformed(path, "an entry is not an object")
    identity, registry = (
        _text(entry.get(name) or "", path) for name in ("identitytoken", "registrytoken")
    )
    username, password = (_text(entry.get(name) or "", path) for name in ("username", "password"))
    if entry.get("auth"):
        username, password = _decode(_text(entry["auth"], path), path)
    if not (identity or registry or username):
        return None
    return Credential(username, password, identity, registry, str(path))


def _decode(auth: str, path: Path) -> tuple[str, str]:
    try:
        decoded = base64.b64decode(auth, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        decoded = ""
    username, colon, password = decoded.partition(":")
    if not colon:
        raise _malformed(path, 'an "auth" is not USER:PASSWORD in base64')
    return username, password.rstrip("\0")  # Docker once padded with zeros


def _object(raw: bytes, path: Path) -> dict[str, object]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _malformed(path, "it is not a JSON object")
    return document


def _mapping(document: Mapping[str, object], name: str, path: Path) -> dict[str, object]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _malformed(path, f'"{name}" is not an object')
    return value


def _text(value: object, path: Path) -> str:
    if not isinstance(value, str):
        raise _malformed(path, "a name or a secret is not a string")
    return value


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _printable(text: str) -> bool:
    return not any(letter < " " or letter == "\x7f" for letter in text)


def _malformed(path: Path, problem: str) -> UsageError:
    return UsageError(
        f"The credentials file {path} cannot be used: {problem}.",
        expected="the form that `docker login` and `skopeo login` write",
        hint="Mend it, or name another file with --authfile.",
    )
