"""OVA archives as Python's tarfile reads them, and what does not fit into one."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest

from converter.errors import SaltflatError, UsageError
from converter.package.manifest import encode_manifest
from converter.package.ova import MAX_MEMBER_BYTES, HashedFile, OvaWriter, ustar_header


def test_members_in_order_with_nothing_of_the_host_in_them() -> None:
    made = io.BytesIO()
    writer = OvaWriter(made, [("a.ovf", 600), ("a.mf", 512)])
    contents = {"a-disk1.vmdk": b"x" * 1025, "empty": b"", "a.json": b"y" * 512}
    for name, content in contents.items():
        with writer.member(name) as file:
            for piece in (content[:7], content[7:]):
                file.write(piece)
        assert (file.size_bytes, file.sha256) == (
            len(content),
            hashlib.sha256(content).hexdigest(),
        )
    front = [("a.ovf", b"o" * 600), ("a.mf", b"m" * 512)]
    writer.finish(front)
    with tarfile.open(fileobj=io.BytesIO(made.getvalue())) as archive:
        members = archive.getmembers()
        read = {one.name: archive.extractfile(one).read() for one in members}  # type: ignore[union-attr]  # regular files
    assert list(read.items()) == [*front, *contents.items()]
    assert {(one.mode, one.uid, one.gid, one.mtime, one.uname, one.type) for one in members} == {
        (0o644, 0, 0, 0, "", tarfile.REGTYPE)
    }
    assert len(made.getvalue()) % 512 == 0
    assert made.getvalue().endswith(bytes(1024))


def test_the_front_is_what_room_was_left_for() -> None:
    for front in ([("a.ovf", b"")], [("b.ovf", b"x")], []):
        with pytest.raises(ValueError, match="another front"):
            OvaWriter(io.BytesIO(), [("a.ovf", 1)]).finish(front)


def test_the_largest_member_that_the_format_has() -> None:
    header = ustar_header("a", MAX_MEMBER_BYTES)
    assert tarfile.TarInfo.frombuf(header, "utf-8", "strict").size == MAX_MEMBER_BYTES
    assert header[257:265] == b"ustar\x0000"
    file = HashedFile(io.BytesIO(), limit_bytes=4, name="a-disk1.vmdk")
    file.write(b"1234")
    with pytest.raises(SaltflatError, match=r"a-disk1\.vmdk takes more than 4 bytes") as caught:
        file.write(b"5")
    assert "--type ovf" in str(caught.value.hint)


def test_a_name_that_does_not_fit() -> None:
    assert tarfile.TarInfo.frombuf(ustar_header("n" * 100, 0), "utf-8", "strict").name == "n" * 100
    with pytest.raises(UsageError, match="too long"):
        ustar_header("n" * 101, 0)


def test_a_manifest() -> None:
    digests = [("a.ovf", "00" * 32), ("a-disk1.vmdk", "ff" * 32)]
    assert encode_manifest(digests) == (
        b"SHA256(a.ovf)= " + b"00" * 32 + b"\nSHA256(a-disk1.vmdk)= " + b"ff" * 32 + b"\n"
    )
