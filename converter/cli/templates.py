"""Rows of results in a form of the user's: placeholders like docker's, tables, JSON. Pure.

Owns a small part of Go's template language, the part that people type after --format: a field in
{{.Name}}, {{json .Name}}, {{json .}}, and plain text with \\t and \\n.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from converter.errors import UsageError

_ACTION = re.compile(r"\{\{-?\s*(?:(json)\s+)?\.(\w*)\s*-?\}\}")
_ESCAPES = {r"\t": "\t", r"\n": "\n"}
_GAP = 3  # between columns
_TABLE = "table"


@dataclass(frozen=True, slots=True)
class Template:
    """A row's form: plain text and actions in turn. An action is (as JSON, field or "")."""

    parts: tuple[str | tuple[bool, str], ...]
    is_table: bool

    def heading(self, headings: Mapping[str, str]) -> str:
        """Return the line above a table: the headings in the fields' places."""
        return "".join(
            part if isinstance(part, str) else headings.get(part[1], "") for part in self.parts
        )

    def render(self, row: Mapping[str, str]) -> str:
        """Return one row."""
        return "".join(
            part if isinstance(part, str) else _value(row, as_json=part[0], field=part[1])
            for part in self.parts
        )

    def lines(self, rows: Sequence[Mapping[str, str]], headings: Mapping[str, str]) -> list[str]:
        """Return all rows as lines, in columns and below their headings if it is a table."""
        rendered = [self.render(row) for row in rows]
        if not self.is_table:
            return rendered
        return columns([line.split("\t") for line in [self.heading(headings), *rendered]])


def read_template(text: str, fields: Mapping[str, str]) -> Template:
    """Read what follows --format. Raises UsageError, which names the `fields` that there are."""
    is_table = text == _TABLE or text.startswith(f"{_TABLE} ")
    body = text.removeprefix(_TABLE).lstrip(" ") if is_table else text
    for escape, character in _ESCAPES.items():
        body = body.replace(escape, character)
    parts: list[str | tuple[bool, str]] = []
    end = 0
    for match in _ACTION.finditer(body):
        parts.append(_plain(body[end : match.start()], text))
        as_json, field = match[1] is not None, match[2]
        if field not in fields and not (as_json and not field):
            raise UsageError(
                f"--format {text!r} asks for {field or 'everything'!r}, which there is not.",
                expected=f"one of {', '.join('.' + name for name in fields)}",
            )
        parts.append((as_json, field))
        end = match.end()
    parts.append(_plain(body[end:], text))
    return Template(tuple(parts), is_table)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines whose cells stand below each other."""
    count = max((len(row) for row in rows), default=0)
    widths = [
        max((len(row[at]) for row in rows if at < len(row)), default=0) for at in range(count)
    ]
    return [
        "".join(cell.ljust(width + _GAP) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    ]


def _plain(text: str, whole: str) -> str:
    if "{{" in text or "}}" in text:
        raise UsageError(
            f"--format {whole!r} has a placeholder that is not known.",
            expected="{{.Field}}, {{json .Field}} or {{json .}}, and text",
        )
    return text


def _value(row: Mapping[str, str], *, as_json: bool, field: str) -> str:
    if not as_json:
        return row[field]
    return json.dumps(row[field] if field else dict(row))
