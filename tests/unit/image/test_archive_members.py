"""Members of archives by name: every form of header, and everything hostile is one clear error."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.errors import IntegrityError
from converter.image import archive_members
from converter.image.archive_members import MAX_LINKS, Member, follow, read_members
from tests.images.raw_tar import header, padded, pax

END = bytes(1024)


def members(data: bytes) -> dict[str, Member]:
    """Read an archive that is in memory, whole as it is."""
    return read_members(lambda at, size: data[at : at + size], len(data), what="It")


def content(data: bytes, name: str) -> bytes | None:
    """Return a member's bytes through the same two functions that the product uses."""
    member = follow(members(data + END), name, what="It")
    if member is None:
        return None
    return data[member.offset_bytes : member.offset_bytes + member.size_bytes]


def file(name: bytes, data: bytes) -> bytes:
    """Return a regular file's header and data."""
    return header(name, size=len(data)) + padded(data)


def link(name: bytes, target: bytes, typeflag: bytes = b"2") -> bytes:
    """Return a link's header; it is symbolic unless told otherwise."""
    return header(name, typeflag, linkname=target)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_dialect_against_tarfile(form: int) -> None:
    stream = io.BytesIO()
    long = "deep/" * 30 + "layer.tar"
    target = "a" * 90 if form == tarfile.USTAR_FORMAT else long
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name in ("manifest.json", "./dotted/x", "é", "a" * 90, long):
            if form == tarfile.USTAR_FORMAT and name == "é":
                continue
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(name), 1.5 if form == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(name.encode()))
        folder = tarfile.TarInfo("blobs")
        folder.type = tarfile.DIRTYPE
        for _ in range(2):  # folders may repeat: they hold nothing
            tar.addfile(folder)
        alias = tarfile.TarInfo("alias")
        alias.type, alias.linkname = tarfile.SYMTYPE, target
        tar.addfile(alias)
    data = stream.getvalue()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            if info.isreg():
                reader = tar.extractfile(info)
                assert reader
                assert content(data, info.name.removeprefix("./")) == reader.read()
    assert content(data, "alias") == target.encode()
    assert "blobs" not in members(data)


def test_what_is_no_file_has_no_bytes() -> None:
    archive = b"".join(
        [
            header(b"fifo", b"6", size=512),  # POSIX: no data follows, whatever the size says
            header(b"device", b"3", size=512),
            header(b"old-folder/", b"\0"),
            file(b"after", b"x"),
        ]
    )
    assert set(members(archive + END)) == {"after"}
    assert members(END) == {}
    assert set(members(archive + END[:512])) == {"after"}  # one block of zeros is enough to end it
    assert set(members(archive + END + b"anything")) == {"after"}


