"""The inventory as a server has it: one request for names, parents and what hosts have.

Machines are left out: there are thousands of them, and none is a place for another.
"""

from __future__ import annotations

from typing import Any

from converter.vsphere import c_vsphere as c
from converter.vsphere.connection import Connection, Found
from converter.vsphere.inventory import Inventory, Node

_NAMES = ("name", "parent")
# Each type brings those below it along: Network has port groups and opaque networks.
_WANTED = {
    c.DATACENTER: _NAMES,
    c.FOLDER: _NAMES,
    c.COMPUTE_RESOURCE: (*_NAMES, "datastore", "network"),
    c.RESOURCE_POOL: _NAMES,
    c.HOST: _NAMES,
    c.DATASTORE: _NAMES,
    c.NETWORK: _NAMES,
    c.PORT_GROUP: (*_NAMES, "config.uplink"),
}


def survey(connection: Connection) -> Inventory:
    """Return all that the session may see. Raises what a request may raise."""
    return Inventory(_node(found) for found in connection.everything(_WANTED))


def _node(found: Found) -> Node:
    values = found.values
    parent = values.get("parent")
    return Node(
        id=found.id,
        kind=found.kind,
        name=str(values.get("name", found.id)),
        parent=None if parent is None else _id(parent),
        datastores=frozenset(map(_id, values.get("datastore", ()))),
        networks=frozenset(map(_id, values.get("network", ()))),
        is_uplink=bool(values.get("config.uplink")),
        reference=found.reference,
    )


def _id(reference: Any) -> str:  # noqa: ANN401 - pyvmomi's own
    return str(reference._moId)
