"""A host of a cluster that does not choose one itself: where DRS is off, somebody else has to."""

from __future__ import annotations

from dataclasses import replace

from converter.errors import HypervisorError
from converter.vsphere import c_vsphere as c
from converter.vsphere.connection import Connection
from converter.vsphere.inventory import Inventory
from converter.vsphere.placement import Placement

_DRS = "configurationEx.drsConfig.enabled"
_PATHS = ("runtime.connectionState", "runtime.inMaintenanceMode", "datastore", "network")


def settle_host(connection: Connection, inventory: Inventory, placement: Placement) -> Placement:
    """Return a placement with a host, if it needs one: the first by name that can be used.

    Lone hosts and clusters with DRS need none. Raises HypervisorError if no host can be used.
    """
    resources = placement.resources
    compute = resources.compute
    if resources.host is not None or compute.kind != c.CLUSTER:
        return placement
    if connection.properties(compute.reference, [_DRS]).get(_DRS):
        return placement
    hosts = inventory.hosts_of(compute)
    abouts = connection.each([host.reference for host in hosts], _PATHS)
    away = []
    for host in hosts:
        about = abouts.get(host.id, {})
        state = about.get("runtime.connectionState", c.HOST_CONNECTED)
        reached = {str(one._moId) for path in _PATHS[2:] for one in about.get(path, ())}
        if state != c.HOST_CONNECTED:
            away.append(f"{host.name} is {state}")
        elif about.get("runtime.inMaintenanceMode"):
            away.append(f"{host.name} is in maintenance")
        elif lacking := [
            one.name for one in (placement.datastore, placement.network) if one.id not in reached
        ]:
            away.append(f"{host.name} has no {' and no '.join(lacking)}")
        else:
            return replace(placement, resources=replace(resources, host=host))
    raise HypervisorError(
        f"No host of {inventory.path(compute)} can be used, where DRS is off: "
        f"{'; '.join(away) or 'there is none'}.",
        expected=f"a host with {placement.datastore.name} and {placement.network.name}",
        hint="Name others with --host, --datastore and --network, or turn DRS on.",
        cause="no-compatible-host",
    )
