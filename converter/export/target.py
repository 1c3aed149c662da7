"""Where an export goes. Owns the rule: whole or absent, and never over what somebody else has.

All files are made in a folder with a temporary name beside OUT. Only when every one of them is
durable do they get their names, by renaming: the folder itself, or each file, the main one last. An
error or an interrupt leaves what was there before, and no temporary folder; a process that is
killed may leave that, and the next export to the same name removes it.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from converter.atomic import (
    TEMP_PREFIX,
    make_directory,
    place_directory,
    remove_abandoned,
    sync_directory,
    temp_directory,
)
from converter.errors import SaltflatError, UsageError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# The last two: what should be a folder is a file.
_NO_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})
_NAME_BYTES_MAX = 255  # NAME_MAX of Linux's file systems


def check_target(
    out: Path, *, suffix: str, is_folder: bool, force: bool, beside: Sequence[str] = ()
) -> None:
    """Raise UsageError if OUT may not be written: before anything that takes time.

    With `force` a file may be replaced, and a folder that an export of this type made: one with a
    file in it that ends with `suffix`. `beside` are files that are known to come to lie beside OUT.
    """
    if not out.name or out.name.startswith(TEMP_PREFIX):
        raise UsageError(f"{str(out)!r} is no name for an export.", expected="a new file or folder")
    try:
        if not force:
            _require_absent([out.with_name(name) for name in beside])
        found = out.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _clear(error, out) from error
    if not force:
        raise UsageError(
            f"{out} exists.", expected="a new name", hint="--force replaces what is there."
        )
    if is_folder and not (stat.S_ISDIR(found.st_mode) and any(out.glob(f"*{suffix}"))):
        raise UsageError(
            f"{out} is no folder that an export made.",
            expected=f"a new name, or with --force a folder with a {suffix} file in it",
        )
    if not is_folder and not stat.S_ISREG(found.st_mode):
        raise UsageError(
            f"{out} is no ordinary file.", expected="a new name, or with --force a file"
        )


def fill_target(
    out: Path, fill: Callable[[Path], None], *, suffix: str, is_folder: bool, force: bool
) -> tuple[Path, ...]:
    """Have `fill` write an empty folder, and give that, or its files, their names.

    `fill` leaves every file closed. What comes to lie beside a main file replaces what was there
    only with `force`. Returns the files' final paths, sorted, the main file first. Raises as
    `check_target` does, SaltflatError for a full or unwritable folder, and what `fill` raises.
    """
    check_target(out, suffix=suffix, is_folder=is_folder, force=force)
    out = out.absolute()
    with _clear_errors(out):
        make_directory(out.parent)
        temp = temp_directory(out)
    try:
        with _clear_errors(out, within=temp):
            fill(temp)
            names = _settle(temp)
            if is_folder:
                place_directory(temp, out)
            else:
                _move_files(temp, out, names, force=force)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    remove_abandoned(out)
    folder = out if is_folder else out.parent
    main = [name for name in names if name.endswith(suffix)] if is_folder else [out.name]
    rest = [name for name in names if name not in main]
    return tuple(folder / name for name in [*main, *rest])


def _settle(temp: Path) -> list[str]:
    """Make what was written durable; return the files' names."""
    names = sorted(path.name for path in temp.iterdir())
    for name in names:
        descriptor = os.open(temp / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_directory(temp)
    return names


def _move_files(temp: Path, out: Path, names: list[str], *, force: bool) -> None:
    """Move the files beside `out`, the one called so last: who finds it finds all."""
    if out.name not in names:
        raise AssertionError(f"{names} without {out.name}")
    beside = [name for name in names if name != out.name]
    if not force:  # it is a while since it was looked at
        _require_absent([out.parent / name for name in names])
    done: list[Path] = []
    try:
        for name in [*beside, out.name]:
            if beside and name == out.name:
                sync_directory(out.parent)
            (temp / name).rename(out.parent / name)
            done.append(out.parent / name)
    except BaseException:
        if not force:  # else it was somebody's, and is gone in any case
            for path in done:
                path.unlink(missing_ok=True)
        raise
    sync_directory(out.parent)


def _require_absent(paths: Sequence[Path]) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise UsageError(
                f"{path} exists, which would belong to the export.",
                expected="a new name",
                hint="--force replaces what is there.",
            )


@contextmanager
def _clear_errors(out: Path, *, within: Path | None = None) -> Iterator[None]:
    """Turn the system's refusals to write into errors that say what to do.

    What is named and not `within` is none of ours: the source's files are read meanwhile.
    """
    try:
        yield
    except OSError as error:
        name = error.filename
        if within is not None and name is not None and not Path(name).is_relative_to(within):
            raise
        raise _clear(error, out) from error


def _clear(error: OSError, out: Path) -> Exception:
    if error.errno in _NO_ROOM:
        return SaltflatError(
            f"There is no room for {out}: {error.strerror}.",
            expected=f"room beside it for a whole export, in {out.parent}",
            hint="Make room, or name another place with -o. Nothing was left behind.",
        )
    if error.errno in _NO_RIGHT:
        return SaltflatError(
            f"{out} cannot be written: {error.strerror}.",
            expected="a folder that you may write to",
            hint="Name another place with -o.",
        )
    if error.errno == errno.ENAMETOOLONG:
        return UsageError(
            f"{out.name[:80]!r}... is too long for a name: {error.strerror}.",
            expected=f"a shorter one: temporary names are longer, and may have {_NAME_BYTES_MAX}",
        )
    return error
