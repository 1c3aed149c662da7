"""Environment variables for a guest's process as docker takes them: -e and --env-file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from converter.errors import UsageError

_LIMIT_BYTES = 16 << 20


def read_environment(settings: Sequence[str], files: Sequence[Path] = ()) -> tuple[str, ...]:
    """Return "K=V" for each variable; those of `files` come first, so that `settings` win.

    KEY alone takes the caller's value. If it has none, it stays KEY in `settings`, which takes the
    image's variable away, and means nothing in `files`. A file has a variable a line; lines that
    are empty or begin with # are skipped. Raises UsageError.
    """
    resolved: list[str] = []
    for path in files:
        for number, line in _lines(path):
            resolved += _resolve(line, f"{path}, line {number}:")
    for setting in settings:
        resolved += _resolve(setting, "-e") or [setting]
    return tuple(resolved)


def _resolve(setting: str, where: str) -> list[str]:
    key, equals, _ = setting.partition("=")
    if not key or key != key.strip() or "\0" in setting:
        raise UsageError(f"{where} {setting!r} names no variable.", expected="KEY or KEY=VALUE")
    if equals:
        return [setting]
    return [f"{key}={os.environ[key]}"] if key in os.environ else []


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open("rb") as file:
            text = file.read(_LIMIT_BYTES + 1).decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8: {error.reason}.") from error
    if len(text) > _LIMIT_BYTES:
        raise UsageError(f"{path} is too large for a file of variables.")
    for number, line in enumerate(text.split("\n"), start=1):
        # What is before the key does not count, what is behind the value does.
        kept = line.removesuffix("\r").lstrip()
        if kept and not kept.startswith("#"):
            yield number, kept
