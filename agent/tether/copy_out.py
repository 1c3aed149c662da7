"""copy-out: a path of the image's world as a tar stream on stdout.

Runs in a child that is already in that world, as its root. Owns the walk and the archive's writing.
Links are never followed on the way down, not even one that is swapped in meanwhile: each folder is
opened in the one above it. Memory does not grow with the tree but for the hard links in it.
"""

from __future__ import annotations

import errno
import os
import stat

from agent.hints import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple
from agent.tether import c_tar, world

CHUNK_BYTES = 65536
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a FIFO that took the file's place would hold us for ever.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Folder(NamedTuple):
    """A folder on the way down: its descriptor, its name in the archive, what is left in it."""

    descriptor: int
    name: bytes
    entries: Iterator["os.DirEntry[str]"]


def run(path: str, *, follow: bool, shallow: bool = False, output: int = 1, errors: int = 2) -> int:
    """Write the archive of `path`; return 0, or 1 when something is not as it should be in it.

    Its members are below the last name of `path`; of `path/.` they are below `.`. A symbolic link
    is a member of its own unless `follow`. With `shallow` what is in a folder is left out.
    """
    try:
        writer = _Writer(output, errors)
        writer.add_tree(path, follow=follow, shallow=shallow)
        writer.finish()
    except OSError as error:
        _say(errors, "{}: {}".format(path, error.strerror))
        return 1
    return writer.code


class _Writer:
    """The archive so far."""

    def __init__(self, output: int, errors: int) -> None:
        self.code = 0
        self._output = output
        self._errors = errors
        self._seen: Dict[Tuple[int, int], bytes] = {}  # inodes with several names
        self._own_devices = _kernel_file_systems()

    def add_tree(self, path: str, *, follow: bool, shallow: bool = False) -> None:
        """Add `path` and, unless `shallow`, what is below it."""
        above, name = os.path.split(path)
        if name in ("", "."):
            # "path/." and "path/" are a folder, through a link as well.
            above, opened, name = path, ".", name or os.path.basename(os.path.normpath(path))
        else:
            opened = name
        if follow:
            above, opened = os.path.split(os.path.realpath(path))
            opened = opened or "."
        parent = os.open(above or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            stack: List[_Folder] = []
            member = os.fsencode(name or ".")
            self._add(parent, opened, member, stack, crosses=True, enters=not shallow)
        finally:
            os.close(parent)
        while stack:
            folder = stack[-1]
            entry = next(folder.entries, None)
            if entry is None:
                os.close(stack.pop().descriptor)
                continue
            member = folder.name + b"/" + os.fsencode(entry.name)
            try:
                self._add(folder.descriptor, entry.name, member, stack, crosses=False)
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.EMFILE):
                    raise
                self._complain(member, error)

    def finish(self) -> None:
        """Write the end of the archive."""
        self._write(bytes(2 * c_tar.BLOCK))

    def _add(
        self,
        parent: int,
        opened: str,
        member: bytes,
        stack: List[_Folder],
        *,
        crosses: bool,
        enters: bool = True,
    ) -> None:
        status = os.stat(opened, dir_fd=parent, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            self._add_file(parent, opened, member)
        elif kind == stat.S_IFDIR:
            descriptor = os.open(opened, _OPEN_FOLDER, dir_fd=parent)
            status = os.fstat(descriptor)
            here = "/proc/self/fd/{}".format(descriptor)
            self._header(member + b"/", status, c_tar.DIRECTORY, attributes=_attributes(here))
            if enters and (crosses or status.st_dev not in self._own_devices):
                stack.append(_Folder(descriptor, member, _scan(descriptor)))
            else:
                os.close(descriptor)
        elif kind == stat.S_IFLNK:
            target = os.fsencode(os.readlink(opened, dir_fd=parent))
            path = "/proc/self/fd/{}/{}".format(parent, opened)
            self._header(member, status, c_tar.SYMLINK, link=target, attributes=_attributes(path))
        elif kind in _OTHER_TYPES and not self._add_link(member, status):
            path = "/proc/self/fd/{}/{}".format(parent, opened)
            self._header(member, status, _OTHER_TYPES[kind], attributes=_attributes(path))

    def _add_link(self, member: bytes, status: os.stat_result) -> bool:
        """Add a hard link, if the file is in the archive already."""
        if status.st_nlink < 2:
            return False
        first = self._seen.setdefault((status.st_dev, status.st_ino), member)
        if first == member:
            return False
        self._header(member, status, c_tar.HARD_LINK, link=first)
        return True

    def _add_file(self, parent: int, opened: str, member: bytes) -> None:
        descriptor = os.open(opened, _OPEN_FILE, dir_fd=parent)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or self._add_link(member, status):
                return
            attributes = _attributes("/proc/self/fd/{}".format(descriptor))
            self._header(member, status, c_tar.REGULAR, size=status.st_size, attributes=attributes)
            left = status.st_size
            while left:
                data = os.read(descriptor, min(left, CHUNK_BYTES))
                if not data:
                    break
                left -= len(data)
                self._write(data)
            if left:
                self.code = 1
                _say(self._errors, "{}: shrank while it was read".format(os.fsdecode(member)))
            while left:  # the header has promised so many
                self._write(bytes(min(left, CHUNK_BYTES)))
                left -= min(left, CHUNK_BYTES)
            self._write(bytes(-status.st_size % c_tar.BLOCK))
        finally:
            os.close(descriptor)

    def _header(
        self,
        name: bytes,
        status: os.stat_result,
        kind: bytes,
        *,
        link: bytes = b"",
        size: int = 0,
        attributes: Optional[Dict[bytes, bytes]] = None,
    ) -> None:
        extended = {c_tar.PAX_XATTR + key: value for key, value in (attributes or {}).items()}
        if len(name) > c_tar.NAME_BYTES:
            extended[c_tar.PAX_PATH] = name
        if len(link) > c_tar.NAME_BYTES:
            extended[c_tar.PAX_LINK] = link
        seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
        if nanoseconds or not 0 <= seconds < 8**11:
            extended[c_tar.PAX_MTIME] = _decimal(status.st_mtime_ns)
        if size >= 8**11:
            extended[c_tar.PAX_SIZE] = b"%d" % size
        for key, value in ((c_tar.PAX_UID, status.st_uid), (c_tar.PAX_GID, status.st_gid)):
            if value >= 8**7:
                extended[key] = b"%d" % value
        if extended:
            records = b"".join(_record(key, extended[key]) for key in sorted(extended))
            self._write(_block(b"pax", c_tar.PAX, size=len(records)))
            self._write(records + bytes(-len(records) % c_tar.BLOCK))
        self._write(
            _block(
                name[: c_tar.NAME_BYTES],
                kind,
                mode=stat.S_IMODE(status.st_mode),
                uid=status.st_uid,
                gid=status.st_gid,
                size=size,
                mtime=seconds,
                link=link[: c_tar.NAME_BYTES],
                device=status.st_rdev if kind in (c_tar.CHARACTER, c_tar.BLOCK_DEVICE) else 0,
            )
        )

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._output, view) :]

    def _complain(self, member: bytes, error: OSError) -> None:
        self.code = 1
        _say(self._errors, "{}: {}".format(os.fsdecode(member), error.strerror))


