"""Archives as `docker save` writes them: which image is meant, and what makes its manifest."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zstandard

from converter.errors import IntegrityError, NotFoundError, UsageError
from converter.events import Event, StepAdvanced, StepFinished, StepStarted, ignore
from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.image.docker_archive import DockerArchiveSource
from converter.image.fetch import fetch_blob
from converter.image.model import Descriptor, Image
from converter.image.platform import DEFAULT_PLATFORM
from converter.image.reference import (
    DockerArchiveReference,
    LayoutArchiveReference,
    RegistryReference,
    parse_source,
)
from converter.image.source import SourceOptions, open_source
from tests.images.raw_tar import header, padded
from tests.unit.image.samples import Blobs, tagged

ONE, TWO = b"\0" * 1024, b"\0" * 2048  # plain tar archives without members


def config_of(*layers: bytes, architecture: str = "amd64") -> bytes:
    """Return the configuration of an image with these uncompressed layers."""
    diff_ids = [str(Digest.of(layer)) for layer in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    document = {"os": "linux", "architecture": architecture, "rootfs": rootfs}
    return json.dumps(document).encode()


def tar_of(members: Mapping[str, bytes], *more: bytes) -> bytes:
    """Return an archive of regular files, with raw members after them."""
    files = [header(name.encode(), size=len(data)) + padded(data) for name, data in members.items()]
    return b"".join([*files, *more, bytes(1024)])


def write(path: Path, entries: object, members: Mapping[str, bytes], *more: bytes) -> Path:
    """Write an archive with manifest.json at its end, as docker does."""
    path.write_bytes(tar_of({**members, "manifest.json": json.dumps(entries).encode()}, *more))
    return path


def resolve(source: str) -> tuple[Image, list[bytes]]:
    """Return the image and its layers' bytes as they lie in the archive."""
    reference = parse_source(source)
    assert isinstance(reference, DockerArchiveReference | LayoutArchiveReference)
    with open_source(reference, SourceOptions()) as opened:
        image = opened.resolve(DEFAULT_PLATFORM)
        layers = []
        for layer in image.layers:
            content = opened.local_blob(layer.descriptor)
            assert content
            assert content.size_bytes == layer.descriptor.size_bytes
            with content.open() as file:
                layers.append(file.read())
                assert file.tell() == len(layers[-1])
            with TemporaryDirectory() as blobs:
                copy = fetch_blob(opened, layer.descriptor, Path(blobs), ignore)
                assert copy.read_bytes() == layers[-1]
    return image, layers


@pytest.fixture
def two_images(tmp_path: Path) -> Path:
    """Return an archive of two images, the first of which has two names."""
    first, second = config_of(ONE), config_of(ONE, TWO)
    entries = [
        {"Config": "1.json", "RepoTags": ["app:1", "localhost:5000/app:1"], "Layers": ["1.tar"]},
        {"Config": "2.json", "RepoTags": ["app:2"], "Layers": ["1.tar", "2.tar"]},
        {"Config": "1.json", "RepoTags": None, "Layers": ["1.tar"]},
    ]
    members = {"1.json": first, "2.json": second, "1.tar": ONE, "2.tar": TWO}
    return write(tmp_path / "two.tar", entries, members)


@pytest.mark.parametrize(
    ("chosen", "layers"),
    [
        ("app:1", [ONE]),
        ("docker.io/library/app:1", [ONE]),
        ("localhost:5000/app:1", [ONE]),
        ("app:2", [ONE, TWO]),
        ("@1", [ONE, TWO]),
        ("@2", [ONE]),
    ],
)
def test_the_reference_chooses(two_images: Path, chosen: str, layers: list[bytes]) -> None:
    image, found = resolve(f"docker-archive:{two_images}:{chosen}")
    assert found == layers
    assert [layer.diff_id for layer in image.layers] == [Digest.of(layer) for layer in layers]
    assert image.digest == Digest.of(image.manifest_raw)
    assert parse_source(image.reference) == parse_source(f"docker-archive:{two_images}:{chosen}")


@pytest.mark.parametrize(
    ("chosen", "error"),
    [("", UsageError), (":app:3", NotFoundError), (":app", NotFoundError), (":@3", NotFoundError)],
)
def test_what_there_is_is_told(
    two_images: Path, chosen: str, error: type[UsageError | NotFoundError]
) -> None:
    with pytest.raises(error) as caught:
        resolve(f"docker-archive:{two_images}{chosen}")
    assert caught.value.expected == (
        "one of: @0 ('app:1', 'localhost:5000/app:1'), @1 ('app:2'), @2 (no name)"
    )


