"""The words of a batch's file, each with what reads its value. Owns their table.

A word that is an option of `convert`, `export`, `push` or `vsphere import` means what that does.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path

from converter.artifact.codec import Codec
from converter.batch.places import check_template
from converter.errors import SaltflatError
from converter.export.kinds import EXPORT_TYPES
from converter.export.options import BOOT_MEDIA
from converter.export.request import CODECS
from converter.export.settings import Firmware
from converter.groups import MAX_LINKS
from converter.image.platform import Platform
from converter.marked_yaml import Marked
from converter.policy import ANYTHING, Policy
from converter.policy_file import read_policy
from converter.registry.options import MOST_TIMEOUT_SECONDS as _LONGEST
from converter.registry.options import Mirror
from converter.sizes import parse_size
from converter.vmdk.compression import LEVELS
from converter.vsphere.placement import Provisioning

IMAGE = "image"
_REGEX = "regex:"
Read = Callable[[Marked], object]


class ManyFaultsError(ValueError):
    """Things are wrong within a value, each in a line of its own."""

    def __init__(self, faults: list[tuple[int, str]]) -> None:
        super().__init__("; ".join(problem for _line, problem in faults))
        self.faults = faults


def read_mapping(
    found: Mapping[str, Marked], keys: Mapping[str, Read]
) -> tuple[dict[str, object], list[tuple[int, str]]]:
    """Return the values of `found` as `keys` read them, and what is wrong: lines and problems."""
    values: dict[str, object] = {}
    faults: list[tuple[int, str]] = []
    for key, marked in found.items():
        read = keys.get(key)
        if read is None:
            close = get_close_matches(key[:80], keys, n=1)
            meant = f"; is it {close[0]} that you mean" if close else ""
            faults.append((marked.line, f"there is no setting {key[:80]!a} here{meant}"))
            continue
        try:
            values[key] = read(marked)
        except ManyFaultsError as error:
            faults += [(line, f"{key}: {problem}") for line, problem in error.faults]
        except SaltflatError as error:
            faults.append((marked.line, f"{key}: {error.what.rstrip('.')}"))
        except (ValueError, OSError) as error:
            faults.append((marked.line, f"{key}: {str(error).rstrip('.')}"))
    return values, faults


def text(marked: Marked) -> str:
    """Read a text; a number that YAML made of one is refused, for its digits may be others."""
    if not isinstance(marked.value, str):
        raise ValueError("it has to be a text; put it into quotes")
    if not marked.value or not marked.value.isprintable():
        raise ValueError("it is empty, or has control characters")
    return marked.value


def flag(marked: Marked) -> bool:
    """Read true or false."""
    if not isinstance(marked.value, bool):
        raise ValueError("it has to be true or false")
    return marked.value


def path(marked: Marked) -> Path:
    """Read the path of a file that is there."""
    found = Path(text(marked))
    if not found.is_file():
        raise ValueError(f"there is no file {found}")
    return found


def size(marked: Marked) -> int:
    """Read a size in bytes."""
    if isinstance(marked.value, bool) or not isinstance(marked.value, int | str):
        raise ValueError("it has to be a size, such as 512m or 16G")
    return parse_size(str(marked.value))


def template(marked: Marked) -> str:
    """Read where something goes."""
    found = text(marked)
    check_template(found)
    return found


def number(least: int, most: int | None = None) -> Read:
    """Return what reads a whole number."""

    def read(marked: Marked) -> int:
        value = marked.value
        if type(value) is not int or value < least or (most is not None and value > most):
            bounds = f"from {least} to {most}" if most is not None else f"of {least} or more"
            raise ValueError(f"it has to be a number {bounds}")
        return value

    return read


def seconds(marked: Marked) -> float:
    """Read a time."""
    value = marked.value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST:
        raise ValueError(f"it has to be a number of seconds, at most {_LONGEST}")
    return float(value)


def choice(*names: str) -> Read:
    """Return what reads one of `names`."""

    def read(marked: Marked) -> str:
        value = marked.value
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"it has to be one of: {', '.join(names)}")
        return value

    return read


def several(read: Read) -> Read:
    """Return what reads a list of what `read` reads, or one of them; the values as a tuple."""

    def read_all(marked: Marked) -> tuple[object, ...]:
        each = marked.value if isinstance(marked.value, tuple) else (marked,)
        values: list[object] = []
        faults: list[tuple[int, str]] = []
        for one in each:
            try:
                values.append(read(one))
            except ManyFaultsError as error:
                faults += error.faults
            except SaltflatError as error:
                faults.append((one.line, error.what.rstrip(".")))
            except (ValueError, OSError) as error:
                faults.append((one.line, str(error).rstrip(".")))
        if faults:
            raise ManyFaultsError(faults)
        return tuple(values)

    return read_all


def mapping(keys: Mapping[str, Read], *, needed: tuple[str, ...] = (), short: str = "") -> Read:
    """Return what reads a mapping with `keys`, of which `needed` must be there.

    A text alone stands for the value of the key `short`, if there is one. None stays None, for
    what a default says is not to be done.
    """

    def read(marked: Marked) -> dict[str, object] | None:
        if marked.value is None or marked.value is False:
            return None
        if short and isinstance(marked.value, str):
            return {short: keys[short](marked)}
        if not isinstance(marked.value, dict):
            raise ValueError("it has to be lines of KEY: VALUE")
        values, faults = read_mapping(marked.value, keys)
        faults += [
            (marked.line, f"{name} is not said") for name in needed if name not in marked.value
        ]
        if faults:
            raise ManyFaultsError(faults)
        return values

    return read


def _pattern(marked: Marked) -> str:
    pattern = text(marked)
    if pattern.startswith(_REGEX):
        try:
            with warnings.catch_warnings(action="ignore"):  # of what might mean something else once
                re.compile(pattern.removeprefix(_REGEX))
        except re.error as error:
            raise ValueError(f"{pattern[:80]!a} is no regular expression: {error}") from error
    return pattern


def _policy(marked: Marked) -> Policy:
    """Read a policy's file; None takes a default's away, as it does with outputs."""
    return ANYTHING if marked.value is None else read_policy(Path(text(marked)))


def _platform(marked: Marked) -> Platform:
    return Platform.parse(text(marked))


_MACHINE: dict[str, Read] = {
    "boot": text,
    "memory": size,
    "cpus": number(1, 128),
    "firmware": choice(*(firmware.value for firmware in Firmware)),
    "serial": text,
    "serial-log": flag,
    "key-file": path,
    "hostname": text,
}
_PACKAGE: dict[str, Read] = {
    "delta": flag,
    "property": several(text),
    "network-name": text,
    "boot-medium": choice(*BOOT_MEDIA),
    "sign": path,
    "cert": path,
}
_EXPORT: dict[str, Read] = {
    "type": choice(*EXPORT_TYPES),
    "output": template,
    "force": flag,
    "codec": choice(*CODECS),
    "compression-level": number(0, max(level for levels in LEVELS.values() for level in levels)),
    "provenance": flag,
    "sbom": flag,
    **_MACHINE,
    **_PACKAGE,
}
_BUNDLE: dict[str, Read] = {"output": template, "boot": text, "force": flag, "copy": flag}
_PUSH: dict[str, Read] = {"target": template, "codec": choice(*(codec.value for codec in Codec))}
_VSPHERE: dict[str, Read] = {
    "name": template,
    "provisioning": choice(*(one.value for one in Provisioning)),
    "replace": flag,
    "url": text,
    "username": text,
    "password-file": path,
    "thumbprint": several(text),
    "ca-file": several(path),
    "insecure": flag,
    "timeout": seconds,
    "datacenter": text,
    "cluster": text,
    "host": text,
    "resource-pool": text,
    "folder": text,
    "datastore": text,
    "network": text,
    "storage-policy": text,
}
OUTPUT_KEYS = frozenset({*_BUNDLE, *_EXPORT, *_PUSH, *_VSPHERE})
# What holds for one image or, among the defaults, for all of them.
SETTINGS: dict[str, Read] = {
    "capacity": size,
    "journal": flag,
    "max-links": number(1, MAX_LINKS),
    "max-entries": number(1),
    "max-layer-size": size,
    "max-ratio": number(1),
    "policy": _policy,
    "platform": _platform,
    "platforms": several(_platform),
    "foreign-layers": flag,
    "plain-http": flag,
    "tls-verify": flag,
    "ca-file": path,
    "authfile": path,
    "mirror": several(lambda marked: Mirror.parse(text(marked))),
    "retries": number(0, 100),
    "timeout": seconds,
    "bundle": mapping(_BUNDLE, needed=("output",), short="output"),
    "export": several(mapping(_EXPORT, needed=("type", "output"))),
    "push": mapping(_PUSH, needed=("target",), short="target"),
    "vsphere": mapping(_VSPHERE),
}
KEYS: dict[str, Read] = {
    IMAGE: text,
    "tags": several(_pattern),
    "newest": number(1),
    **SETTINGS,
}
