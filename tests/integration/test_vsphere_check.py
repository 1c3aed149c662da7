"""`vsphere check` against simulators: one that is ready, one that is not, and a host alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from converter.finding import Finding
from converter.vsphere.c_vsphere import (
    DATASTORE_PRIVILEGES,
    FOLDER_PRIVILEGES,
    NETWORK_PRIVILEGES,
    OPEN_SERIAL_PORTS,
    POOL_PRIVILEGES,
    SERIAL_RULESETS,
    VCENTER_PRIVILEGES,
)
from converter.vsphere.check import examine
from converter.vsphere.connection import open_connection
from converter.vsphere.settings import Given, Wishes, read_settings
from converter.vsphere.trust import Trust
from tests.integration.conftest import Saltflat
from tests.integration.vcsim import vcsim

pytestmark = pytest.mark.integration
DENIED = "VirtualMachine.Provisioning.MarkAsTemplate,VApp.Import,InventoryService.Tagging.AttachTag"
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def vcenter(go_tools: Path) -> Iterator[str]:
    options = ("-clusters", "1", "-datastores", "2", "-deny", DENIED, "-login", f"me:{PASSWORD}")
    with vcsim(go_tools, *options) as address:
        yield address


@pytest.fixture(scope="module")
def esxi(go_tools: Path) -> Iterator[str]:
    with vcsim(go_tools, "-esx") as address:
        yield address


def findings(address: str, **wishes: str) -> Mapping[str, Finding]:
    given = Given(
        url=f"http://me@{address}",
        password=PASSWORD,
        trust=Trust(insecure=True),
        wishes=Wishes(**wishes),
    )
    with open_connection(read_settings(given, {})) as connection:
        return {one.subject: one for one in examine(connection)}


def test_each_place_and_privilege_is_looked_at(vcenter):
    found = findings(vcenter, cluster="DC0_C0", datastore="LocalDS_1", network="VM Network")
    assert {subject: one.verdict.value for subject, one in found.items()} == {
        "server": "warning",  # http
        "version": "warning",  # the simulator says that it is 6.5
        "login": "ok",
        "datacenter": "ok",
        "folder": "ok",
        "folder privileges": "failed",
        "tag privileges": "warning",
        "resource pool": "ok",
        "resource pool privileges": "failed",
        "datastore": "ok",
        "datastore space": "ok",
        "datastore privileges": "ok",
        "network": "ok",
        "network privileges": "ok",
        "hosts": "ok",
        "serial ports": "warning",
        "serial ports' licence": "ok",
    }
    assert found["datastore"].detail == "/DC0/datastore/LocalDS_1"
    denied = "VirtualMachine.Provisioning.MarkAsTemplate"
    assert found["folder privileges"].detail == f"missing on /DC0/vm: {denied} (import)"
    assert "DC0_C0_H0, DC0_C0_H1" in found["serial ports"].detail
    assert OPEN_SERIAL_PORTS in found["serial ports"].remedy


def test_a_place_that_is_not_clear_hides_nothing_that_does_not_need_it(vcenter):
    found = findings(vcenter)
    assert "/DC0/host/DC0_C0, /DC0/host/DC0_H0" in found["resource pool"].detail
    assert found["resource pool"].verdict == "failed"
    assert list(found)[-2:] == ["resource pool", "folder privileges"]
    missing = findings(vcenter, host="DC0_H0", datastore="none", network="VM Network")
    assert "no datastore 'none' that /DC0/host/DC0_H0 has" in missing["datastore"].detail
    assert missing["network"].verdict == "ok"
    assert missing["hosts"].detail == "1 of 1 can run machines"


def test_hosts_and_firewalls_as_they_are(go_tools):
    with vcsim(go_tools, "-clusters", "1") as vcenter:
        _look_at_changes(vcenter)


def _look_at_changes(vcenter):
    given = Given(url=f"http://me@{vcenter}", password=PASSWORD, trust=Trust(insecure=True))
    with open_connection(read_settings(given, {})) as connection:
        paths = ["configManager.firewallSystem", "name"]
        hosts = {one.values["name"]: one for one in connection.everything({"HostSystem": paths})}
        firewall = hosts["DC0_H0"].values["configManager.firewallSystem"]
        firewall.EnableRuleset("remoteSerialPort")
        task = hosts["DC0_C0_H1"].reference.EnterMaintenanceMode_Task(0)
        connection.wait(task, doing="rest the host", timeout_seconds=20)
    lone = findings(vcenter, host="DC0_H0")
    assert lone["serial ports"].verdict == "ok"
    cluster = findings(vcenter, cluster="DC0_C0")
    assert cluster["hosts"].detail == "1 of 2 can run machines; DC0_C0_H1 is in maintenance"
    assert cluster["hosts"].verdict == "ok"
    assert findings(vcenter, host="DC0_C0_H1")["hosts"].verdict == "failed"


def test_a_host_without_vcenter_needs_no_names(esxi):
    found = findings(esxi)
    bad = [subject for subject, one in found.items() if one.verdict.value == "failed"]
    assert not bad
    count = len(set(FOLDER_PRIVILEGES) - VCENTER_PRIVILEGES)
    assert found["folder privileges"].detail == f"all {count} on /ha-datacenter/vm"
    assert found["datastore"].detail == "/ha-datacenter/datastore/LocalDS_0"


def test_names_are_those_of_the_api(esxi):
    """The simulator's roles and firewall were recorded from real servers."""
    given = Given(url=f"http://me@{esxi}", password=PASSWORD, trust=Trust(insecure=True))
    with open_connection(read_settings(given, {})) as connection:
        (admin,) = (
            role
            for role in connection.content.authorizationManager.roleList
            if role.name == "Admin"
        )
        paths = ["configManager.firewallSystem"]
        (host,) = connection.everything({"HostSystem": paths})
        info = connection.properties(host.values[paths[0]], ["firewallInfo"])["firewallInfo"]
    needed = {*FOLDER_PRIVILEGES, *POOL_PRIVILEGES, *DATASTORE_PRIVILEGES, *NETWORK_PRIVILEGES}
    assert needed <= set(admin.privilege)
    assert needed >= VCENTER_PRIVILEGES
    assert set(SERIAL_RULESETS) <= {rule.key for rule in info.ruleset}


