"""The order of a conversion, with a source that misbehaves."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from converter.convert_options import ConvertOptions
from converter.errors import IntegrityError, PolicyError, SaltflatError
from converter.events import ignore
from converter.identity import identity_of
from converter.image.files import Content
from converter.image.model import Descriptor, Digest, Image, ImageConfig, Layer, Manifest, Platform
from converter.image.sink import CheckedSink
from converter.pipeline import convert
from converter.policy import Policy
from converter.store.layout import Store
from converter.store.links import ChainParameters, LinkRecord, PendingLink

TAR = "application/vnd.oci.image.layer.v1.tar"
OPTIONS = ConvertOptions(ChainParameters(capacity_bytes=64 << 20))


def _tar(name: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return stream.getvalue()


def _descriptor(data: bytes, size_bytes: int | None = None) -> Descriptor:
    return Descriptor(TAR, Digest.of(data), len(data) if size_bytes is None else size_bytes)


def _image(layers: list[Layer]) -> Image:
    platform = Platform("linux", "amd64")
    config = _descriptor(b"{}")
    return Image(
        "test",
        Digest.of(b"manifest"),
        platform,
        Manifest("", config, tuple(layer.descriptor for layer in layers)),
        b"manifest",
        ImageConfig(platform, {}, tuple(layer.diff_id for layer in layers)),
        b"{}",
        tuple(layers),
    )


class MemorySource:
    """Blobs from memory; a descriptor that is not there never ends."""

    def __init__(self, *blobs: bytes) -> None:
        self._blobs = {Digest.of(blob): blob for blob in blobs}
        self.endless_chunks = 0

    def resolve(self, platform: Platform) -> Image:
        raise NotImplementedError

    def local_blob(self, _descriptor: Descriptor) -> Content | None:
        return None

    def hang_up(self) -> None:
        raise NotImplementedError

    def receive(self, descriptor: Descriptor, into: CheckedSink) -> None:
        blob = self._blobs.get(descriptor.digest)
        for chunk in self._endless() if blob is None else [blob]:
            into.write(chunk)
        into.check()

    def _endless(self) -> Iterator[bytes]:
        while True:
            self.endless_chunks += 1
            yield bytes(1 << 16)


def test_an_error_ends_the_fetches_that_nobody_waits_for(tmp_path: Path) -> None:
    good = _tar("a")
    wrong = Layer(_descriptor(good), Digest.of(b"something else"))
    endless = Layer(_descriptor(b"?", 1 << 50), Digest.of(b"?"))
    source = MemorySource(good)
    with pytest.raises(IntegrityError, match="layer 1/2"):
        convert(
            _image([wrong, endless]),
            source,
            Store(tmp_path),
            OPTIONS,
            monitor=ignore,
        )
    read = source.endless_chunks
    assert not list((tmp_path / "links").iterdir())
    whole = [path.name for path in (tmp_path / "blobs").glob("*/[!.]*")]
    assert whole == [hashlib.sha256(good).hexdigest()]  # of the other one a part stays, to go on
    assert source.endless_chunks == read  # nobody goes on in the background


def test_a_disk_that_grows_too_large_is_given_up_before_its_end(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo("large")
        member.size = 8 << 20
        tar.addfile(member, io.BytesIO(b"1" * member.size))
    data = gzip.compress(stream.getvalue())
    # Whoever reads it to its end finds that its diffID is wrong.
    layer = Layer(Descriptor(f"{TAR}+gzip", Digest.of(data), len(data)), Digest.of(b"wrong"))
    options = replace(OPTIONS, policy=Policy(max_disk_bytes=4 << 20))
    with pytest.raises(PolicyError, match="max-disk-size"):
        convert(_image([layer]), MemorySource(data), Store(tmp_path), options, monitor=ignore)
    assert not list((tmp_path / "links").iterdir())


def test_the_same_layer_twice_is_fetched_once_and_makes_one_link(tmp_path: Path) -> None:
    data = _tar("a")
    layer = Layer(_descriptor(data), Digest.of(data))
    chain = convert(
        _image([layer, layer]),
        MemorySource(data),
        Store(tmp_path),
        OPTIONS,
        monitor=ignore,
    )
    assert len(chain.links) == 2  # the second replaces the file by its equal, a new inode
    assert chain.links[1].parent == chain.links[0].link_id


def test_nothing_is_recorded_before_what_it_stands_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = [_tar(name) for name in "abc"]
    empty = bytes(1024)  # a tar without members
    layers = [Layer(_descriptor(blob), Digest.of(blob)) for blob in [*blobs, empty]]
    recorded: list[str] = []
    commit, commit_empty = PendingLink.commit, PendingLink.commit_empty

    def late(self: PendingLink, *, grains: int, state: bytes) -> LinkRecord:
        threading.Event().wait(0.1)  # so that whoever does not wait for it comes first
        record = commit(self, grains=grains, state=state)
        recorded.append(record.link_id)
        return record

    def at_once(self: PendingLink) -> LinkRecord:
        record = commit_empty(self)
        assert record.parent == recorded[-1]
        return record

    monkeypatch.setattr(PendingLink, "commit", late)
    monkeypatch.setattr(PendingLink, "commit_empty", at_once)
    chain = convert(
        _image(layers), MemorySource(*blobs, empty), Store(tmp_path), OPTIONS, monitor=ignore
    )
    assert [link.link_id for link in chain.links] == recorded


def test_no_link_is_good_on_one_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = [_tar(name) for name in "abc"]
    layers = [Layer(_descriptor(blob), Digest.of(blob)) for blob in blobs]
    commit = PendingLink.commit

    def full(self: PendingLink, *, grains: int, state: bytes) -> LinkRecord:
        if not list((tmp_path / "links").glob("*.json")):
            return commit(self, grains=grains, state=state)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PendingLink, "commit", full)
    with pytest.raises(SaltflatError, match=r"no room for more in the store .*: No space left"):
        convert(_image(layers), MemorySource(*blobs), Store(tmp_path), OPTIONS, monitor=ignore)
    files = sorted(path.suffix for path in (tmp_path / "links").iterdir())
    assert files == [".json", ".state", ".vmdk"]


def test_uuid_and_hash_seed_follow_from_the_lowest_link() -> None:
    identity = identity_of("0" * 64)
    assert identity == identity_of("0" * 64)
    assert identity != identity_of("1" * 64)
    assert (identity.uuid[6] >> 4, identity.uuid[8] >> 6) == (8, 2)
