"""Finding by name and path, and what one choice leaves of the next."""

from __future__ import annotations

import pytest

from converter.errors import NotFoundError, UsageError
from converter.vsphere.inventory import Inventory, Kind, Node
from converter.vsphere.placement import find_resources, place
from converter.vsphere.settings import Wishes


def tree() -> Inventory:
    """Return two datacenters: A with a cluster of two hosts and a lone host, B with nothing."""
    nodes = []

    def add(kind: str, path: str, **more: object) -> None:
        above, _slash, name = path.rpartition("/")
        nodes.append(Node(path, kind, name, above or None, **more))  # type: ignore[arg-type]  # whatever a node takes

    for datacenter in ("/A", "/B"):
        add("Datacenter", datacenter)
        for folder in ("vm", "host", "datastore", "network"):
            add("Folder", f"{datacenter}/{folder}")
    add("Folder", "/A/vm/team")
    add("Folder", "/A/vm/team/vm")
    ssd, hdd, port, lan = "/A/datastore/ssd", "/A/datastore/hdd", "/A/network/p1", "/A/network/lan"
    cluster = {"datastores": frozenset({ssd, hdd}), "networks": frozenset({port, "/A/network/up"})}
    lone = {"datastores": frozenset({hdd}), "networks": frozenset({lan})}
    add("ClusterComputeResource", "/A/host/c1", **cluster)
    add("HostSystem", "/A/host/c1/h2")
    add("HostSystem", "/A/host/c1/h1")
    add("ResourcePool", "/A/host/c1/Resources")
    add("ResourcePool", "/A/host/c1/Resources/dev")
    add("ResourcePool", "/A/host/c1/Resources/dev/web")
    add("ComputeResource", "/A/host/lone", **lone)
    add("HostSystem", "/A/host/lone/lone")
    add("ResourcePool", "/A/host/lone/Resources")
    add("Datastore", ssd)
    add("Datastore", hdd)
    add("DistributedVirtualPortgroup", port)
    add("DistributedVirtualPortgroup", "/A/network/up", is_uplink=True)
    add("Network", lan)
    add("Network", "/A/network/dmz [old]")
    return Inventory(nodes)


TREE = tree()
A = TREE.find(Kind.DATACENTER, "A")


@pytest.mark.parametrize(
    ("kind", "wish", "path"),
    [
        (Kind.DATACENTER, "/B", "/B"),
        (Kind.DATASTORE, "ss*", "/A/datastore/ssd"),
        (Kind.DATASTORE, "/A/datastore/hdd", "/A/datastore/hdd"),
        (Kind.POOL, "c1/Resources", "/A/host/c1/Resources"),
        (Kind.POOL, "c1/*/dev", "/A/host/c1/Resources/dev"),
        (Kind.POOL, "dev", "/A/host/c1/Resources/dev"),
        (Kind.POOL, "dev/web", "/A/host/c1/Resources/dev/web"),
        (Kind.FOLDER, "team", "/A/vm/team"),
        (Kind.FOLDER, "team/vm", "/A/vm/team/vm"),
        (Kind.FOLDER, "vm/team", "/A/vm/team"),
        (Kind.HOST, "A/host/c1/h?", None),
        (Kind.HOST, "h2", "/A/host/c1/h2"),
        (Kind.NETWORK, "network/lan", "/A/network/lan"),
        (Kind.NETWORK, "dmz [old]", "/A/network/dmz [old]"),
        (Kind.NETWORK, "*[old]", "/A/network/dmz [old]"),
    ],
)
def test_names_and_paths(kind, wish, path):
    datacenter = None if kind is Kind.DATACENTER else A
    if path is None:
        with pytest.raises(UsageError, match="there are 2"):
            TREE.find(kind, wish, datacenter=datacenter)
    else:
        assert TREE.path(TREE.find(kind, wish, datacenter=datacenter)) == path


@pytest.mark.parametrize("wish", ["up", "*/up"])
def test_an_uplink_is_no_network(wish):
    with pytest.raises(NotFoundError):
        TREE.find(Kind.NETWORK, wish, datacenter=A)


def test_several_are_listed_and_none_says_so():
    with pytest.raises(UsageError) as caught:
        TREE.find(Kind.DATASTORE, None, datacenter=A)
    assert caught.value.expected == "one of /A/datastore/hdd, /A/datastore/ssd"
    with pytest.raises(NotFoundError, match="no datastore 'x' in /A") as missing:
        TREE.find(Kind.DATASTORE, "x", datacenter=A)
    assert missing.value.cause == "no-datastore"
    b = TREE.find(Kind.DATACENTER, "B")
    with pytest.raises(NotFoundError, match="no datastore in /B"):
        TREE.find(Kind.DATASTORE, None, datacenter=b)
    with pytest.raises(UsageError, match="Which datacenter"):
        TREE.find(Kind.DATACENTER, None)


@pytest.mark.parametrize(
    ("wishes", "pool", "host"),
    [
        (Wishes(cluster="c1"), "/A/host/c1/Resources", None),
        (Wishes(host="h1"), "/A/host/c1/Resources", "/A/host/c1/h1"),
        (Wishes(host="lone"), "/A/host/lone/Resources", "/A/host/lone/lone"),
        (Wishes(resource_pool="lone/Resources"), "/A/host/lone/Resources", None),
        (Wishes(cluster="c1", resource_pool="Resources"), "/A/host/c1/Resources", None),
        (Wishes(host="h2", resource_pool="dev"), "/A/host/c1/Resources/dev", "/A/host/c1/h2"),
    ],
)
def test_what_runs_a_machine(wishes, pool, host):
    found = find_resources(TREE, wishes, A)
    assert TREE.path(found.pool) == pool
    assert (found.host and TREE.path(found.host)) == host
    assert found.compute in TREE.above(found.pool)


@pytest.mark.parametrize(
    ("wishes", "error", "says"),
    [
        (Wishes(), UsageError, "not clear"),
        (Wishes(cluster="c1", host="lone"), UsageError, "not in the cluster"),
        (Wishes(host="lone", resource_pool="dev"), NotFoundError, "in /A/host/lone"),
    ],
)
def test_what_runs_no_machine(wishes, error, says):
    with pytest.raises(error, match=says):
        find_resources(TREE, wishes, A)


def test_hosts_limit_datastores_and_networks():
    found = place(TREE, Wishes(datacenter="A", host="lone"))
    assert [TREE.path(one) for one in (found.folder, found.datastore, found.network)] == [
        "/A/vm",
        "/A/datastore/hdd",
        "/A/network/lan",
    ]
    with pytest.raises(NotFoundError, match="that /A/host/lone has"):
        place(TREE, Wishes(datacenter="A", host="lone", datastore="ssd"))
    with pytest.raises(UsageError, match="Which datastore"):
        place(TREE, Wishes(datacenter="A", cluster="c1"))
    # The cluster's other port group is an uplink.
    assert place(TREE, Wishes(datacenter="A", cluster="c1", datastore="ssd")).network.name == "p1"
