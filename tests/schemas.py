"""Results held against the schemas in docs/schema, every member of them.

The published schemas allow members that they do not name, for there may be more of them one day.
Here they allow none, so that a member cannot be there without being described.
"""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import jsonschema
from referencing import Registry, Resource

from converter.cli.app import top

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "schema"
VERBS = frozenset(top.list_commands(click.Context(top)))
DEFINITIONS = "definitions"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem != DEFINITIONS)
# The schemas whose names are not verbs, which follow from what a result says of itself.
_KINDS = {"image": "inspect-image", "bundle": "inspect-bundle", "machine": "machine"}


def check(name: str, document: Any) -> None:
    """Raise ValidationError unless `document` is what the schema `name` describes, and no more."""
    _validator(name).validate(document)


def check_output(arguments: Sequence[str], done: subprocess.CompletedProcess[bytes]) -> None:
    """Check whatever a command said in JSON and has a schema: its result, errors, progress."""
    asked = list(itertools.pairwise(arguments))
    is_json = ("--format", "json") in asked or "--format=json" in arguments
    for line in done.stderr.splitlines() if is_json or ("--progress", "json") in asked else ():
        if line.startswith(b'{"schema"'):
            said = json.loads(line)
            check("error" if "error" in said else "progress", said)
    name = _result_name(arguments) if is_json and done.stdout.startswith(b"{") else None
    if name is not None:
        result = json.loads(done.stdout)
        check(_KINDS[result["kind"]] if name == "inspect" else name, result)


def _result_name(arguments: Sequence[str]) -> str | None:
    """Return the schema of a command's result, "inspect" for one of three, None if it has none."""
    words = [word for word in arguments if not word.startswith("-")]
    verb = next((number for number, word in enumerate(words) if word in VERBS), len(words))
    below = "-".join(words[verb : verb + 2])  # "store-ls", or a verb and its first argument
    names = [name for name in (below, *words[verb : verb + 1]) if name in {*NAMES, "inspect"}]
    if names[:1] == ["batch"] and "--dry-run" in arguments:
        return "batch-plan"
    return names[0] if names else None


@functools.cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    schemas = [_closed(json.loads(path.read_bytes())) for path in FOLDER.glob("*.json")]
    known = Registry().with_resources(
        (schema["$id"], Resource.from_contents(schema)) for schema in schemas
    )
    return jsonschema.Draft202012Validator(
        next(schema for schema in schemas if schema["$id"] == f"{name}.json"), registry=known
    )


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(each) for key, each in schema.items()}
    is_described = isinstance(closed.get("properties"), dict) and "type" in closed
    return {"additionalProperties": False, **closed} if is_described else closed
