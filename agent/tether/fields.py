"""Checking members of a JSON document, with errors that name the member by its path.

Owns what a text, a list, a number may be; which members there are is `config`'s matter. All raise
StartError("config").
"""

from __future__ import annotations

from agent.hints import Mapping, Optional, Tuple
from agent.tether.errors import StartError

Arguments = Tuple[str, ...]


def wrong(field: str, expected: str) -> StartError:
    """Return the error for a member that is not what was `expected`."""
    return StartError("config", "config field {}: expected {}".format(field, expected))


def json_object(parent: Mapping[str, object], name: str, field: str) -> Mapping[str, object]:
    """Return the object that the member must be."""
    value = parent.get(name)
    if not isinstance(value, dict):
        raise wrong(field, "an object")
    return value


def checked(value: object, field: str) -> str:
    """Accept text that can become a C string: no NUL, and encodable."""
    if not isinstance(value, str):
        raise wrong(field, "text")
    if "\0" in value:
        raise wrong(field, "text without NUL")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise wrong(field, "text that UTF-8 can express") from error
    return value


def text(parent: Mapping[str, object], name: str, field: str) -> str:
    """Return the text that the member must be."""
    return checked(parent.get(name), field)


def optional_text(parent: Mapping[str, object], name: str, field: str) -> str | None:
    """Return the text, None when there is none."""
    value = parent.get(name)
    return None if value is None else checked(value, field)


def arguments(parent: Mapping[str, object], name: str, field: str) -> Arguments | None:
    """Return a list of text; a lone string is a list of one, as Docker's own decoder has it."""
    value = parent.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise wrong(field, "a list of text")
    return tuple(checked(item, "{}[{}]".format(field, index)) for index, item in enumerate(value))


def flag(parent: Mapping[str, object], name: str, field: str) -> bool:
    """Return true or false, which a missing member is."""
    value = parent.get(name, False)
    if not isinstance(value, bool):
        raise wrong(field, "true or false")
    return value


def whole(
    parent: Mapping[str, object],
    name: str,
    field: str,
    low: int,
    high: int,
    *,
    default: Optional[int] = None,
) -> int:
    """Return the whole number from `low` to `high`; `default` when there is none."""
    value = parent.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise wrong(field, "a whole number from {} to {}".format(low, high))
    return value
