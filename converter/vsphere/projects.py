"""Projects: what a team has of a vSphere. Owns the file that says so (docs/formats.md).

A project is a resource pool with limits, a folder, and defaults for what goes there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path

from converter.errors import NotFoundError, UsageError
from converter.marked_yaml import Marked, fault, marked_size, read_marked
from converter.vsphere.placement import Provisioning
from converter.vsphere.settings import Wishes

SCHEMA = 1
_MOST_BYTES = 256 << 10
_NAME_LENGTH = 80  # of anything in vSphere
_LEAST_MEMORY_BYTES = 1 << 20  # vSphere counts mebibytes
_URL, _PROVISIONING, _LIMITS = "url", "provisioning", "limits"
_PROVISIONINGS = tuple(one.value for one in Provisioning)


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that all machines of a project have together; None for no limit of its own."""

    cpu_mhz: int | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """One project. None stands for what the file leaves open."""

    name: str
    url: str | None = None
    wishes: Wishes = field(default_factory=Wishes)
    limits: Limits = field(default_factory=Limits)


def read_projects(path: Path) -> Mapping[str, Project]:
    """Read the projects in the file `path`, by name.

    Raises UsageError that names the line of what is wrong, NotFoundError, OSError.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"There is no file of projects {path}.",
            expected="one as docs/formats.md has it, here or where --projects says",
            cause="no-project",
        ) from error
    return parse_projects(raw, origin=str(path))


def find_project(projects: Mapping[str, Project], name: str, *, origin: str) -> Project:
    """Return one project of the file `origin`. Raises NotFoundError."""
    try:
        return projects[name]
    except KeyError:
        raise NotFoundError(
            f"There is no project {name[:_NAME_LENGTH]!a} in {origin}.",
            expected="one of " + ", ".join(sorted(projects)) if projects else "at least one",
            cause="no-project",
        ) from None


def parse_projects(raw: bytes, *, origin: str) -> Mapping[str, Project]:
    """Read projects; `origin` names their file in errors. Raises UsageError."""
    document = read_marked(raw, what=origin, most_bytes=_MOST_BYTES)
    members = _mapping(document, origin, "projects")
    schema = members.pop("schema", None)
    if schema is None or type(schema.value) is not int or schema.value != SCHEMA:
        line = document.line if schema is None else schema.line
        raise fault(
            origin, line, "which schema this has, is not said", expected=f"schema: {SCHEMA}"
        )
    listed = members.pop("projects", None)
    for name, marked in members.items():
        raise _unknown(origin, name, marked.line, ("schema", "projects"))
    if listed is None:
        return {}
    return {
        name: _project(name, marked, origin)
        for name, marked in _mapping(listed, origin, "projects").items()
    }


def _project(name: str, marked: Marked, origin: str) -> Project:
    wishes: dict[str, str] = {}
    url = None
    limits = Limits()
    for key, value in _mapping(marked, origin, f"the project {name!a}").items():
        try:
            if key in _WISHES:
                wishes[_WISHES[key]] = _text(value)
            elif key == _LIMITS:
                limits = _limits(value, origin)
            elif key == _URL:
                url = _server(value)
            else:
                raise _unknown(origin, key, value.line, (_URL, *_WISHES, _LIMITS))
        except ValueError as error:
            raise fault(origin, value.line, f"{key}: {error}") from error
        if key == _PROVISIONING and value.value not in _PROVISIONINGS:
            raise fault(
                origin, value.line, f"{key}: it has to be one of: {', '.join(_PROVISIONINGS)}"
            )
    return Project(name=name, url=url, wishes=Wishes(**wishes), limits=limits)


def _limits(marked: Marked, origin: str) -> Limits:
    found: dict[str, int] = {}
    for key, value in _mapping(marked, origin, _LIMITS).items():
        if key not in _LIMIT_READERS:
            raise _unknown(origin, key, value.line, _LIMIT_READERS)
        member, read = _LIMIT_READERS[key]
        try:
            found[member] = read(value)
        except ValueError as error:
            raise fault(origin, value.line, f"{key}: {error}") from error
    return Limits(**found)


def _mapping(marked: Marked, origin: str, what: str) -> dict[str, Marked]:
    if not isinstance(marked.value, dict):
        raise fault(origin, marked.line, f"{what}: lines of NAME: VALUE have to follow")
    return dict(marked.value)


def _unknown(
    origin: str, name: str, line: int, known: Mapping[str, object] | tuple[str, ...]
) -> UsageError:
    error = fault(
        origin, line, f"there is no member {name[:80]!a}", expected=f"one of: {', '.join(known)}"
    )
    if close := get_close_matches(name[:80], known, n=1):
        error.hint = f"Is it {close[0]} that you mean?"
    return error


def _text(marked: Marked) -> str:
    if not isinstance(marked.value, str) or not marked.value.strip():
        raise ValueError("it has to be a name or a path; put a number into quotes")
    return marked.value


def _server(marked: Marked) -> str:
    url = _text(marked)
    user, at, _host = url.rpartition("://")[2].rpartition("@")
    if at and ":" in user:
        raise ValueError("a password has no place in this file; it goes where vsphere.md says")
    return url


def _megahertz(marked: Marked) -> int:
    if type(marked.value) is not int or marked.value < 1:
        raise ValueError("it has to be a number of MHz")
    return marked.value


def _memory(marked: Marked) -> int:
    size_bytes = marked_size(marked)
    if size_bytes < _LEAST_MEMORY_BYTES or size_bytes % _LEAST_MEMORY_BYTES:
        raise ValueError("it has to be whole mebibytes")
    return size_bytes


# member in the file: in Wishes. They are called as the options are.
_WISHES = {one.name.replace("_", "-"): one.name for one in fields(Wishes)}
_LIMIT_READERS: dict[str, tuple[str, Callable[[Marked], int]]] = {
    "cpu-mhz": ("cpu_mhz", _megahertz),
    "memory": ("memory_bytes", _memory),
}
