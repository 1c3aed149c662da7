"""Copying what an image has at a volume's path into the volume, when that is empty, as Docker does.

Owns the copy: owners, modes, attributes, times, hard links, holes. Runs in the child that becomes
the process, as root in the image's world, before anything else runs there; so nothing changes
meanwhile. A copy that power or a kill cuts short is known by a mark on the volume's root, and done
again: only a whole one is left alone.
"""

from __future__ import annotations

import errno
import os
import stat

from agent.bare_tools import suppress
from agent.hints import Dict, Iterator, List, NamedTuple, Tuple, Union

# Attributes of this kind are seen by nobody without CAP_SYS_ADMIN.
MARK = "trusted.saltflat.filling"
LOST_AND_FOUND = "lost+found"  # of a file system that e2fsck has repaired

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAKE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SEND_BYTES = 1 << 24


class _Folder(NamedTuple):
    """A folder on the way down: both descriptors, what is left in it, its path below the top."""

    source: int
    target: int
    entries: Iterator["os.DirEntry[str]"]
    path: str
    status: os.stat_result


def fill(source: str, volume: int) -> None:
    """Copy the folder `source` into the file system of the mount `volume` if that is empty.

    A source that is not there is none. Raises OSError.
    """
    try:
        folder = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    target = os.open(".", _OPEN_FOLDER, dir_fd=volume)  # the mount's own descriptor reads nothing
    try:
        if MARK in os.listxattr(target):
            _clear(target)
        elif set(os.listdir(target)) - {LOST_AND_FOUND}:
            return
        os.setxattr(target, MARK, b"")
        _copy(folder, target)
        os.sync()
        os.removexattr(target, MARK)
    finally:
        os.close(target)
        os.close(folder)


def _clear(folder: int) -> None:
    """Remove everything in a folder."""
    waiting = [(os.dup(folder), "", -1)]
    while waiting:
        here, name, parent = waiting[-1]
        below = None
        for entry in list(os.scandir(here)):
            if entry.is_dir(follow_symlinks=False):
                below = (os.open(entry.name, _OPEN_FOLDER, dir_fd=here), entry.name, here)
                break
            os.unlink(entry.name, dir_fd=here)
        if below is not None:
            waiting.append(below)
            continue
        waiting.pop()
        os.close(here)
        if parent >= 0:
            os.rmdir(name, dir_fd=parent)


def _copy(source: int, target: int) -> None:
    """Copy the content and the attributes of one folder into another, which is empty."""
    links: Dict[Tuple[int, int], str] = {}  # the first name of what has several
    top = target
    folders = [_Folder(os.dup(source), os.dup(target), os.scandir(source), "", os.fstat(source))]
    while folders:
        here = folders[-1]
        entry = next(here.entries, None)
        if entry is None:
            folders.pop()
            _dress(here.source, here.target, here.status)
            os.close(here.source)
            os.close(here.target)
            continue
        name = entry.name
        path = os.path.join(here.path, name)
        status = os.stat(name, dir_fd=here.source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            folders.append(_enter(here, name, path, status))
            continue
        if status.st_nlink > 1:
            first = links.setdefault((status.st_dev, status.st_ino), path)
            if first is not path:
                os.link(first, name, src_dir_fd=top, dst_dir_fd=here.target, follow_symlinks=False)
                continue
        if stat.S_ISREG(status.st_mode):
            _copy_file(here, name, status)
        else:
            _copy_other(here, name, status)


def _enter(parent: _Folder, name: str, path: str, status: os.stat_result) -> _Folder:
    source = os.open(name, _OPEN_FOLDER, dir_fd=parent.source)
    with suppress(FileExistsError):  # lost+found
        os.mkdir(name, 0o700, dir_fd=parent.target)
    target = os.open(name, _OPEN_FOLDER, dir_fd=parent.target)
    return _Folder(source, target, os.scandir(source), path, status)


def _copy_file(here: _Folder, name: str, status: os.stat_result) -> None:
    source = os.open(name, _OPEN_FILE, dir_fd=here.source)
    try:
        target = os.open(name, _MAKE_FILE, 0o600, dir_fd=here.target)
        try:
            _copy_data(source, target, status.st_size)
            _dress(source, target, status)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_data(source: int, target: int, size: int) -> None:
    """Copy what is not a hole."""
    os.ftruncate(target, size)
    end = 0
    while end < size:
        try:
            begin = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        end = os.lseek(source, begin, os.SEEK_HOLE)
        os.lseek(target, begin, os.SEEK_SET)
        while begin < end:
            begin += os.sendfile(target, source, begin, min(end - begin, _SEND_BYTES))


def _copy_other(here: _Folder, name: str, status: os.stat_result) -> None:
    """Copy a link, a device, a FIFO or a socket."""
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=here.source), name, dir_fd=here.target)
    else:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=here.target)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=here.target, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):  # Linux has no mode of links
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=here.target)
    # These have no descriptor, and there is no /proc yet to give them a path.
    os.fchdir(here.source)
    attributes = _attributes(name)
    os.fchdir(here.target)
    _set_attributes(name, attributes)
    os.chdir("/")
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=here.target, follow_symlinks=False)


def _dress(source: int, target: int, status: os.stat_result) -> None:
    """Give an open file or folder its owner, mode, attributes and times, in the order that works.

    A change of owner takes set-user-id bits and file capabilities away.
    """
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    _set_attributes(target, _attributes(source))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _attributes(file: Union[int, str]) -> List[Tuple[str, bytes]]:
    if isinstance(file, int):
        return [(key, os.getxattr(file, key)) for key in os.listxattr(file)]
    return [
        (key, os.getxattr(file, key, follow_symlinks=False))
        for key in os.listxattr(file, follow_symlinks=False)
    ]


def _set_attributes(file: Union[int, str], attributes: List[Tuple[str, bytes]]) -> None:
    for key, value in attributes:
        if isinstance(file, int):
            os.setxattr(file, key, value)
        else:
            os.setxattr(file, key, value, follow_symlinks=False)
