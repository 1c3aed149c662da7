"""Check a converted image, offline: record, links, chain, file system, tree. Owns the order.

A bundle's documents name each other by digest and its links by what they are made of; each link is
checked down to the last sector, the chain as a whole, then the file system in it, and with an image
at hand its tree against the layers. The first fault is an error, so the order is from the outside
in: what is wrong further in matters only where everything around it is right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.compare import compare_tree, content_digest
from converter.errors import IntegrityError, NotFoundError, SaltflatError
from converter.events import Monitor, StepAdvanced, StepFinished, StepStarted
from converter.ext4.check import check_filesystem
from converter.ext4.reader import Reader
from converter.identity import identity_of
from converter.image import c_oci
from converter.image.digest import Digest
from converter.image.documents import parse_config, parse_document
from converter.image.fetch import fetch_blob
from converter.image.files import whole_file
from converter.image.model import Image, ImageConfig, Layer, Manifest
from converter.image.source import Source
from converter.image.verify import verify_document
from converter.layer.changeset import read_changes
from converter.layer.decompress import open_layer
from converter.layer.entry import Entry
from converter.layer.limits import DEFAULT_LIMITS, Limits
from converter.layer.tar import read_entries
from converter.rootfs.expected import ExpectedTree
from converter.store.bundle import Bundle, BundleLink, read_bundle
from converter.store.links import link_id
from converter.vmdk.c_vmdk import CREATE_TYPE_MONOLITHIC_SPARSE
from converter.vmdk.chain import Chain, open_chain
from converter.vmdk.check import check_link
from converter.vmdk.content_id import content_id, long_content_id

_HASH_BYTES = 1 << 20
_ADVANCE_BYTES = 1 << 20  # of progress between two events


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked and is sound: `subject` names it, `summary` says what it is."""

    subject: str
    summary: str


@dataclass(frozen=True, slots=True)
class ImageAtHand:
    """An image to compare with, and the folder for those of its blobs that are not local."""

    image: Image
    source: Source
    blobs: Path
    limits: Limits = DEFAULT_LIMITS


def verify(
    target: Path, *, image: ImageAtHand | None = None, monitor: Monitor
) -> tuple[Check, ...]:
    """Check the bundle in the folder `target`, or the chain whose top is the VMDK `target`.

    Raises NotFoundError if there is neither, IntegrityError that names the first fault, the errors
    of the image's source, OSError.
    """
    verification = _Verification(monitor)
    if target.is_dir():
        verification.bundle(read_bundle(target), image)
    elif target.exists():
        verification.disk(target, image)
    else:
        raise NotFoundError(
            f"There is no {target}.", expected="a bundle's folder or a VMDK link's file"
        )
    return tuple(verification.checks)


