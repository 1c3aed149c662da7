"""What --format takes: docker's placeholders, tables, JSON."""

from __future__ import annotations

import json

import pytest

from converter.cli.templates import columns, read_template
from converter.errors import UsageError

HEADINGS = {"ID": "MACHINE ID", "Names": "NAMES"}
ROWS = [{"ID": "1234", "Names": "quick"}, {"ID": "56", "Names": "a-longer-name"}]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("{{.Names}}", ["quick", "a-longer-name"]),
        ("{{ .ID }}={{.Names}}!", ["1234=quick!", "56=a-longer-name!"]),
        (r"{{.ID}}\t{{.Names}}", ["1234\tquick", "56\ta-longer-name"]),
        (r"{{.ID}}\n", ["1234\n", "56\n"]),
        ("{{json .Names}}", ['"quick"', '"a-longer-name"']),
        ("plain", ["plain", "plain"]),
        ("", ["", ""]),
        (
            r"table {{.ID}}\t{{.Names}}",
            ["MACHINE ID   NAMES", "1234         quick", "56           a-longer-name"],
        ),
        ("table {{.Names}}", ["NAMES", "quick", "a-longer-name"]),
    ],
)
def test_rows(text, lines):
    assert read_template(text, HEADINGS).lines(ROWS, HEADINGS) == lines


def test_a_whole_row_as_json():
    (line, _) = read_template("{{json .}}", HEADINGS).lines(ROWS, HEADINGS)
    assert json.loads(line) == ROWS[0]


@pytest.mark.parametrize(
    "text", ["{{.Nothing}}", "{{.}}", "{{Names}}", "{{.Names", "{{range .Names}}", "{{.ID}} }}"]
)
def test_what_is_not_known_is_named(text):
    with pytest.raises(UsageError) as caught:
        read_template(text, HEADINGS)
    assert ".ID" in caught.value.expected or "{{.Field}}" in caught.value.expected


def test_columns_of_uneven_rows():
    assert columns([]) == []
    assert columns([["a"], ["bb", "c"]]) == ["a", "bb   c"]
