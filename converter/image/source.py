"""Where images come from: one interface, and the one place that knows which sources there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from converter.events import Monitor, ignore
from converter.image.archive import open_archive
from converter.image.docker_archive import DockerArchiveSource
from converter.image.files import Content, Folder
from converter.image.foreign import WithForeignLayers
from converter.image.layout import LayoutSource
from converter.image.model import Descriptor, Image
from converter.image.platform import Platform
from converter.image.reference import (
    DockerArchiveReference,
    ImageReference,
    LayoutArchiveReference,
    LayoutReference,
    RegistryReference,
)
from converter.image.sink import CheckedSink
from converter.registry.options import Mirror, RegistryOptions

if TYPE_CHECKING:
    from converter.image.registry_source import RegistrySource
    from converter.registry.client import RegistryClient

SourceOptions = RegistryOptions  # how to reach a registry; nothing else has options
Connect = Callable[[str, RegistryOptions], AbstractContextManager["RegistryClient"]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Which image of a source to take, and how to reach the source.

    `foreign_layers` allows to fetch layers from addresses that the image names.
    """

    platform: Platform = field(default_factory=lambda: Platform("linux", "amd64"))
    access: SourceOptions = field(default_factory=SourceOptions)
    foreign_layers: bool = False


class Source(Protocol):
    """One image at its place of origin. What its methods raise is said at each implementation."""

    def resolve(self, platform: Platform) -> Image:
        """Find the image for `platform`; its documents are verified."""

    def receive(self, descriptor: Descriptor, into: CheckedSink) -> None:
        """Complete a blob in `into`, which may hold its beginning, and check it.

        What has arrived before an error stays in `into`, unless it is known to be wrong.
        """

    def local_blob(self, descriptor: Descriptor) -> Content | None:
        """Return the blob where it already lies on this host, not verified, or None."""

    def hang_up(self) -> None:
        """Let threads that wait for it wait no longer; it is asked for nothing any more."""


@contextmanager
def open_source(
    reference: ImageReference,
    options: SourceOptions,
    *,
    foreign_layers: bool = False,
    spool: Path | None = None,
    known: Path | None = None,
    connect: Connect | None = None,
    monitor: Monitor = ignore,
) -> Iterator[Source]:
    """Yield the source of a reference; `options` matter where a network is.

    `foreign_layers` allows to fetch layers from addresses that the image names. `spool` is the
    folder for the copy of an archive that cannot be read in place, and `monitor` hears how that
    goes. `known` is a folder of blobs: documents that are there are not asked for once
    more. `connect` yields the client for an API host, where several sources share one. Archives
    are opened here and closed in the end; registries and folders are not contacted before the
    source is used. Raises what opening an archive raises.
    """
    elsewhere = partial(_receive_foreign, options) if foreign_layers else None
    if isinstance(reference, LayoutReference):
        yield WithForeignLayers(LayoutSource(reference, Folder(reference.path)), elsewhere)
    elif isinstance(reference, LayoutArchiveReference | DockerArchiveReference):
        with open_archive(reference.file, spool=spool, monitor=monitor) as files:
            if isinstance(reference, DockerArchiveReference):
                yield DockerArchiveSource(reference, files)
            else:
                yield WithForeignLayers(LayoutSource(reference, files), elsewhere)
    else:
        with _open_registry(reference, options, known, connect) as source:
            yield WithForeignLayers(source, elsewhere)


@contextmanager
def _open_registry(
    reference: RegistryReference,
    options: RegistryOptions,
    known: Path | None,
    connect: Connect | None,
) -> Iterator[RegistrySource]:
    # The HTTP library takes longer to load than a small layer to convert.
    from converter.image.registry_source import (  # noqa: PLC0415 - see above
        MirrorPlace,
        RegistrySource,
    )
    from converter.registry.client import RegistryClient  # noqa: PLC0415 - see above

    connect = connect or RegistryClient
    with ExitStack() as opened:
        mirrors = [
            MirrorPlace(
                opened.enter_context(connect(mirror.host, _mirror_options(mirror, options))),
                mirror.prefix,
            )
            for mirror in options.mirrors
        ]
        client = opened.enter_context(connect(reference.api_host, options))
        yield RegistrySource(reference, client, mirrors, known=known)


def _mirror_options(mirror: Mirror, options: RegistryOptions) -> RegistryOptions:
    return replace(
        options,
        plain_http=options.plain_http if mirror.plain_http is None else mirror.plain_http,
        credential=None,  # it was given for the registry
        retries=min(options.retries, 1),  # there is somebody else to ask
        mirrors=(),
    )


def _receive_foreign(
    options: RegistryOptions, url: str, descriptor: Descriptor, into: CheckedSink
) -> None:
    from converter.image.registry_source import (  # noqa: PLC0415 - as in _open_registry
        receive_foreign,
    )

    receive_foreign(url, options, descriptor, into)
