"""Lists of contents in a layout: which count, what they are called, and what is not trusted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converter.artifact import c_artifact as c
from converter.artifact.referrers import referrers_tag
from converter.artifact.sbom import Sbom, find_sboms
from converter.artifact.sbom_places import LayoutCarrier
from converter.errors import IntegrityError, NotFoundError
from converter.events import Event, Note
from converter.image import c_oci
from converter.image.digest import Digest
from converter.image.files import Folder
from tests.unit.image.samples import Blobs, Document, as_json

SPDX, CYCLONEDX = "application/spdx+json", "application/vnd.cyclonedx+json"


class Layout:
    """An image and what refers to it, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.blobs = Blobs()
        self.image = self.blobs.image(b"layer")
        self.subject = Digest.parse(str(self.image["digest"]))
        self.entries = [self.image]
        self.notes: list[str] = []
        self._folder = folder

    def refer(
        self,
        *contents: tuple[bytes, str],
        artifact_type: str = "",
        subject: Document | None = None,
        listed: bool = True,
    ) -> Document:
        """Add an artifact with these layers that refers to the image, or to `subject`."""
        manifest: Document = {
            "schemaVersion": 2,
            "mediaType": c_oci.OCI_MANIFEST,
            "config": self.blobs.add(b"{}", c_oci.EMPTY),
            "layers": [self.blobs.add(data, media_type) for data, media_type in contents],
            "subject": subject or self.image,
        }
        if artifact_type:
            manifest["artifactType"] = artifact_type
        entry = self.blobs.add(as_json(manifest), c_oci.OCI_MANIFEST)
        if listed:
            self.entries.append(entry)
        return entry

    def find(self) -> tuple[Sbom, ...]:
        self.blobs.write_layout(self._folder, *self.entries)
        return find_sboms(LayoutCarrier(Folder(self._folder)), self.subject, monitor=self._hear)

    def damage(self, digest: object, content: bytes | None) -> None:
        """Let a blob have other content, or not be there."""
        if content is None:
            del self.blobs[str(digest)]
        else:
            self.blobs[str(digest)] = content

    def _hear(self, event: Event) -> None:
        assert isinstance(event, Note)
        assert event.warning
        self.notes.append(event.text)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def endings(sboms: tuple[Sbom, ...]) -> list[tuple[str, bytes]]:
    return [(sbom.ending, sbom.data) for sbom in sboms]


def test_bytes_are_unchanged_and_names_say_what_they_are(layout: Layout) -> None:
    layout.refer((b'{"spdxVersion" : "SPDX-2.3"}\r\n', SPDX))
    layout.refer((b"<bom/>", "application/vnd.cyclonedx+xml"))
    layout.refer((b"SPDXVersion: SPDX-2.3", "TEXT/SPDX; charset=utf-8"))
    found = layout.find()
    assert endings(found) == [
        (".cdx.xml", b"<bom/>"),
        (".spdx", b"SPDXVersion: SPDX-2.3"),
        (".spdx.json", b'{"spdxVersion" : "SPDX-2.3"}\r\n'),
    ]
    assert [sbom.digest for sbom in found] == [Digest.of(sbom.data) for sbom in found]
    assert layout.notes == []


def test_several_of_a_kind_are_numbered_whatever_their_order(tmp_path: Path) -> None:
    contents = [b"one", b"two", b"three"]
    found = []
    for number, order in enumerate((contents, contents[::-1])):
        layout = Layout(tmp_path / str(number))
        for content in order:
            layout.refer((content, SPDX))
        layout.refer((contents[0], SPDX), (b"other", CYCLONEDX))  # the same one once more
        found.append(endings(layout.find()))
    in_order = sorted(contents, key=Digest.of)
    assert found[0] == found[1]
    assert found[0] == [
        (".cdx.json", b"other"),
        *((f".{number}.spdx.json", content) for number, content in enumerate(in_order, 1)),
    ]


