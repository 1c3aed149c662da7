"""From a SOURCE argument to what can be exported, for every verb that hands a disk on."""

from __future__ import annotations

from converter.cli.caching import Caching
from converter.cli.images import convert_source, hold_bundle_to, image_of_bundle
from converter.cli.output import Output
from converter.convert_options import ConvertOptions
from converter.export.exportable import Exportable, exportable_of_bundle, exportable_of_image
from converter.image.reference import BundleReference, SourceReference
from converter.image.source import Origin
from converter.store.bundle import read_bundle
from converter.store.layout import Store


def find_exportable(
    source: str,
    reference: SourceReference,
    store: Store,
    *,
    origin: Origin,
    conversion: ConvertOptions,
    caching: Caching,
    output: Output,
) -> Exportable:
    """Return what SOURCE, read as `reference`, is; to be called while the store is in use."""
    if isinstance(reference, BundleReference):
        hold_bundle_to(conversion.policy, reference)
        bundle = read_bundle(reference.path)
        return exportable_of_bundle(bundle, image_of_bundle(bundle))
    chain = convert_source(
        source,
        store,
        origin=origin,
        conversion=conversion,
        caching=caching,
        monitor=output.monitor,
    ).chain
    return exportable_of_image(chain.image, chain.parameters, chain.links, chain.disks)
