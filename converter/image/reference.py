"""What a person calls an image or a bundle. Owns the grammar of sources and their one text form.

Registry references are read as Docker reads them: the grammar and the rule that tells a host from a
repository are those of the distribution project's reference package (regexp.go, normalize.go).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from converter.errors import UsageError
from converter.image.digest import Digest

DOCKER_HUB = "docker.io"
_DOCKER_HUB_LEGACY = "index.docker.io"
_DOCKER_HUB_API = "registry-1.docker.io"  # docker.io itself serves people, not clients
_OFFICIAL = "library/"
_DEFAULT_TAG = "latest"
_LOCALHOST = "localhost"

MAX_REPOSITORY_LENGTH = 255
MAX_LAYOUT_TAG_LENGTH = 255
_MAX_PORT = 65535

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[A-Fa-f0-9:]+\])(?::(?P<port>[0-9]+))?")
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IMAGE_ID = re.compile(r"[a-f0-9]{64}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

# image-spec annotations.md, org.opencontainers.image.ref.name
_LAYOUT_TAG = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+/]|--)[A-Za-z0-9]+)*")

# Transports of other tools (containers-transports(5)) that can be told from a repository's name.
_FOREIGN_TRANSPORTS = ("containers-storage", "docker-daemon")
_STANDARD_INPUT = "-"
_MANIFEST_INDEX = re.compile(r"@([0-9]{1,6})")
_FORMS = (
    "Known forms: [docker://]HOST/NAME[:TAG][@DIGEST], oci:DIR[:TAG], oci-archive:FILE[:TAG], "
    "docker-archive:FILE[:NAME[:TAG]], bundle:DIR; FILE may be - for standard input."
)


@dataclass(frozen=True, slots=True)
class RegistryReference:
    """Name an image in a registry, by its tag or by its digest: exactly one of them is set."""

    host: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def api_host(self) -> str:
        """The host (and port) that serves the registry's API."""
        return _DOCKER_HUB_API if self.host == DOCKER_HUB else self.host

    @property
    def identifier(self) -> str:
        """The tag or the digest's text: the last part of a manifest's URL."""
        return str(self.digest or self.tag)

    def __str__(self) -> str:
        mark = "@" if self.digest else ":"
        return f"{self.host}/{self.repository}{mark}{self.identifier}"


@dataclass(frozen=True, slots=True)
class LayoutReference:
    """Name an image in an OCI image layout folder; without a tag, the only one that is there."""

    path: Path
    tag: str | None = None

    def __str__(self) -> str:
        return f"oci:{self.path}:{self.tag}" if self.tag else f"oci:{self.path}"


@dataclass(frozen=True, slots=True)
class LayoutArchiveReference:
    """Name an image in a tar archive of an OCI image layout; `file` is None for standard input."""

    file: Path | None
    tag: str | None = None

    def __str__(self) -> str:
        return f"oci-archive:{_file_text(self.file)}" + (f":{self.tag}" if self.tag else "")


@dataclass(frozen=True, slots=True)
class DockerArchiveReference:
    """Name an image in what `docker save` wrote; `file` is None for standard input.

    `name` is one of the image's names, or `number` its place in the archive's manifest.json, from 0
    on. At most one of them is set; without both it is the only image that is there.
    """

    file: Path | None
    name: RegistryReference | None = None
    number: int | None = None

    def __str__(self) -> str:
        chosen = f"@{self.number}" if self.number is not None else str(self.name or "")
        return f"docker-archive:{_file_text(self.file)}" + (f":{chosen}" if chosen else "")


@dataclass(frozen=True, slots=True)
class BundleReference:
    """Name a folder that an earlier conversion wrote."""

    path: Path

    def __str__(self) -> str:
        return f"bundle:{self.path}"


ArchiveReference = LayoutArchiveReference | DockerArchiveReference
ImageReference = RegistryReference | LayoutReference | ArchiveReference
SourceReference = ImageReference | BundleReference


def parse_source(text: str) -> SourceReference:
    """Read SOURCE or BUNDLE as it stands on a command line. Raises UsageError.

    A path that begins with `/` or `.` and `bundle:DIR` are bundles, `oci:DIR[:TAG]` is a layout,
    `oci-archive:FILE[:TAG]` and `docker-archive:FILE[:REF]` are archives; everything else is a
    registry reference, with or without `docker://`.
    """
    if not text.isprintable():
        raise _wrong(text, "it has control characters or no valid characters in it")
    if text.startswith(("/", ".")):
        return BundleReference(Path(text))
    transport, colon, rest = text.partition(":")
    if colon and transport == "bundle":
        return BundleReference(_folder(text, rest))
    if colon and transport == "oci":
        folder, tag = _parse_layout(text, rest)
        return LayoutReference(_folder(text, folder), tag)
    if colon and transport == "oci-archive":
        file, tag = _parse_layout(text, rest)
        return LayoutArchiveReference(_file(text, file), tag)
    if colon and transport == "docker-archive":
        return _parse_docker_archive(text, rest)
    if colon and transport in _FOREIGN_TRANSPORTS:
        raise UsageError(f"{transport}: is not a source that saltflat reads.", hint=_FORMS)
    return _parse_registry(text, text.removeprefix("docker://"))


