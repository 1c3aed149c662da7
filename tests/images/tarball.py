"""Layer tarballs, one member at a time, every byte fixed by the arguments.

Owns the spelling of members: PAX records for what ustar cannot hold, raw names, whiteout names.
Deliberately allows what a well-behaved archiver would not write (odd orders, prefixes, repeats).
"""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from hashlib import shake_256
from typing import IO, BinaryIO, Literal

Format = Literal[0, 1, 2]  # tarfile.USTAR_FORMAT, GNU_FORMAT, PAX_FORMAT

MTIME = 1_600_000_000
WHITEOUT_PREFIX = ".wh."
OPAQUE_MARKER = ".wh..wh..opq"
# What `setcap cap_net_raw+ep` stores: VFS_CAP_REVISION_2 with the effective bit, capability 13.
NET_RAW_CAPABILITY = {"security.capability": struct.pack("<IIIII", 0x0200_0001, 1 << 13, 0, 0, 0)}
_CHUNK_BYTES = 1 << 20


def noise(seed: str, size_bytes: int) -> bytes:
    """Return `size_bytes` incompressible bytes that depend on `seed` alone."""
    return shake_256(seed.encode()).digest(size_bytes)


class TarBuilder:
    """Append members to `file` in the order of the calls; `close` writes the end marker.

    Names may be str or bytes; bytes that are not UTF-8 go out as they are. `mtime` is a decimal
    string ("-86400.5") when it does not fit ustar's whole seconds. `form` is a tarfile format.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def directory(self, name: str | bytes, **options: object) -> None:
        """Add a directory entry (default mode 0755)."""
        self._add(_member(name, tarfile.DIRTYPE, 0o755, options))

    def file(self, name: str | bytes, data: bytes = b"", **options: object) -> None:
        """Add a regular file (default mode 0644)."""
        self._add(_member(name, tarfile.REGTYPE, 0o644, options), (data,), len(data))

    def zeros(self, name: str, size_bytes: int, **options: object) -> None:
        """Add a regular file of `size_bytes` zero bytes without holding them."""
        member = _member(name, tarfile.REGTYPE, 0o644, options)
        self._add(member, _zero_chunks(size_bytes), size_bytes)

    def noise(self, name: str, size_bytes: int, **options: object) -> None:
        """Add a regular file of `size_bytes` incompressible bytes without holding them."""
        member = _member(name, tarfile.REGTYPE, 0o644, options)
        self._add(member, _noise_chunks(name, size_bytes), size_bytes)

    def symlink(self, name: str | bytes, target: str | bytes, **options: object) -> None:
        """Add a symbolic link."""
        member = _member(name, tarfile.SYMTYPE, 0o777, options)
        member[0].linkname = _text(target)
        self._add(member)

    def hardlink(self, name: str | bytes, target: str | bytes, **options: object) -> None:
        """Add another name of the file `target`, which may be in a lower layer."""
        member = _member(name, tarfile.LNKTYPE, 0o644, options)
        member[0].linkname = _text(target)
        self._add(member)

    def device(
        self, name: str, kind: str, major: int = 0, minor: int = 0, **options: object
    ) -> None:
        """Add a "char" or "block" device, or a "fifo" (which has no numbers)."""
        types = {"char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE}
        member = _member(name, types[kind], 0o644, options)
        member[0].devmajor, member[0].devminor = major, minor
        self._add(member)

    def whiteout(self, path: str) -> None:
        """Delete `path` of the lower layers."""
        folder, _, name = path.rpartition("/")
        self.file(f"{folder}/{WHITEOUT_PREFIX}{name}" if folder else f"{WHITEOUT_PREFIX}{name}")

    def opaque(self, folder: str) -> None:
        """Hide everything that the lower layers have in `folder`."""
        self.file(f"{folder}/{OPAQUE_MARKER}")

    def copy(self, member: tarfile.TarInfo, data: IO[bytes] | None = None) -> None:
        """Append a member read from another archive, with its content if it has any."""
        chunks = () if data is None else iter(lambda: data.read(_CHUNK_BYTES), b"")
        self._add((member, tarfile.PAX_FORMAT), chunks, 0 if data is None else member.size)

    def close(self) -> None:
        """Write the two zero blocks that end an archive."""
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))

    def _add(
        self,
        member: tuple[tarfile.TarInfo, Format],
        chunks: Iterable[bytes] = (),
        size_bytes: int = 0,
    ) -> None:
        info, form = member
        info.size = size_bytes
        self._file.write(info.tobuf(form, "utf-8", "surrogateescape"))
        for chunk in chunks:
            self._file.write(chunk)
        self._file.write(bytes(-size_bytes % tarfile.BLOCKSIZE))


def _member(
    name: str | bytes, kind: bytes, default_mode: int, options: Mapping[str, object]
) -> tuple[tarfile.TarInfo, Format]:
    return _build(_text(name), kind, **{"mode": default_mode, **options})  # type: ignore[arg-type]  # the public methods forward their keywords


def _build(
    name: str,
    kind: bytes,
    *,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    mtime: int | str = MTIME,
    xattrs: Mapping[str, bytes] | None = None,
    form: Format = tarfile.PAX_FORMAT,
) -> tuple[tarfile.TarInfo, Format]:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid = kind, mode, uid, gid
    info.pax_headers = {
        f"SCHILY.xattr.{key}": _text(value) for key, value in (xattrs or {}).items()
    }
    if isinstance(mtime, str):
        info.pax_headers["mtime"] = mtime
    else:
        info.mtime = mtime
    return info, form


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")


def _noise_chunks(seed: str, size_bytes: int) -> Iterator[bytes]:
    for start in range(0, size_bytes, _CHUNK_BYTES):
        yield noise(f"{seed}/{start}", min(_CHUNK_BYTES, size_bytes - start))


def _zero_chunks(size_bytes: int) -> Iterator[bytes]:
    for start in range(0, size_bytes, _CHUNK_BYTES):
        yield bytes(min(_CHUNK_BYTES, size_bytes - start))
