"""Unpack a tar stream that a hostile guest made, into a folder, and nowhere else.

Every step from the target on is an openat(2) with O_NOFOLLOW on a descriptor of its folder, so
neither a link in the stream, nor one that was there, nor one that appears meanwhile, leads out.
tarfile only reads the stream; nothing of it is extracted by it. Owns what is made on the host.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Protocol, Self, cast

from agent.host.errors import CopyError
from agent.host.status import printable

_CHUNK_BYTES = 1 << 16
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_BYTES = 255
_DEPTH = 256
_SHOWN_CHARACTERS = 200
# Of all headers that say more about one member; each of them is held while the next is read.
_EXTENSION_BYTES = 1 << 20
_GLOBAL_BYTES = 1 << 16  # of all headers about whatever follows, which are copied for each member
_TRAILING_BYTES = 1 << 20  # behind the end of the archive: tar fills its last record with zeros
_EXTENSIONS = frozenset(
    (
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    )
)
# What tarfile raises on a hostile stream, beside what it says that it raises.
_NO_ARCHIVE = (
    tarfile.TarError,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    RecursionError,
)
_SAFE_MODE = 0o777  # no setuid, setgid or sticky bit of a stranger's


class Stream(Protocol):
    """Where the tar stream comes from."""

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, or fewer at the end."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a stream may bring."""

    entries: int = 2_000_000
    bytes: int = 1 << 40  # of all files


class _Header(tarfile.TarInfo):
    """A member's header. tarfile itself would read any number of any length into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> Self | tarfile.TarInfo:
        assert isinstance(archive, _Archive)
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a sparse file, whose map may be of any length")
        if self.type in _EXTENSIONS:
            archive.extension_bytes += self.size
            archive.global_bytes += self.size if self.type == tarfile.XGLTYPE else 0
            if archive.extension_bytes > _EXTENSION_BYTES or archive.global_bytes > _GLOBAL_BYTES:
                raise tarfile.ReadError(f"a header of {self.size} bytes")
        made: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]  # not public
        return made

    def _no_sparse(self, *_arguments: object) -> None:
        raise tarfile.ReadError("a sparse file, whose map may be of any length")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _no_sparse


class _Archive(tarfile.TarFile):
    """An archive that counts what its headers hold."""

    tarinfo = _Header
    extension_bytes = 0  # about the next member
    global_bytes = 0  # about whatever follows


@dataclass(slots=True)
class Unpacked:
    """What was made, and the names of what was left out: devices, FIFOs and sockets."""

    entries: int = 0
    bytes: int = 0
    left_out: int = 0


def first_member(stream: Stream) -> tarfile.TarInfo | None:
    """Return the header that a stream begins with; None when it is empty. Raises CopyError."""
    try:
        with _Archive.open(fileobj=cast(IO[bytes], stream), mode="r|", errorlevel=1) as archive:
            return archive.next()
    except tarfile.ReadError as error:
        if str(error) == "empty file":
            return None
        raise _no_archive(error) from error
    except _NO_ARCHIVE as error:
        raise _no_archive(error) from error


def unpack(
    stream: Stream,
    target: int,
    *,
    rename: str | None = None,
    limits: Limits | None = None,
    keep_owners: bool = False,
) -> Unpacked:
    """Unpack `stream` below the folder that the descriptor `target` is open on.

    `rename` replaces the first part of every name: what is copied gets the name that the user
    gave. Files get the mode's lower nine bits and our owner, as `docker cp` gives them, or with
    `keep_owners` the stream's; symbolic links are made as they are, never followed. `target` itself
    stays as it is. Raises CopyError at the first member that would
    lead out or is none, with what came before it left in place.
    """
    limits = limits or Limits()
    done = Unpacked()
    try:
        with _Archive.open(fileobj=cast(IO[bytes], stream), mode="r|", errorlevel=1) as archive:
            # Not `archive.members`: tarfile keeps every member, for ever.
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # typeshed lacks it
                archive.extension_bytes = 0
                done.entries += 1
                has_content = member.isreg() or member.type not in tarfile.SUPPORTED_TYPES
                done.bytes += member.size if has_content else 0
                if done.entries > limits.entries or done.bytes > limits.bytes:
                    raise CopyError(
                        "The guest sends more than may be copied at a time.",
                        expected=f"at most {limits.entries} entries and {limits.bytes} bytes",
                    )
                parts = _parts(member.name, rename)
                owner = (member.uid, member.gid) if keep_owners else None
                _make(archive, member, target, parts, rename, owner=owner, done=done)
        _read_rest(stream)
    except _NO_ARCHIVE as error:
        raise _no_archive(error) from error
    except OSError as error:
        raise CopyError(f"What the guest sends cannot be written: {error.strerror}.") from error
    return done


def _no_archive(error: Exception) -> CopyError:
    return CopyError(f"What the guest sends is no tar stream: {printable(str(error))}.")


def _read_rest(stream: Stream) -> None:
    """Read what fills the stream behind the archive's end."""
    rest = 0
    while data := stream.read(_CHUNK_BYTES):
        rest += len(data)
        if rest > _TRAILING_BYTES:
            raise CopyError(
                "The guest goes on sending behind the end of the archive.",
                expected=f"at most {_TRAILING_BYTES} bytes of filling",
            )


