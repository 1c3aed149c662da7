"""Which machines `ps --filter` shows. Owns the keys of filters and what each compares.

Filters of one key are alternatives, but labels, which must all be there; those of different keys
must all hold. So docker has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from converter.cli.machine_rows import state_word
from converter.errors import UsageError
from converter.image.reference import RegistryReference, parse_source
from converter.machine.machines import MachineRecord, Status

Test = Callable[[MachineRecord], bool]
Filters = Mapping[str, Sequence[Test]]

# A filter of these is about machines that do not run, too.
_ABOUT_ALL = frozenset({"status", "exited"})
_ALL_NEEDED = frozenset({"label"})
_HEALTH = ("starting", "healthy", "unhealthy", "none")
_DIGEST_DIGITS = 6  # of a digest without its algorithm, at least


def read_filters(texts: Sequence[str]) -> Filters:
    """Read "KEY=VALUE"s. Raises UsageError."""
    filters: dict[str, list[Test]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        make = _MAKERS.get(key)
        if make is None or not equals or not value:
            raise UsageError(
                f"--filter {text!r} is none that is known.",
                expected=f"KEY=VALUE with one of {', '.join(_MAKERS)}",
            )
        filters.setdefault(key, []).append(make(value))
    return filters


def shows_all(filters: Filters) -> bool:
    """Say whether the filters are about machines that do not run as well."""
    return bool(_ABOUT_ALL & filters.keys())


def passes(record: MachineRecord, filters: Filters) -> bool:
    """Say whether a machine is one of those that are asked for."""
    return all(
        (all if key in _ALL_NEEDED else any)(test(record) for test in tests)
        for key, tests in filters.items()
    )


def _name(value: str) -> Test:
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise UsageError(
            f"--filter name={value!r} is no pattern: {error}.", expected="a regular expression"
        ) from error
    return lambda record: pattern.search(record.name) is not None


def _id(value: str) -> Test:
    return lambda record: record.id.startswith(value)


def _status(value: str) -> Test:
    words = (*Status, "restarting")
    if value not in words:
        raise UsageError(
            f"--filter status={value!r} is no status.", expected=f"one of {', '.join(words)}"
        )
    return lambda record: state_word(record) == value


def _health(value: str) -> Test:
    if value not in _HEALTH:
        raise UsageError(
            f"--filter health={value!r} is no health.", expected=f"one of {', '.join(_HEALTH)}"
        )
    return lambda record: (record.health.status if record.health else "none") == value


def _exited(value: str) -> Test:
    if not (value.isascii() and value.isdigit()):
        raise UsageError(f"--filter exited={value!r} is no exit code.", expected="0 to 255")
    code = int(value)
    return lambda record: (
        record.status is Status.EXITED and record.end is not None and record.end.code == code
    )


def _label(value: str) -> Test:
    key, equals, wanted = value.partition("=")
    return lambda record: key in record.labels and (not equals or record.labels[key] == wanted)


def _ancestor(value: str) -> Test:
    digest = value.removeprefix("sha256:")
    is_digest = re.fullmatch(r"[0-9a-f]+", digest) is not None and (
        digest != value or len(digest) >= _DIGEST_DIGITS
    )
    wanted = _whole_name(value)

    def is_made_of(record: MachineRecord) -> bool:
        if is_digest and record.image_digest.startswith(f"sha256:{digest}"):
            return True
        return value == record.image or (wanted is not None and wanted == _whole_name(record.image))

    return is_made_of


def _whole_name(text: str) -> str | None:
    """Return an image's name with its registry and tag, as far as it is one of a registry."""
    try:
        reference = parse_source(text)
    except UsageError:
        return None
    return str(reference) if isinstance(reference, RegistryReference) else None


_MAKERS: Mapping[str, Callable[[str], Test]] = {
    "name": _name,
    "id": _id,
    "status": _status,
    "ancestor": _ancestor,
    "health": _health,
    "exited": _exited,
    "label": _label,
}
