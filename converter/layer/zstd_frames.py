"""The content of Zstandard frames, and where they end. (RFC 8878 section 3.1)

Decompressing is a library's, but its bindings treat the end of their input as the end of the
content, even in the middle of a frame. `FrameWatch` sees the same bytes and tells the two apart.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

import zstandard

from converter.errors import IntegrityError
from converter.layer import c_compression as c

MAX_WINDOW_BYTES = 128 << 20  # what `zstd --long` needs; the tool itself refuses more

_Walk = Generator[tuple[int, bool], bytes, None]  # yields (size, whether it is a header field)


def unzstd(chunks: Iterable[bytes], what: str, *, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the content of all frames, one after the other, at most `chunk_bytes` at a time.

    Skippable frames have none. Raises IntegrityError, in which `what` names the data.
    """
    watch = FrameWatch()
    reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_reader(
        _WatchedReader(iter(chunks), watch),  # type: ignore[arg-type]  # it asks for read() alone
        read_across_frames=True,
    )
    while True:
        try:
            plain = reader.read(chunk_bytes)
        except zstandard.ZstdError as error:
            raise IntegrityError(
                f"{what} is damaged: {error}.",
                expected=f"frames with a window of at most {MAX_WINDOW_BYTES} bytes",
            ) from None
        if not plain:
            break
        yield plain
    if not watch.at_frame_end:
        raise IntegrityError(f"{what} is truncated.", expected="whole zstd frames")


class FrameWatch:
    """Follow a stream of frames, given in pieces of any size.

    What is malformed is not its business: the decompressor raises on that.
    """

    def __init__(self) -> None:
        self._at_frame_end = True
        self._field = bytearray()
        self._walk = self._frames()
        self._missing, self._is_header = next(self._walk)

    @property
    def at_frame_end(self) -> bool:
        """Whether the bytes so far are whole frames (or nothing at all)."""
        return self._at_frame_end

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        position = 0
        while position < len(data):
            self._at_frame_end = False
            taken = min(self._missing, len(data) - position)
            if self._is_header:
                self._field += data[position : position + taken]
            position += taken
            self._missing -= taken
            while self._missing == 0:
                field, self._field = bytes(self._field), bytearray()
                self._missing, self._is_header = self._walk.send(field)

    def _frames(self) -> _Walk:
        while True:
            (magic,) = c.MAGIC_NUMBER.unpack((yield c.MAGIC_NUMBER.size, True))
            if magic & c.SKIPPABLE_MAGIC_MASK == c.SKIPPABLE_MAGIC_NUMBER:
                (size,) = c.SKIPPABLE_FRAME_SIZE.unpack((yield c.SKIPPABLE_FRAME_SIZE.size, True))
                yield size, False
            else:
                yield from _zstandard_frame()
            self._at_frame_end = True


def _zstandard_frame() -> _Walk:
    (flags,) = yield 1, True
    single_segment = bool(flags & c.SINGLE_SEGMENT_FLAG)
    content_size_flag = flags >> c.FRAME_CONTENT_SIZE_FLAG_SHIFT
    rest = c.DICTIONARY_ID_SIZES[flags & c.DICTIONARY_ID_FLAG_MASK]
    if single_segment:
        rest += c.FRAME_CONTENT_SIZES[content_size_flag] or 1
    else:
        rest += c.FRAME_CONTENT_SIZES[content_size_flag] + c.WINDOW_DESCRIPTOR_SIZE
    yield rest, False
    last = False
    while not last:
        header = int.from_bytes((yield c.BLOCK_HEADER_SIZE, True), "little")
        last = bool(header & c.LAST_BLOCK)
        is_run = header >> c.BLOCK_TYPE_SHIFT & c.BLOCK_TYPE_MASK == c.RLE_BLOCK
        yield 1 if is_run else header >> c.BLOCK_SIZE_SHIFT, False
    if flags & c.CONTENT_CHECKSUM_FLAG:
        yield c.CONTENT_CHECKSUM_SIZE, False


class _WatchedReader:
    """Chunks as a file to read from, shown to a `FrameWatch` on the way."""

    def __init__(self, chunks: Iterator[bytes], watch: FrameWatch) -> None:
        self._chunks = chunks
        self._watch = watch

    def read(self, _size: int = -1) -> bytes:
        # More than was asked for is fine with the reader, and saves a copy.
        chunk = next(self._chunks, b"")
        self._watch.feed(chunk)
        return chunk
