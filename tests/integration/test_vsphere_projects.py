"""Projects, hosts of clusters without DRS, and storage policies, against a simulated vCenter."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from converter.errors import HypervisorError, NotFoundError
from converter.template_import import find_place
from converter.vsphere.check import examine
from converter.vsphere.connection import Connection, open_connection
from converter.vsphere.machine_spec import add_storage_policy
from converter.vsphere.settings import Given, Wishes, read_settings
from converter.vsphere.storage_policy import find_policy
from converter.vsphere.trust import Trust
from tests.integration.conftest import Saltflat
from tests.integration.vcsim import vcsim
from tests.integration.vsphere_imports import PASSWORD, Server, cause, machines, make_source

pytestmark = pytest.mark.integration
POLICY = "vSAN Default Storage Policy"  # one of those that every vCenter has
_LIMIT = "config.memoryAllocation.limit"
CLUSTER = Wishes(cluster="DC0_C0", network="VM Network", datastore="LocalDS_0")


@pytest.fixture(scope="module")
def vcenter(go_tools: Path) -> Iterator[str]:
    with vcsim(go_tools, "-clusters", "1", "-datastores", "2") as address:
        yield address


@contextmanager
def session(address: str, wishes: Wishes = CLUSTER) -> Iterator[Connection]:
    given = Given(
        url=f"http://me@{address}", password=PASSWORD, trust=Trust(insecure=True), wishes=wishes
    )
    with open_connection(read_settings(given, {})) as connection:
        yield connection


def test_a_project_is_made_used_limited_and_removed(vcenter, saltflat, tmp_path):
    file = tmp_path / "projects.yaml"
    source = make_source(tmp_path)
    server = Server(f"http://{vcenter}", source, tmp_path / "state")
    command = Saltflat({**saltflat.environment, **server.environment})

    def project(verb: str, memory: str, name: str = "web") -> tuple[int, Any, str]:
        file.write_text(_projects(f"http://{vcenter}", memory, name))
        done = command(
            *("vsphere", "project", verb, name),
            *("--projects", file, "--format", "json"),
        )
        return done.returncode, json.loads(done.stdout or "{}"), done.stderr.decode()

    code, made, said = project("create", "1G")
    assert code == 0, said
    pools = "/DC0/host/DC0_C0/Resources/teams"
    assert made["changed"] == [pools, f"{pools}/web", "/DC0/vm/teams", "/DC0/vm/teams/web"]
    assert project("create", "2G")[1]["changed"] == [f"{pools}/web"]  # its limit alone
    code, imported, said = server("--project", "web", "--projects", str(file), "--chunked")
    assert code == 0, said
    assert imported["template"].startswith("/DC0/vm/teams/web/")
    assert imported["sent"]["compared"] is True
    with session(vcenter) as connection:
        (machine,) = machines(connection).values()
        pools_there = connection.everything({"ResourcePool": ["name", _LIMIT]})
        limits = {one.values["name"]: one.values.get(_LIMIT) for one in pools_there}
        assert limits == {"Resources": limits["Resources"], "teams": -1, "web": 2048}
        disks = _devices(machine["config.hardware.device"], vim.vm.device.VirtualDisk)
        made = [(one.backing.datastore._moId, one.backing.thinProvisioned) for one in disks]
        assert made == [(_datastore(connection), False)]
    code, _none, said = project("rm", "2G")
    assert (code, cause(said)) == (6, "not-empty")
    idle = [f"{pools}/idle", "/DC0/vm/teams/idle"]
    assert project("create", "1G", "idle")[1]["changed"] == idle
    assert project("rm", "1G", "idle")[1]["changed"] == idle[::-1]


def _projects(url: str, memory: str, name: str) -> str:
    return f"""\
schema: 1
projects:
  {name}:
    url: {url}
    cluster: DC0_C0
    resource-pool: teams/{name}
    folder: teams/{name}
    datastore: LocalDS_1
    network: nowhere  # the variable for another one counts before it
    storage-policy: {POLICY}
    provisioning: thick
    limits:
      memory: {memory}
