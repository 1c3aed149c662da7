"""copy-in: a tar stream from stdin, unpacked into a folder of the image's world.

Runs in a child that is already in that world, as its root. Owns reading the archive and making what
it says. Nothing is made outside the folder: names have no "..", and each step down is opened in the
one above it without following a link. Memory does not grow with the data, only with the folders,
whose times are set at the end.
"""

from __future__ import annotations

import errno
import os
import stat

from agent.bare_tools import suppress
from agent.hints import Callable, Dict, List, Optional, Tuple
from agent.tether import c_tar
from agent.values import dataclass, field

CHUNK_BYTES = 65536
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAKE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICES = {c_tar.CHARACTER: stat.S_IFCHR, c_tar.BLOCK_DEVICE: stat.S_IFBLK}
_FILES = (c_tar.REGULAR, c_tar.REGULAR_V7, c_tar.CONTIGUOUS)


class ArchiveError(Exception):
    """Report an archive that cannot be unpacked, or only in part."""


@dataclass
class _Member:
    """What a header says."""

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes
    device: int
    attributes: Dict[bytes, bytes] = field(default_factory=dict)


def run(path: str, *, source: int = 0, errors: int = 2) -> int:
    """Unpack into the folder `path`; return 0, or 1 with a line on stderr for what was wrong."""
    code = 0
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        target = _Target(root)
        stream = _Stream(source)
        while True:
            member = stream.next_member()
            if member is None:
                break
            try:
                target.make(member, stream)
            except (OSError, ArchiveError) as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                code = 1
                text = error.strerror if isinstance(error, OSError) else str(error)
                _say(errors, "{}: {}".format(os.fsdecode(member.name), text))
            stream.skip_rest()
        target.set_folder_times()
    except OSError as error:
        _say(errors, "{}: {}".format(path, error.strerror))
        return 1
    except ArchiveError as error:
        _say(errors, str(error))
        return 1
    return code


