"""Reading a stranger's JSON object field by field. Owns the bounds, and errors that name the field.

What the fields mean is the business of `converter.image.documents`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn, Self, cast

from converter.errors import IntegrityError


def shown(text: str) -> str:
    """Return a stranger's text fit for a message: bounded, control characters escaped."""
    return ascii(text[:120])


_CONTAINERS: dict[type, str] = {dict: "an object", list: "a list"}


class JsonObject:
    """A JSON object that knows its place, so that every complaint can name the field."""

    def __init__(self, members: Mapping[str, object], what: str, place: str = "") -> None:
        self.members = members
        self.what = what
        self._place = place

    @classmethod
    def parse(cls, raw: bytes, *, what: str, limit: int) -> Self:
        """Read a whole document of at most `limit` bytes. Raises IntegrityError."""
        value = _parse(raw, what, limit)
        if not isinstance(value, dict):
            raise IntegrityError(f"{what} is not a JSON object.")
        return cls(cast("dict[str, object]", value), what)

    def path(self, name: str) -> str:
        """Return the place of the member `name` in the document, such as `layers[2].digest`."""
        return f"{self._place}.{name}" if self._place else name

    def fail(self, name: str, expected: str) -> NoReturn:
        """Raise IntegrityError for the member `name`, which should be `expected`."""
        if name not in self.members:
            found = "absent"
        else:
            value = self.members[name]
            found = _CONTAINERS.get(type(value)) or shown(json.dumps(value))
        raise IntegrityError(
            f"{self.what}: {self.path(name)} is {found}.", expected=f"{self.path(name)}: {expected}"
        )

    def integer(self, name: str) -> int:
        """Return a required integer; 1.0 and true are none. Raises IntegrityError."""
        value = self.members.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(name, "an integer")
        return value

    def text(self, name: str) -> str:
        """Return a required text that is not empty. Raises IntegrityError."""
        value = self.optional_text(name)
        if not value:
            self.fail(name, "a text that is not empty")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a text, or None where it is absent or null. Raises IntegrityError."""
        value = self.members.get(name)
        if value is not None and not isinstance(value, str):
            self.fail(name, "a text")
        return value

    def texts(self, name: str) -> Sequence[str]:
        """Return a required list of texts. Raises IntegrityError."""
        values = self.optional_texts(name)
        if values is None:
            self.fail(name, "a list of texts")
        return values

    def optional_texts(self, name: str) -> Sequence[str] | None:
        """Return a list of texts, or None where it is absent or null. Raises IntegrityError."""
        values = self.members.get(name)
        if values is None:
            return None
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            self.fail(name, "a list of texts")
        return cast("list[str]", values)

    def child(self, name: str) -> JsonObject:
        """Return a required object. Raises IntegrityError."""
        value = self.optional_child(name)
        if value is None:
            self.fail(name, "an object")
        return value

    def optional_child(self, name: str) -> JsonObject | None:
        """Return an object, or None where it is absent or null. Raises IntegrityError."""
        value = self.members.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.fail(name, "an object")
        return JsonObject(cast("dict[str, object]", value), self.what, self.path(name))

    def children(self, name: str) -> Sequence[JsonObject]:
        """Return a required list of objects; null is an empty one, as Go writes it.

        Raises IntegrityError.
        """
        values = self.members.get(name)
        if values is None and name in self.members:
            return []
        if not isinstance(values, list):
            self.fail(name, "a list of objects")
        found = []
        for number, value in enumerate(values):
            if not isinstance(value, dict):
                self.fail(name, f"a list of objects, but entry {number} is none")
            place = f"{self.path(name)}[{number}]"
            found.append(JsonObject(cast("dict[str, object]", value), self.what, place))
        return found

    def all_texts(self) -> Mapping[str, str]:
        """Return the members of an object that has only texts. Raises IntegrityError."""
        for name, value in self.members.items():
            if not isinstance(value, str):
                self.fail(name, "a text")
        return cast("dict[str, str]", self.members)


def parse_objects(raw: bytes, *, what: str, limit: int) -> Sequence[JsonObject]:
    """Read a document of at most `limit` bytes that is a list of objects. Raises IntegrityError."""
    value = _parse(raw, what, limit)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise IntegrityError(f"{what} is not a list of JSON objects.")
    return [JsonObject(entry, what, f"[{number}]") for number, entry in enumerate(value)]


def _parse(raw: bytes, what: str, limit: int) -> object:
    if len(raw) > limit:
        raise IntegrityError(f"{what} is {len(raw)} bytes long.", expected=f"at most {limit}")
    try:
        value: object = json.loads(raw.decode(), parse_constant=_refuse_constant)
        if rb"\u" in raw:
            # An escaped lone surrogate is no text: it could not be written anywhere again.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        problem = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        raise IntegrityError(f"{what} is not JSON: {problem}.") from None
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