def _parts(name: str, rename: str | None) -> list[str]:
    """Return the parts of a member's name. Raises CopyError on one that leads out."""
    if name.startswith("/") or "\0" in name:
        raise _hostile(name, "an absolute name")
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise _hostile(name, "a name with ..")
    if len(parts) > _DEPTH or any(len(os.fsencode(part)) > _NAME_BYTES for part in parts):
        raise _hostile(name, "a name that is too long or too deep")
    if parts and rename is not None:
        parts[0] = rename
    return parts


def _make(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    target: int,
    parts: list[str],
    rename: str | None,
    *,
    owner: tuple[int, int] | None,
    done: Unpacked,
) -> None:
    if not parts:
        if not member.isdir():
            raise _hostile(member.name, "a file without a name")
        return
    if member.isdir():
        with _folder(target, parts, make=True) as folder:
            if owner is not None:
                os.fchown(folder, *owner)
            with contextlib.suppress(OSError):
                # For its owner all is allowed, or its content might be kept out.
                os.fchmod(folder, member.mode & _SAFE_MODE | stat.S_IRWXU)
        return
    with _folder(target, parts[:-1], make=True) as folder:
        name = parts[-1]
        if member.isreg():
            _make_file(archive, member, folder, name, owner)
        elif member.issym():
            _clear(folder, name)
            os.symlink(member.linkname, name, dir_fd=folder)
            if owner is not None:
                os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
        elif member.islnk():
            _make_link(member, target, folder, name, rename)
        else:
            done.left_out += 1


@contextlib.contextmanager
def _folder(target: int, parts: list[str], *, make: bool) -> Iterator[int]:
    """Yield a descriptor of the folder, walked to part by part without following a link."""
    folder = os.open(".", _FOLDER_FLAGS, dir_fd=target)
    try:
        for part in parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=folder)
            try:
                below = os.open(part, _FOLDER_FLAGS, dir_fd=folder)
            except (NotADirectoryError, OSError) as error:
                raise CopyError(
                    f"{_shown('/'.join(parts))} cannot be entered: {error.strerror}.",
                    expected="folders on the way to it, and no symbolic links",
                    hint="Copy into an empty folder.",
                ) from error
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)


def _make_file(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    folder: int,
    name: str,
    owner: tuple[int, int] | None,
) -> None:
    _clear(folder, name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        content = archive.extractfile(member)
        assert content is not None, "a regular file"
        while data := content.read(_CHUNK_BYTES):
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        if owner is not None:
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, member.mode & _SAFE_MODE)
        _set_time(descriptor, member)
    finally:
        os.close(descriptor)


def _set_time(descriptor: int, member: tarfile.TarInfo) -> None:
    with contextlib.suppress(OSError, OverflowError, ValueError):  # a time that no file can have
        nanoseconds = int(member.mtime * 1_000_000_000)
        os.utime(descriptor, ns=(nanoseconds, nanoseconds))


def _make_link(
    member: tarfile.TarInfo, target: int, folder: int, name: str, rename: str | None
) -> None:
    """Make a hard link to a file that came in this stream, or was in the target before."""
    source = _parts(member.linkname, rename)
    if not source:
        raise _hostile(member.name, "a link to nothing")
    with _folder(target, source[:-1], make=False) as source_folder:
        kind = os.stat(source[-1], dir_fd=source_folder, follow_symlinks=False).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
            raise _hostile(member.name, "a link to something else than a file")
        if source != [*_parts(member.name, rename)]:
            _clear(folder, name)
            os.link(
                source[-1], name, src_dir_fd=source_folder, dst_dir_fd=folder, follow_symlinks=False
            )


def _clear(folder: int, name: str) -> None:
    """Remove what is in the way of a file; a folder is never replaced by one."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except IsADirectoryError as error:
        raise CopyError(
            f"{_shown(name)} is a folder here and a file in the guest.",
            hint="Copy to another place, or remove the folder.",
        ) from error


def _hostile(name: str, what: str) -> CopyError:
    return CopyError(
        f"The guest sends {_shown(name)}: {what}.",
        expected="names below what was asked for",
        hint="Do not trust this guest: no honest one sends that.",
    )


def _shown(name: str) -> str:
    return repr(printable(name[:_SHOWN_CHARACTERS]))