class _Verification:
    """The checks that have passed so far."""

    def __init__(self, monitor: Monitor) -> None:
        self.checks: list[Check] = []
        self._monitor = monitor

    def bundle(self, bundle: Bundle, image: ImageAtHand | None) -> None:
        _check_record(bundle)
        self._passed("bundle.json", f"{len(bundle.links)} links of {bundle.reference}")
        config = _check_documents(bundle)
        self._passed("manifest.json", bundle.digest)
        self._passed("config.json", f"{len(config.diff_ids)} layers")
        if image is not None and image.image.config.diff_ids != config.diff_ids:
            raise IntegrityError(
                f"The bundle was not made from {image.image.reference}: the layers are others.",
                expected=f"those of {bundle.reference}, {bundle.digest}",
                hint="Tags move; name the image that it was made from, by digest.",
            )
        for link, disk in zip(bundle.links, bundle.disks, strict=True):
            self._check_hash(link, disk)
            self._check_link(link.file, disk)
        with open_chain(bundle.disks[-1]) as chain:
            _check_links_of_chain(chain, bundle)
            self._check_inside(chain, bundle.links[0].link_id, image)

    def disk(self, top: Path, image: ImageAtHand | None) -> None:
        with open_chain(top) as chain:
            for link in chain.links:
                self._check_link(link.path.name, link.path)
            self._check_inside(chain, None, image)

    def _check_hash(self, link: BundleLink, disk: Path) -> None:
        self._monitor(StepStarted(link.file, link.size))
        hasher = hashlib.sha256()
        done = 0
        with open(disk, "rb", buffering=0) as file:
            while chunk := file.read(_HASH_BYTES):
                hasher.update(chunk)
                done += len(chunk)
                self._monitor(StepAdvanced(link.file, done))
        if hasher.hexdigest() != link.sha256:
            raise IntegrityError(
                f"{disk} has the sha256 {hasher.hexdigest()}.",
                expected=f"{link.sha256}, as bundle.json says",
                hint="Make the bundle anew from its image, or fetch it again.",
            )

    def _check_link(self, subject: str, disk: Path) -> None:
        report = check_link(disk)
        grains = f"{report.grains} grains, {report.zero_grains} of zeros"
        self._passed(subject, f"{grains}, {report.size_bytes} bytes")

    def _check_inside(
        self, chain: Chain, base_link_id: str | None, image: ImageAtHand | None
    ) -> None:
        """Check what the whole chain holds; its links are sound and fit each other."""
        depth = len(chain.links)
        self._passed("chain", f"{depth} links, {chain.capacity_bytes} bytes of capacity")
        step = "file system"
        self._monitor(StepStarted(step))
        read = _watched(chain.read, lambda done: self._monitor(StepAdvanced(step, done)))
        with _inside(step):
            reader = Reader(read, chain.capacity_bytes)
            if base_link_id is not None and reader.volume.identity != identity_of(base_link_id):
                raise IntegrityError("Its UUID, hash seed or label is not that of the base link.")
            found = check_filesystem(reader)
        self._passed(
            step,
            f"{found.names} names, {found.inodes} inodes, {found.directories} directories, "
            f"{found.used_blocks} blocks in use",
        )
        if image is not None:
            self._check_tree(chain, image)

    def _check_tree(self, chain: Chain, at_hand: ImageAtHand) -> None:
        expected = ExpectedTree(content_digest)
        layers = at_hand.image.layers
        for number, layer in enumerate(layers):
            self._apply(f"layer {number + 1}/{len(layers)}", layer, expected, at_hand)
        step = "tree"
        self._monitor(StepStarted(step, sum(entry.size for entry in expected.nodes.values())))
        read = _watched(chain.read, lambda done: self._monitor(StepAdvanced(step, done)))
        report = compare_tree(expected, Reader(read, chain.capacity_bytes))
        same = f"{report.names} names and {report.content_bytes} bytes of content"
        self._passed(step, f"{same} are those of {at_hand.image.reference}")

    def _apply(self, step: str, layer: Layer, expected: ExpectedTree, at_hand: ImageAtHand) -> None:
        descriptor = layer.descriptor
        local = at_hand.source.local_blob(descriptor)
        if local is None:
            fetched = fetch_blob(at_hand.source, descriptor, at_hand.blobs, self._monitor)
            local = whole_file(fetched)
        self._monitor(StepStarted(step, descriptor.size_bytes))
        with (
            _inside(f"{step} ({descriptor.digest})"),
            local.open() as compressed,
            open_layer(
                compressed,
                descriptor,
                verify_blob=True,
                algorithm=layer.diff_id.algorithm,
                limits=at_hand.limits,
            ) as tar,
        ):
            entries = self._counted(
                step, read_changes(read_entries(tar, at_hand.limits)), compressed.tell
            )
            expected.apply(entries)
            tar.check(layer.diff_id)
        self._monitor(StepFinished(step, "read"))

    def _counted(
        self, step: str, entries: Iterable[Entry], position: Callable[[], int]
    ) -> Iterator[Entry]:
        """Pass `entries` on and tell the monitor how far the blob has been read."""
        told = 0
        for entry in entries:
            done = position()
            if done - told >= _ADVANCE_BYTES:
                told = done
                self._monitor(StepAdvanced(step, done))
            yield entry

    def _passed(self, subject: str, summary: str) -> None:
        self.checks.append(Check(subject, summary))
        self._monitor(StepFinished(subject, "sound", minor=True))


