"""Links in the store: identity, records, commit. Owns when a link counts as good.

A link is good when its record is there: the record is written last, after disk and state are
durable under their names, so a conversion killed anywhere leaves nothing that looks finished.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from converter.atomic import TEMP_PREFIX, AtomicFile, write_atomic
from converter.errors import IntegrityError, SaltflatError
from converter.store.layout import Store
from converter.store.locks import LINK_PREFIX, locked

SCHEMA = 1
WRITER_VERSION = 5  # raised whenever the same layers would give other bytes


@dataclass(frozen=True, slots=True)
class ChainParameters:
    """Every choice that changes a byte of a link. Sizes in bytes."""

    capacity_bytes: int = 16 << 30
    grain_bytes: int = 64 << 10
    journal: bool = True
    writer_version: int = WRITER_VERSION

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Self:
        """Return the parameters that a record holds. Raises TypeError for others than there are."""
        return cls(**{"writer_version": 1, **document})  # the first records did not tell theirs


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """What is known of a link. An `empty` one stands for layers that change nothing: no disk.

    `parent` is the id of the link below, "" at the bottom; `diff_ids` the layers it covers;
    `size_bytes` and `sha256` are the disk's, `state_sha256` the state file's; `grains` counts the
    grains that hold data.
    """

    link_id: str
    parent: str
    diff_ids: tuple[str, ...]
    parameters: ChainParameters
    empty: bool = False
    size_bytes: int = 0
    sha256: str = ""
    state_size_bytes: int = 0
    state_sha256: str = ""
    grains: int = 0
    producer: str = ""
    schema: int = field(default=SCHEMA)


def link_id(parent: str, diff_ids: tuple[str, ...], parameters: ChainParameters) -> str:
    """Return the identity of a link: 64 hex digits over all that determines its bytes."""
    document = {
        "parent": parent,
        "diff_ids": list(diff_ids),
        "parameters": asdict(parameters),
    }
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(b"saltflat link\0" + canonical).hexdigest()


def disk_path(store: Store, identity: str) -> Path:
    """Return where the disk of a link is, or would be."""
    return store.links / f"{identity}.vmdk"


def read_link_record(store: Store, identity: str) -> LinkRecord | None:
    """Return what the store says of a link, whether or not its files are there; None if nothing.

    Raises SaltflatError for a record of a newer schema, IntegrityError for a damaged one.
    """
    path = store.links / f"{identity}.json"
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    record = _parse_record(raw, path)
    if record.link_id != identity:
        raise IntegrityError(
            f"{path} is the record of another link.",
            expected=identity,
            hint="Delete it; converting again makes the link anew.",
        )
    return record


def find_link(store: Store, identity: str) -> LinkRecord | None:
    """Return the record of a good link, or None if there is none.

    Raises SaltflatError for a record of a newer schema, IntegrityError for a damaged one.
    """
    record = read_link_record(store, identity)
    if record is not None and not record.empty:
        disk = disk_path(store, identity)
        try:
            size = disk.stat().st_size
        except FileNotFoundError:
            return None  # deleted by hand: it is made anew
        if size != record.size_bytes:
            raise IntegrityError(
                f"{disk} has {size} bytes.",
                expected=f"{record.size_bytes} bytes, as when it was written",
                hint=f"Delete {store.links / identity}.json and the disk; "
                "converting again makes both anew.",
            )
    return record


class PendingLink:
    """A link in the making: its lock is held and its disk file has no name yet."""

    def __init__(self, store: Store, draft: LinkRecord, lock: ExitStack) -> None:
        """Take over `lock`; use `begin_link`, which makes sure that the link is still missing."""
        self._store = store
        self._draft = draft
        self._lock = lock
        disk = disk_path(store, draft.link_id)
        for stale in store.links.glob(f"{TEMP_PREFIX}*-{disk.name}"):
            stale.unlink()  # whoever wrote it died: the lock is ours
        self._disk = AtomicFile(disk, mode=0o444)
        self.file = self._disk.file
        self.path = self._disk.temp  # of the file that has no final name yet
        self._sha256 = ""

    def hash_disk(self) -> str:
        """Return the sha256 of the disk, which nobody writes any more. Raises OSError.

        Once only: `commit` needs it, and whoever has a thread to spare may ask for it before.
        """
        if not self._sha256:
            self._disk.file.seek(0)
            self._sha256 = hashlib.file_digest(self._disk.file, "sha256").hexdigest()
        return self._sha256

    def commit(self, *, grains: int, state: bytes) -> LinkRecord:
        """Make the link good: disk, then state, then record, each durable before the next."""
        with self._lock:
            record = replace(
                self._draft,
                size_bytes=os.fstat(self._disk.file.fileno()).st_size,
                sha256=self.hash_disk(),
                state_size_bytes=len(state),
                state_sha256=hashlib.sha256(state).hexdigest(),
                grains=grains,
            )
            self._write_all(record, state)
        return record

    def adopt(self, record: LinkRecord, state: bytes) -> LinkRecord:
        """Make good a link that was made elsewhere and fetched: `record` says what it is.

        The caller has checked that disk and state are what the record says.
        """
        with self._lock:
            self._write_all(record, state)
        return record

    def commit_empty(self) -> LinkRecord:
        """Record that the layers change nothing, so that nobody tries them again."""
        with self._lock:
            self._disk.discard()
            record = replace(self._draft, empty=True)
            self._write_record(record)
        return record

    def discard(self) -> None:
        """Leave the store as it was."""
        with self._lock:
            self._disk.discard()

    def _write_all(self, record: LinkRecord, state: bytes) -> None:
        self._disk.commit()
        write_atomic(self._store.links / f"{record.link_id}.state", state, mode=0o444)
        self._write_record(record)

    def _write_record(self, record: LinkRecord) -> None:
        document = json.dumps(asdict(record), sort_keys=True, indent=1).encode() + b"\n"
        write_atomic(self._store.links / f"{record.link_id}.json", document, mode=0o444)


def begin_link(
    store: Store, draft: LinkRecord, *, on_wait: Callable[[], None]
) -> PendingLink | LinkRecord:
    """Begin to make the link that `draft` describes, or return it if another process just did.

    Waits, after telling `on_wait`, for a process that is making it.
    """
    with ExitStack() as lock:
        lock.enter_context(locked(store.locks / f"{LINK_PREFIX}{draft.link_id}", on_wait=on_wait))
        record = find_link(store, draft.link_id)
        return record or PendingLink(store, draft, lock.pop_all())


def read_states(store: Store, record: LinkRecord) -> list[bytes]:
    """Return the states of a link's whole chain, the lowest first, each as it was written.

    Raises IntegrityError if one is missing or was changed.
    """
    states = [read_state(store, record)]
    while record.parent:
        parent = find_link(store, record.parent)
        if parent is None:
            raise IntegrityError(
                f"The link {record.parent} is gone, on which {record.link_id} stands.",
                hint=f"Delete {store.links / record.link_id}.json; converting again makes both.",
            )
        record = parent
        states.append(read_state(store, record))
    states.reverse()
    return states


def read_state(store: Store, record: LinkRecord) -> bytes:
    """Return the state of a good link. Raises IntegrityError if it is missing or not as written."""
    path = store.links / f"{record.link_id}.state"
    try:
        state = path.read_bytes()
    except FileNotFoundError:
        state = b""
    if hashlib.sha256(state).hexdigest() != record.state_sha256:
        raise IntegrityError(
            f"{path} is not what was written.",
            expected=f"sha256 {record.state_sha256}",
            hint=f"Delete {path.with_suffix('.json')}; converting again makes it anew.",
        )
    return state


def _parse_record(raw: bytes, path: Path) -> LinkRecord:
    try:
        document: Any = json.loads(raw)
        schema = document["schema"]
        if schema > SCHEMA:
            raise SaltflatError(
                f"{path} has schema {schema}; this program reads up to {SCHEMA}.",
                hint="Use a newer saltflat, or another --store.",
            )
        document["parameters"] = ChainParameters.parse(document["parameters"])
        document["diff_ids"] = tuple(document["diff_ids"])
        return LinkRecord(**document)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{path} is not a link's record: {error}.",
            hint="Delete it; converting again makes the link anew.",
        ) from error
