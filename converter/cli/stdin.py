"""Standard input has one reader in a command. Owns who that is."""

from __future__ import annotations

import click

from converter.errors import UsageError

_READER = "converter.cli.stdin.reader"


def claim_stdin(reader: str) -> None:
    """Note that `reader` ("run -i") will read standard input in the command that runs.

    To be called before the first byte is read. Raises UsageError if somebody else will.
    """
    claimed = click.get_current_context().meta
    other = claimed.setdefault(_READER, reader)
    if other != reader:
        raise UsageError(
            f"Both {other} and {reader} would read standard input.",
            expected="one reader of it in a command",
            hint="Put one of the two into a file.",
        )