def test_the_type_of_the_artifact_counts_where_its_one_layer_says_nothing(layout: Layout) -> None:
    layout.refer((b"a", "application/octet-stream"), artifact_type=SPDX)
    layout.refer((b"b", CYCLONEDX), artifact_type="application/vnd.example.sbom")
    octets = "application/octet-stream"
    layout.refer((b"c", octets), (b"d", octets), artifact_type=SPDX)  # which of them?
    assert endings(layout.find()) == [(".cdx.json", b"b"), (".spdx.json", b"a")]


def test_what_does_not_refer_to_the_image_is_nobodys(layout: Layout) -> None:
    other = layout.blobs.image(b"another layer")
    layout.refer((b"of another image", SPDX), subject=other)
    layout.refer((b"signature", "application/vnd.dev.cosign.simplesigning.v1+json"))
    layout.entries.append({"mediaType": c_oci.OCI_MANIFEST, "digest": "malformed", "size": 1})
    layout.entries.append(layout.blobs.add(b"not JSON", c_oci.OCI_MANIFEST))
    assert layout.find() == ()
    assert layout.notes == []


def test_an_index_under_the_clients_tag_is_read_too(layout: Layout) -> None:
    entry = layout.refer((b"listed there", SPDX), listed=False)
    layout.refer((b"listed nowhere", SPDX), listed=False)
    index = layout.blobs.index(entry)
    layout.entries.append(
        {**index, "annotations": {c_oci.ANNOTATION_REF_NAME: referrers_tag(layout.subject)}}
    )
    assert endings(layout.find()) == [(".spdx.json", b"listed there")]


def test_other_bytes_than_promised_are_an_error(layout: Layout) -> None:
    layout.refer((b"promised", SPDX))
    layout.damage(Digest.of(b"promised"), b"replaced")
    with pytest.raises(IntegrityError, match=str(Digest.of(b"promised"))):
        layout.find()
    layout.damage(Digest.of(b"promised"), b"another length")
    with pytest.raises(IntegrityError, match="14 bytes"):
        layout.find()


def test_a_manifest_that_is_another_one_is_an_error(layout: Layout) -> None:
    entry = layout.refer((b"list", SPDX))
    document = json.loads(layout.blobs[str(entry["digest"])])
    layout.damage(entry["digest"], as_json({**document, "annotations": {}}))
    with pytest.raises(IntegrityError, match=str(entry["digest"])):
        layout.find()


def test_what_is_listed_and_not_there(layout: Layout) -> None:
    layout.refer((b"list", SPDX))
    gone = layout.refer((b"manifest is gone", SPDX))
    layout.damage(gone["digest"], None)
    assert endings(layout.find()) == [(".spdx.json", b"list")]
    layout.refer((b"blob is gone", SPDX))
    layout.damage(Digest.of(b"blob is gone"), None)
    with pytest.raises(NotFoundError, match="is not in"):
        layout.find()


def test_what_is_too_large_is_left_out_with_a_warning(layout: Layout) -> None:
    manifest: Document = {
        "schemaVersion": 2,
        "mediaType": c_oci.OCI_MANIFEST,
        "config": layout.blobs.add(b"{}", c_oci.EMPTY),
        "layers": [
            {"mediaType": SPDX, "digest": str(Digest.of(b"x")), "size": c.MAX_SBOM_BYTES + 1}
        ],
        "subject": layout.image,
    }
    layout.entries.append(layout.blobs.add(as_json(manifest), c_oci.OCI_MANIFEST))
    layout.refer((b"small", SPDX))
    assert endings(layout.find()) == [(".spdx.json", b"small")]
    (note,) = layout.notes
    assert str(Digest.of(b"x")) in note


def test_a_malformed_artifact_is_passed_over_with_a_warning(layout: Layout) -> None:
    manifest: Document = {"schemaVersion": 2, "subject": layout.image, "layers": [1]}
    layout.entries.append(layout.blobs.add(as_json(manifest), c_oci.OCI_MANIFEST))
    layout.refer((b"good", SPDX))
    assert endings(layout.find()) == [(".spdx.json", b"good")]
    assert len(layout.notes) == 1
