"""The commands by their paths. Owns the walk over the verbs; writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click

WIDTH = 100  # of help texts, in columns


@dataclass(frozen=True, slots=True)
class Page:
    """One command: its path ("saltflat", "store", "ls"), and the context that its help needs."""

    path: tuple[str, ...]
    command: click.Command
    context: click.Context

    @property
    def subcommands(self) -> tuple[str, ...]:
        """The names of what is below, in the order of the overview."""
        if not isinstance(self.command, click.Group):
            return ()
        return tuple(self.command.list_commands(self.context))


def pages(
    command: click.Command, path: tuple[str, ...], parent: click.Context | None = None
) -> Iterator[Page]:
    """Yield `command` and then everything below it, each after what it stands under."""
    context = click.Context(
        command,
        info_name=path[-1],
        parent=parent,
        max_content_width=WIDTH,
        # The top command's, which all below inherit, as when they are called.
        help_option_names=command.context_settings.get("help_option_names"),
    )
    context.terminal_width = WIDTH
    page = Page(path, command, context)
    yield page
    for name in page.subcommands:
        assert isinstance(command, click.Group), "only groups have subcommands"
        below = command.get_command(context, name)
        assert below is not None, f"{path} lists {name} and does not have it"
        yield from pages(below, (*path, name), context)
