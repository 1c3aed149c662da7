"""OCI layout folders as sources, and blobs fetched from them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from converter.errors import IntegrityError, NotFoundError, SaltflatError, UsageError
from converter.events import Event, StepAdvanced, StepFinished, StepStarted, ignore
from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.image.fetch import blob_path, fetch_blob
from converter.image.files import Folder
from converter.image.layout import LayoutSource
from converter.image.model import Image
from converter.image.platform import DEFAULT_PLATFORM, Platform
from converter.image.reference import LayoutReference
from converter.image.source import SourceOptions, open_source
from converter.image.verify import verified
from tests.unit.image.samples import Blobs, described, on, tagged


def resolve(folder: Path, tag: str | None = None, platform: Platform = DEFAULT_PLATFORM) -> Image:
    with open_source(LayoutReference(folder, tag), SourceOptions()) as source:
        return source.resolve(platform)


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()


def test_by_tag(tmp_path: Path, blobs: Blobs) -> None:
    one, two = blobs.image(b"one"), blobs.image(b"two")
    blobs.write_layout(tmp_path, tagged(one, "1"), tagged(two, "docker.io/library/two:2"))
    image = resolve(tmp_path, "1")
    assert image.reference == f"oci:{tmp_path}:1"
    assert image.layers[0].diff_id == Digest.of(b"one")
    assert str(resolve(tmp_path, "docker.io/library/two:2").digest) == two["digest"]
    with pytest.raises(NotFoundError) as caught:
        resolve(tmp_path, "3")
    assert caught.value.expected == "one of the tags: '1', 'docker.io/library/two:2'"
    with pytest.raises(UsageError, match="holds 2 images"):
        resolve(tmp_path)


def test_without_tag(tmp_path: Path, blobs: Blobs) -> None:
    blobs.write_layout(tmp_path, blobs.image(b"one"))
    assert resolve(tmp_path).layers[0].diff_id == Digest.of(b"one")


def test_one_tag_for_several_platforms(tmp_path: Path, blobs: Blobs) -> None:
    entries = [
        tagged(on(blobs.image(platform.encode(), architecture=platform), f"linux/{platform}"), "1")
        for platform in ("amd64", "arm64")
    ]
    blobs.write_layout(tmp_path, *entries)
    for tag in ("1", None):
        image = resolve(tmp_path, tag, Platform("linux", "arm64"))
        assert image.layers[0].diff_id == Digest.of(b"arm64")
    with pytest.raises(NotFoundError, match="no image for linux/386"):
        resolve(tmp_path, "1", Platform("linux", "386"))


def test_the_names_that_containerd_writes(tmp_path: Path, blobs: Blobs) -> None:
    """Its layouts have the tag alone where others have the name, and the name beside it."""
    names = {"docker.io/library/a:latest": b"a", "docker.io/library/b:latest": b"b"}
    entries = []
    for name, layer in names.items():
        entry = tagged(blobs.image(layer), "latest")
        annotations = {**entry["annotations"], c.ANNOTATION_CONTAINERD_NAME: name}
        entries.append({**entry, "annotations": annotations})
    blobs.write_layout(tmp_path, *entries)
    for name, layer in names.items():
        assert resolve(tmp_path, name).layers[0].diff_id == Digest.of(layer)
    for tag, said in ((None, "holds 2 images"), ("latest", "may be any of 2 images")):
        with pytest.raises(UsageError, match=said) as caught:
            resolve(tmp_path, tag)
        assert caught.value.expected == f"one of the tags: {', '.join(map(repr, names))}"
        assert caught.value.hint == f"Name one: oci:{tmp_path}:TAG."


def test_no_layout(tmp_path: Path, blobs: Blobs) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(NotFoundError, match="is not an OCI image layout"):
            resolve(folder)
    blobs.write_layout(tmp_path)
    with pytest.raises(NotFoundError, match="no such image"):
        resolve(tmp_path)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    with pytest.raises(UsageError, match="layout version"):
        resolve(tmp_path)
    (tmp_path / "oci-layout").write_text("1")
    with pytest.raises(IntegrityError, match="is not a JSON object"):
        resolve(tmp_path)


def test_a_changed_manifest(tmp_path: Path, blobs: Blobs) -> None:
    entry = blobs.image(b"one")
    blobs[str(entry["digest"])] += b" "
    blobs.write_layout(tmp_path, entry)
    with pytest.raises(IntegrityError, match="is longer than its descriptor"):
        resolve(tmp_path)


def test_nothing_but_regular_files_is_opened(tmp_path: Path, blobs: Blobs) -> None:
    entry = blobs.image(b"one")
    blobs.write_layout(tmp_path, entry)
    layer = resolve(tmp_path).layers[0].descriptor
    source = LayoutSource(LayoutReference(tmp_path), Folder(tmp_path))
    content = source.local_blob(layer)
    assert content
    with content.open() as file:
        assert file.read() == b"one"
    path = blob_path(tmp_path / "blobs", layer.digest)
    path.write_bytes(b"much longer")
    with pytest.raises(IntegrityError, match="11 bytes"):
        source.local_blob(layer)
    path.unlink()
    with pytest.raises(NotFoundError):
        source.local_blob(layer)
    os.mkfifo(path)  # opening it for reading would wait for a writer
    with pytest.raises(IntegrityError, match="not a regular file"):
        source.local_blob(layer)
    with pytest.raises(IntegrityError, match="not a regular file"):
        fetch_blob(source, layer, tmp_path / "blobs", ignore)


def test_fetch(tmp_path: Path, blobs: Blobs) -> None:
    content = bytes(range(256)) * 10_000
    blobs.write_layout(tmp_path / "layout", blobs.image(content))
    layer = resolve(tmp_path / "layout").layers[0].descriptor
    source = LayoutSource(LayoutReference(tmp_path / "layout"), Folder(tmp_path / "layout"))
    events: list[Event] = []
    path = fetch_blob(source, layer, tmp_path / "blobs", events.append, step="layer 1/1")
    assert path == blob_path(tmp_path / "blobs", layer.digest)
    assert path == tmp_path / "blobs" / "sha256" / layer.digest.encoded
    assert path.read_bytes() == content
    assert events[0] == StepStarted("layer 1/1", len(content))
    assert isinstance(events[-1], StepFinished)
    assert [type(event) for event in events[1:-1]] == [StepAdvanced] * (len(content) >> 20)
    # The second time nothing is read: the source is not there any more.
    nowhere = LayoutSource(LayoutReference(tmp_path / "absent"), Folder(tmp_path / "absent"))
    assert fetch_blob(nowhere, layer, tmp_path / "blobs", ignore) == path
    # A file of another size is none of ours.
    path.write_bytes(b"short")
    assert fetch_blob(source, layer, tmp_path / "blobs", ignore).read_bytes() == content


@pytest.mark.parametrize("fault", ["changed", "short", "long", "absent"])
def test_nothing_wrong_gets_a_final_name(tmp_path: Path, blobs: Blobs, fault: str) -> None:
    content = b"x" * 1_000_000
    blobs.write_layout(tmp_path / "layout", blobs.image(content))
    layer = resolve(tmp_path / "layout").layers[0].descriptor
    path = blob_path(tmp_path / "layout" / "blobs", layer.digest)
    match fault:
        case "changed":
            path.write_bytes(content[:-1] + b"y")
        case "short":
            path.write_bytes(content[:-1])
        case "long":
            path.write_bytes(content + b"x")
        case "absent":
            path.unlink()
    source = LayoutSource(LayoutReference(tmp_path / "layout"), Folder(tmp_path / "layout"))
    with pytest.raises(SaltflatError) as caught:
        fetch_blob(source, layer, tmp_path / "blobs", ignore)
    assert caught.value.exit_code == (3 if fault == "absent" else 5)
    assert layer.digest.encoded in caught.value.what
    assert list((tmp_path / "blobs" / "sha256").iterdir()) == []


def test_verified_stops_at_the_first_byte_too_many() -> None:
    def endless() -> object:
        while True:
            yield b"x" * 1000

    got = []
    with pytest.raises(IntegrityError, match="longer"):
        got.extend(verified(endless(), described(b"x" * 2500)))
    assert sum(map(len, got)) == 2000


def test_verified_knows_sha512() -> None:
    wanted = described(b"content")
    wanted = type(wanted)(wanted.media_type, Digest.of(b"content", "sha512"), 7)
    assert b"".join(verified([b"con", b"", b"tent"], wanted)) == b"content"
    with pytest.raises(IntegrityError, match=f"has the digest {Digest.of(b'CONtent', 'sha512')}"):
        list(verified([b"CONtent"], wanted))
