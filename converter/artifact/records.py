"""What travels beside the disks: records of links and of chains, as JSON. Pure.

They are written by whoever pushed, so everything in them is checked: types, bounds, that a link's
id follows from the rest, and that each link of a chain stands on the one before it.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from converter.artifact import c_artifact as c
from converter.errors import IntegrityError, SaltflatError
from converter.image.digest import Digest
from converter.image.json_object import JsonObject, shown
from converter.image.platform import Platform
from converter.registry.artifacts import document_bytes
from converter.store.links import ChainParameters, LinkRecord, link_id

_HEX = re.compile(r"[0-9a-f]{64}")
_GRAINS_BYTES = frozenset({4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10})
_MAX_WRITER_VERSION = 1 << 30
_MAX_PRODUCER = 200
_MAX_REFERENCE = 1000


@dataclass(frozen=True, slots=True)
class ChainRecord:
    """A chain: which image it was made of, and its links, base first.

    Those of layers that change nothing are among them, so that nobody tries these layers again.
    """

    reference: str
    platform: Platform
    links: tuple[LinkRecord, ...]

    @property
    def disks(self) -> tuple[LinkRecord, ...]:
        """The links that have a disk; at least one."""
        return tuple(link for link in self.links if not link.empty)

    @property
    def parameters(self) -> ChainParameters:
        """What determines the chain's bytes, beside the image's layers."""
        return self.links[0].parameters

    @property
    def top(self) -> str:
        """The id of the topmost link, which stands for the whole chain."""
        return self.disks[-1].link_id


def dump_link(record: LinkRecord) -> bytes:
    """Return a link's record as the configuration of a link artifact."""
    return document_bytes(asdict(record))


def parse_link(raw: bytes, *, what: str) -> LinkRecord:
    """Read a link's record.

    Raises IntegrityError that names the field, SaltflatError for a newer schema.
    """
    return _link(JsonObject.parse(raw, what=what, limit=c.MAX_DOCUMENT_BYTES))


def dump_chain(record: ChainRecord) -> bytes:
    """Return a chain's record as the configuration of a chain artifact."""
    return document_bytes(
        {
            "schema": c.SCHEMA,
            "reference": record.reference,
            "platform": str(record.platform),
            "links": [asdict(link) for link in record.links],
        }
    )


def parse_chain(raw: bytes, *, what: str) -> ChainRecord:
    """Read a chain's record and check that its links make a chain.

    Raises IntegrityError that names the field, SaltflatError for a newer schema.
    """
    fields = JsonObject.parse(raw, what=what, limit=c.MAX_DOCUMENT_BYTES)
    check_schema(fields)
    reference = fields.text("reference")
    if not reference.isprintable() or len(reference) > _MAX_REFERENCE:
        fields.fail("reference", "a printable text of reasonable length")
    try:
        platform = Platform.parse(fields.text("platform"))
    except (ValueError, SaltflatError):
        fields.fail("platform", "os/arch[/variant]")
    children = fields.children("links")
    if not 1 <= len(children) <= c.MAX_LINKS:
        fields.fail("links", f"1 to {c.MAX_LINKS} links")
    links = tuple(_link(child) for child in children)
    parent = ""
    for number, link in enumerate(links):
        if link.parent != parent or link.parameters != links[0].parameters:
            raise IntegrityError(
                f"{what}: links[{number}] does not stand on the link before it.",
                expected="links with the same parameters, base first",
            )
        parent = parent if link.empty else link.link_id
    if not parent:
        fields.fail("links", "at least one that has a disk")
    return ChainRecord(reference, platform, links)


def check_schema(fields: JsonObject) -> None:
    """Refuse a document that is newer than this program, or has no schema number."""
    schema = fields.integer("schema")
    if schema > c.SCHEMA:
        raise SaltflatError(
            f"{fields.what} has schema {schema}; this program reads up to {c.SCHEMA}.",
            hint="Use a newer saltflat.",
        )
    if schema < 1:
        fields.fail("schema", f"{c.SCHEMA}")


def _link(fields: JsonObject) -> LinkRecord:
    check_schema(fields)
    parent = fields.optional_text("parent") or ""
    diff_ids = tuple(fields.texts("diff_ids"))
    try:
        for diff_id in diff_ids:
            Digest.parse(diff_id)
    except ValueError:
        fields.fail("diff_ids", "digests")
    parameters = _parameters(fields.child("parameters"))
    empty = _flag(fields, "empty")
    producer = fields.optional_text("producer") or ""
    if not producer.isprintable() or len(producer) > _MAX_PRODUCER:
        fields.fail("producer", "a short printable text")
    record = LinkRecord(
        _hex(fields, "link_id"),
        parent if not parent else _hex(fields, "parent"),
        diff_ids,
        parameters,
        empty=empty,
        size_bytes=_size(fields, "size_bytes", c.MAX_DISK_BYTES),
        sha256="" if empty else _hex(fields, "sha256"),
        state_size_bytes=_size(fields, "state_size_bytes", c.MAX_STATE_BYTES),
        state_sha256="" if empty else _hex(fields, "state_sha256"),
        grains=_size(fields, "grains", c.MAX_DISK_BYTES // parameters.grain_bytes),
        producer=producer,
    )
    if empty and (record.size_bytes or record.state_size_bytes or record.grains):
        fields.fail("empty", "false for a link that has a disk")
    identity = link_id(record.parent, record.diff_ids, parameters)
    if record.link_id != identity:
        raise IntegrityError(
            f"{fields.what}: {fields.path('link_id')} is {shown(record.link_id)}.",
            expected=f"{identity}, which follows from its parent, layers and parameters",
        )
    return record


def _parameters(fields: JsonObject) -> ChainParameters:
    grain_bytes = fields.integer("grain_bytes")
    if grain_bytes not in _GRAINS_BYTES:
        fields.fail("grain_bytes", "a power of two from 4 to 64 KiB")
    capacity_bytes = _size(fields, "capacity_bytes", c.MAX_DISK_BYTES)
    if not capacity_bytes or capacity_bytes % grain_bytes:
        fields.fail("capacity_bytes", "a multiple of the grain size")
    writer_version = _size(fields, "writer_version", _MAX_WRITER_VERSION)
    return ChainParameters(capacity_bytes, grain_bytes, _flag(fields, "journal"), writer_version)


def _hex(fields: JsonObject, name: str) -> str:
    text = fields.text(name)
    if not _HEX.fullmatch(text):
        fields.fail(name, "64 lower case hex digits")
    return text


def _size(fields: JsonObject, name: str, limit: int) -> int:
    size_bytes = fields.integer(name)
    if not 0 <= size_bytes <= limit:
        fields.fail(name, f"a number from 0 to {limit}")
    return size_bytes


def _flag(fields: JsonObject, name: str) -> bool:
    value = fields.members.get(name)
    if not isinstance(value, bool):
        fields.fail(name, "true or false")
    return value
