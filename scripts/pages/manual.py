"""Man pages of the commands. Owns their sections and the escapes of man(7); pure.

Source of the form: man-pages(7) for the sections and their order, groff_man(7) for the macros.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator

import click

from converter import __version__
from scripts.pages.commands import Page

_VERBATIM = "\b"  # click's mark of a paragraph whose lines stay
_EXAMPLES = "Examples:"
_BREAKABLE = re.compile(r"[,|](?=\S)")
_INDENT = re.compile(r"^ {2}", re.MULTILINE)


def file_name(path: Iterable[str]) -> str:
    """Return the name of a command's page: git-commit(1) taught the world the dash."""
    return f"{'-'.join(path)}.1"


def manual(page: Page, every: Iterable[Page]) -> str:
    """Return the man page of one command; `every` page is there to be referred to."""
    name = "-".join(page.path)
    paragraphs = _paragraphs(page.command.help or "")
    head, *rest = paragraphs or [""]
    examples = [text for text in rest if text.startswith(f"{_VERBATIM}\n{_EXAMPLES}")]
    summary = " ".join(head.split()).partition(". ")[0].rstrip(".")
    lines = [
        # No date: the same sources give the same page.
        f'.TH "{_text(name.upper())}" 1 "" "saltflat {__version__}" "saltflat"',
        *(".ad l", ".nh"),  # options and references must not be torn apart
        *(".SH NAME", f"{_text(name)} \\- {_text(summary)}"),
        *(".SH SYNOPSIS", *_synopsis(page)),
        ".SH DESCRIPTION",
        *(line for text in [head, *rest] if text not in examples for line in _paragraph(text)),
        *_options(page),
        *_commands(page),
    ]
    if examples:
        lines.append(".SH EXAMPLES")
        for text in examples:
            body = text.partition(_EXAMPLES)[2].strip("\n")
            lines += _verbatim(_INDENT.sub("", body))
    lines += [
        ".SH EXIT STATUS",
        "0 where it worked, 125 for failures of saltflat itself in commands that end with the exit",
        "code of a guest's process; every code is in docs/exit\\-codes.md.",
        *_see_also(page, every),
    ]
    return "\n".join(lines) + "\n"


def _paragraphs(help_text: str) -> list[str]:
    return [text for text in re.split(r"\n\s*\n", inspect.cleandoc(help_text)) if text.strip()]


def _paragraph(text: str) -> Iterator[str]:
    if text.startswith(_VERBATIM):
        yield from _verbatim(text.removeprefix(f"{_VERBATIM}\n"))
        return
    yield ".PP"
    yield from (_text(line.strip()) for line in text.splitlines())


def _verbatim(text: str) -> list[str]:
    return [".PP", ".nf", ".RS 4", *(_text(line) for line in text.splitlines()), ".RE", ".fi"]


def _synopsis(page: Page) -> list[str]:
    usage = " ".join(page.command.collect_usage_pieces(page.context))
    return [f".B {_text(' '.join(page.path))}", _text(usage)]


def _options(page: Page) -> list[str]:
    lines: list[str] = []
    for parameter in page.command.get_params(page.context):
        record = parameter.get_help_record(page.context)
        if isinstance(parameter, click.Option) and record is not None:
            names, text = record
            lines += [".TP", f".B {_text(names)}", _text(" ".join(text.split()))]
    return [".SH OPTIONS", *lines]


def _commands(page: Page) -> list[str]:
    lines: list[str] = []
    for name in page.subcommands:
        assert isinstance(page.command, click.Group), "only groups have subcommands"
        below = page.command.get_command(page.context, name)
        assert below is not None, f"{name} is listed"
        lines += [".TP", f".B {_text(name)}", _text(below.get_short_help_str(limit=100))]
    return [".SH COMMANDS", *lines] if lines else []


def _see_also(page: Page, every: Iterable[Page]) -> list[str]:
    """Refer to what is above a command, and to what is right below it."""
    related = [
        "-".join(other.path)
        for other in every
        if other.path == page.path[:-1] or other.path[:-1] == page.path
    ]
    if not related:
        return []
    *others, last = (f".BR {_text(name)} (1)" for name in related)
    return [".SH SEE ALSO", *(f"{each}," for each in others), last]


def _text(text: str) -> str:
    """Return text as man(7) prints it: a line that begins like a request is none."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    escaped = _BREAKABLE.sub(r"\g<0>\:", escaped)  # long ones may be parted there
    escaped = escaped.replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
