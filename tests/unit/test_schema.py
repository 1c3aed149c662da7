"""The published schemas are schemas, say what they describe, and refuse what they do not."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import jsonschema
import pytest

from agent.host.status import ExitStatus, Failure
from converter.errors import SaltflatError
from converter.machine.machines import MachineRecord, Status
from tests.schemas import DEFINITIONS, FOLDER, NAMES, check, check_output

DIGEST = "sha256:" + "ab" * 32


def schema(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_bytes())


@pytest.mark.parametrize("name", [DEFINITIONS, *NAMES])
def test_each_is_a_schema_and_has_its_files_name(name: str) -> None:
    found = schema(name)
    jsonschema.Draft202012Validator.check_schema(found)
    assert found["$id"] == f"{name}.json"
    assert f"`{name}.json`" in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("document", [{}, {"schema": 2}, [], None])
def test_none_takes_what_says_nothing(name: str, document: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(name, document)


@pytest.mark.parametrize(
    ("status", "end"),
    [
        (Status.CREATED, None),
        (Status.EXITED, ExitStatus(7)),
        (Status.EXITED, ExitStatus(137, signal=9, oom=True, restarts=True)),
        (Status.DEAD, ExitStatus(127, failure=Failure("command", "there is none"))),
    ],
)
def test_a_machine_in_each_state(status: Status, end: ExitStatus | None) -> None:
    record = MachineRecord(
        id="ab" * 32,
        name="web",
        status=status,
        image="debian:12",
        image_digest=DIGEST,
        created_ns=1,
        end=end,
    )
    document = record.to_json()
    check("machine", document)
    check("ps", {"schema": 1, "machines": [document]})
    for member in document:
        with pytest.raises(jsonschema.ValidationError):
            check("machine", {key: document[key] for key in document if key != member})
    with pytest.raises(jsonschema.ValidationError):
        check("machine", {**document, "more": 1})


def test_every_kind_of_error_is_told_of() -> None:
    kinds = {SaltflatError.kind, *(error.kind for error in SaltflatError.__subclasses__())}
    described = schema("error")["properties"]["error"]["properties"]["kind"]
    assert set(described["examples"]) == kinds


@pytest.mark.parametrize(
    ("arguments", "stdout", "fits"),
    [
        (["--progress", "json", "verify", "b", "--format", "json"], b'{"schema": 1}', False),
        (["boot", "verify", "--format", "json"], b'{"schema": 1}', True),  # has no schema
        (["store", "gc", "--format=json"], b'{"schema": 1}', False),
        (["inspect", "x", "--format", "json"], b'{"schema": 1, "kind": "image"}', False),
        (["verify", "b"], b"text", True),
    ],
)
def test_outputs_are_held_against_the_schema_of_their_verb(
    arguments: list[str], stdout: bytes, fits: bool
) -> None:
    done = subprocess.CompletedProcess(arguments, 0, stdout, b"")
    if fits:
        check_output(arguments, done)
    else:
        with pytest.raises(jsonschema.ValidationError):
            check_output(arguments, done)
