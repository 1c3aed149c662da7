"""A batch in a file: YAML, or JSON lines. Owns the file's form (docs/batch.md).

The whole file is read before anything is done with it; every fault is found, each with its line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from converter.batch.keys import IMAGE, KEYS, SETTINGS, Read, read_mapping
from converter.batch.treatments import treatment
from converter.batch.wishes import BatchFile, Entry, TagWish, Treatment
from converter.errors import SaltflatError, UsageError
from converter.image.reference import (
    ArchiveReference,
    BundleReference,
    RegistryReference,
    parse_source,
)
from converter.marked_yaml import Marked, fault, read_marked

SCHEMA = 1
MOST_BYTES = 64 << 20
_MOST_YAML_BYTES = 8 << 20  # of which its parser makes some GB; JSON lines are for more
_MOST_FAULTS_SHOWN = 50
_GLOB = frozenset("*?[")
_TRANSPORTS = frozenset({"oci", "oci-archive", "docker-archive", "bundle"})
_PLATFORMS = frozenset({"platform", "platforms"})  # two words for one thing
_SCHEMA_KEY, _DEFAULTS, _IMAGES = "schema", "defaults", "images"


def parse_batch(raw: bytes, *, name: str, base: Treatment) -> BatchFile:
    """Read a batch; `name` is the file's in errors, `base` holds where the file says nothing.

    Raises UsageError with all that is wrong, each with its line.
    """
    reading = _Reading(name, base)
    if len(raw) > MOST_BYTES:
        raise UsageError(f"{name} has {len(raw)} bytes or more.", expected=f"at most {MOST_BYTES}")
    if _is_json_lines(raw):
        reading.json_lines(raw)
    else:
        reading.document(read_marked(raw, what=name, most_bytes=_MOST_YAML_BYTES))
    return reading.finish()


class _Reading:
    """A file as far as it is read, and what is wrong with it."""

    def __init__(self, name: str, base: Treatment) -> None:
        self._name = name
        self._base = base
        self._defaults: Mapping[str, object] | None = None
        self._entries: list[Entry] = []
        self._faults: list[UsageError] = []

    def document(self, document: Marked) -> None:
        """Read a whole YAML document."""
        found = document.value
        if not isinstance(found, dict) or _IMAGES not in found:
            raise fault(
                self._name,
                document.line,
                "this is no batch",
                expected=f"a line {_IMAGES}: and the images below it, each behind a dash; "
                "or on each line, the first one too, a JSON value",
            )
        for key, marked in found.items():
            if key == _SCHEMA_KEY:
                self._check_schema(marked)
            elif key == _DEFAULTS:
                self._read_defaults(marked)
            elif key != _IMAGES:
                self._wrong(marked.line, f"there is no {key[:80]!a} in a batch")
        images = found[_IMAGES]
        if isinstance(images.value, tuple):
            for image in images.value:
                self._read_entry(image)
        elif images.value is not None:
            self._wrong(images.line, f"{_IMAGES} is no list")

    def json_lines(self, raw: bytes) -> None:
        """Read a file with one JSON value on each line."""
        for number, line in enumerate(raw.split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                value = _marked(json.loads(line, object_pairs_hook=_each_once), number)
            except _TwiceError as error:
                self._wrong(number, str(error))
                continue
            except (ValueError, RecursionError) as error:
                problem = getattr(error, "msg", str(error))
                self._wrong(number, f"this is no JSON: {ascii(problem)[1:-1]}")
                continue
            if isinstance(value.value, dict) and _DEFAULTS in value.value:
                self._read_defaults(value.value.pop(_DEFAULTS))
                schema = value.value.pop(_SCHEMA_KEY, None)
                if schema is not None:
                    self._check_schema(schema)
                for key in value.value:
                    self._wrong(number, f"{key[:80]!a} stands beside {_DEFAULTS}")
            else:
                self._read_entry(value)

    def finish(self) -> BatchFile:
        """Return what the file asks for. Raises UsageError with all that was wrong."""
        if not self._faults and not self._entries:
            raise UsageError(f"{self._name} names no image.", expected="one at least")
        if len(self._faults) == 1:
            raise self._faults[0]
        if self._faults:
            shown = [error.what for error in self._faults[:_MOST_FAULTS_SHOWN]]
            if len(self._faults) > len(shown):
                shown.append(f"and {len(self._faults) - len(shown)} more")
            raise UsageError(
                f"{self._name} has {len(self._faults)} faults:\n" + "\n".join(shown),
                hint=" ".join(dict.fromkeys(error.hint for error in self._faults if error.hint))
                or None,
            )
        return BatchFile(self._name, tuple(self._entries))

    def _check_schema(self, marked: Marked) -> None:
        if type(marked.value) is not int or marked.value != SCHEMA:
            self._wrong(marked.line, f"the schema is not {SCHEMA}, which this program reads")

    def _read_defaults(self, marked: Marked) -> None:
        if self._entries:
            self._wrong(marked.line, f"{_DEFAULTS} come behind images")
        if self._defaults is not None:
            self._wrong(marked.line, f"{_DEFAULTS} were said before")
        self._defaults = self._settings(marked, SETTINGS) or {}

    def _read_entry(self, marked: Marked) -> None:
        if isinstance(marked.value, dict):
            own = self._settings(marked, KEYS)
            if own is None:
                return
            if IMAGE not in own:
                self._wrong(marked.line, f"no {IMAGE} is named")
                return
        elif isinstance(marked.value, str):
            own = {IMAGE: marked.value}
        else:
            self._wrong(marked.line, "this is no image", "a reference, or lines of KEY: VALUE")
            return
        try:
            self._entries.append(self._entry(marked.line, {**self._inherited(own), **own}))
        except (SaltflatError, ValueError, OSError) as error:
            self._wrong(marked.line, str(error).rstrip("."), getattr(error, "expected", None))

    def _inherited(self, own: Mapping[str, object]) -> dict[str, object]:
        """Return the defaults for an image whose `own` words come before them."""
        values = dict(self._defaults or {})
        if _PLATFORMS & own.keys():
            for word in _PLATFORMS:
                values.pop(word, None)
        return values

    def _entry(self, line: int, values: Mapping[str, object]) -> Entry:
        source, patterns = str(values[IMAGE]), values.get("tags")
        newest = values.get("newest")
        assert newest is None or isinstance(newest, int), "its reader has seen to that"
        head, colon, tag = source.rpartition(":")
        # A folder or a file may have any name: what stands behind oci: alone is no tag.
        is_pattern = "/" not in tag and _GLOB & set(tag) and "@" not in source
        if colon and is_pattern and head not in _TRANSPORTS:
            if patterns is not None:
                raise ValueError("tags are named twice: behind the image and as tags")
            source, patterns = head, (tag,)
        reference = parse_source(source)
        if isinstance(reference, BundleReference):
            raise ValueError(f"{source} is a bundle, which is converted already")
        if isinstance(reference, ArchiveReference) and reference.file is None:
            raise ValueError("standard input cannot be an image of a batch; name a file")
        tags = None
        if patterns is not None or newest is not None:
            if not isinstance(reference, RegistryReference):
                raise ValueError(f"{source} is in no registry, which alone lists tags")
            if reference.digest is not None or ":" in source.rpartition("/")[2]:
                raise ValueError(f"{source} names an image already; tags are for a repository")
            assert patterns is None or isinstance(patterns, tuple), "its reader has seen to that"
            tags = TagWish(patterns or ("*",), newest)
        return Entry(line, source, tags, treatment(self._base, values))

    def _settings(self, marked: Marked, keys: Mapping[str, Read]) -> dict[str, object] | None:
        """Return the values of a mapping by their keys; None if one of them is wrong."""
        if marked.value is None:
            return {}
        if not isinstance(marked.value, dict):
            self._wrong(marked.line, "this is no list of settings", "lines of KEY: VALUE")
            return None
        values, faults = read_mapping(marked.value, keys)
        for line, problem in faults:
            self._wrong(line, problem)
        return None if faults else values

    def _wrong(self, line: int, problem: str, expected: str | None = None) -> None:
        self._faults.append(fault(self._name, line, problem, expected=expected))


def _is_json_lines(raw: bytes) -> bool:
    """Tell whether the first line is a JSON value that is an image's, or the defaults."""
    first = next((line for line in raw.split(b"\n", 1000) if line.strip()), b"")
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, str) or (isinstance(value, dict) and _IMAGES not in value)


class _TwiceError(ValueError):
    """A key stands twice in an object, where JSON leaves open which of them holds. (RFC 8259, 4)"""


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _value in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _TwiceError(f"{twice[:80]!a} was said before, in the same line")
    return found


def _marked(value: object, line: int) -> Marked:
    if isinstance(value, dict):
        return Marked({key: _marked(each, line) for key, each in value.items()}, line)
    if isinstance(value, list):
        return Marked(tuple(_marked(each, line) for each in value), line)
    return Marked(value, line)
