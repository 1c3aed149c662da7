"""Which vSphere, as whom, trusted how, and where in it: from the command line and the environment.

Pure but for files that the environment names. GOVC_* variables describe one server, GOVC_URL's, and
count where it is the one that is meant: a password, or a laxness, is not carried to another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from converter.errors import AuthError, UsageError
from converter.vsphere.c_vsphere import HTTP_PORT, HTTPS_PORT, SDK_PATH
from converter.vsphere.trust import Trust, read_thumbprint

PASSWORD_VARIABLE = "SALTFLAT_VSPHERE_PASSWORD"  # noqa: S105 - a variable's name
DEFAULT_TIMEOUT_SECONDS = 60.0
_SCHEMES = {"https": HTTPS_PORT, "http": HTTP_PORT}
_TRUE = frozenset({"1", "true"})  # as govc has it
_NOT_GOVC = frozenset({"storage_policy", "provisioning"})  # wishes that it has no variables for


@dataclass(frozen=True, slots=True)
class Address:
    """Where the API is served."""

    scheme: str
    host: str
    port: int
    path: str = SDK_PATH

    @property
    def url(self) -> str:
        """Return it as a URL, which has no secret in it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class Wishes:
    """Where machines are to be, by name or path; None leaves it to the inventory.

    `provisioning` is how their disks are made, one of the values of placement.Provisioning.
    """

    datacenter: str | None = None
    datastore: str | None = None
    resource_pool: str | None = None
    folder: str | None = None
    cluster: str | None = None
    host: str | None = None
    network: str | None = None
    storage_policy: str | None = None
    provisioning: str | None = None

    def over(self, others: Wishes) -> Wishes:
        """Return these wishes, and of `others` what these leave open."""
        ours = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(others, **{name: wish for name, wish in ours.items() if wish is not None})


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says, and our own variables behind its options."""

    url: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    trust: Trust = field(default_factory=Trust)
    wishes: Wishes = field(default_factory=Wishes)
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class Settings:
    """All that it takes to be at a vSphere; `password_from` says where the password is from."""

    address: Address
    username: str
    password: str | None = field(repr=False)
    password_from: str
    trust: Trust
    wishes: Wishes
    timeout_seconds: float

    def secret(self) -> str:
        """Return the password. Raises AuthError if none was given."""
        if not self.password:
            raise AuthError(
                f"There is no password for {self.username} at {self.address.url}.",
                expected=f"one in {PASSWORD_VARIABLE}, in --vsphere-password-file, on "
                "--vsphere-password-stdin, or in GOVC_PASSWORD for the server of GOVC_URL",
                cause="no-password",
            )
        return self.password


def read_settings(given: Given, environment: Mapping[str, str]) -> Settings:
    """Return the settings that hold, each from the first place that has it.

    Raises UsageError when there is no server or no user, or when something is malformed.
    """
    govc = _Govc.read(environment)
    if given.url:
        server = _Server.parse(given.url, "the URL of vSphere")
        if govc is not None and govc.server.address != server.address:
            govc = None
    elif govc is not None:
        # What govc would take for it: its own variables before what the URL says.
        server = replace(govc.server, username=govc.username, password=govc.password)
    else:
        raise UsageError(
            "Which vSphere is meant is not said.",
            # The machines' verbs have no option for it.
            expected="SALTFLAT_VSPHERE_URL or GOVC_URL, or --vsphere-url of the vsphere verbs: "
            "https://HOST[:PORT][/sdk]",
        )
    username = given.username or server.username or (govc and govc.username)
    if not username:
        raise UsageError(
            f"Who to be at {server.address.url} is not said.",
            expected="--vsphere-username, SALTFLAT_VSPHERE_USERNAME, GOVC_USERNAME, or a name in "
            "the URL",
        )
    trust = given.trust
    if govc is not None and not (trust.thumbprints or trust.ca_files or trust.insecure):
        trust = govc.trust
    if server.address.scheme == "http" and trust.verifies:
        raise UsageError(
            f"{server.address.url} is not encrypted: everybody on the way would read the password.",
            expected="https",
            hint="If that is wanted, as with a simulator on this host, say --vsphere-insecure.",
        )
    password, place = _password(given, server, govc, username, environment)
    return Settings(
        address=server.address,
        username=username,
        password=password,
        password_from=place,
        trust=trust,
        wishes=given.wishes.over(govc.wishes) if govc is not None else given.wishes,
        timeout_seconds=given.timeout_seconds,
    )


@dataclass(frozen=True, slots=True)
class _Server:
    """What a URL says."""

    address: Address
    username: str | None
    password: str | None = field(repr=False)

    @classmethod
    def parse(cls, text: str, what: str) -> _Server:
        """Read a URL as govc does: https and /sdk unless it says otherwise."""
        try:
            parts = urlsplit(text if "://" in text else f"https://{text}")
            port = parts.port
        except ValueError:
            port, parts = -1, urlsplit("")
        if parts.scheme not in _SCHEMES or not parts.hostname or port == 0:
            # Without what may be a password, however it was garbled.
            shown = text.rpartition("@")[2] if "@" in text else "what it is set to"
            raise UsageError(
                f"{what[:1].upper()}{what[1:]} cannot be read ({shown}).",
                expected="https://HOST[:PORT][/sdk]",
                hint="In a name or password write %40 for @, %2F for /, %3A for :, %23 for #.",
            )
        path = parts.path.rstrip("/") or SDK_PATH
        address = Address(parts.scheme, parts.hostname, port or _SCHEMES[parts.scheme], path)
        return cls(
            address,
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
        )


@dataclass(frozen=True, slots=True)
class _Govc:
    """What govc's variables say."""

    server: _Server
    username: str | None
    password: str | None = field(repr=False)
    trust: Trust
    wishes: Wishes

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> _Govc | None:
        """Return what they say, None if they name no server."""
        if not environment.get("GOVC_URL"):
            return None
        server = _Server.parse(environment["GOVC_URL"], "GOVC_URL")
        authorities = environment.get("GOVC_TLS_CA_CERTS", "")
        return cls(
            server=server,
            username=environment.get("GOVC_USERNAME") or server.username,
            password=environment.get("GOVC_PASSWORD") or server.password,
            trust=Trust(
                ca_files=tuple(Path(name) for name in authorities.split(os.pathsep) if name),
                thumbprints=_known_hosts(environment, server.address),
                insecure=environment.get("GOVC_INSECURE", "").lower() in _TRUE,
            ),
            wishes=Wishes(
                **{
                    one.name: environment.get(f"GOVC_{one.name.upper()}") or None
                    for one in fields(Wishes)
                    if one.name not in _NOT_GOVC
                }
            ),
        )


