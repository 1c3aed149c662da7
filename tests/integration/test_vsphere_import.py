"""`vsphere import` into simulators, which keep what they receive: it is read and compared."""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from converter.vsphere.trust import thumbprint
from scripts.soaks.imports import break_off, together
from tests.images.heavy import peak_of_command
from tests.integration.vcsim import vcsim
from tests.integration.vsphere_imports import (
    PASSWORD,
    Server,
    Source,
    cause,
    contents,
    is_same_disk,
    kind_of,
    machines,
    make_source,
    top_link,
)

pytestmark = pytest.mark.integration

MEMORY_BYTES = 200_000_000  # of all processes of an import; there is but one


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return make_source(tmp_path_factory.mktemp("import"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the simulated vCenter keeps what is uploaded."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def vcenter(
    go_tools: Path, source: Source, kept: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Mapping[str, Any]]]:
    """Yield a simulated vCenter with a template, and what its import said."""
    with vcsim(go_tools, "-keep", str(kept)) as address:
        server = Server(f"http://{address}", source, tmp_path_factory.mktemp("state"))
        code, made, said = server()
        assert code == 0, said
        yield server, made


def test_the_disk_arrives_whole(vcenter, kept, source):
    _server, made = vcenter
    (file,) = kept.glob("001-*")
    assert file.read_bytes() == source.stream
    assert contents(file) == contents(top_link(source.store))
    assert made["sent"] == {
        "size": len(source.stream),
        "sha1": hashlib.sha1(source.stream).hexdigest(),
        "disks": 1,
        "compared": True,
    }


def test_the_demo_image_arrives_whole_and_takes_little_memory(
    go_tools, demo_layout, tmp_path, monkeypatch
):
    """From its layers on, by one process: `scripts/bench import` holds its time to an export's."""
    kept = tmp_path / "kept"
    kept.mkdir()
    demo = Source(f"oci:{demo_layout}:latest", tmp_path / "store", file=tmp_path)
    with vcsim(go_tools, "-keep", str(kept)) as address:
        server = Server(f"http://{address}", demo, tmp_path / "state")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        assert peak_of_command("vsphere", "import", "--no-tag", demo.image) < MEMORY_BYTES
    (file,) = kept.iterdir()
    assert contents(file) == contents(top_link(demo.store))


def test_vcenter_knows_the_template_by_its_tag(vcenter):
    server, made = vcenter
    assert made["tag"] == made["digest"]
    token = rest(server, "POST", "session", {"Authorization": basic()})
    session = {"vmware-api-session-id": token}
    (tag,) = rest(server, "GET", "tagging/tag", session)
    assert rest(server, "GET", f"tagging/tag/id:{tag}", session)["name"] == made["digest"]
    attached = f"tagging/tag-association/id:{tag}?~action=list-attached-objects"
    objects = rest(server, "POST", attached, session)
    assert objects == [{"type": "VirtualMachine", "id": made["id"]}]


def test_the_template_says_what_it_is(vcenter):
    server, made = vcenter
    name = made["template"].rpartition("/")[2]
    assert name == f"layout-{made['digest'].removeprefix('sha256:')[:12]}"
    with server.open() as connection:
        machine = machines(connection)[name]
    assert machine["config.template"] is True
    assert [one.name for one in machine["snapshot.rootSnapshotList"]] == [made["digest"]]
    marks = {one.key: one.value for one in machine["config.extraConfig"]}
    assert marks["saltflat.disk"] == made["disk"]
    assert marks["saltflat.digest"] == made["digest"]
    devices = {kind_of(one): one for one in machine["config.hardware.device"]}
    assert devices["VirtualDisk"].capacityInBytes == made["capacity"] == 16 << 30
    assert devices["VirtualDisk"].backing.thinProvisioned is True
    assert devices["VirtualVmxnet3"].backing.deviceName == "VM Network"


def test_one_that_is_there_is_recognised(vcenter):
    server, made = vcenter
    code, again, said = server()
    assert code == 0, said
    assert (again["existed"], again["sent"], again["id"]) == (True, None, made["id"])
    assert again["tag"] == made["tag"]  # the same, which was there
    assert "is there already: nothing was sent" in said
    code, _none, said = server("--capacity", "8G")  # the same image, but another disk
    assert (code, cause(said)) == (6, "name-taken")


def test_what_a_killed_import_left_is_known_and_replaced(vcenter):
    server, _made = vcenter
    with server.open() as connection:  # as it is before the snapshot
        (machine,) = connection.everything({"VirtualMachine": ["name"]})
        connection.wait(
            machine.reference.RemoveAllSnapshots_Task(), doing="undo", timeout_seconds=20
        )
    code, _none, said = server("--wait", "100ms")
    assert (code, cause(said)) == (6, "unfinished")
    assert "is unfinished: it is waited for, 0.1 seconds at most" in said
    code, anew, said = server("--replace")
    assert code == 0, said
    assert anew["existed"] is False
    with server.open() as connection:
        assert len(machines(connection)) == 1