def test_one_name_for_two_images_is_no_choice(tmp_path: Path) -> None:
    entry = {"Config": "c", "RepoTags": ["a:1", "NOT a name"], "Layers": []}
    path = write(tmp_path / "a.tar", [entry, entry], {"c": config_of()})
    with pytest.raises(UsageError, match="may be any of 2 images"):
        resolve(f"docker-archive:{path}:a:1")
    assert resolve(f"docker-archive:{path}:@1")[1] == []


def test_the_manifest_follows_from_configuration_and_layers_alone(tmp_path: Path) -> None:
    config = config_of(ONE, TWO)
    names = {"a": ["x/layer.tar", "y/layer.tar"], "b": ["1", "./2"]}
    digests = set()
    for name, layers in names.items():
        members = {"./c": config, layers[0]: ONE, layers[1]: TWO}
        path = write(tmp_path / name, [{"Config": "c", "Layers": layers}], members)
        image, _ = resolve(f"docker-archive:{path}")
        digests.add(image.digest)
    assert len(digests) == 1
    document = json.loads(image.manifest_raw)
    assert document["mediaType"] == c.DOCKER_MANIFEST
    assert [layer["digest"] for layer in document["layers"]] == [
        str(Digest.of(ONE)),
        str(Digest.of(TWO)),
    ]


@pytest.mark.parametrize(
    ("packed", "kind"),
    [
        (gzip.compress(ONE, mtime=0), c.DOCKER_LAYER_GZIP),
        (zstandard.compress(ONE), c.DOCKER_LAYER_ZSTD),
    ],
    ids=["gzip", "zstd"],
)
def test_layers_compressed_in_spite_of_their_names(
    tmp_path: Path, packed: bytes, kind: str
) -> None:
    blob = f"blobs/sha256/{Digest.of(packed).encoded}"
    for name in ("layer.tar", blob):
        path = write(
            tmp_path / "a.tar",
            [{"Config": "c", "Layers": [name]}],
            {"c": config_of(ONE), name: packed},
        )
        image, layers = resolve(f"docker-archive:{path}")
        assert layers == [packed]
        assert image.layers[0].descriptor == Descriptor(kind, Digest.of(packed), len(packed))
        assert image.layers[0].diff_id == Digest.of(ONE)


def test_the_same_layer_under_several_names(tmp_path: Path) -> None:
    """As docker saved it before version 25: what is there already becomes a link."""
    path = write(
        tmp_path / "a.tar",
        [{"Config": "c", "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"]}],
        {"c": config_of(ONE, ONE, ONE), "a/layer.tar": ONE},
        header(b"b/layer.tar", b"2", linkname=b"../a/layer.tar"),
        header(b"c/layer.tar", b"1", linkname=b"b/layer.tar"),
    )
    image, layers = resolve(f"docker-archive:{path}")
    assert layers == [ONE] * 3
    assert len(set(image.layers)) == 1


@pytest.mark.parametrize(
    ("entries", "members", "said"),
    [
        ({}, {}, "is not a list of JSON objects"),
        ([1], {}, "is not a list of JSON objects"),
        ([{}], {}, r"\[0\].Config is absent"),
        ([{"Config": "c", "Layers": [1]}], {}, r"\[0\].Layers is a list"),
        ([{"Config": "c"}], {}, "names the configuration 'c', which is not in the archive"),
        ([{"Config": "../c"}], {}, "which is not in the archive"),
        ([{"Config": "c"}], {"c": b"{"}, "is not JSON"),
        ([{"Config": "c"}], {"c": b" " * (c.MAX_DOCUMENT_BYTES + 1)}, "bytes long"),
        ([{"Config": "c"}], {"c": config_of(ONE)}, "has 0 layers, .* names 1 diff_ids"),
        (
            [{"Config": "c", "Layers": ["l"]}],
            {"c": config_of(ONE)},
            "names the layer 'l', which is not in the archive",
        ),
        (
            [{"Config": "c", "Layers": ["/etc/passwd"]}],
            {"c": config_of(ONE)},
            "names the layer '/etc/passwd', which is not in the archive",
        ),
        (
            [{"Config": "c", "Layers": ["l"]}],
            {"c": config_of(ONE), "l": b"BZh91AY&SY"},
            "Layer 'l' is compressed by bzip2",
        ),
        (
            [{"Config": "0" * 64 + ".json"}],
            {"0" * 64 + ".json": config_of()},
            "but its digest is sha256:",
        ),
        (
            [{"Config": "blobs/sha256/" + "0" * 64}],
            {"blobs/sha256/" + "0" * 64: config_of()},
            "but its digest is sha256:",
        ),
    ],
)
def test_what_is_wrong_is_an_integrity_error(
    tmp_path: Path, entries: object, members: dict[str, bytes], said: str
) -> None:
    path = write(tmp_path / "a.tar", entries, members)
    with pytest.raises(IntegrityError, match=said):
        resolve(f"docker-archive:{path}")


