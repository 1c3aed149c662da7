"""Say what the disks of a package were made of, and how: an in-toto statement. Pure.

A statement in the form of SLSA provenance v1. It follows from the image, the parameters and the
disks alone: no clock, no host and no run has a part in it, so the same export says the same, byte
for byte, and who doubts it can repeat it. It is not signed; that is for who publishes the package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from converter import __version__
from converter.image.digest import Digest
from converter.image.model import Descriptor, Image
from converter.package import c_provenance as c

# RFC 3986: what may stand in a path, beside letters and digits, and is not to be escaped.
_URI_SAFE = "/:@!$&'()*+,;=~-._"

OptionValue = str | int | bool | None


@dataclass(frozen=True, slots=True)
class Subject:
    """A file of the package by its name there, with the SHA-256 (hex) of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class LinkMade:
    """A link of the chain: its id, and the diffIDs of the layers that it covers, base first."""

    link_id: str
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CodecUsed:
    """What deflated the disks: the library's name and version, and the level."""

    library: str
    version: str
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportMade:
    """Every choice that changes a byte of the disks; sizes in bytes.

    `kind` is the type of export as the command line names it. How many links were allowed shows in
    `links`, base first: which layers share one is all that it decides. `grain_bytes` is that of the
    chain; an export that has another one tells it in `options`, as all else that was chosen.
    `codec` is None where nothing is compressed.
    """

    kind: str
    capacity_bytes: int
    grain_bytes: int
    journal: bool
    writer_version: int
    links: tuple[LinkMade, ...]
    codec: CodecUsed | None = None
    options: Mapping[str, OptionValue] = field(default_factory=dict, hash=False)


def encode_provenance(subjects: Sequence[Subject], image: Image, made: ExportMade) -> bytes:
    """Return the statement about `subjects`, the disks of a package, as canonical JSON.

    Canonical is: ASCII, keys sorted, no spaces, one line end behind it. The order of `subjects` is
    that of the package and is kept.
    """
    document = {
        "_type": c.STATEMENT_TYPE,
        "subject": [
            {"name": subject.name, "digest": {"sha256": subject.sha256}} for subject in subjects
        ],
        "predicateType": c.PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": c.BUILD_TYPE,
                "externalParameters": _external(image, made),
                "internalParameters": {"writerVersion": made.writer_version},
                "resolvedDependencies": _dependencies(image),
            },
            "runDetails": {
                "builder": {"id": c.BUILDER_ID, "version": {c.BUILDER_NAME: __version__}}
            },
        },
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _external(image: Image, made: ExportMade) -> dict[str, object]:
    """Return what whoever asked for the export has chosen, complete."""
    external: dict[str, object] = {
        "source": image.reference,
        "platform": str(image.platform),
        "type": made.kind,
        "capacityBytes": made.capacity_bytes,
        "grainBytes": made.grain_bytes,
        "journal": made.journal,
        "links": [{"id": link.link_id, "layers": list(link.layers)} for link in made.links],
        "options": dict(made.options),
    }
    if (codec := made.codec) is not None:
        external["codec"] = {
            "library": codec.library,
            "version": codec.version,
            "level": codec.level,
        }
    return external


def _dependencies(image: Image) -> list[dict[str, object]]:
    """List the image's manifest, its configuration, and its layers, base first."""
    count = len(image.layers)
    return [
        {
            "name": "manifest",
            "uri": _uri(image.reference),
            "digest": _digest_set(image.digest),
            "mediaType": image.manifest.media_type,
        },
        _dependency("config", image.manifest.config),
        *(
            _dependency(f"layer {number}/{count}", layer.descriptor)
            | {"annotations": {"diffId": str(layer.diff_id)}}
            for number, layer in enumerate(image.layers, 1)
        ),
    ]


def _dependency(name: str, descriptor: Descriptor) -> dict[str, object]:
    return {
        "name": name,
        "digest": _digest_set(descriptor.digest),
        "mediaType": descriptor.media_type,
    }


def _digest_set(digest: Digest) -> dict[str, str]:
    return {digest.algorithm: digest.encoded}


def _uri(reference: str) -> str:
    """Return where the image is from as a URI, which a reference without a transport is not."""
    local = reference.startswith(c.LOCAL_TRANSPORTS)
    escaped = quote(reference, safe=_URI_SAFE, errors="surrogatepass")
    return escaped if local else c.REGISTRY_TRANSPORT + escaped
