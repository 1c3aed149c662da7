"""Take a machine away: its folder, its name, its hold on store and volumes. Owns the order.

Machines are taken away at once, by a rename; what is left behind of that by a process that was
killed is swept by the next who creates or removes one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from converter.errors import SaltflatError
from converter.machine.directory import MachineFolder, no_machine
from converter.store.locks import locked
from converter.store.pins import unpin
from converter.volume.volumes import Volumes

NAMES_LOCK = ".lock"
NEW_PREFIX = ".new-"
GONE_PREFIX = ".gone-"


@contextmanager
def all_names(machines: Path) -> Iterator[None]:
    """Have the names of all machines alone: nobody else creates or removes one meanwhile."""
    with locked(machines / NAMES_LOCK):
        for left in (*machines.glob(f"{NEW_PREFIX}*"), *machines.glob(f"{GONE_PREFIX}*")):
            shutil.rmtree(left, ignore_errors=True)
        yield


def remove_machine(folder: MachineFolder, *, volumes: bool) -> None:
    """Remove a machine that does not run; its lock is held. Raises NotFoundError, OSError.

    `volumes` takes those away that were made for it and have no name.
    """
    Volumes(folder.path.parent.parent).detach(folder.id, remove_anonymous=volumes)
    store: Path | None = None
    with suppress(SaltflatError, KeyError, TypeError):  # damaged: a gc finds the pin void
        store = Path(folder.machine()["store"])
    with all_names(folder.path.parent):
        gone = folder.path.parent / f"{GONE_PREFIX}{folder.id}"
        try:
            folder.path.rename(gone)
        except FileNotFoundError:
            raise no_machine(folder.id) from None
        shutil.rmtree(gone)
        if store is not None:
            unpin(store, folder.id)
