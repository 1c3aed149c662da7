"""What a hostile guest may send as a tar stream: nothing of it gets out of the target."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile

import pytest

from agent.host import CopyError
from agent.host.client.unpack import Limits, first_member, unpack


def member(name, kind=tarfile.REGTYPE, data=b"", **attributes):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def stream(*members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return io.BytesIO(out.getvalue())


@pytest.fixture
def place(tmp_path):
    """A target, its descriptor, and a folder beside it whose secret must stay as it is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("kept")
    target = tmp_path / "target"
    target.mkdir()
    descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    yield target, descriptor
    os.close(descriptor)
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "kept"
    assert (outside / "secret").stat().st_nlink == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "target"]


def test_the_first_member_alone_is_read():
    with io.BytesIO() as made:
        with tarfile.open(fileobj=made, mode="w") as archive:
            for name in ("first", "second"):
                archive.addfile(tarfile.TarInfo(name))
        stream = io.BytesIO(made.getvalue())
    assert first_member(stream).name == "first"
    assert first_member(io.BytesIO()) is None
    with pytest.raises(CopyError, match="no tar stream"):
        first_member(io.BytesIO(b"something else" * 100))


@pytest.mark.parametrize("name", ["../outside/x", "a/../../outside/x", "/tmp/x", "..", "a/.."])
def test_names_that_lead_out_are_refused(place, name):
    with pytest.raises(CopyError, match="The guest sends"):
        unpack(stream(member(name, data=b"x")), place[1])


def test_a_link_is_made_and_not_followed(place):
    target, descriptor = place
    hostile = stream(
        member("door", tarfile.SYMTYPE, linkname="../outside"), member("door/x", data=b"x")
    )
    with pytest.raises(CopyError, match="cannot be entered"):
        unpack(hostile, descriptor)
    assert (target / "door").readlink().name == "outside"


def test_a_file_takes_the_place_of_a_link_to_a_file(place):
    target, descriptor = place
    hostile = stream(
        member("file", tarfile.SYMTYPE, linkname="../outside/secret"), member("file", data=b"new")
    )
    unpack(hostile, descriptor)
    assert not (target / "file").is_symlink()
    assert (target / "file").read_bytes() == b"new"


def test_a_link_that_was_there_before_is_not_followed(place):
    target, descriptor = place
    (target / "logs").symlink_to("../outside")
    with pytest.raises(CopyError, match="cannot be entered"):
        unpack(stream(member("logs/x", data=b"x")), descriptor)


def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(place, monkeypatch):
    """The swap that a path-based check cannot see: between making a folder and entering it."""
    target, descriptor = place
    real = os.mkdir

    def swap(name, mode=0o777, *, dir_fd=None):
        real(name, mode, dir_fd=dir_fd)
        (target / "a").rmdir()
        (target / "a").symlink_to("../outside")

    monkeypatch.setattr(os, "mkdir", swap)
    with pytest.raises(CopyError, match="cannot be entered"):
        unpack(stream(member("a/secret", data=b"x")), descriptor)


@pytest.mark.parametrize("linkname", ["../outside/secret", "/etc/passwd", "door/secret"])
def test_hard_links_lead_nowhere_else(place, linkname):
    hostile = stream(
        member("door", tarfile.SYMTYPE, linkname="../outside"),
        member("hard", tarfile.LNKTYPE, linkname=linkname),
    )
    with pytest.raises(CopyError):
        unpack(hostile, place[1])


def test_a_hard_link_to_a_link_out_does_not_reach_what_is_there(place):
    target, descriptor = place
    hostile = stream(
        member("soft", tarfile.SYMTYPE, linkname="../outside/secret"),
        member("hard", tarfile.LNKTYPE, linkname="soft"),
        member("hard", data=b"mine"),
    )
    unpack(hostile, descriptor)
    assert (target / "hard").read_bytes() == b"mine"


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_left_out(place, kind):
    target, descriptor = place
    done = unpack(stream(member("node", kind), member("file", data=b"x")), descriptor)
    assert (done.left_out, done.entries) == (1, 2)
    assert [path.name for path in target.iterdir()] == ["file"]


