"""Which volumes a run asks for: `-v`, `--mount` and the image's own, by Docker's rules. Pure.

Sources of the rules: Docker Engine, volume/mounts/linux_parser.go (specifications and their modes)
and daemon/volumes.go (which of several for one target counts); Docker CLI, opts/mount.go (the
comma-separated form). What Docker does with folders of the host is refused: a machine has disks.
"""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

from converter.errors import UsageError
from converter.volume.name import check_name

MOST_VOLUMES = 59  # four adapters of 15 disks, as vSphere has them, less the root disk

_ACCESS = frozenset({"rw", "ro"})
_COPY = frozenset({"nocopy"})
# For folders of a host under SELinux, or of a Mac: Docker takes and ignores them for volumes.
_LABEL = frozenset({"z", "Z"})
_CONSISTENCY = frozenset({"consistent", "cached", "delegated"})
_MODES = (_ACCESS, _COPY, _LABEL, _CONSISTENCY)

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})  # Go, strconv.ParseBool
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_SWITCHES = frozenset({"readonly", "ro", "volume-nocopy"})
_MOUNT_FORM = "type=volume,[source=NAME,]target=PATH[,readonly][,volume-nocopy]"
_MOUNT_KEYS = (
    "type, source, src, target, destination, dst, readonly, ro, volume-nocopy, volume-label, "
    "volume-opt=size=SIZE, volume-driver=local"
)
_NO_HOST_FOLDERS = (
    "A machine has disks and shares no folder with its host. Use a named volume (-v NAME:PATH), "
    "copy files into the machine (saltflat cp), or put them into the image."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRequest:
    """One volume that a machine shall have at `target`, an absolute, normal path.

    Without a `name` a new one is made for this machine alone. `copy`: an empty volume takes over
    what the image has there. `size_bytes` and `labels` are for a volume that has yet to be made.
    """

    target: str
    name: str | None = None
    read_only: bool = False
    copy: bool = True
    size_bytes: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


def volume_requests(
    specifications: Sequence[str],
    mounts: Sequence[str],
    image_volumes: Iterable[str],
    *,
    read_size: Callable[[str], int],
) -> tuple[VolumeRequest, ...]:
    """Return what `-v`, `--mount` and the image's configuration ask for, outer targets first.

    A target that the command line gives a volume is not given one of the image's or of `-v PATH`.
    `read_size` reads a size. Raises UsageError for what is wrong, and for two volumes at one place.
    """
    asked = [parse_specification(text) for text in specifications]
    unnamed = [request for request in asked if request.name is None]
    unnamed += [VolumeRequest(target=_target(f"/{path}", path)) for path in image_volumes]
    chosen: dict[str, VolumeRequest] = {}
    for request in (
        *(request for request in asked if request.name is not None),
        *(parse_mount(text, read_size=read_size) for text in mounts),
    ):
        if request.target in chosen:
            raise UsageError(
                f"Two volumes are to be mounted at {request.target}.", expected="one for each path"
            )
        chosen[request.target] = request
    for request in unnamed:
        chosen.setdefault(request.target, request)
    if len(chosen) > MOST_VOLUMES:
        raise UsageError(
            f"{len(chosen)} volumes are asked for.",
            expected=f"at most {MOST_VOLUMES} for one machine",
        )
    return tuple(sorted(chosen.values(), key=lambda one: (one.target.count("/"), one.target)))


def parse_specification(text: str) -> VolumeRequest:
    """Read what follows `-v`: PATH, NAME:PATH or NAME:PATH:MODES. Raises UsageError."""
    parts = text.split(":")
    if not parts[0] or len(parts) > 3 or (len(parts) == 2 and _modes(parts[1]) is not None):
        raise UsageError(
            f"-v {text!r} is not a volume.", expected="-v NAME:PATH[:ro][,nocopy] or -v PATH"
        )
    if len(parts) == 1:
        return VolumeRequest(target=_target(text, text))
    source, target = parts[0], parts[1]
    if source.startswith(("/", ".", "~")):
        raise UsageError(
            f"-v {text!r} names a folder of this host.",
            expected="the name of a volume",
            hint=_NO_HOST_FOLDERS,
        )
    modes = _modes(parts[2] if len(parts) == 3 else "")
    if modes is None:
        raise UsageError(
            f"-v {text!r} has the mode {parts[2]!r}.",
            expected="ro, rw and nocopy, separated by commas",
        )
    check_name(source)
    return VolumeRequest(
        name=source,
        target=_target(target, target),
        read_only="ro" in modes,
        copy="nocopy" not in modes,
    )


def parse_mount(text: str, *, read_size: Callable[[str], int]) -> VolumeRequest:
    """Read what follows `--mount`: comma-separated KEY=VALUE, quoted as in CSV. Raises UsageError.

    Also what `read_size` raises for a size that is none.
    """
    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as error:
        raise UsageError(f"--mount {text!r} is malformed: {error}.", expected=_MOUNT_FORM) from None
    request = VolumeRequest(target="")
    labels: dict[str, str] = {}
    for entry in fields:
        key, equals, value = entry.partition("=")
        key = key.lower()
        if not equals and key not in _SWITCHES:
            raise UsageError(
                f"--mount {text!r}: the field {entry!r} has no value.", expected=_MOUNT_FORM
            )
        if key == "type":
            _check_type(value.lower(), text)
        elif key in ("source", "src"):
            request = replace(request, name=value or None)
        elif key in ("target", "destination", "dst"):
            request = replace(request, target=value)
        elif key in ("readonly", "ro"):
            request = replace(request, read_only=_flag(value if equals else "true", entry))
        elif key == "volume-nocopy":
            request = replace(request, copy=not _flag(value if equals else "true", entry))
        elif key == "volume-label":
            name, _, label = value.partition("=")
            labels[name] = label
        elif key == "volume-opt" and value.startswith("size="):
            request = replace(request, size_bytes=read_size(value.removeprefix("size=")))
        elif key == "volume-driver" and value == "local":
            pass
        else:
            raise UsageError(
                f"--mount {text!r}: {entry!r} is not known.", expected=f"one of {_MOUNT_KEYS}"
            )
    if not request.target:
        raise UsageError(f"--mount {text!r} has no target.", expected=_MOUNT_FORM)
    if request.name is not None:
        check_name(request.name)
    elif request.read_only:
        raise UsageError(
            f"--mount {text!r}: a new volume that cannot be written to is of no use.",
            expected="a source with readonly",
        )
    return replace(request, target=_target(request.target, text), labels=labels)


def _check_type(kind: str, text: str) -> None:
    if kind == "volume":
        return
    if kind == "bind":
        raise UsageError(
            f"--mount {text!r} is a folder of this host.",
            expected="type=volume",
            hint=_NO_HOST_FOLDERS,
        )
    raise UsageError(
        f"--mount {text!r}: the type {kind!r} is not known.",
        expected="type=volume",
        hint="--tmpfs PATH mounts a file system in memory." if kind == "tmpfs" else None,
    )


def _modes(text: str) -> frozenset[str] | None:
    """Return the modes in `text`; None if one is not known or two exclude each other."""
    modes = text.split(",") if text else []
    known = frozenset().union(*_MODES)
    if not known.issuperset(modes):
        return None
    if any(sum(mode in group for mode in modes) > 1 for group in _MODES):
        return None
    return frozenset(modes)


def _flag(value: str, entry: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise UsageError(f"--mount: {entry!r} is neither true nor false.", expected="true or false")


def _target(path: str, text: str) -> str:
    """Return a path in the guest in its normal form. Raises UsageError where nothing may be."""
    if not path.startswith("/"):
        _refuse(text, path, "it is not an absolute path")
    if "\0" in path:
        _refuse(text, path, "it has a NUL character")
    # POSIX lets normpath keep two leading slashes; Linux sees one.
    target = "/" + posixpath.normpath(path).lstrip("/")
    if target == "/":
        _refuse(text, path, "the root is the image's own")
    if target == "/proc" or target.startswith("/proc/"):
        _refuse(text, path, "/proc is the kernel's")
    if target == "/dev":
        _refuse(text, path, "/dev has the machine's own devices")
    return target


def _refuse(text: str, path: str, why: str) -> NoReturn:
    where = "" if text == path else f" ({text})"
    raise UsageError(
        f"No volume can be mounted at {path!r}{where}: {why}.",
        expected="an absolute path in the guest, such as /data",
    )
