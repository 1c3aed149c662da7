"""Which images the store has. Owns the image record: what keeps links and blobs from gc.

An image stands in `images/<manifest digest>-<top link id, 16 digits>.json`: one image converted
with two sets of parameters is there twice. Its manifest and configuration are blobs, byte for byte.
The record's time of change is when the image was last used; no time is written in it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from converter.atomic import make_directory, write_atomic
from converter.errors import IntegrityError, SaltflatError
from converter.image.digest import Digest
from converter.image.fetch import blob_path
from converter.image.model import Image
from converter.store.layout import Store
from converter.store.links import ChainParameters, LinkRecord
from converter.store.names import remember_name

SCHEMA = 1
_LINK_DIGITS = 16  # of the top link's id: enough to tell a few sets of parameters apart
_LINK_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RecordedLayer:
    """A layer: the digest of its blob and of its uncompressed tar."""

    digest: str
    diff_id: str


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image that was converted.

    `reference` is how it was last asked for, `digest` its manifest's, `config` its configuration's.
    `links` are the ids of its chain and `layers` the image's layers, both base first.
    """

    reference: str
    digest: str
    platform: str
    parameters: ChainParameters
    config: str
    layers: tuple[RecordedLayer, ...]
    links: tuple[str, ...]
    schema: int = field(default=SCHEMA)

    @property
    def name(self) -> str:
        """The record's file name without its suffix."""
        return _name(self.digest, self.links[-1])

    @property
    def documents(self) -> tuple[str, str]:
        """The digests of the blobs without which the image cannot be run: manifest, config."""
        return self.digest, self.config


def record_image(
    store: Store, image: Image, parameters: ChainParameters, links: Sequence[LinkRecord]
) -> ImageRecord:
    """Let the store know that `image` is converted and was used just now; `links` base first.

    From now on the name that it was asked for by stands for it (`converter.store.names`).

    To be called while the store is in use (`converter.store.locks.using`) and the links are good.
    Raises OSError.
    """
    record = ImageRecord(
        image.reference,
        str(image.digest),
        str(image.platform),
        parameters,
        str(image.manifest.config.digest),
        tuple(
            RecordedLayer(str(layer.descriptor.digest), str(layer.diff_id))
            for layer in image.layers
        ),
        tuple(link.link_id for link in links),
    )
    # The documents first: a record promises that they are there.
    for digest, raw in (
        (image.digest, image.manifest_raw),
        (image.manifest.config.digest, image.config_raw),
    ):
        path = blob_path(store.blobs, digest)
        if not path.is_file() or path.stat().st_size != len(raw):
            make_directory(path.parent)
            write_atomic(path, raw)
    path = image_path(store, record.name)
    document = json.dumps(asdict(record), sort_keys=True, indent=1).encode() + b"\n"
    if path.is_file() and path.read_bytes() == document:
        os.utime(path)
    else:
        write_atomic(path, document, mode=0o444)
    remember_name(store, image)
    return record


def is_recorded(store: Store, image: Image, links: Sequence[LinkRecord]) -> bool:
    """Tell whether the store has the record and the documents of `image` with these links.

    A record that cannot be read counts as none: the next conversion writes it anew.
    """
    path = image_path(store, _name(str(image.digest), links[-1].link_id))
    try:
        record = read_image_record(path)
    except (OSError, SaltflatError):
        return False
    return (
        record.digest == str(image.digest)
        and record.links == tuple(link.link_id for link in links)
        and all(blob_path(store.blobs, Digest.parse(each)).is_file() for each in record.documents)
    )


def image_path(store: Store, name: str) -> Path:
    """Return where the image record of that name is, or would be."""
    return store.images / f"{name}.json"


def read_image_record(path: Path) -> ImageRecord:
    """Read one image record.

    Raises SaltflatError for one of a newer schema, IntegrityError for a damaged one, OSError.
    """
    raw = path.read_bytes()
    try:
        document: Any = json.loads(raw)
        if document["schema"] > SCHEMA:
            raise SaltflatError(
                f"{path} has schema {document['schema']}; this program reads up to {SCHEMA}.",
                hint="Use a newer saltflat, or another --store.",
            )
        record = _decode(document)
        if record.name != path.stem:
            raise ValueError(f"it is the record of {record.name}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(
            f"{path} is not an image's record: {error}.",
            hint="Delete it and convert the image again.",
        ) from error
    return record


def _name(digest: str, top: str) -> str:
    return f"{Digest.parse(digest).encoded}-{top[:_LINK_DIGITS]}"


def _decode(document: Mapping[str, Any]) -> ImageRecord:
    links = tuple(_link_id(identity) for identity in document["links"])
    if document["schema"] != SCHEMA or not links:
        raise ValueError("its schema is none of ours" if links else "it names no links")
    return ImageRecord(
        _text(document["reference"]),
        _digest(document["digest"]),
        _text(document["platform"]),
        ChainParameters.parse(document["parameters"]),
        _digest(document["config"]),
        tuple(
            RecordedLayer(_digest(layer["digest"]), _digest(layer["diff_id"]))
            for layer in document["layers"]
        ),
        links,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _digest(value: object) -> str:
    return str(Digest.parse(_text(value)))


def _link_id(value: object) -> str:
    if not _LINK_ID.fullmatch(_text(value)):
        raise ValueError(f"{value!r} is not a link's id")
    return _text(value)
