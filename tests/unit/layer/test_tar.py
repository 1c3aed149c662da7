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
from tests.images.raw_tar import header, number, padded, pax


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
        ("-1.9999999999", -2_000_000_000),
        ("1700000000." + "9" * 50, 1_700_000_000_999_999_999),
        ("-9223372036." + "0" * 50 + "1", -9_223_372_036_000_000_001),
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


def test_pax_global_headers_change_no_member() -> None:
    records = {"uid": "77", "path": "elsewhere", "SCHILY.xattr.user.a": "1", "comment": "commit"}
    stream = io.BytesIO()
    with tarfile.open(
        fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, pax_headers=records
    ) as tar:
        tar.addfile(_info("f", uid=3))
    ((entry, _),) = _read(stream.getvalue())
    assert (entry.path, entry.uid, entry.xattrs) == (b"f", 3, ())


def test_names_of_gnu_headers_count_more_than_those_of_pax_in_either_order() -> None:
    long_name = header(b"L", b"L", size=5) + padded(b"long\0")
    records = pax([("path", "pax")])
    for headers in (long_name + records, records + long_name):
        ((entry, _),) = _read(headers + header(b"f"))
        assert entry.path == b"long"


def test_of_several_pax_headers_the_last_counts() -> None:
    headers = pax([("uid", 1), ("SCHILY.xattr.user.a", "1")]) + pax([("gid", 2)])
    ((entry, _),) = _read(headers + header(b"f"))
    assert (entry.uid, entry.gid, entry.xattrs) == (0, 2, ())


def test_records_without_a_value_leave_the_headers_own() -> None:
    keys = ["path", "linkpath", "uid", "gid", "size", "mtime"]
    headers = pax([(key, "") for key in keys])
    uid = number(7, 8)
    ((entry, data),) = _read(
        headers + header(b"f", size=4, uid=uid, mtime=number(9)) + padded(b"data")
    )
    assert (entry.path, entry.uid, entry.mtime_ns, data) == (b"f", 7, 9 * 10**9, b"data")
    ((link, _),) = _read(pax([("linkpath", "")]) + header(b"l", b"2", linkname=b"target"))
    assert link.target == b"target"


def test_an_attribute_without_a_value_is_one() -> None:
    ((entry, _),) = _read(pax([("SCHILY.xattr.user.empty", "")]) + header(b"f"))
    assert entry.xattrs == ((b"user.empty", b""),)


def test_attributes_of_other_systems_and_acls_of_links_are_left_out() -> None:
    records = pax(
        [
            ("SCHILY.xattr.com.apple.quarantine", "0081"),
            ("LIBARCHIVE.xattr.system.nfs4_acl", "AAAA"),
            ("SCHILY.xattr.system.posix_acl_access", "\2\0\0\0"),
            ("SCHILY.xattr.security.capability", "c"),
            ("SCHILY.xattr.userland", "1"),
            ("SCHILY.acl.access", "user::rwx,group::r-x,other::r-x"),
        ]
    )
    kept = []
    for kind in (b"0", b"2"):
        ((entry, _),) = _read(records + header(b"f", kind, linkname=b"t"))
        kept.append([name for name, _ in entry.xattrs])
    assert kept == [
        [b"security.capability", b"system.posix_acl_access"],
        [b"security.capability"],
    ]


@pytest.mark.parametrize(
    "key", ["SCHILY.xattr.user.a\0b", "LIBARCHIVE.xattr.user.a%00b", "SCHILY.xattr.\0"]
)
def test_attribute_names_with_nul_are_refused(key: str) -> None:
    with pytest.raises(IntegrityError, match=r"member 'f': It has the extended attribute"):
        _read(pax([(key, "AAAA")]) + header(b"f"))


def test_symbolic_links_have_the_one_mode_that_linux_knows() -> None:
    ((entry, _),) = _read(header(b"l", b"2", linkname=b"t", mode=b"0004600\0"))
    assert entry.mode == 0o777


@pytest.mark.parametrize(
    ("name", "typeflag", "kind"),
    [
        (b"d/", b"\0", Kind.DIRECTORY),
        (b"d", b"\0", Kind.FILE),
        (b"d/", b"0", Kind.FILE),  # as in Go: only the type of before POSIX needs the slash
        (b"d", b"7", Kind.FILE),
    ],
)
def test_old_types(name: bytes, typeflag: bytes, kind: Kind) -> None:
    ((entry, _),) = _read(header(name, typeflag, magic=bytes(8)))
    assert (entry.path, entry.kind) == (b"d", kind)


GNU = b"ustar  \0"


@pytest.mark.parametrize(
    ("magic", "prefix", "path"),
    [
        (b"ustar\x0000", b"p", b"p/f"),
        (b"ustar\0  ", b"p", b"p/f"),
        (b"ustar\0\0\0", b"p", b"p/f"),
        (bytes(8), b"p", b"f"),
        (b"ustar  0", b"p", b"f"),
        (GNU, b"00000000001\0" * 2, b"f"),  # GNU tar has two times in its place,
        (GNU, b"\x80" + bytes(10) + b"\1", b"f"),
        (GNU, b"a/prefix", b"a/prefix/f"),  # and Go before 1.8 sometimes a prefix
        (GNU, b"00000000001\0a/prefix", b"00000000001/f"),
        (GNU, b"caf\xe9", b"f"),
    ],
)
def test_where_the_prefix_field_is_a_prefix(magic: bytes, prefix: bytes, path: bytes) -> None:
    ((entry, _),) = _read(header(b"f", prefix=prefix, magic=magic))
    assert entry.path == path


@pytest.mark.parametrize(
    ("magic", "numbers"), [(b"ustar\x0000", (1, 3)), (GNU, (1, 3)), (bytes(8), (0, 0))]
)
def test_headers_from_before_posix_have_no_device_numbers(
    magic: bytes, numbers: tuple[int, int]
) -> None:
    device = {"devmajor": number(1, 8), "devminor": number(3, 8)}
    ((entry, _),) = _read(header(b"f", b"3", magic=magic, **device))
    assert (entry.major, entry.minor) == numbers


@pytest.mark.parametrize("size", [0, 3, 1000])
def test_a_pax_size_is_the_one_that_counts(size: int) -> None:
    archive = pax([("size", size)]) + header(b"f", size=512) + padded(b"x" * size) + header(b"g")
    assert [(entry.path, data) for entry, data in _read(archive)] == [
        (b"f", b"x" * size),
        (b"g", b""),
    ]


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


BLOCK = bytes(512)


@pytest.mark.parametrize("end", [b"", BLOCK, BLOCK * 2, BLOCK * 2 + b"junk", BLOCK * 9])
def test_ends_of_archives(end: bytes) -> None:
    # What stands behind two blocks of zeros is no part of the archive, though of the diffID.
    assert [entry.path for entry, _ in _read(header(b"f") + end)] == [b"f"]


def test_a_member_behind_one_block_of_zeros_is_refused() -> None:
    with pytest.raises(IntegrityError, match="goes on after a single block of zeros"):
        _read(header(b"f") + BLOCK + header(b"g"))


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