def test_modes_lose_setuid_and_keep_the_rest(place):
    target, descriptor = place
    members = [
        member("locked", tarfile.DIRTYPE, mode=0o500),
        member("locked/tool", data=b"x", mode=0o6755, mtime=1_700_000_000),
    ]
    unpack(stream(*members), descriptor)
    state = (target / "locked" / "tool").stat()
    assert (stat.S_IMODE(state.st_mode), state.st_mtime) == (0o755, 1_700_000_000)


def test_the_first_part_is_renamed_and_links_follow(place):
    target, descriptor = place
    members = [
        member("etc/", tarfile.DIRTYPE, mode=0o755),
        member("etc/a", data=b"a"),
        member("etc/b", tarfile.LNKTYPE, linkname="etc/a"),
    ]
    unpack(stream(*members), descriptor, rename="copied")
    assert (target / "copied" / "b").read_bytes() == b"a"
    assert [path.name for path in target.iterdir()] == ["copied"]


def test_entries_and_bytes_are_bounded(place):
    many = stream(*(member(f"{n}") for n in range(50)))
    with pytest.raises(CopyError, match="more than may be copied"):
        unpack(many, place[1], limits=Limits(entries=49))
    with pytest.raises(CopyError, match="more than may be copied"):
        unpack(stream(member("a", data=b"12345")), place[1], limits=Limits(bytes=4))


class Endless:
    """A header that announces a gigabyte about the next member, and the gigabyte."""

    def __init__(self, kind):
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, 1 << 30
        self.head = info.tobuf(tarfile.GNU_FORMAT)
        self.given = 0

    def read(self, size):
        data, self.head = (self.head + b"a" * size)[:size], b""
        self.given += len(data)
        return data


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_is_not_read_into_memory_whatever_its_length(place, kind):
    endless = Endless(kind)
    with pytest.raises(CopyError, match="no tar stream"):
        unpack(endless, place[1])
    assert endless.given < 100_000


class Repeated:
    """Blocks that come again and again."""

    def __init__(self, blocks):
        self.blocks = blocks
        self.given = 0

    def read(self, size):
        start = self.given % len(self.blocks)
        repeats = size // len(self.blocks) + 2
        self.given += size
        return (self.blocks * repeats)[start : start + size]


def test_headers_about_headers_are_bounded_in_all(place):
    """Each is held while the next is read: a chain of long ones would be as much as memory has."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 300_032
    chain = Repeated(info.tobuf(tarfile.GNU_FORMAT) + b"a" * info.size)
    with pytest.raises(CopyError, match="no tar stream"):
        unpack(chain, place[1])
    assert chain.given < 2_000_000


def test_headers_about_all_that_follows_are_bounded_in_all(place):
    """They are kept to the end, and copied for each member."""
    info = tarfile.TarInfo("x")
    info.pax_headers = {"comment": "c" * 100}
    header = info.create_pax_global_header(info.pax_headers)
    many = Repeated(header + tarfile.TarInfo("file").tobuf())
    with pytest.raises(CopyError, match="no tar stream"):
        unpack(many, place[1])
    assert many.given < 2_000_000


def test_an_archive_has_an_end(place):
    with pytest.raises(CopyError, match="behind the end"):
        unpack(Repeated(bytes(1024)), place[1])


def test_content_of_no_known_kind_counts(place):
    info = tarfile.TarInfo("x")
    info.type, info.size = b"Z", 1 << 41
    with pytest.raises(CopyError, match="more than may be copied"):
        unpack(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT)), place[1])


def test_sparse_maps_are_refused(place):
    info = tarfile.TarInfo("x")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    with pytest.raises(CopyError, match="sparse"):
        unpack(stream((info, b"")), place[1])


@pytest.mark.parametrize("length", [0, 1, 511, 512, 700, 1024])
def test_a_stream_that_ends_anywhere_is_an_archive_or_an_error(place, length):
    whole = stream(member("a/b", data=b"x" * 600)).read()
    with contextlib.suppress(CopyError):
        unpack(io.BytesIO(whole[:length]), place[1])