def test_links() -> None:
    archive = b"".join(
        [
            file(b"a/layer.tar", b"layer"),
            link(b"b/layer.tar", b"../a/layer.tar"),
            link(b"c/layer.tar", b"../b/layer.tar"),
            link(b"d", b"a/layer.tar", b"1"),
            link(b"e/e", b"./a//layer.tar", b"1"),
            link(b"absolute", b"/a/layer.tar"),
            link(b"later", b"z"),
            file(b"z", b"layer"),
        ]
    )
    for name in ("a/layer.tar", "b/layer.tar", "c/layer.tar", "d", "e/e", "absolute", "later"):
        assert content(archive, name) == b"layer"
    assert content(archive, "nothing") is None


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (link(b"a", b"../../etc/passwd"), "outside of the archive"),
        (link(b"a", b"/etc/passwd"), "not in the archive"),
        (link(b"a", b"b", b"1"), "not in the archive"),
        (link(b"a", b"a"), "in a circle"),
        (link(b"a", b"a", b"1"), "in a circle"),
        (link(b"a", b"b") + link(b"b", b"a"), "in a circle"),
        (
            file(b"0", b"")
            + b"".join(link(b"%d" % n, b"%d" % (n - 1)) for n in range(1, MAX_LINKS + 1))
            + link(b"a", b"%d" % MAX_LINKS),
            "in a circle",
        ),
    ],
)
def test_links_that_lead_nowhere(archive: bytes, said: str) -> None:
    found = members(archive + END)
    with pytest.raises(IntegrityError, match=f"It, member 'a': .*{said}"):
        follow(found, "a", what="It")


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (file(b"a", b"1") + file(b"./a", b"2"), "It, member 'a': It is there twice"),
        (file(b"a", b"1") + link(b"a", b"b"), "It, member 'a': It is there twice"),
        (file(b"../a", b""), "It: A member is called b'../a'"),
        (file(b"a/../../b", b""), "A member is called"),
        (file(b"a/../b", b""), "A member is called"),
        (header(b"a", size=2**62), "member 'a': The archive ends in the middle"),
        (header(b"a", size=-5), "member 'a': It claims a size of -5 bytes"),
        (file(b"a", b"x" * 600)[:-600], "member 'a': The archive ends in the middle"),
        (file(b"a", b"x")[:300], "It: The archive ends in the middle"),
        (b"", "It: The archive ends in the middle"),
        (file(b"a", b"x"), "It, member 'a': The archive ends in the middle"),  # no end marker
        (b"x" * 512, "wrong checksum|no number"),
        (header(b"a", b"S"), "member 'a': It is a sparse file"),
        (pax([("GNU.sparse.major", "1")]) + file(b"a", b""), "It is a sparse file"),
        (pax([("path", "x" * 513)]) + file(b"a", b""), "name has 513 bytes"),
        (pax([("linkpath", "x" * 513)]) + link(b"a", b""), "target has 513 bytes"),
        (pax([("size", "-1")]) + file(b"a", b""), "bad size"),
        (pax([("path", "all")], b"g") + file(b"a", b""), "all members one name or size"),
        (pax([("a", "b")]) * 9 + file(b"a", b""), "too many extended headers"),
        (pax([("a", "b")]), "ends in the middle"),
        (header(b"x", b"x", size=1 << 20), "is to have 1048576 bytes"),
        (header(b"x", b"L", size=-1), "is to have -1 bytes"),
        (header(b"x", b"L", size=1000), "ends in the middle"),
        (header(b"x", b"x", size=3) + padded(b"zzz"), "malformed pax header"),
    ],
)
def test_hostile_archives(archive: bytes, said: str) -> None:
    with pytest.raises(IntegrityError, match=said) as caught:
        members(archive)
    assert caught.value.what.startswith("It")


def test_too_many_members(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = b"".join(file(b"%d" % number, b"") for number in range(11))
    assert len(members(archive + END)) == 11
    monkeypatch.setattr(archive_members, "MAX_MEMBERS", 10)
    with pytest.raises(IntegrityError, match="member '10': It has more than 10 members"):
        members(archive)


def test_comments_for_all_members_mean_nothing() -> None:
    archive = pax([("comment", "git archive writes its commit here")], b"g") + file(b"a", b"x")
    assert content(archive, "a") == b"x"


@given(st.binary(max_size=3000))
def test_any_bytes_are_members_or_an_error(data: bytes) -> None:
    try:
        found = members(data)
    except IntegrityError:
        return
    for member in found.values():
        assert 0 <= member.offset_bytes <= member.offset_bytes + member.size_bytes <= len(data)


@given(st.data())
def test_a_changed_archive_is_members_or_an_error(data: st.DataObject) -> None:
    archive = bytearray(
        pax([("path", "long")])
        + file(b"a", b"x" * 700)
        + link(b"b", b"long")
        + file(b"c", b"y")
        + END
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(archive) - 1))
        archive[at] = data.draw(st.integers(0, 255))
    try:
        found = members(bytes(archive))
        for name in found:
            follow(found, name, what="It")
    except IntegrityError:
        return
    for member in found.values():
        assert member.offset_bytes + member.size_bytes <= len(archive)