"""


def _devices(devices: Sequence[Any], kind: type) -> list[Any]:
    return [one for one in devices if isinstance(one, kind)]


def _datastore(connection: Connection) -> str:
    (found,) = (
        one.id
        for one in connection.everything({"Datastore": ["name"]})
        if one.values["name"] == "LocalDS_1"
    )
    return found


def test_projects_are_listed_without_a_server(saltflat, tmp_path):
    (tmp_path / "saltflat").mkdir()
    (tmp_path / "saltflat" / "projects.yaml").write_text(
        _projects("https://v.example", "1G", "web")
    )
    command = Saltflat({**saltflat.environment, "XDG_CONFIG_HOME": str(tmp_path)})
    listed = json.loads(command.good("vsphere", "project", "ls", "--format", "json"))
    (project,) = listed["projects"]
    assert (project["name"], project["url"]) == ("web", "https://v.example")
    assert project["defaults"]["storage_policy"] == POLICY
    assert project["limits"] == {"cpu_mhz": None, "memory_bytes": 1 << 30}
    done = command("vsphere", "import", "debian:12", "--project", "shop", "--format", "json")
    assert (done.returncode, cause(done.stderr.decode())) == (3, "no-project")


def test_a_host_is_chosen_where_drs_is_off(vcenter):
    with session(vcenter) as connection:
        assert find_place(connection)[1].resources.host is None  # DRS chooses
        (cluster,) = connection.everything({"ClusterComputeResource": ["name"]})
        off = vim.cluster.ConfigSpecEx(drsConfig=vim.cluster.DrsConfigInfo(enabled=False))
        _done(connection, cluster.reference.ReconfigureComputeResource_Task(off, True))
        chosen = find_place(connection)[1].resources.host
        assert chosen is not None
        assert chosen.name == "DC0_C0_H0"
        _done(connection, chosen.reference.EnterMaintenanceMode_Task(0))
        other = find_place(connection)[1].resources.host
        assert other is not None
        assert other.name == "DC0_C0_H1"
        _done(connection, other.reference.EnterMaintenanceMode_Task(0))
        with pytest.raises(HypervisorError, match="DC0_C0_H1 is in maintenance") as caught:
            find_place(connection)
        assert caught.value.cause == "no-compatible-host"
        for host in (chosen, other):
            _done(connection, host.reference.ExitMaintenanceMode_Task(0))
        on = vim.cluster.ConfigSpecEx(drsConfig=vim.cluster.DrsConfigInfo(enabled=True))
        _done(connection, cluster.reference.ReconfigureComputeResource_Task(on, True))


def _done(connection: Connection, task: object) -> None:
    connection.wait(task, doing="change the cluster", timeout_seconds=20)


def test_a_policy_is_found_by_name(vcenter):
    with session(vcenter) as connection:
        policy = find_policy(connection, POLICY)
        assert _datastore(connection) in policy.datastores
        with pytest.raises(NotFoundError) as caught:
            find_policy(connection, "gold")
        assert caught.value.cause == "no-storage-policy"
        assert POLICY in str(caught.value.expected)
    for name, verdict in ((POLICY, "ok"), ("gold", "failed")):
        with session(vcenter, replace(CLUSTER, storage_policy=name)) as connection:
            found = {one.subject: one for one in examine(connection)}
        assert (found["storage policy"].verdict.value, found["datastore"].verdict.value) == (
            verdict,
            "ok",
        )


def test_a_policy_goes_to_the_machine_and_its_disks():
    disk = vim.vm.device.VirtualDeviceSpec(device=vim.vm.device.VirtualDisk())
    other = vim.vm.device.VirtualDeviceSpec(device=vim.vm.device.VirtualVmxnet3())
    configuration = vim.vm.ConfigSpec(deviceChange=[disk, other])
    add_storage_policy(configuration, "id-1")
    assert [one.profileId for one in configuration.vmProfile] == ["id-1"]
    assert [one.profileId for one in disk.profile] == ["id-1"]
    assert not other.profile
