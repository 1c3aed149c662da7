"""Links from a registry into the store: fetched side by side, checked, made good in their order.

A blob is held to its digest while it arrives, its content to the size and hash of the link's record
and then to what a link of ours looks like (`converter.artifact.inspection`). Only then does it get
a name. What arrived whole before an error stays, and the next attempt uses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

from converter.artifact.codec import Codec
from converter.artifact.content import Look, content
from converter.artifact.inspection import StateInspection, check_disk
from converter.artifact.manifest import Parcel
from converter.errors import IntegrityError, SaltflatError
from converter.events import Monitor, Note, StepAdvanced, StepFinished, StepStarted
from converter.image.model import Descriptor
from converter.registry.artifacts import ArtifactRepository
from converter.store.layout import Store
from converter.store.links import LinkRecord, PendingLink, begin_link, find_link, read_state

PARALLEL_FETCHES = 4
_ADVANCE_BYTES = 1 << 20


def receive(
    repository: ArtifactRepository, store: Store, parcels: Sequence[Parcel], *, monitor: Monitor
) -> None:
    """Make sure that `store` has the links of `parcels`, which begin at the bottom of a chain.

    To be called while the store is in use (`converter.store.locks.using`). Locks are taken in the
    chain's order, as conversions do. Raises IntegrityError for what is not as its record says,
    SaltflatError, OSError, and the registry's errors.
    """
    reception = _Reception(repository, store, monitor)
    try:
        reception.run(parcels)
    finally:
        reception.end()


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A link on its way: its disk goes into the pending file, its state is the future's result."""

    pending: PendingLink
    state: Future[bytes]


class _Reception:
    """The links that are on their way, and the threads that fetch them."""

    def __init__(self, repository: ArtifactRepository, store: Store, monitor: Monitor) -> None:
        self._repository = repository
        self._store = store
        self._monitor = monitor
        self._stopping = Event()
        self._fetcher = ThreadPoolExecutor(PARALLEL_FETCHES, thread_name_prefix="fetch")
        self._arriving: dict[str, _Arrival] = {}

    def run(self, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            self._begin(parcel)
        states = StateInspection()
        for parcel in parcels:
            if not self._arriving:
                return
            self._finish(parcel.record, states)

    def end(self) -> None:
        """Stop fetching, and let go of what did not arrive."""
        self._stopping.set()
        self._fetcher.shutdown(cancel_futures=True)
        for arrival in self._arriving.values():
            arrival.pending.discard()

    def _finish(self, record: LinkRecord, states: StateInspection) -> None:
        """Wait until the link is here, check its state, and make it good if it is new."""
        arrival = self._arriving.get(record.link_id)
        if arrival is None:
            if not record.empty:
                states.add(record, read_state(self._store, self._present(record)))
            return
        state = arrival.state.result()
        if record.empty:
            arrival.pending.commit_empty()
        else:
            states.add(record, state)
            arrival.pending.adopt(record, state)
        del self._arriving[record.link_id]

    def _present(self, record: LinkRecord) -> LinkRecord:
        found = find_link(self._store, record.link_id)
        if found is None:
            raise SaltflatError(
                f"The link {record.link_id} has gone from the store.", hint="Try again."
            )
        return found

    def _begin(self, parcel: Parcel) -> None:
        """Let the link arrive, unless it is here and the same."""
        record = parcel.record
        waiting = Note(f"link {record.link_id[:12]}: another process makes it, waiting")
        found: LinkRecord | PendingLink | None = find_link(self._store, record.link_id)
        if found is None:
            found = begin_link(self._store, record, on_wait=lambda: self._monitor(waiting))
        if isinstance(found, PendingLink):
            state = self._fetcher.submit(self._fetch, parcel, found)
            self._arriving[record.link_id] = _Arrival(found, state)
        elif (found.empty, found.sha256) != (record.empty, record.sha256):
            raise IntegrityError(
                f"The store's link {record.link_id} has the sha256 {found.sha256 or 'of nothing'}.",
                expected=f"{record.sha256 or 'nothing'}, as {self._repository.name} has it",
                hint="One is not what its layers make; see: saltflat verify BUNDLE --image IMAGE",
            )

    def _fetch(self, parcel: Parcel, pending: PendingLink) -> bytes:
        """Bring the disk into the pending file, and return the state."""
        record, disk, state = parcel.record, parcel.disk, parcel.state
        if disk is None or state is None:
            return b""  # an empty link
        step = f"link {record.link_id[:12]}"
        told_bytes = 0

        def look(arrived_bytes: int) -> None:
            nonlocal told_bytes
            if self._stopping.is_set():
                raise CancelledError
            if arrived_bytes - told_bytes >= _ADVANCE_BYTES:
                told_bytes = arrived_bytes
                self._monitor(StepAdvanced(step, arrived_bytes))

        self._monitor(StepStarted(step, disk.size_bytes))
        for chunk in self._content(disk, parcel.codec, look):
            view = memoryview(chunk)
            while view:  # the file is unbuffered: a write may be short
                view = view[pending.file.write(view) :]
        check_disk(pending.path, record)
        found = b"".join(self._content(state, Codec.NONE, look))
        self._monitor(StepFinished(step, f"{disk.size_bytes / 1e6:.1f} MB fetched"))
        return found

    def _content(self, blob: Descriptor, codec: Codec, look: Look) -> Iterator[bytes]:
        return content(self._repository, blob, codec, scratch=self._store.cache, look=look)
