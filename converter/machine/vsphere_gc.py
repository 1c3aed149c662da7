"""Collect what nobody needs on vSphere: the places to look at, and how a machine of ours goes.

What is a leftover, and when it may go, is converter.vsphere.leftovers' to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from converter.errors import SaltflatError
from converter.machine.vsphere import VsphereMachines
from converter.vsphere.datastore_files import DatastoreFiles
from converter.vsphere.inventory import Kind
from converter.vsphere.leftovers import find_leftovers, note, remove
from converter.vsphere.placement import find_datacenter


@dataclass(frozen=True, slots=True)
class Collected:
    """A leftover and what became of it. `due`: it may go; `removed`: it is gone, by us.

    `error` is a sentence where it could not be removed, or noted, else empty.
    """

    kind: str
    name: str
    why: str
    due: bool
    removed: bool
    error: str = ""


def collect(
    machines: VsphereMachines, grace: timedelta, *, dry_run: bool, keep_media: bool = False
) -> Sequence[Collected]:
    """Remove the leftovers that have been so for `grace`; with `dry_run` change nothing.

    What cannot be removed does not keep the others. With `keep_media` no datastore is looked at.
    """
    connection = machines.connection
    stores = [] if keep_media else list(_stores(machines))
    found = list(find_leftovers(connection, machines.place.folder, stores, grace))
    collected = []
    for one in found:
        removed, error = False, ""
        try:
            if one.is_due and not dry_run:
                removed = remove(connection, one, machines.remove_vm)
            elif not dry_run:
                note(connection, one)
        except SaltflatError as wrong:
            error = wrong.what
        collected.append(Collected(one.kind, one.name, one.why, one.is_due, removed, error))
    return collected


def _stores(machines: VsphereMachines) -> Iterator[DatastoreFiles]:
    """Yield the datastores where boot media may be: the one that is named, or all."""
    inventory, wishes = machines.place.inventory, machines.connection.settings.wishes
    datacenter = find_datacenter(inventory, wishes)
    if wishes.datastore is None:
        nodes = inventory.of(Kind.DATASTORE, below=datacenter)
    else:
        nodes = [inventory.find(Kind.DATASTORE, wishes.datastore, datacenter=datacenter)]
    for node in nodes:
        yield DatastoreFiles(machines.connection, datacenter, inventory.path(datacenter), node)
