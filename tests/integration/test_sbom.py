"""Lists of contents beside a real image: in both kinds of registry, and in a copy by regctl."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from converter.artifact.sbom import Sbom
from converter.artifact.sbom_source import sboms_of
from converter.events import ignore
from converter.image.model import Image
from converter.image.platform import Platform
from converter.image.reference import parse_source
from converter.image.source import Origin, open_source
from converter.registry.options import RegistryOptions
from converter.store.layout import Store
from tests.integration.artifact_places import KINDS, OCI_INDEX, OCI_MANIFEST, Place

pytestmark = pytest.mark.integration

ORIGIN = Origin(Platform.parse("linux/amd64"), RegistryOptions(plain_http=True, retries=1))
EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json"}
SPDX = b'{ "spdxVersion": "SPDX-2.3" }\r\n'
CYCLONEDX = b"<bom xmlns='http://cyclonedx.org/schema/bom/1.6'/>"


def _refer(
    place: Place, digest: str, size: int, content: bytes, media_type: str
) -> dict[str, object]:
    """Put an artifact with one file that refers to the image; return how it is to be listed."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": media_type,
        "config": place.put_blob("app", b"{}", EMPTY),
        "layers": [place.put_blob("app", content, {"mediaType": media_type})],
        "subject": {"mediaType": OCI_MANIFEST, "digest": digest, "size": size},
    }
    put = place.put_manifest("app", "", document)
    length = len(place.get(f"app/manifests/{put}"))
    return {"mediaType": OCI_MANIFEST, "digest": put, "size": length, "artifactType": media_type}


def _found(text: str, store: Store) -> tuple[Image, tuple[Sbom, ...]]:
    reference = parse_source(text)
    with open_source(reference, ORIGIN.access) as source:  # type: ignore[arg-type]  # no bundle
        image = source.resolve(ORIGIN.platform)
    return image, sboms_of(reference, image, ORIGIN, store, monitor=ignore)


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_found_and_travel_with_a_copy(
    kind: str, place_of: Callable[[str], Place], corner_layout: Path, tmp_path: Path
) -> None:
    place = place_of(kind)
    name = place.put_image(corner_layout, "prefix-1", "app:1")
    store = Store(tmp_path / "store")
    image, none = _found(name, store)
    assert none == ()
    size = len(image.manifest_raw)
    entries = [
        _refer(place, str(image.digest), size, SPDX, "application/spdx+json"),
        _refer(place, str(image.digest), size, CYCLONEDX, "application/vnd.cyclonedx+xml"),
        _refer(place, str(image.digest), size, b"signature", "application/vnd.example.signature"),
    ]
    if kind == KINDS[0]:  # its clients keep the list
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        place.put_manifest("app", str(image.digest).replace(":", "-"), index)
    wanted = [(".cdx.xml", CYCLONEDX), (".spdx.json", SPDX)]
    _, there = _found(name, store)
    assert [(sbom.ending, sbom.data) for sbom in there] == wanted
    # Another program's copy of image and referrers, which needs no network any more.
    copy = tmp_path / "copy"
    place.ask_regctl("image", "copy", "--referrers", name, f"ocidir://{copy}:1", home=tmp_path)
    asked = len(place.proxy.asked)
    copied, here = _found(f"oci:{copy}:1", store)
    assert copied.digest == image.digest
    assert here == there
    assert len(place.proxy.asked) == asked
