"""Which image of an index is taken, and what is refused."""

from __future__ import annotations

import pytest

from converter.errors import IntegrityError, NotFoundError, UsageError
from converter.image import c_oci as c
from converter.image.digest import Digest
from converter.image.model import Image
from converter.image.platform import Platform
from converter.image.resolve import MAX_INDEX_DEPTH, Root, resolve_image
from tests.unit.image.samples import Blobs, Document, as_json, on

ATTESTATION = "unknown/unknown"


def resolve(blobs: Blobs, entry: Document, platform: str = "linux/amd64") -> Image:
    digest = str(entry["digest"])
    root = Root(blobs[digest], Digest.parse(digest), str(entry["mediaType"]))
    return resolve_image("reg/a:1", root, Platform.parse(platform), blobs.read)


def test_one_image() -> None:
    blobs = Blobs()
    entry = blobs.image(b"one", b"two", config={"Cmd": ["sh"]})
    image = resolve(blobs, entry)
    assert image.reference == "reg/a:1"
    assert str(image.digest) == entry["digest"]
    assert image.manifest_raw == blobs[str(entry["digest"])]
    assert image.config_raw == blobs.read(image.manifest.config)
    assert image.config.execution == {"Cmd": ["sh"]}
    assert [layer.diff_id for layer in image.layers] == [Digest.of(b"one"), Digest.of(b"two")]
    assert image.platform == Platform("linux", "amd64")


def test_the_platform_chooses() -> None:
    blobs = Blobs()
    wanted = {"linux/amd64": b"1", "linux/arm64": b"2", "linux/arm/v6": b"3", "linux/arm/v7": b"4"}
    entries = [
        on(blobs.image(layer, architecture=platform.split("/")[1]), platform)
        for platform, layer in wanted.items()
    ]
    attestation = on(blobs.image(b"attestation", os="unknown"), ATTESTATION)
    index = blobs.index(attestation, *entries)
    for platform, layer in wanted.items():
        image = resolve(blobs, index, platform)
        assert image.layers[0].diff_id == Digest.of(layer)
        assert str(image.platform) == platform
    assert resolve(blobs, index, "linux/amd64/v2").layers[0].diff_id == Digest.of(b"1")
    with pytest.raises(NotFoundError) as caught:
        resolve(blobs, index, "linux/riscv64")
    assert caught.value.what == "reg/a:1 has no image for linux/riscv64."
    assert caught.value.expected == "one of: linux/amd64, linux/arm/v6, linux/arm/v7, linux/arm64"


def test_an_index_has_the_last_word() -> None:
    blobs = Blobs()
    index = blobs.index(on(blobs.image(b"x", architecture="amd64"), "linux/arm64"))
    assert str(resolve(blobs, index, "linux/arm64").platform) == "linux/arm64"


def test_a_single_image_of_another_platform_is_not_taken_silently() -> None:
    blobs = Blobs()
    entry = blobs.image(b"x", architecture="arm64")
    with pytest.raises(NotFoundError, match="no image for linux/amd64") as caught:
        resolve(blobs, entry)
    assert "linux/arm64" in str(caught.value.hint)
    assert resolve(blobs, entry, "linux/arm64").platform.architecture == "arm64"


def test_an_index_within_an_index() -> None:
    blobs = Blobs()
    inner = blobs.index(on(blobs.image(b"x"), "linux/amd64"))
    outer = blobs.index(on(blobs.image(b"y", architecture="arm64"), "linux/arm64"), inner)
    assert resolve(blobs, outer).layers[0].diff_id == Digest.of(b"x")
    with pytest.raises(NotFoundError) as caught:
        resolve(blobs, outer, "linux/386")
    assert caught.value.expected == "one of: linux/amd64, linux/arm64"


def nested(blobs: Blobs, entry: Document, levels: int) -> Document:
    for _ in range(levels):
        entry = blobs.index(entry)
    return entry


def test_indexes_nest_so_deep_and_no_deeper() -> None:
    blobs = Blobs()
    entry = on(blobs.image(b"x"), "linux/amd64")
    deepest = nested(blobs, entry, MAX_INDEX_DEPTH)
    assert resolve(blobs, deepest).layers[0].diff_id == Digest.of(b"x")
    with pytest.raises(IntegrityError, match="nests too deeply"):
        resolve(blobs, nested(blobs, entry, MAX_INDEX_DEPTH + 1))
    # What fits further up is taken without a look at what is below.
    assert resolve(blobs, blobs.index(entry, blobs.index(deepest))).layers


def test_an_index_that_lists_another_twice_is_read_once() -> None:
    blobs = Blobs()
    inner = blobs.index(on(blobs.image(b"x", architecture="arm64"), "linux/arm64"))
    both = blobs.index(*[inner] * 20, blobs.index(inner))
    with pytest.raises(NotFoundError) as caught:
        resolve(blobs, both)
    assert caught.value.expected == "one of: linux/arm64"


def test_an_only_entry_without_platform_is_asked() -> None:
    blobs = Blobs()
    assert resolve(blobs, blobs.index(blobs.image(b"x"))).platform == Platform("linux", "amd64")
    with pytest.raises(NotFoundError):
        resolve(blobs, blobs.index(blobs.image(b"x"), blobs.image(b"y")))


def test_other_operating_systems_are_refused() -> None:
    blobs = Blobs()
    entry = blobs.image(b"x", os="windows")
    with pytest.raises(UsageError, match="cannot become"):
        resolve(blobs, entry, "windows/amd64")
    with pytest.raises(UsageError, match="is an image for windows/amd64"):
        resolve(blobs, entry)
    with pytest.raises(UsageError, match="is an image for windows/amd64"):
        resolve(blobs, blobs.index(on(entry, "linux/amd64")))


@pytest.mark.parametrize("which", ["manifest", "config"])
def test_changed_documents_are_found_out(which: str) -> None:
    blobs = Blobs()
    entry = blobs.image(b"x")
    image = resolve(blobs, entry)
    index = blobs.index(on(entry, "linux/amd64"))
    changed = image.digest if which == "manifest" else image.manifest.config.digest
    blobs[str(changed)] = (
        blobs[str(changed)].replace(b"linux", b"Linux").replace(b"layers", b"LAYERS")
    )
    with pytest.raises(IntegrityError, match="has the digest"):
        resolve(blobs, index)
    blobs[str(changed)] += b" "
    with pytest.raises(IntegrityError, match="is longer"):
        resolve(blobs, index)


def test_a_document_too_long_to_be_one_is_not_even_read() -> None:
    blobs = Blobs()
    entry = {**on(blobs.image(b"x"), "linux/amd64"), "size": c.MAX_DOCUMENT_BYTES + 1}
    index = blobs.index(entry)
    del blobs[str(entry["digest"])]
    with pytest.raises(IntegrityError, match="is to be"):
        resolve(blobs, index)


def test_too_many_indexes() -> None:
    blobs = Blobs()
    inner = [blobs.index(blobs.add(as_json({"n": n}), "text/plain")) for n in range(17)]
    with pytest.raises(IntegrityError, match="17 further indexes"):
        resolve(blobs, blobs.index(*inner))