def _known_hosts(environment: Mapping[str, str], address: Address) -> tuple[str, ...]:
    """Return the thumbprints that govc's files of known hosts have for a server.

    A line is HOST[:PORT], a space, and the thumbprint; files that are not there have none.
    """
    names = {address.host, f"[{address.host}]", f"{address.host}:{address.port}"}
    names.add(f"[{address.host}]:{address.port}")
    found = []
    for name in environment.get("GOVC_TLS_KNOWN_HOSTS", "").split(os.pathsep):
        try:
            lines = Path(name).read_text("utf-8").splitlines() if name else []
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{name} of GOVC_TLS_KNOWN_HOSTS cannot be read: {error}.",
                expected="lines of a host, a space and its certificate's thumbprint",
            ) from error
        for line in lines:
            host, _space, rest = line.partition(" ")
            if host in names:
                found.append(read_thumbprint(rest))
    return tuple(found)


def _password(
    given: Given,
    server: _Server,
    govc: _Govc | None,
    username: str,
    environment: Mapping[str, str],
) -> tuple[str | None, str]:
    """Return the password and where it is from. One beside another user's name is not taken."""
    if given.password:
        return given.password, "the command line"
    if ours := environment.get(PASSWORD_VARIABLE):
        return ours, PASSWORD_VARIABLE
    if given.url and server.password and server.username == username:
        return server.password, "the URL"
    if govc is not None and govc.password and govc.username == username:
        return govc.password, "govc's variables"
    return None, "nowhere"
