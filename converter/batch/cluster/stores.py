"""How the stores of a cluster's workers hang together: one folder for all, or one for each.

A folder is shared if a mark that the batch leaves in it is seen by every worker. Otherwise each has
a store of its own, and the cache repository is where they meet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter import __version__
from converter.batch.orders import CacheOrder
from converter.errors import SaltflatError, UsageError
from converter.store.layout import Store
from converter.store.locks import MARK_PREFIX

if TYPE_CHECKING:
    from distributed import Client

STORE_VARIABLE = "SALTFLAT_WORKER_STORE"
# The errors of a Python without this program, and of one with a much older one.
_NOT_LOADED = ("ModuleNotFoundError(", "ImportError(", "AttributeError(")
_BOTH_WAYS = "both"  # a cache's mode, as on the command line


@dataclass(frozen=True, slots=True)
class Sight:
    """What a worker is and sees: its version of this program, and whether the mark is there."""

    version: str
    sees_mark: bool


def worker_store(named: Path) -> Path:
    """Return this worker's store: what its environment says, else the folder that was `named`."""
    return Path(os.environ.get(STORE_VARIABLE) or named)


def sees(store: Path, mark: str) -> bool:
    """Tell whether this worker's store has the mark."""
    return (worker_store(store) / "locks" / mark).exists()


def look(store: Path, mark: str) -> Sight:
    """Look around, as a worker."""
    return Sight(__version__, sees(store, mark))


@contextmanager
def marked(store: Store, name: str) -> Iterator[str]:
    """Yield the mark that is in `store` until the block ends; `name` is no other batch's."""
    path = store.locks / f"{MARK_PREFIX}{name}"
    path.touch()
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)


def is_shared(client: Client, store: Path, mark: str) -> bool:
    """Ask all workers whether they share `store`.

    Raises SaltflatError if one has another version of this program, or none.
    """
    try:
        sights: Mapping[str, Sight] = client.run(look, store, mark)
    except Exception as error:
        # What a worker cannot even load comes back by way of the scheduler as its text alone.
        if not str(error).startswith(_NOT_LOADED):
            raise
        raise SaltflatError(
            f"A worker cannot load saltflat: {error}.",
            expected=f"saltflat {__version__} in each worker's Python",
            hint="Install it where the workers run, or start those of another environment.",
        ) from error
    check_version({address: sight.version for address, sight in sights.items()})
    return all(sight.sees_mark for sight in sights.values())


def check_version(versions: Mapping[str, str], wanted: str = __version__) -> None:
    """Raise SaltflatError unless each worker, by its name, has the version that is `wanted`."""
    for worker, version in sorted(versions.items()):
        if version != wanted:
            raise SaltflatError(
                f"The worker {worker} has saltflat {version}.",
                expected=f"{wanted}, as the batch itself",
                hint="Install the same version everywhere: others may make other bytes.",
            )


def check_meeting(store: Path, cache: CacheOrder | None) -> None:
    """Raise UsageError unless workers with stores of their own can meet at `cache`."""
    if cache is None:
        raise not_shared(store)
    if cache.verify or cache.mode != _BOTH_WAYS:
        raise UsageError(
            f"Not all workers have the store {store} of this host, and the cache "
            f"{cache.repository} is not both read and written.",
            expected=f"--cache-mode {_BOTH_WAYS}, by which workers exchange links",
        )


def not_shared(store: Path) -> UsageError:
    """Return the error for workers that neither share a store nor have a place to meet."""
    return UsageError(
        f"Not all workers have the store {store} of this host.",
        expected="one folder that all share, or --cache-repo HOST/REPO, by which they exchange "
        "links",
        hint=f"A worker may have it in another place: set {STORE_VARIABLE} for it.",
    )
