"""Where a machine goes: what datacenter, pool, folder, datastore and network wishes come to. Pure.

One choice narrows the next: a datastore or network that the pool's hosts lack is not offered.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from converter.errors import NotFoundError, UsageError
from converter.vsphere.c_vsphere import THICK, THICK_EAGER, THIN, VM_FOLDER
from converter.vsphere.inventory import Inventory, Kind, Node
from converter.vsphere.settings import Wishes


class Provisioning(enum.StrEnum):
    """How much of the datastore a disk takes from the beginning."""

    THIN = THIN
    THICK = THICK
    EAGER = THICK_EAGER


@dataclass(frozen=True, slots=True)
class Resources:
    """What runs a machine: a cluster or lone host, a pool in it, and a host of it if named."""

    compute: Node
    pool: Node
    host: Node | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """All that a machine needs a place in. `policy` is the id of its storage policy, if any."""

    datacenter: Node
    resources: Resources
    folder: Node
    datastore: Node
    network: Node
    policy: str | None = None


def place(
    inventory: Inventory,
    wishes: Wishes,
    *,
    policy: str | None = None,
    datastores: frozenset[str] | None = None,
) -> Placement:
    """Return where a machine goes. Raises NotFoundError and UsageError, as each step does.

    `policy` is the id of the storage policy that is wished for, `datastores` the ids of those that
    can keep it: no other is taken then.
    """
    datacenter = find_datacenter(inventory, wishes)
    resources = find_resources(inventory, wishes, datacenter)
    return Placement(
        datacenter,
        resources,
        folder=find_folder(inventory, wishes, datacenter),
        datastore=find_datastore(inventory, wishes, datacenter, resources, fitting=datastores),
        network=find_network(inventory, wishes, datacenter, resources),
        policy=policy,
    )


def find_datacenter(inventory: Inventory, wishes: Wishes) -> Node:
    """Return the datacenter that is meant."""
    return inventory.find(Kind.DATACENTER, wishes.datacenter)


def find_resources(inventory: Inventory, wishes: Wishes, datacenter: Node) -> Resources:
    """Return what runs the machine, by pool, cluster or host, else the only one there is."""
    host = cluster = None
    if wishes.host is not None:
        host = inventory.find(Kind.HOST, wishes.host, datacenter=datacenter)
    if wishes.cluster is not None:
        cluster = inventory.find(Kind.CLUSTER, wishes.cluster, datacenter=datacenter)
    if host is not None:
        compute = inventory.compute_of(host)
        if cluster is not None and compute != cluster:
            raise UsageError(
                f"The host {host.name} is not in the cluster {cluster.name}.",
                expected="one of " + ", ".join(one.name for one in inventory.hosts_of(cluster)),
            )
    elif cluster is not None:
        compute = cluster
    elif wishes.resource_pool is not None:
        pool = inventory.find(Kind.POOL, wishes.resource_pool, datacenter=datacenter)
        return Resources(inventory.compute_of(pool), pool)
    else:
        computes = inventory.computes(datacenter=datacenter)
        if len(computes) > 1:
            raise UsageError(
                f"Where in {inventory.path(datacenter)} machines are to run is not clear.",
                expected="one of " + ", ".join(map(inventory.path, computes)),
                hint="Name one with --cluster, --host or --resource-pool.",
            )
        if not computes:
            raise NotFoundError(
                f"There is no cluster or host in {inventory.path(datacenter)}.",
                hint="Check that the user may see it: what one may not read is not listed.",
                cause="no-host",
            )
        compute = computes[0]
    if wishes.resource_pool is None:
        return Resources(compute, inventory.root_pool(compute), host)
    inside = [
        pool
        for pool in inventory.of(Kind.POOL, below=datacenter)
        if compute in inventory.above(pool)
    ]
    pool = inventory.find(
        Kind.POOL,
        wishes.resource_pool,
        datacenter=datacenter,
        among=inside,
        place=f"in {inventory.path(compute)}",
    )
    return Resources(compute, pool, host)


def find_folder(inventory: Inventory, wishes: Wishes, datacenter: Node) -> Node:
    """Return the folder for machines: the datacenter's own unless one is named."""
    if wishes.folder is None:
        top = f"{inventory.path(datacenter)}/{VM_FOLDER}"
        return inventory.find(Kind.FOLDER, top, datacenter=datacenter)
    return inventory.find(Kind.FOLDER, wishes.folder, datacenter=datacenter)


def find_datastore(
    inventory: Inventory,
    wishes: Wishes,
    datacenter: Node,
    resources: Resources,
    *,
    fitting: frozenset[str] | None = None,
) -> Node:
    """Return the datastore for disks, of those that the hosts have and whose ids are `fitting`."""
    reached = resources.compute.datastores
    return _find_reached(
        inventory,
        datacenter,
        resources,
        kind=Kind.DATASTORE,
        name=wishes.datastore,
        reached=reached if fitting is None else reached & fitting,
        besides="" if fitting is None else f" and the policy {wishes.storage_policy} allows",
    )


def find_network(
    inventory: Inventory, wishes: Wishes, datacenter: Node, resources: Resources
) -> Node:
    """Return the network for machines, of those that the hosts have."""
    return _find_reached(
        inventory,
        datacenter,
        resources,
        kind=Kind.NETWORK,
        name=wishes.network,
        reached=resources.compute.networks,
    )


def _find_reached(
    inventory: Inventory,
    datacenter: Node,
    resources: Resources,
    *,
    kind: Kind,
    name: str | None,
    reached: frozenset[str],
    besides: str = "",
) -> Node:
    """Return the node of that kind and name; `reached` are the ids of those that the hosts have.

    `besides` says in an error what else they are.
    """
    return inventory.find(
        kind,
        name,
        datacenter=datacenter,
        among=[node for node in inventory.of(kind, below=datacenter) if node.id in reached],
        place=f"that {inventory.path(resources.compute)} has{besides}",
    )