class _Target:
    """The folder that is filled."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._folder_times: Dict[bytes, int] = {}

    def make(self, member: _Member, stream: _Stream) -> None:
        """Make one member. Raises OSError or ArchiveError when it cannot be made."""
        steps = _steps(member.name)
        if not steps:
            if member.kind == c_tar.DIRECTORY:
                self._dress(self._root, member, b".")
            return
        parent = self._open_folder(steps[:-1])
        try:
            self._make_in(parent, steps[-1], member, stream)
        finally:
            os.close(parent)

    def set_folder_times(self) -> None:
        """Set the times of the folders, which every file in them has changed."""
        for name, mtime_ns in self._folder_times.items():
            try:
                descriptor = self._open_folder(_steps(name), make=False)
            except OSError:
                continue  # it has gone since, and its time with it
            os.utime(descriptor, ns=(mtime_ns, mtime_ns))
            os.close(descriptor)

    def _open_folder(self, steps: List[bytes], *, make: bool = True) -> int:
        descriptor = os.dup(self._root)
        for step in steps:
            try:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(step, 0o755, dir_fd=descriptor)
                below = os.open(step, _OPEN_FOLDER, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor

    def _make_in(self, parent: int, name: bytes, member: _Member, stream: _Stream) -> None:
        kind = member.kind
        if kind == c_tar.DIRECTORY:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=parent)
            descriptor = os.open(name, _OPEN_FOLDER, dir_fd=parent)
            try:
                self._dress(descriptor, member, member.name)
            finally:
                os.close(descriptor)
            return
        if kind not in (*_FILES, c_tar.HARD_LINK, c_tar.SYMLINK, c_tar.FIFO, *_DEVICES):
            raise ArchiveError("a member of the unknown type {!r}".format(kind))
        if kind == c_tar.HARD_LINK and _steps(member.link) == _steps(member.name):
            return
        _make_way(parent, name)
        if kind in _FILES:
            descriptor = os.open(name, _MAKE_FILE, 0o600, dir_fd=parent)
            try:
                stream.copy_to(descriptor)
                self._dress(descriptor, member, None)
            finally:
                os.close(descriptor)
        elif kind == c_tar.HARD_LINK:
            steps = _steps(member.link)
            if not steps:
                raise ArchiveError("a link to the folder itself")
            other = self._open_folder(steps[:-1], make=False)
            try:
                os.link(steps[-1], name, src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(other)
        else:
            self._make_special(parent, name, member)

    def _make_special(self, parent: int, name: bytes, member: _Member) -> None:
        if member.kind == c_tar.SYMLINK:
            os.symlink(member.link, name, dir_fd=parent)
        elif member.kind == c_tar.FIFO:
            os.mkfifo(name, 0o600, dir_fd=parent)
        else:
            os.mknod(name, 0o600 | _DEVICES[member.kind], member.device, dir_fd=parent)
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        if member.kind != c_tar.SYMLINK:  # Linux has no mode of links
            os.chmod(name, member.mode, dir_fd=parent)
        times = (member.mtime_ns, member.mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)
        path = os.path.join(b"/proc/self/fd/%d" % parent, name)
        for key, value in member.attributes.items():
            os.setxattr(path, key, value, follow_symlinks=False)

    def _dress(self, descriptor: int, member: _Member, folder: Optional[bytes]) -> None:
        """Give an open file its owner, mode, attributes and time, in the order that keeps them."""
        os.fchown(descriptor, member.uid, member.gid)
        os.fchmod(descriptor, member.mode)
        for key, value in member.attributes.items():
            os.setxattr(descriptor, key, value)
        if folder is None:
            os.utime(descriptor, ns=(member.mtime_ns, member.mtime_ns))
        else:
            self._folder_times[folder] = member.mtime_ns


class _Stream:
    """The archive as it comes."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._left = 0  # of the member's data
        self._padding = 0
        self._global: Dict[bytes, bytes] = {}

    def next_member(self) -> Optional[_Member]:
        """Return the next member, None at the end. Raises ArchiveError when it is none."""
        extended: Dict[bytes, bytes] = {}
        while True:
            block = self._read_block()
            if block is None or not any(block):
                self._drain()
                return None
            member = _parse(block)
            if member.kind in (c_tar.PAX, c_tar.PAX_GLOBAL):
                records = _parse_records(self._read_extension(member.size))
                (extended if member.kind == c_tar.PAX else self._global).update(records)
            elif member.kind == c_tar.GNU_LONG_NAME:
                extended[c_tar.PAX_PATH] = self._read_extension(member.size).rstrip(b"\0")
            elif member.kind == c_tar.GNU_LONG_LINK:
                extended[c_tar.PAX_LINK] = self._read_extension(member.size).rstrip(b"\0")
            else:
                _extend(member, {**self._global, **extended})
                self._left = member.size
                self._padding = -member.size % c_tar.BLOCK
                return member

    def copy_to(self, descriptor: int) -> None:
        """Write the member's data."""
        while self._left:
            view = memoryview(self._read(min(self._left, CHUNK_BYTES)))
            self._left -= len(view)
            while view:
                view = view[os.write(descriptor, view) :]

    def skip_rest(self) -> None:
        """Read over what is left of the member."""
        left = self._left + self._padding
        self._left = self._padding = 0
        while left:
            left -= len(self._read(min(left, CHUNK_BYTES)))

    def _read_extension(self, size: int) -> bytes:
        if size > c_tar.MAX_EXTENSION_BYTES:
            raise ArchiveError("an extended header of {} bytes".format(size))
        data = bytearray()
        while len(data) < size + -size % c_tar.BLOCK:
            data += self._read(size + -size % c_tar.BLOCK - len(data))
        return bytes(data[:size])

    def _read_block(self) -> Optional[bytes]:
        block = os.read(self._source, c_tar.BLOCK)
        if not block:
            return None
        while len(block) < c_tar.BLOCK:
            block += self._read(c_tar.BLOCK - len(block))
        return block

    def _read(self, size: int) -> bytes:
        data = os.read(self._source, size)
        if not data:
            raise ArchiveError("the archive is cut short")
        return data

    def _drain(self) -> None:
        """Read to the end of the input: who writes it has not finished before."""
        while os.read(self._source, CHUNK_BYTES):
            pass