def parse_repository_tag(text: str) -> RegistryReference:
    """Read `[HOST/]NAME[:TAG]` as docker does, as archives name their images. Raises UsageError."""
    return _parse_registry(text, text)


def parse_scope(text: str) -> str:
    """Read `HOST[/NAME]`, a registry or the repositories under a name in it; return its one form.

    Nothing is filled in but Docker Hub's older name: the host must be there. Raises UsageError.
    """
    first, slash, name = text.partition("/")
    if not _looks_like_host(first):
        raise _wrong(text, "it does not begin with a registry's host")
    host = DOCKER_HUB if first == _DOCKER_HUB_LEGACY else first
    _check_host(text, host)
    if slash:
        _check_repository(text, name)
    return host + slash + name


def _parse_layout(text: str, rest: str) -> tuple[str, str | None]:
    # As in containers-transports(5), the first colon ends the path: tags may have colons.
    path, colon, tag = rest.partition(":")
    if not colon:
        return path, None
    if len(tag) > MAX_LAYOUT_TAG_LENGTH or not _LAYOUT_TAG.fullmatch(tag):
        raise _wrong(text, "its tag is not a reference name of an OCI layout")
    return path, tag


def _parse_docker_archive(text: str, rest: str) -> DockerArchiveReference:
    path, colon, chosen = rest.partition(":")
    file = _file(text, path)
    if not colon:
        return DockerArchiveReference(file)
    if number := _MANIFEST_INDEX.fullmatch(chosen):
        return DockerArchiveReference(file, number=int(number[1]))
    if "@" in chosen:
        raise _wrong(text, "archives know images by name and tag or by @NUMBER, not by digest")
    return DockerArchiveReference(file, _parse_registry(text, chosen))


def _file(text: str, file: str) -> Path | None:
    if not file:
        raise _wrong(text, "the file is missing")
    return None if file == _STANDARD_INPUT else Path(file)


def _file_text(file: Path | None) -> str:
    if file is None:
        return _STANDARD_INPUT
    return f"./{file}" if str(file) == _STANDARD_INPUT else str(file)


def _folder(text: str, folder: str) -> Path:
    if not folder:
        raise _wrong(text, "the folder is missing")
    return Path(folder)


def _parse_registry(text: str, rest: str) -> RegistryReference:
    scheme = _SCHEME.match(rest)
    if scheme:
        raise _wrong(text, f"{scheme[1]}:// is not part of a reference")
    if _IMAGE_ID.fullmatch(rest):
        raise _wrong(text, "64 hex digits are an image's id, which registries do not know")
    named, at, digest_text = rest.partition("@")
    host, remainder = _split_host(named)
    repository, colon, tag = remainder.partition(":")
    if host == DOCKER_HUB and "/" not in repository:
        repository = _OFFICIAL + repository
    _check_host(text, host)
    _check_repository(text, repository)
    if colon and not _TAG.fullmatch(tag):
        raise _wrong(text, "its tag is not 1 to 128 letters, digits, dots, dashes or underscores")
    if at:
        # Docker's rule: the digest says it all. A tag beside it is checked for form and dropped.
        try:
            return RegistryReference(host, repository, digest=Digest.parse(digest_text))
        except ValueError as error:
            raise _wrong(text, f"its digest is wrong: {error}") from None
    return RegistryReference(host, repository, tag=tag if colon else _DEFAULT_TAG)


def _split_host(named: str) -> tuple[str, str]:
    first, slash, others = named.partition("/")
    if not slash:
        return DOCKER_HUB, named
    if first == _DOCKER_HUB_LEGACY:
        return DOCKER_HUB, others
    return (first, others) if _looks_like_host(first) else (DOCKER_HUB, named)


def _looks_like_host(first: str) -> bool:
    return first == _LOCALHOST or "." in first or ":" in first or first != first.lower()


def _check_host(text: str, host: str) -> None:
    match = _HOST.fullmatch(host)
    if not match:
        raise _wrong(text, f"{host!r} is not a host name")
    if match["port"] and not 0 < int(match["port"]) <= _MAX_PORT:
        raise _wrong(text, f"{match['port']} is not a port number")


def _check_repository(text: str, repository: str) -> None:
    if repository != repository.lower():
        raise _wrong(text, "its repository name has upper case letters")
    if len(repository) > MAX_REPOSITORY_LENGTH:
        raise _wrong(text, f"its repository name is longer than {MAX_REPOSITORY_LENGTH} characters")
    if not _REPOSITORY.fullmatch(repository):
        raise _wrong(text, "its repository name is missing or malformed")


def _wrong(text: str, problem: str) -> UsageError:
    return UsageError(f"{text[:300]!a} is not a source: {problem}.", hint=_FORMS)
