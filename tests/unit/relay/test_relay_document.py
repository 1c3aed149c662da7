"""docs/relay.md is the specification: its tables say what the code has."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from agent.host.relay import c_relay
from agent.host.relay.condition import Condition
from agent.host.relay.requests import VERBS

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "relay.md").read_text()


def table(heading):
    """Return the rows of the first table under a heading, without its head."""
    section = TEXT.split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize(
    ("heading", "fields"),
    [
        ("Record", c_relay.RECORD_FIELDS),
        ("Frame", c_relay.FRAME_FIELDS),
        ("Output", c_relay.OUTPUT_FIELDS),
    ],
)
def test_layouts(heading, fields):
    offset = 0
    expected = []
    for name, code in fields:
        size = struct.calcsize(f">{code}")
        expected.append([str(offset), str(size), name])
        offset += size
    assert [row[:3] for row in table(heading)] == expected


@pytest.mark.parametrize(
    ("heading", "kinds"),
    [("Record kinds", c_relay.RecordKind), ("Frame kinds", c_relay.FrameKind)],
)
def test_kinds(heading, kinds):
    values = {name: value for name, value in vars(kinds).items() if name.isupper()}
    assert {row[1]: int(row[0]) for row in table(heading)} == values


def test_requests_and_what_they_need():
    assert {row[0]: row[1] for row in table("Requests")} == VERBS


def test_conditions():
    assert [row[0] for row in table("Conditions")] == [str(c) for c in Condition]


def test_numbers():
    assert f"at most {c_relay.FRAME_LIMIT}" in TEXT
    assert f"at most {c_relay.STDIN_WINDOW} bytes" in TEXT
    assert c_relay.RECORD_MAGIC.decode() in TEXT
