"""What is made of an image's chain: bundles, exports, artifacts. What is there already is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from converter.batch.events import Outcome
from converter.batch.notes import MadeFile, Note, Notes, identity_of_parts
from converter.batch.orders import OutputOrder
from converter.batch.sources import Sources
from converter.batch.treatments import request_of
from converter.batch.wishes import BundleWish, ExportWish, ImportWish, OutputWish, PushWish
from converter.events import Event, Monitor, StepFinished
from converter.export.exportable import Exportable, exportable_of_image
from converter.export.kinds import make_export
from converter.export.settings import Attachment, Export
from converter.image.c_oci import OCI_MANIFEST
from converter.image.digest import Digest
from converter.image.platform import Platform
from converter.image.reference import BundleReference, parse_source
from converter.library import BundleTarget, is_there
from converter.pipeline import Chain
from converter.store.bundle import write_bundle
from converter.store.bundle_boot import bundle_boot
from converter.store.layout import Store

_ALREADY = Outcome("already there", is_changed=False)


def make_output(
    order: OutputOrder, chain: Chain, store: Store, sources: Sources, monitor: Monitor
) -> Outcome:
    """Make the output that `order` wants of `chain`; to be called while the store is in use.

    Raises UsageError when something else is in its place, and as the verb does that makes such an
    output alone.
    """
    return _Making(order, chain, store, sources, monitor).make()


def check_boot(wish: OutputWish, platform: Platform, store: Store) -> None:
    """Raise NotFoundError if `store` lacks the boot image that the output of an image needs.

    Raises as the store does for one that is there and is damaged.
    """
    if isinstance(wish, BundleWish):
        bundle_boot(store, wish.boot)
    elif isinstance(wish, ExportWish):
        request = request_of(wish, None)
        if request.type.is_machine:
            wish.machine.boot_medium(store, platform, None, request.medium)


class _Making:
    """One output, with all that it takes."""

    def __init__(
        self, order: OutputOrder, chain: Chain, store: Store, sources: Sources, monitor: Monitor
    ) -> None:
        self._order = order
        self._chain = chain
        self._store = store
        self._sources = sources
        self._monitor = monitor
        self._notes = Notes(store)

    def make(self) -> Outcome:
        wish = self._order.output
        if isinstance(wish, BundleWish):
            return self._bundle(wish)
        if isinstance(wish, ExportWish):
            return self._export(wish)
        if isinstance(wish, PushWish):
            return self._push(wish)
        return self._import(wish)

    def _bundle(self, wish: BundleWish) -> Outcome:
        chain = self._chain
        boot = bundle_boot(self._store, wish.boot)
        # Of another image it is replaced by force alone: machines may stand on its disks.
        target = BundleTarget(Path(wish.place), boot, force=wish.force, copy=wish.copy)
        if is_there(target, chain):
            return _ALREADY
        write_bundle(
            target.folder,
            chain.image,
            chain.parameters,
            chain.links,
            chain.disks,
            boot=boot,
            force=wish.force,
            copy=wish.copy,
        )
        copied = sum(link.size_bytes for link in chain.links) if wish.copy else 0
        return Outcome(f"bundle {wish.place}", written_bytes=copied)

    def _export(self, wish: ExportWish) -> Outcome:
        out = Path(wish.place)
        kind, place = wish.kind.value, str(out.absolute())
        request = request_of(wish, out)
        export = request.export_of(_exportable(self._chain), self._store)
        identity = _export_identity(wish, export)
        note = self._notes.read(kind, place)
        is_same = note is not None and note.identity == identity
        if note is not None and is_same and note.is_intact:
            return _ALREADY
        # A file of that name without a note is somebody's; with one, an earlier batch left it. If
        # that made something else, of a tag that has moved, it must be just as it was left.
        force = wish.force or (note is not None and (is_same or note.is_ours))
        request.check(force=force)
        if wish.sbom:
            export = replace(export, attachments=self._bills())
        self._notes.write(kind, place, Note(identity, is_done=False))
        files = make_export(export, out, force=force, monitor=self._monitor)
        made = tuple(map(MadeFile.of, files))
        self._notes.write(kind, place, Note(identity, is_done=True, files=made))
        written_bytes = sum(file.size_bytes for file in made)
        return Outcome(f"{wish.type} {wish.place}", written_bytes=written_bytes)

    def _bills(self) -> tuple[Attachment, ...]:
        # Half of what this loads is for artifacts in registries; most outputs can do without.
        from converter.artifact.sbom_source import sboms_of  # noqa: PLC0415 - see above

        order = self._order
        reference = parse_source(order.source)
        assert not isinstance(reference, BundleReference), "a batch takes none"
        bills = sboms_of(
            reference, self._chain.image, order.origin, self._store, monitor=self._monitor
        )
        return tuple(Attachment(bill.ending, bill.data) for bill in bills)

    def _push(self, wish: PushWish) -> Outcome:
        from converter.artifact.codec import Codec  # noqa: PLC0415 - as in _bills
        from converter.artifact.push import push_chain  # noqa: PLC0415 - as in _bills
        from converter.artifact.target import parse_target  # noqa: PLC0415 - as in _bills
        from converter.registry.artifacts import ArtifactRepository  # noqa: PLC0415 - likewise

        target = parse_target(wish.place)
        client = self._sources.client(target.reference.api_host, self._order.origin.access)
        repository = ArtifactRepository(client, target.repository, host=target.reference.host)
        chain = self._chain
        identity = identity_of_parts(*_chain_parts(_exportable(chain)), wish.codec)
        # Without a tag, a repository has room for as many as there are images.
        place = wish.place if target.tag is not None else f"{wish.place}@{identity}"
        note = self._notes.read(wish.kind.value, place)
        if note is not None and note.identity == identity and note.is_done:
            answer = repository.manifest(target.tag or note.digest, accept=(OCI_MANIFEST,))
            if answer is not None and str(Digest.of(answer.raw)) == note.digest:
                return _ALREADY
        sent: set[str] = set()

        def watch(event: Event) -> None:
            if isinstance(event, StepFinished) and not event.summary.startswith("already"):
                sent.add(event.step)
            self._monitor(event)

        pushed = push_chain(
            chain.image,
            chain.links,
            self._store,
            repository,
            target,
            codec=Codec(wish.codec),
            monitor=watch,
        )
        digest = str(pushed.digest)
        self._notes.write(wish.kind.value, place, Note(identity, is_done=True, digest=digest))
        sent_bytes = sum(
            parcel.disk.size_bytes
            for parcel in pushed.parcels
            if parcel.disk is not None and f"push {parcel.record.link_id[:12]}" in sent
        )
        return Outcome(f"{repository.name}@{digest}", sent_bytes=sent_bytes)

    def _import(self, wish: ImportWish) -> Outcome:
        # pyvmomi, which most batches can do without, comes with these.
        from converter import template_import as templates  # noqa: PLC0415 - see above
        from converter.vsphere.connection import open_connection  # noqa: PLC0415 - see above

        source = _exportable(self._chain)
        with open_connection(wish.settings) as connection:
            _inventory, placement = templates.find_place(connection)
            called, made = templates.bring(
                connection,
                placement,
                source,
                name=wish.place,
                manner=templates.Manner(provisioning=wish.provisioning),
                replace=wish.replace,
                folder=self._store.root,
                monitor=self._monitor,
            )
            templates.tag(connection, made, source, self._monitor)
        if not made.sent:
            return _ALREADY
        sent_bytes = sum(disk.size_bytes for disk in made.sent)
        return Outcome(f"template {called}", sent_bytes=sent_bytes)


def _exportable(chain: Chain) -> Exportable:
    return exportable_of_image(chain.image, chain.parameters, chain.links, chain.disks)


def _export_identity(wish: ExportWish, export: Export) -> str:
    keys = (wish.package.key, wish.package.certificate)
    codec = export.codec
    is_compressed = request_of(wish, None).type.is_compressed
    return identity_of_parts(
        *_chain_parts(export.source),
        wish.type,
        export.file_name,
        f"{codec.library} {codec.version} {codec.level}" if is_compressed else "",
        f"{export.tells_provenance} {wish.sbom}",
        # Values all through: what stands in them says all of them, and the same everywhere.
        repr(export.machine),
        repr(wish.package),
        *(path.read_bytes() if path is not None else b"" for path in keys),
    )


def _chain_parts(source: Exportable) -> tuple[str, ...]:
    image = source.image
    return (
        image.reference,
        str(image.digest),
        str(image.platform),
        *(f"{link.link_id} {link.sha256}" for link in source.links),
    )