def _steps(name: bytes) -> List[bytes]:
    """Return the names of a path, which may not lead upwards."""
    steps = [step for step in name.split(b"/") if step not in (b"", b".")]
    if b".." in steps:
        raise ArchiveError("a name with ..")
    return steps


def _make_way(parent: int, name: bytes) -> None:
    """Remove what has the name, unless it is a folder."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        raise ArchiveError("is a folder here and none in the archive")
    os.unlink(name, dir_fd=parent)


def _parse(block: bytes) -> _Member:
    fields = c_tar.HEADER.unpack(block)
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic = fields[:10]
    blank = bytearray(block)
    blank[c_tar.CHECKSUM] = b" " * 8
    if checksum.strip(b" \0") not in (b"%o" % sum(blank), b"%06o" % sum(blank)):
        raise ArchiveError("this is no tar archive, or a damaged one")
    name = name.partition(b"\0")[0]
    prefix = fields[15].partition(b"\0")[0]
    device = 0
    if magic == c_tar.MAGIC and prefix:
        name = prefix + b"/" + name
    if kind in _DEVICES:
        device = os.makedev(_number(fields[13]), _number(fields[14]))
    if kind in (c_tar.REGULAR, c_tar.REGULAR_V7) and name.endswith(b"/"):
        kind = c_tar.DIRECTORY
    return _Member(
        name=name,
        kind=kind,
        mode=_number(mode) & 0o7777,
        uid=_number(uid),
        gid=_number(gid),
        size=_number(size) if kind not in (c_tar.HARD_LINK, c_tar.SYMLINK) else 0,
        mtime_ns=_number(mtime) * 10**9,
        link=link.partition(b"\0")[0],
        device=device,
    )


def _number(text: bytes) -> int:
    """Return an octal number, or one in base 256, as GNU writes those that do not fit."""
    if text[0] & 0x80:
        value = int.from_bytes(text, "big") & ((1 << (8 * len(text) - 1)) - 1)
        return value - (1 << (8 * len(text) - 1)) if text[0] == 0xFF else value
    digits = text.strip(b" \0")
    try:
        return int(digits or b"0", 8)
    except ValueError as error:
        raise ArchiveError("a number that is none in a header") from error


def _parse_records(data: bytes) -> Dict[bytes, bytes]:
    records = {}
    while data:
        length, space, _ = data.partition(b" ")
        if not space or not length.isdigit() or not len(length) + 3 <= int(length) <= len(data):
            raise ArchiveError("a damaged extended header")
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        records[key] = value
        data = data[int(length) :]
    return records


def _extend(member: _Member, extended: Dict[bytes, bytes]) -> None:
    readers: Tuple[Tuple[bytes, str, Callable[[bytes], object]], ...] = (
        (c_tar.PAX_PATH, "name", bytes),
        (c_tar.PAX_LINK, "link", bytes),
        (c_tar.PAX_UID, "uid", int),
        (c_tar.PAX_GID, "gid", int),
        (c_tar.PAX_SIZE, "size", int),
        (c_tar.PAX_MTIME, "mtime_ns", _nanoseconds),
    )
    try:
        for key, name, read in readers:
            if extended.get(key):
                setattr(member, name, read(extended[key]))
    except ValueError as error:
        raise ArchiveError("a number that is none in an extended header") from error
    if member.size < 0 or not 0 <= member.uid < 1 << 32 or not 0 <= member.gid < 1 << 32:
        raise ArchiveError("a number that is out of bounds in a header")
    for key, value in extended.items():
        if key.startswith(c_tar.PAX_XATTR):
            member.attributes[key[len(c_tar.PAX_XATTR) :]] = value


def _nanoseconds(text: bytes) -> int:
    whole, _, fraction = text.partition(b".")
    nanoseconds = int(whole) * 10**9
    part = int(fraction[:9].ljust(9, b"0")) if fraction else 0
    return nanoseconds - part if whole.startswith(b"-") else nanoseconds + part


def _say(errors: int, text: str) -> None:
    os.write(errors, (text + "\n").encode("utf-8", "surrogateescape"))
