"""A repository as a cache of links that several machines share. Owns what its faults cost: nothing.

A link is found by its id, which says what it was made from, not what is in it. So whoever may push
there is trusted for content; with `verify`, nothing of the cache is used, and every link that was
made here is compared with what the cache has of that name.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from threading import Event

from converter.artifact.codec import Codec
from converter.artifact.content import content
from converter.artifact.link_artifact import find_link_artifact, put_link_artifact
from converter.artifact.manifest import Parcel
from converter.artifact.receive import receive
from converter.artifact.send import Sender
from converter.errors import AuthError, IntegrityError, SaltflatError, UnavailableError
from converter.events import Event as ProgressEvent
from converter.events import Monitor, Note
from converter.ext4.state import same_content
from converter.image.model import Descriptor
from converter.registry.artifacts import ArtifactRepository
from converter.store.layout import Store
from converter.store.links import ChainParameters, LinkRecord, find_link, link_id, read_state

_FETCH = "links cannot be fetched"
_PUSH = "a link cannot be pushed"
_VERIFY = "a link cannot be verified"


class CacheMode(enum.Enum):
    """What a cache is used for, named as on the command line."""

    READ = "read"
    WRITE = "write"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How a cache is used; `verify` compares instead of fetching, and pushes nothing over it."""

    mode: CacheMode = CacheMode.BOTH
    verify: bool = False

    @property
    def reads(self) -> bool:
        """Whether links are fetched."""
        return self.mode is not CacheMode.WRITE and not self.verify

    @property
    def writes(self) -> bool:
        """Whether links that were made are pushed."""
        return self.mode is not CacheMode.READ


class RepositoryCache:
    """The links of `repository`, for conversions into `store`."""

    def __init__(
        self, repository: ArtifactRepository, store: Store, policy: CachePolicy, *, monitor: Monitor
    ) -> None:
        self._repository = repository
        self._store = store
        self._policy = policy
        self._tell = monitor
        self._stopping = Event()
        self._reads = policy.reads
        self._writes = policy.writes

    def bring(self, layers: Sequence[tuple[str, ...]], parameters: ChainParameters) -> None:
        """Fetch what the repository has of a chain, side by side; see `LinkCache`."""
        if self._reads:
            self._guarded(_FETCH, lambda: self._bring(layers, parameters))

    def fetch(self, draft: LinkRecord, below: Callable[[], object]) -> LinkRecord | None:
        """Fetch one link; see `LinkCache`."""
        if not self._reads:
            return None

        def attempt() -> None:
            parcel = find_link_artifact(self._repository, draft.link_id)
            if parcel is not None:
                below()
                self._receive([*self._below(draft.parent), parcel])

        self._guarded(_FETCH, attempt)
        return find_link(self._store, draft.link_id)

    def offer(self, record: LinkRecord) -> None:
        """Push a link unless it is there, or compare it; see `LinkCache`.

        Raises IntegrityError if the repository has something else under its name and that is to be
        verified.
        """
        if self._policy.verify:
            self._compare(record)
        if self._writes:
            self._guarded(_PUSH, lambda: self._push(record))

    def stop(self) -> None:
        """End what is under way; see `LinkCache`."""
        self._stopping.set()

    def _bring(self, layers: Sequence[tuple[str, ...]], parameters: ChainParameters) -> None:
        top = ""
        parcels: list[Parcel] = []
        for diff_ids in layers or [()]:
            identity = link_id(top, diff_ids, parameters)
            found = find_link(self._store, identity)
            if found is None:
                parcel = find_link_artifact(self._repository, identity)
                if parcel is None:
                    break
            else:
                parcel = Parcel(found)
            parcels.append(parcel)
            if not parcel.record.empty:
                top = identity
        self._receive(parcels)

    def _below(self, identity: str) -> list[Parcel]:
        """Return the links up to `identity`, which are in the store, as `receive` wants them."""
        chain = []
        while identity:
            record = find_link(self._store, identity)
            assert record is not None, "a conversion has what it stands on"
            chain.append(Parcel(record))
            identity = record.parent
        return chain[::-1]

    def _receive(self, parcels: Sequence[Parcel]) -> None:
        if any(find_link(self._store, parcel.record.link_id) is None for parcel in parcels):
            receive(self._repository, self._store, parcels, monitor=self._monitor)

    def _push(self, record: LinkRecord) -> None:
        if find_link_artifact(self._repository, record.link_id) is None:
            sender = Sender(self._repository, self._store, monitor=self._monitor)
            put_link_artifact(self._repository, sender, sender.link(record))

    def _compare(self, record: LinkRecord) -> None:
        """Hold what the repository has as this link to what its layers make, which `record` is."""
        place = f"{self._repository.name}: link {record.link_id}"
        hint = "Whoever may push there has put something else in its place; use another cache."
        try:
            parcel = find_link_artifact(self._repository, record.link_id)
            if parcel is None:
                return
            theirs = parcel.record
            if (theirs.empty, theirs.sha256) != (record.empty, record.sha256):
                raise IntegrityError(
                    f"{place} has the sha256 {theirs.sha256 or 'of nothing'}.",
                    expected=f"{record.sha256 or 'nothing'}, which its layers make",
                    hint=hint,
                )
            if parcel.disk is not None and parcel.state is not None:
                for _ in self._content(parcel.disk, parcel.codec):
                    pass  # it is the hash that counts
                state = b"".join(self._content(parcel.state, Codec.NONE))
                if not same_content(state, read_state(self._store, record)):
                    raise IntegrityError(
                        f"{place} has another state than its layers make.", hint=hint
                    )
            self._monitor(Note(f"{place} is what its layers make", minor=True))
        except (UnavailableError, AuthError) as error:
            self._warn(_VERIFY, error)

    def _content(self, blob: Descriptor, codec: Codec) -> Iterator[bytes]:
        scratch = self._store.cache
        return content(self._repository, blob, codec, scratch=scratch, look=self._look)

    def _guarded(self, doing: str, attempt: Callable[[], None]) -> None:
        """Let no fault of the cache be one of the conversion."""
        try:
            attempt()
        except SaltflatError as error:
            self._warn(doing, error)
        except OSError as error:  # a full disk: the conversion will say so where it matters
            self._warn(doing, SaltflatError(f"{error.strerror or error}."))

    def _warn(self, doing: str, error: SaltflatError) -> None:
        """Warn, and do not ask again where that would cost its time-outs each time."""
        if isinstance(error, UnavailableError):
            self._reads = self._writes = False
        elif isinstance(error, AuthError):
            # Many may read what few may write.
            self._reads, self._writes = self._reads and doing is _PUSH, False
        self._tell(Note(f"cache {self._repository.name}: {doing}: {error.what}", warning=True))

    def _look(self, _done_bytes: int) -> None:
        if self._stopping.is_set():
            raise CancelledError

    def _monitor(self, event: ProgressEvent) -> None:
        self._look(0)
        self._tell(event)
