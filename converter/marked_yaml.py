"""YAML whose values know their lines, for files that people write. Owns what of YAML we take.

Plain YAML in UTF-8 without anchors, aliases, merge keys and tags: a short file cannot stand for a
large one, and no value comes from a line other than its own. What the values mean is for others.
"""

from __future__ import annotations

from dataclasses import dataclass

import yaml
from yaml.reader import ReaderError

from converter.errors import UsageError
from converter.sizes import parse_size

_MOST_DEPTH = 16  # the parser's own recursion, and its time, are bounded by it
_OPENING = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSING = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


@dataclass(frozen=True, slots=True)
class Marked:
    """A value and the line it begins on, from 1 on.

    `value` is a str, int, float, bool, None or date, a tuple of Marked, or a dict from str to
    Marked, in the file's order.
    """

    value: object
    line: int


def read_marked(raw: bytes, *, what: str, most_bytes: int) -> Marked:
    """Read the one document that `raw` holds; `what` names the file in errors.

    Raises UsageError with the line for what is no YAML, or more of YAML than we take.
    """
    if len(raw) > most_bytes:
        raise UsageError(f"{what} has {len(raw)} bytes.", expected=f"at most {most_bytes}")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise fault(what, line, "there are bytes that are no UTF-8") from error
    try:
        _check_events(text, what)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        return Marked(None, 1) if node is None else _marked(loader, node, what)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = " ".join(str(error.problem or error.context).split())
        raise fault(what, line, f"this is no YAML: {ascii(problem)[1:-1]}") from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise fault(what, line, "there is a character that no YAML has") from error


def marked_size(marked: Marked) -> int:
    """Return a value that is a size, in bytes. Raises ValueError, whose text follows the line."""
    if isinstance(marked.value, bool) or not isinstance(marked.value, int | str):
        raise ValueError("it has to be a size, such as 512m or 16G")
    return parse_size(str(marked.value))


def fault(what: str, line: int, problem: str, *, expected: str | None = None) -> UsageError:
    """Return the error that says what is wrong in which line of the file `what`."""
    return UsageError(f"{what}, line {line}: {problem}.", expected=expected)


def _check_events(text: str, what: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise fault(what, line, "anchors and aliases are not taken", expected="plain values")
        if getattr(event, "tag", None):  # a value's form says what it is; a tag could belie it
            raise fault(what, line, "tags are not taken", expected="plain values")
        depth += isinstance(event, _OPENING) - isinstance(event, _CLOSING)
        if depth > _MOST_DEPTH:
            raise fault(what, line, f"more than {_MOST_DEPTH} values stand in one another")


def _marked(loader: yaml.SafeLoader, node: yaml.Node, what: str) -> Marked:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return Marked(tuple(_marked(loader, each, what) for each in node.value), line)
    if isinstance(node, yaml.MappingNode):
        return Marked(_mapping(loader, node, what), line)
    return Marked(_scalar(loader, node, what), line)


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode, what: str) -> dict[str, Marked]:
    found: dict[str, Marked] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = _scalar(loader, key_node, what) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            raise fault(what, line, "a key is no text", expected="a word before the colon")
        if key in found:
            raise fault(what, line, f"{key[:80]!a} was said before, in line {found[key].line}")
        found[key] = Marked(_marked(loader, value_node, what).value, line)
    return found


def _scalar(loader: yaml.SafeLoader, node: yaml.Node, what: str) -> object:
    try:
        return loader.construct_object(node)
    except ValueError as error:  # a date that no calendar has, a number of thousands of digits
        line = node.start_mark.line + 1
        raise fault(what, line, f"{str(node.value)[:80]!a} is no value: {error}") from error