_OTHER_TYPES = {  # sockets are left out: only their maker can make them
    stat.S_IFIFO: c_tar.FIFO,
    stat.S_IFCHR: c_tar.CHARACTER,
    stat.S_IFBLK: c_tar.BLOCK_DEVICE,
}


def _scan(descriptor: int) -> Iterator["os.DirEntry[str]"]:
    # An iterator and no list: a folder may have a million entries.
    return os.scandir(descriptor)


def _kernel_file_systems() -> Set[int]:
    """Return the devices of /proc and the like: nothing in them belongs to the image."""
    devices = set()
    for mount in world.MOUNTS:
        try:
            devices.add(os.stat(mount.target).st_dev)
        except OSError:
            continue
    root = os.stat("/").st_dev
    devices.discard(root)
    return devices


def _attributes(path: str) -> Dict[bytes, bytes]:
    """Return the extended attributes of a file, those of a last link itself."""
    follow = path.count("/") == 4  # /proc/self/fd/N is the open file
    attributes = {}
    try:
        for name in os.listxattr(path, follow_symlinks=follow):
            attributes[os.fsencode(name)] = os.getxattr(path, name, follow_symlinks=follow)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENODATA, errno.EPERM):
            raise
    return attributes


def _record(key: bytes, value: bytes) -> bytes:
    """Return a pax record, whose length counts its own digits."""
    rest = len(key) + len(value) + 3
    size = rest + len(str(rest))
    size = rest + len(str(size))
    return b"%d %s=%s\n" % (size, key, value)


def _decimal(nanoseconds: int) -> bytes:
    sign = "-" if nanoseconds < 0 else ""
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    return "{}{}.{:09d}".format(sign, seconds, rest).encode("ascii")


def _octal(value: int, digits: int) -> bytes:
    """Return a number, 0 where it does not fit: the extended header has it then."""
    return b"%0*o\0" % (digits, value if 0 <= value < 8**digits else 0)


def _block(
    name: bytes,
    kind: bytes,
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    device: int = 0,
) -> bytes:
    header = bytearray(
        c_tar.HEADER.pack(
            name,
            _octal(mode, 7),
            _octal(uid, 7),
            _octal(gid, 7),
            _octal(size, 11),
            _octal(mtime, 11),
            b" " * 8,
            kind,
            link,
            c_tar.MAGIC,
            c_tar.VERSION,
            b"",
            b"",
            _octal(os.major(device), 7),
            _octal(os.minor(device), 7),
            b"",
        )
    )
    header[c_tar.CHECKSUM] = b"%06o\0 " % sum(header)
    return bytes(header)


def _say(errors: int, text: str) -> None:
    os.write(errors, (text + "\n").encode("utf-8", "surrogateescape"))