def _check_record(bundle: Bundle) -> None:
    """Check that the links in bundle.json are what their own fields say, base first."""
    path = bundle.folder / "bundle.json"
    # read_bundle has parsed it; these two fields say again what its other fields say.
    document: Any = json.loads(path.read_bytes())
    if not isinstance(bundle.reference, str) or not bundle.reference.isprintable():
        raise IntegrityError(f"{path} has the reference {bundle.reference!r}.")
    wanted = {
        "capacity": bundle.parameters.capacity_bytes,
        "format": CREATE_TYPE_MONOLITHIC_SPARSE,
    }
    for name, value in wanted.items():
        if document.get(name) != value:
            raise IntegrityError(
                f"{path} has the {name} {document.get(name)!r}.", expected=f"{value!r}"
            )
    parent = ""
    for number, link in enumerate(bundle.links, 1):
        if link.parent != parent:
            raise IntegrityError(
                f"{path}: link {number} is to stand on {link.parent!r}.",
                expected=f"{parent!r}, the link before it",
            )
        identity = link_id(link.parent, link.layers, bundle.parameters)
        if link.link_id != identity:
            raise IntegrityError(
                f"{path}: link {number} has the id {link.link_id}.",
                expected=f"{identity}, which follows from its parent, layers and parameters",
            )
        parent = identity


def _check_documents(bundle: Bundle) -> ImageConfig:
    """Check manifest.json and config.json against their digests, and the links against both."""
    path = bundle.folder / "manifest.json"
    manifest_raw = _read_document(path)
    try:
        digest = Digest.parse(str(bundle.digest))
    except ValueError as error:
        raise IntegrityError(
            f"{bundle.folder / 'bundle.json'} has the digest {bundle.digest!r}.",
            expected=f"{error}",
        ) from error
    verify_document(manifest_raw, digest, what=f"{path}")
    manifest = parse_document(manifest_raw, None, what=f"{path}")
    if not isinstance(manifest, Manifest):
        raise IntegrityError(f"{path} is an index.", expected="the manifest of one image")
    path = bundle.folder / "config.json"
    verify_document(bundle.config_raw, manifest.config.digest, what=f"{path}")
    config = parse_config(bundle.config_raw, what=f"{path}")
    rest = iter([str(diff_id) for diff_id in config.diff_ids])
    for link in bundle.links:
        for layer in link.layers:
            if layer not in rest:  # takes out what stands before it: layers that change nothing
                raise IntegrityError(
                    f"{link.file} is to hold the layer {layer}.",
                    expected=f"the layers of {path}, in their order",
                )
    return config


def _read_document(path: Path) -> bytes:
    if not path.is_file():
        raise IntegrityError(f"{path} is missing.", expected="the image's manifest, byte for byte")
    with open(path, "rb") as file:
        return file.read(c_oci.MAX_DOCUMENT_BYTES + 1)  # the parser refuses one that is longer


def _check_links_of_chain(chain: Chain, bundle: Bundle) -> None:
    """Check that the chain in the files is the one that bundle.json describes."""
    if tuple(link.path for link in chain.links) != bundle.disks:
        raise IntegrityError(
            f"The chain below {bundle.disks[-1]} has {len(chain.links)} links, "
            "not the files that bundle.json lists."
        )
    parameters = bundle.parameters
    for link, recorded in zip(chain.links, bundle.links, strict=True):
        descriptor = link.descriptor
        identity = recorded.link_id
        for what, have, want in (
            ("CID", f"{descriptor.cid:08x}", f"{content_id(identity):08x}"),
            ("long content id", descriptor.long_content_id, long_content_id(identity)),
            ("extent", descriptor.extents[0].file_name, link.path.name),
            ("grain size", link.grain_bytes, parameters.grain_bytes),
            ("capacity", link.capacity_bytes, parameters.capacity_bytes),
        ):
            if have != want:
                raise IntegrityError(
                    f"{link.path} has the {what} {have}.",
                    expected=f"{want}, which follows from its link id and parameters",
                )


def _watched(
    read: Callable[[int, int], bytes], on_advance: Callable[[int], None]
) -> Callable[[int, int], bytes]:
    """Return `read` that tells from time to time how many bytes it has read in all."""
    done = told = 0

    def watched(offset: int, length: int) -> bytes:
        nonlocal done, told
        done += length
        if done - told >= _ADVANCE_BYTES:
            told = done
            on_advance(done)
        return read(offset, length)

    return watched


@contextmanager
def _inside(where: str) -> Iterator[None]:
    """Say in every error where it was found."""
    try:
        yield
    except SaltflatError as error:
        error.add_context(where)
        raise
