"""A policy in a file. Owns the file's form (docs/formats.md); what rules mean is policy's."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from converter.errors import NotFoundError, UsageError
from converter.image.reference import parse_scope
from converter.marked_yaml import Marked, fault, marked_size, read_marked
from converter.policy import (
    DIGEST,
    LOCAL_SOURCES,
    MAX_COMPRESSED_SIZE,
    MAX_DISK_SIZE,
    MAX_LAYERS,
    REGISTRIES,
    USER,
    Policy,
    UserRule,
)

SCHEMA = 1
_MOST_BYTES = 256 << 10
_REQUIRED = "required"


class _WrongEntryError(ValueError):
    """An entry of a list is wrong; the list begins elsewhere."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


def read_policy(path: Path) -> Policy:
    """Read the policy in the file `path`.

    Raises UsageError that names the line of what is wrong, NotFoundError, OSError.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no policy {path}.", expected="a file of rules") from error
    return parse_policy(raw, origin=str(path))


def parse_policy(raw: bytes, *, origin: str) -> Policy:
    """Read a policy; `origin` names its file in errors and refusals. Raises UsageError."""
    document = read_marked(raw, what=origin, most_bytes=_MOST_BYTES)
    rules = document.value
    if not isinstance(rules, dict):
        raise fault(origin, document.line, "this is no policy", expected="lines of RULE: VALUE")
    schema = rules.pop("schema", None)
    if schema is None or type(schema.value) is not int or schema.value != SCHEMA:
        line = document.line if schema is None else schema.line
        raise fault(
            origin, line, "which schema this has, is not said", expected=f"schema: {SCHEMA}"
        )
    found: dict[str, object] = {}
    for name, marked in rules.items():
        if name not in _READERS:
            raise _unknown(origin, name, marked.line)
        member, read = _READERS[name]
        try:
            found[member] = read(marked)
        except _WrongEntryError as error:
            raise fault(origin, error.line, f"{name}: {error}") from error
        except ValueError as error:
            raise fault(origin, marked.line, f"{name}: {error}") from error
    return Policy(origin=origin, **found)  # type: ignore[arg-type]  # each reader has its member's


def _unknown(origin: str, name: str, line: int) -> UsageError:
    error = fault(
        origin,
        line,
        f"there is no rule {name[:80]!a}",
        expected=f"one of: {', '.join(_READERS)}",
    )
    if close := get_close_matches(name[:80], _READERS, n=1):
        error.hint = f"Is it {close[0]} that you mean?"
    return error


def _registries(marked: Marked) -> tuple[str, ...]:
    if not isinstance(marked.value, tuple):
        raise ValueError("it has to be a list: one place on a line, behind a dash")
    return tuple(_place(each) for each in marked.value)


def _place(entry: Marked) -> str:
    value = entry.value
    if not isinstance(value, str):
        raise _WrongEntryError(entry.line, "an entry is no text; put it into quotes")
    if value in LOCAL_SOURCES:
        return value
    try:
        return parse_scope(value)
    except UsageError as error:
        raise _WrongEntryError(
            entry.line, f"{value[:80]!a} is none of HOST, HOST/NAME, {', '.join(LOCAL_SOURCES)}"
        ) from error


def _digest(marked: Marked) -> bool:
    if marked.value != _REQUIRED:
        raise ValueError(f"it can be nothing but {_REQUIRED}")
    return True


def _count(marked: Marked) -> int:
    if type(marked.value) is not int or marked.value < 0:
        raise ValueError("it has to be a number")
    return marked.value


def _user(marked: Marked) -> UserRule:
    names = [rule.value for rule in UserRule]
    if marked.value not in names:
        raise ValueError(f"it has to be one of: {', '.join(names)}")
    return UserRule(marked.value)


# rule: (its member of Policy, what reads its value and raises ValueError)
_READERS: dict[str, tuple[str, Callable[[Marked], object]]] = {
    REGISTRIES: ("registries", _registries),
    DIGEST: ("digest", _digest),
    MAX_COMPRESSED_SIZE: ("max_compressed_bytes", marked_size),
    MAX_DISK_SIZE: ("max_disk_bytes", marked_size),
    MAX_LAYERS: ("max_layers", _count),
    USER: ("user", _user),
}