def test_a_manifest_too_large_to_be_one_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    size = 100 << 20
    with path.open("wb") as file:
        file.write(header(b"manifest.json", size=size))
        file.truncate(512 + size + 1024)
    with pytest.raises(IntegrityError, match=r"manifest.json is 4194305 bytes long"):
        resolve(f"docker-archive:{path}")


def test_other_archives_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of({"index.json": b"{}"}))
    with pytest.raises(NotFoundError) as caught:
        resolve(f"docker-archive:{path}")
    assert "oci-archive:" in str(caught.value.hint)
    path.write_bytes(tar_of({"repositories": b"{}"}))
    with pytest.raises(NotFoundError) as caught:
        resolve(f"docker-archive:{path}")
    assert "before 1.10" in str(caught.value.hint)
    path.write_bytes(tar_of({"manifest.json": b"[]"}))
    with pytest.raises(NotFoundError) as caught:
        resolve(f"oci-archive:{path}")
    assert "docker-archive:" in str(caught.value.hint)
    with pytest.raises(NotFoundError, match="the archive has no such image"):
        resolve(f"docker-archive:{path}")


@pytest.mark.parametrize("form", ["plain", "gzip", "zstd", "fifo"])
def test_a_layout_in_an_archive(tmp_path: Path, form: str) -> None:
    blobs = Blobs()
    entry = blobs.image(ONE, TWO)
    blobs.write_layout(tmp_path / "layout", tagged(entry, "1"))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(tmp_path / "layout", arcname=".")
    data = stream.getvalue()
    path = tmp_path / "archive"
    packed = {"gzip": gzip.compress, "zstd": zstandard.compress}.get(form, bytes)(data)
    path.write_bytes(packed)
    events: list[Event] = []
    reference = LayoutArchiveReference(path, "1")
    spool = tmp_path / "spool"
    spool.mkdir()
    if form == "fifo":  # what is no regular file is read once, from its beginning to its end
        path.unlink()
        path = Path(f"/dev/fd/{_pipe(data)}")
        reference = LayoutArchiveReference(path, "1")
    with open_source(reference, SourceOptions(), spool=spool, monitor=events.append) as source:
        image = source.resolve(DEFAULT_PLATFORM)
        content = source.local_blob(image.layers[1].descriptor)
        assert content
        with content.open() as file:
            assert file.read(5) + file.read() == TWO
        assert list(spool.iterdir()) == []  # a copy has no name
    assert str(image.digest) == entry["digest"]
    if form == "plain":
        assert events == []
        return
    size = None if form == "fifo" else len(packed)
    assert events[0] == StepStarted(f"read {path}", size)
    assert events[-1] == StepFinished(f"read {path}", "0.0 MB")
    assert all(isinstance(event, StepAdvanced) for event in events[1:-1])


def _pipe(data: bytes) -> int:
    """Return the reading end of a pipe that holds `data`, which fits into it."""
    import os

    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        assert len(data) <= 65536
        file.write(data)
    return reader


def test_no_archive(tmp_path: Path) -> None:
    reference = DockerArchiveReference(tmp_path / "absent")
    with (
        pytest.raises(NotFoundError, match="does not exist"),
        open_source(reference, SourceOptions()),
    ):
        pass
    with pytest.raises(UsageError, match="is a folder"):
        resolve(f"docker-archive:{tmp_path}")
    for data, said in ((b"", "is empty"), (b"hello", "unknown format"), (b"\xfd7zXZ\0", "by xz")):
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(IntegrityError, match=said):
            resolve(f"docker-archive:{tmp_path / 'a'}")
    (tmp_path / "a").write_bytes(gzip.compress(ONE)[:-5])
    with pytest.raises(IntegrityError, match="is truncated"):
        resolve(f"docker-archive:{tmp_path / 'a'}")


def test_an_archive_that_explodes_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from converter.image import archive

    monkeypatch.setattr(archive, "RATIO_FREE_BYTES", 1 << 20)
    path = tmp_path / "a"
    path.write_bytes(zstandard.compress(bytes(64 << 20)))
    with pytest.raises(IntegrityError, match="unpacks to more than"):
        resolve(f"docker-archive:{path}")


def test_layers_are_those_of_the_resolved_image_alone(two_images: Path) -> None:
    reference = DockerArchiveReference(
        two_images, RegistryReference("docker.io", "library/app", "1")
    )
    with open_source(reference, SourceOptions()) as source:
        assert isinstance(source, DockerArchiveSource)
        image = source.resolve(DEFAULT_PLATFORM)
        assert source.local_blob(image.layers[0].descriptor)
        with pytest.raises(NotFoundError):
            source.local_blob(Descriptor(c.DOCKER_LAYER_GZIP, Digest.of(TWO), len(TWO)))
