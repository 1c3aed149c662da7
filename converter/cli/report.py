"""Errors on stderr, in the form that was asked for. Owns the words around their own."""

from __future__ import annotations

import json
import traceback

import click

from converter.cli.output import Output
from converter.errors import SaltflatError


def report(output: Output, error: SaltflatError, code: int) -> None:
    """Print an error, with the exit code that it leads to."""
    output.close()
    if output.debug:
        traceback.print_exception(error)
    if output.format == "json":
        document = {
            "schema": 1,
            "error": {
                "kind": error.kind,
                **({"cause": error.cause} if error.cause else {}),
                "what": error.what,
                "expected": error.expected,
                "hint": error.hint,
                "exit_code": code,
            },
        }
        click.echo(json.dumps(document), err=True)
        return
    click.echo(f"Error: {error.what}", err=True)
    if error.expected:
        click.echo(f"Expected: {error.expected}", err=True)
    if error.hint:
        click.echo(f"Next: {error.hint}", err=True)