def test_the_command(vcenter, tmp_path):
    environment = {
        "GOVC_URL": f"http://me@{vcenter}",
        "GOVC_PASSWORD": PASSWORD,
        "GOVC_INSECURE": "1",
        "GOVC_CLUSTER": "DC0_C0",
        "SALTFLAT_STATE": os.fspath(tmp_path / "state"),
    }
    saltflat = Saltflat(environment)
    done = saltflat("--debug", "vsphere", "check", "--datastore", "LocalDS_0", "--format", "json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    failed = [one["subject"] for one in document["findings"] if one["verdict"] == "failed"]
    assert failed == ["folder privileges", "resource pool privileges", "network"]
    assert b"Warning" in done.stderr  # that nobody verified the server
    kept = [file.read_bytes() for file in (tmp_path / "state" / "vsphere").iterdir()]
    assert len(kept) == 1
    for text in (done.stdout, done.stderr, *kept):
        assert PASSWORD.encode() not in text


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (
            ("--vsphere-password-stdin", "--vsphere-username", "me"),
            4,
            b"user name or password is wrong",
        ),
        (("--vsphere-url", "http://me:pw@127.0.0.1:9"), 2, b"everybody on this host can read"),
        (("--vsphere-url", "http://me@127.0.0.1:9"), 2, b"not encrypted"),
        (("--vsphere-url", "me@127.0.0.1:9", "--vsphere-password-stdin"), 8, b"was not reached"),
    ],
)
def test_the_command_s_errors(vcenter, tmp_path, arguments, code, says):
    environment = {"SALTFLAT_STATE": os.fspath(tmp_path)}
    if "--vsphere-url" not in arguments:
        environment |= {"GOVC_URL": f"http://{vcenter}", "GOVC_INSECURE": "true"}
    done = Saltflat(environment)("vsphere", "check", *arguments, stdin=b"battery staple\n")
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert b"staple" not in done.stdout + done.stderr