def test_links_go_one_by_one_where_the_server_asks_for_them(go_tools, source, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    options = ("-delta", "-clusters", "1", "-opaque", "1", "-keep", str(kept))
    with vcsim(go_tools, *options) as address:
        server = Server(f"http://{address}", source, tmp_path / "state")
        code, made, said = server("--delta", "--cluster", "DC0_C0", "--network", "DC0_NSX0")
        assert code == 0, said
        with server.open() as connection:
            (machine,) = machines(connection).values()
            groups = connection.everything({"DistributedVirtualPortgroup": ["name", "key"]})
            (port_group,) = (one.values for one in groups if one.values["name"] == "DC0_NSXPG0")
    assert made["sent"]["disks"] == 2
    # The names are those that the links have for one another; qemu-img follows them.
    for number, file in enumerate(sorted(kept.iterdir()), 1):
        shutil.move(file, tmp_path / f"disk1-{number}.vmdk")
    top = tmp_path / "disk1-2.vmdk"
    assert top.stat().st_size < len(source.stream) / 10
    assert is_same_disk(top, source.file)
    # The simulator leaves out an adapter on a network of NSX; one that is made for it gets the port
    # group that stands for that network.
    devices = {kind_of(one): one for one in machine["config.hardware.device"]}
    assert devices["VirtualVmxnet3"].backing.port.portgroupKey == port_group["key"]


def test_links_go_as_one_disk_where_it_does_not(vcenter, kept, source):
    server, _made = vcenter
    before = {*kept.iterdir()}
    options = ("--delta", "--name", "flat", "--no-tag", "--network", "DC0_DVPG0")
    code, made, said = server(*options)
    assert code == 0, said
    assert "takes no disks that stand on others" in said
    assert (made["tag"], made["sent"]["disks"]) == (None, 1)
    (file,) = {*kept.iterdir()} - before
    assert file.read_bytes() == source.stream
    with server.open() as connection:  # a port group of a distributed switch
        devices = machines(connection)["flat"]["config.hardware.device"]
    (adapter,) = (one for one in devices if kind_of(one) == "VirtualVmxnet3")
    assert kind_of(adapter.backing) == "DistributedVirtualPortBackingInfo"


@pytest.mark.parametrize(("cut", "cuts"), [(1, 2), (1_000_000, 3)])
def test_an_upload_that_breaks_begins_anew_or_leaves_nothing(go_tools, source, tmp_path, cut, cuts):
    assert break_off(go_tools, source, tmp_path, cut_bytes=cut, cuts=cuts) == []


def test_of_two_at_once_one_makes_it_and_the_other_waits(go_tools, source, tmp_path):
    assert together(go_tools, source, tmp_path, lag_seconds=0) == []


@pytest.mark.parametrize(
    ("options", "code", "cause_of_it", "says"),
    [
        (
            ("-deny", "VirtualMachine.Provisioning.MarkAsTemplate"),
            *(4, "no-permission", "privilege VirtualMachine.Provisioning.MarkAsTemplate on layout"),
        ),
        (
            ("-fault", "ImportVApp:InsufficientStorageSpace"),
            *(6, "datastore-full", "could not make the machine"),
        ),
        (
            ("-fault", "CreateSnapshot_Task:InvalidHostState"),
            *(6, "host-unusable", "could not make the snapshot"),
        ),
    ],
)
def test_what_the_server_refuses_is_told_and_leaves_nothing(
    go_tools, source, tmp_path, options, code, cause_of_it, says
):
    with vcsim(go_tools, *options) as address:
        server = Server(f"http://{address}", source, tmp_path)
        exit_code, _none, said = server("--no-tag")
        with server.open() as connection:
            left = machines(connection)
    assert (exit_code, cause(said)) == (code, cause_of_it)
    assert says in said
    assert left == {}


def test_a_host_without_vcenter_has_a_machine(go_tools, source, tmp_path):
    with vcsim(go_tools, "-esx", "-tls", "-plain") as address:
        host, _, port = address.rpartition(":")
        certificate = ssl.get_server_certificate((host, int(port)), timeout=20)
        pin = thumbprint(ssl.PEM_cert_to_DER_cert(certificate))
        server = Server(f"https://{address}", source, tmp_path, pin)
        code, made, said = server()
        assert code == 0, said
        assert made["sent"]["compared"] is True
        with server.open() as connection:
            (machine,) = machines(connection).values()
    assert not machine["config.template"]
    assert [one.name for one in machine["snapshot.rootSnapshotList"]] == [made["digest"]]
    assert made["tag"] is None
    assert "has no tag" not in said  # for a host has none


def basic() -> str:
    return "Basic " + b64encode(f"me:{PASSWORD}".encode()).decode()


def rest(server: Server, method: str, path: str, headers: Mapping[str, str]) -> Any:
    """Ask the tags' service as any program may; it answers {"value": ...}."""
    data = None if method == "GET" else b"{}"
    request = urllib.request.Request(
        f"{server.url}/rest/com/vmware/cis/{path}", data, dict(headers), method=method
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)["value"]
