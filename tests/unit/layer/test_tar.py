"""The tar reader against archives that Python's own tarfile, GNU tar's rules and attackers make."""

from __future__ import annotations

import base64
import io
import tarfile

import pytest

from converter.errors import IntegrityError
from converter.layer.entry import Entry, Kind
from converter.layer.paths import normalise
from converter.layer.tar import read_entries


def _archive(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def _info(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def _read(archive: bytes, chunk_size: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    chunks = (archive[at : at + chunk_size] for at in range(0, len(archive), chunk_size))
    return [
        (entry._replace(data=()), b"".join(bytes(view) for view in entry.data))
        for entry in read_entries(chunks)
    ]


EVERY_KIND = _archive(
    (_info("d/", type=tarfile.DIRTYPE, mode=0o1777, mtime=1), b""),
    (_info("d/f", size=5, mode=0o4755, uid=7, gid=8, mtime=2), b"hello"),
    (_info("d/s", type=tarfile.SYMTYPE, linkname="../x y", mode=0o777), b""),
    (_info("d/h", type=tarfile.LNKTYPE, linkname="./d/f"), b""),
    (_info("d/c", type=tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
    (_info("d/b", type=tarfile.BLKTYPE, devmajor=259, devminor=70000), b""),
    (_info("d/p", type=tarfile.FIFOTYPE), b""),
)


def test_every_kind_of_member_is_read() -> None:
    entries = {entry.path: (entry, data) for entry, data in _read(EVERY_KIND)}
    assert entries[b"d"][0].kind is Kind.DIRECTORY
    assert entries[b"d"][0].mode == 0o1777
    file, data = entries[b"d/f"]
    assert (file.kind, file.mode, file.uid, file.gid) == (Kind.FILE, 0o4755, 7, 8)
    assert (file.mtime_ns, file.size, data) == (2 * 10**9, 5, b"hello")
    assert entries[b"d/s"][0].target == b"../x y"
    assert entries[b"d/h"][0].target == b"d/f"
    assert (entries[b"d/b"][0].major, entries[b"d/b"][0].minor) == (259, 70000)
    assert entries[b"d/p"][0].kind is Kind.FIFO


@pytest.mark.parametrize("chunk_size", [1, 7, 511, 512, 513, 4096])
def test_chunk_borders_do_not_matter(chunk_size: int) -> None:
    assert _read(EVERY_KIND, chunk_size) == _read(EVERY_KIND)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_links_and_large_ids(form: int) -> None:
    name = "/".join(["x" * 200] * 5)
    archive = _archive(
        (_info(name, size=1, uid=2**31 + 5, gid=2**21), b"a"),
        (_info("l", type=tarfile.SYMTYPE, linkname="t" * 3000), b""),
        form=form,
    )
    (file, _), (link, _) = _read(archive)
    assert file.path == name.encode()
    assert (file.uid, file.gid) == (2**31 + 5, 2**21)
    assert link.target == b"t" * 3000


def test_data_that_nobody_reads_is_skipped() -> None:
    archive = _archive((_info("a", size=70000), b"a" * 70000), (_info("b", size=1), b"b"))
    assert [entry.path for entry in read_entries([archive])] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("12.5", 12_500_000_000),
        ("-86400.5", -86_400_500_000_000),
        ("0.000000001", 1),
        ("1700000000.123456789999", 1_700_000_000_123_456_789),
        ("-0.0000000001", -1),
    ],
)
def test_pax_times_keep_nanoseconds_and_round_down(text: str, nanoseconds: int) -> None:
    archive = _archive((_info("f", pax_headers={"mtime": text}), b""))
    assert _read(archive)[0][0].mtime_ns == nanoseconds


def test_xattrs_of_both_dialects() -> None:
    value = b"\0\x01\xff"
    archive = _archive(
        (
            _info(
                "f",
                pax_headers={
                    "SCHILY.xattr.user.a": "text",
                    "LIBARCHIVE.xattr.user.b%3Dc": base64.b64encode(value).decode(),
                },
            ),
            b"",
        )
    )
    assert _read(archive)[0][0].xattrs == ((b"user.a", b"text"), (b"user.b=c", value))


def test_pax_global_headers_are_defaults() -> None:
    stream = io.BytesIO()
    with tarfile.open(
        fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"uid": "77"}
    ) as tar:
        tar.addfile(_info("f"))
    assert _read(stream.getvalue())[0][0].uid == 77


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"a/b", b"a/b"),
        (b"./a//b/", b"a/b"),
        (b"/etc/passwd", b"etc/passwd"),
        (b"../../etc/passwd", b"etc/passwd"),
        (b"a/../../b", b"b"),
        (b"./", b""),
        (b"a/./b/..", b"a"),
        (b"a/..", b""),
        (b"a/.", b"a"),
        (b"a/b/../", b"a"),
        (b"a\n/..", b""),
    ],
)
def test_paths_never_leave_the_root(path: bytes, expected: bytes) -> None:
    assert normalise(path) == expected


def _with_header_field(archive: bytes, offset: int, value: bytes) -> bytes:
    header = bytearray(archive[:512])
    header[offset : offset + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + archive[512:]


ONE_FILE = _archive((_info("file", size=600), b"x" * 600))


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (ONE_FILE[:700], "member 'file': The archive ends in the middle"),
        (ONE_FILE[:300], "ends in the middle"),
        (b"\1" + ONE_FILE[1:], "wrong checksum"),
        (_with_header_field(ONE_FILE, 124, b"\xff" * 12), "size of -1"),
        (_with_header_field(ONE_FILE, 124, b"\x80" + b"\x7f" * 11), "size of"),
        (_with_header_field(ONE_FILE, 124, b"9" * 11), "no number"),
        (_with_header_field(ONE_FILE, 108, b"\xff" * 8), "uid is -1"),
        (_with_header_field(ONE_FILE, 156, b"V"), "of type b'V'"),
        (_archive((_info("f", pax_headers={"size": "-5"}), b"")), "bad size"),
        (_archive((_info("f", pax_headers={"mtime": "soon"}), b"")), "bad modification time"),
        (_archive((_info("s", type=tarfile.SYMTYPE, linkname=""), b"")), "target of 0 bytes"),
        (_archive((_info("x" * 256), b"")), "256 bytes long"),
    ],
)
def test_broken_archives_are_refused_with_a_reason(archive: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        _read(archive)


def test_malformed_pax_records_are_refused() -> None:
    for records in (b"5 a=b\n", b"x a=b\n", b"99 a=b\n", b"6 a=bc", b"6 abc\n"):
        header = _with_header_field(
            tarfile.TarInfo("p").tobuf()[:512], 124, b"%011o\0" % len(records)
        )
        header = _with_header_field(header, 156, b"x")
        with pytest.raises(IntegrityError, match="malformed pax"):
            _read(header + records.ljust(512, b"\0") + ONE_FILE)


def test_historic_signed_checksums_are_accepted() -> None:
    header = bytearray(
        _archive((_info("caf\xe9\xff\xfe", size=0), b""), form=tarfile.GNU_FORMAT)[:512]
    )
    header[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in header)
    header[148:156] = b"%06o\0 " % signed
    assert len(_read(bytes(header) + bytes(1024))) == 1
