"""The sources that a process of a batch has open, each once, and one client for each registry."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from threading import Lock
from typing import TYPE_CHECKING, Self

from converter.events import Monitor, ignore
from converter.image.files import Content
from converter.image.model import Descriptor, Image
from converter.image.platform import Platform
from converter.image.reference import BundleReference, LayoutReference, parse_source
from converter.image.sink import CheckedSink
from converter.image.source import Origin, Source, SourceOptions, open_source
from converter.store.layout import Store

if TYPE_CHECKING:
    from converter.registry.client import RegistryClient


class Sources:
    """Opened sources, for any number of threads; a context manager that closes them all."""

    def __init__(self, store: Store, *, monitor: Monitor = ignore) -> None:
        """Begin with none; copies of archives that cannot be read in place lie in `store`."""
        self._store = store
        self._monitor = monitor
        self._stack = ExitStack()
        self._lock = Lock()
        self._opened: dict[tuple[str, Origin], Source] = {}
        self._clients: dict[tuple[str, SourceOptions], RegistryClient] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def open(self, text: str, origin: Origin) -> Source:
        """Return the source that `text` names. Raises as `converter.image.source.open_source`."""
        with self._lock:
            opened = self._opened.get((text, origin))
            if opened is None:
                reference = parse_source(text)
                assert not isinstance(reference, BundleReference), "the file's reader refuses them"
                opened = self._opened[text, origin] = self._stack.enter_context(
                    open_source(
                        reference,
                        origin.access,
                        foreign_layers=origin.foreign_layers,
                        spool=self._store.root,
                        known=self._store.blobs,
                        connect=self._connect,
                        monitor=self._monitor,
                    )
                )
            return opened

    def client(self, host: str, access: SourceOptions) -> RegistryClient:
        """Return the client for the API host `host`."""
        with self._lock:
            return self._client(host, access)

    def hang_up(self) -> None:
        """Let threads that wait for a registry wait no longer: what they ask is cancelled."""
        for client in list(self._clients.values()):  # without the lock, which one of them may hold
            client.hang_up()

    def _connect(self, host: str, access: SourceOptions) -> AbstractContextManager[RegistryClient]:
        return nullcontext(self._client(host, access))

    def _client(self, host: str, access: SourceOptions) -> RegistryClient:
        # A batch of folders and archives does without the HTTP library.
        from converter.registry.client import RegistryClient  # noqa: PLC0415 - see above

        client = self._clients.get((host, access))
        if client is None:
            client = RegistryClient(host, access)
            self._clients[host, access] = self._stack.enter_context(client)
        return client


class StoreFirst:
    """A source that is not opened before the store turns out to lack something of it.

    The layers of a folder are read where they are; those of an archive were brought into the store,
    since opening it anew may mean to unpack it.
    """

    def __init__(self, sources: Sources, text: str, origin: Origin) -> None:
        self._sources = sources
        self._text = text
        self._origin = origin
        self._is_folder = isinstance(parse_source(text), LayoutReference)

    def resolve(self, platform: Platform) -> Image:
        """Find the image for `platform`; see `Source`."""
        return self._sources.open(self._text, self._origin).resolve(platform)

    def receive(self, descriptor: Descriptor, into: CheckedSink) -> None:
        """Complete a blob in `into`, and check it; see `Source`."""
        self._sources.open(self._text, self._origin).receive(descriptor, into)

    def local_blob(self, descriptor: Descriptor) -> Content | None:
        """Return the blob where it lies, if that is a folder's; see `Source`."""
        if not self._is_folder:
            return None
        return self._sources.open(self._text, self._origin).local_blob(descriptor)

    def hang_up(self) -> None:
        """Let nobody wait for any of the sources: who is interrupted ends with all of them."""
        self._sources.hang_up()
