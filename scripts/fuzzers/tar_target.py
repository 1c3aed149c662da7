"""Hostile layers: refused with an error of ours, or written as a sound file system.

An input is one byte of options and a layer's blob, plain or compressed. Whatever the tar reader
accepts goes the whole way: into a small file system, on which our checker, the comparison with the
layers' own tree and the stored state have to agree.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
from collections.abc import Iterable, Iterator
from random import Random

from converter.compare import compare_tree, content_digest
from converter.errors import IntegrityError, SaltflatError
from converter.ext4 import state
from converter.ext4.check import check_filesystem
from converter.ext4.geometry import MIB
from converter.ext4.reader import Reader
from converter.image.digest import Digest
from converter.image.model import Descriptor
from converter.layer import c_compression, limits
from converter.layer.changeset import read_changes
from converter.layer.compression import decompress
from converter.layer.decompress import open_layer
from converter.layer.entry import Entry, Kind
from converter.layer.gzip_members import gunzip, zlib_inflater
from converter.layer.limits import Limits
from converter.layer.tar import read_entries
from converter.rootfs.expected import ExpectedTree
from converter.rootfs.tree import Tree
from scripts.fuzzers.disks import GrainDisk
from scripts.fuzzers.tar_shapes import mutate_layer, sample_layers
from tests.unit.ext4.disks import file

MODULES = (
    "converter.layer.tar",
    "converter.layer.ustar",
    "converter.layer.pax",
    "converter.layer.sparse",
    "converter.layer.paths",
    "converter.layer.compression",
    "converter.layer.gzip_members",
    "converter.layer.zstd_frames",
    "converter.layer.decompress",
    "converter.layer.channel",
    "converter.layer.limits",
    "converter.layer.changeset",
    "converter.rootfs.apply",
    "converter.rootfs.tree",
)
CAPACITY = 64 * MIB
LIMITS = Limits(max_entries=2000, max_layer_bytes=4 << 20, max_ratio=100)
limits.RATIO_FREE_BYTES = 1 << 20  # as it is, no input of sensible size would reach the ratio

# options
ON_A_BASE = 1  # the layer stands on another one
JOURNAL = 2
SKIP_DATA = 4  # when the same archive is read in small pieces, data is passed over
WRONG_DIFF_ID = 8
LARGE = 16  # the base has a directory that is changed in place
THREADS = 32  # read as the pipeline does, by threads: seldom, since a busy machine makes them wait


def _base() -> list[Entry]:
    """Return a layer with something of everything to replace, hide and link to."""
    return [
        Entry(b"a", Kind.DIRECTORY),
        file(b"a/a", b"lower"),
        file(b"a/b/c", b"lower"),
        Entry(b"a/d", Kind.HARDLINK, target=b"a/a"),
        Entry(b"b", Kind.SYMLINK, target=b"a"),
        Entry(b"c", Kind.SYMLINK, target=b"/c"),
        file(b"d", b"lower"),
    ]


def _large() -> list[Entry]:
    """Return a directory of more than a grain of names, all of one file."""
    names = [b"%03d" % number + b"n" * 252 for number in range(300)]
    return [file(b"l/f"), *(Entry(b"l/" + name, Kind.HARDLINK, target=b"l/f") for name in names)]


def one_input(data: bytes) -> None:
    """Read the layer in several ways, which must agree, and build on it if it is accepted."""
    options, blob = (data[:1] or b"\0")[0], data[1:]
    plain = _decompress([blob])
    step = max(1 + options % 7 * 100, len(blob) // 400)
    assert _decompress(_pieces(blob, step)) == plain, "pieces decompress differently"
    if blob.startswith(c_compression.GZIP_MAGIC):
        by_zlib = gunzip([blob], "x", chunk_bytes=1 << 16, new_inflater=zlib_inflater)
        assert _collect(by_zlib) == plain, "zlib and isal do not agree"
        assert plain is None or gzip.decompress(blob) == plain, "Python's gzip does not agree"
    if plain is None:
        return
    entries = _entries([plain], skip_data=bool(options & SKIP_DATA))
    assert _entries(_pieces(plain, 511), skip_data=False) == entries or options & SKIP_DATA
    if isinstance(entries, str):
        return
    with contextlib.suppress(SaltflatError):  # such as what does not fit
        _build(blob, plain, options)


def _decompress(chunks: Iterable[bytes]) -> bytes | None:
    """Return the plain bytes, None if they are refused."""
    try:
        return _collect(decompress(chunks, "x"))
    except IntegrityError:
        return None


def _collect(chunks: Iterable[bytes]) -> bytes | None:
    try:
        return b"".join(limits.bounded(chunks, "x", compressed_bytes=1 << 16, limits=LIMITS))
    except IntegrityError:
        return None


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def _entries(chunks: Iterable[bytes], *, skip_data: bool) -> list[tuple[Entry, bytes]] | str:
    """Return the members with their data, or why they are refused."""
    found = []
    try:
        for entry in read_changes(read_entries(chunks, LIMITS)):
            content = b"" if skip_data else b"".join(entry.data)
            if not skip_data:
                stored = entry.size if entry.segments is None else sum(n for _, n in entry.segments)
                assert len(content) == stored
            found.append((entry._replace(data=()), content))
    except IntegrityError as error:
        return error.what
    return found


def _build(blob: bytes, plain: bytes, options: int) -> None:
    """Convert the layer as the pipeline does, and hold the result against its own word."""
    disk = GrainDisk(CAPACITY, journal=bool(options & JOURNAL))
    expected = ExpectedTree(content_digest)
    states = []
    if options & ON_A_BASE:
        base = [*_base(), *(_large() if options & LARGE else [])]
        disk.apply(base)
        expected.apply([*_base(), *(_large() if options & LARGE else [])])
        states.append(state.dump_state(disk.filesystem))
    digest = Digest("sha256", hashlib.sha256(blob).hexdigest())
    diff_id = Digest("sha256", hashlib.sha256(plain).hexdigest())
    descriptor = Descriptor("application/vnd.oci.image.layer.v1.tar", digest, len(blob))
    if options & THREADS:
        with open_layer(io.BytesIO(blob), descriptor, verify_blob=True, limits=LIMITS) as tar:
            disk.apply(read_changes(read_entries(tar, LIMITS)))
            tar.check(diff_id)
            if options & WRONG_DIFF_ID:
                tar.check(digest if digest != diff_id else Digest("sha256", "0" * 64))
                raise AssertionError("a wrong diffID was accepted")
    else:
        disk.apply(read_changes(read_entries([plain], LIMITS)))
    expected.apply(read_changes(read_entries([plain], LIMITS)))
    assert _names(disk.filesystem.tree) == _names(expected.tree)
    reader = Reader(disk.read, CAPACITY)
    try:
        check_filesystem(reader)
        compare_tree(expected, reader)
        states.append(state.dump_state(disk.filesystem, parent="p" if states else ""))
        assert state.load_states(states) == disk.filesystem, "the state is another one"
    except SaltflatError as error:
        raise AssertionError("what was accepted was not written as it should be") from error


def _names(tree: Tree) -> list[tuple[bytes, Kind]]:
    return [(path, kind) for path, _, kind in tree.walk()]


def mutate(data: bytes, choose: Random) -> bytes:
    """Return a variation: members put in, taken out and changed, headers with right checksums."""
    options, blob = (data[:1] or b"\0")[0], data[1:]
    if choose.randrange(8) == 0:
        options = choose.randrange(64)
    return bytes([options]) + mutate_layer(blob, choose)


def seeds() -> list[bytes]:
    """Return sound layers of every format, on their own and on a base."""
    layers = sample_layers()
    choices = (0, 3, 3 | LARGE)
    threaded = (THREADS, THREADS | WRONG_DIFF_ID)
    return [
        *(bytes([options]) + blob for blob in layers for options in choices),
        *(bytes([options]) + blob for blob in layers[-4:] for options in threaded),
    ]
