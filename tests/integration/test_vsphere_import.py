"""`vsphere import` into simulators. What they receive is held to what `export` makes of the image.

The simulator keeps no disk, only the length and SHA-1 of what came; a stream's bytes follow from
the image, and other tests read an exported stream with programs that are not ours.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from converter.vsphere.trust import thumbprint
from scripts.soaks.imports import break_off
from tests.integration.vcsim import vcsim
from tests.integration.vsphere_imports import (
    Server,
    Source,
    cause,
    kind_of,
    machines,
    make_source,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return make_source(tmp_path_factory.mktemp("import"))


@pytest.fixture(scope="module")
def vcenter(
    go_tools: Path, source: Source, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Mapping[str, Any]]]:
    """Yield a simulated vCenter with a template, and what its import said."""
    with vcsim(go_tools) as address:
        server = Server(f"http://{address}", source, tmp_path_factory.mktemp("state"))
        code, made, said = server()
        assert code == 0, said
        yield server, made


def test_the_disk_arrives_whole(vcenter, source):
    _server, made = vcenter
    assert made["existed"] is False
    assert made["sent"] == {
        "size": len(source.stream),
        "sha1": hashlib.sha1(source.stream).hexdigest(),
        "compared": True,
    }


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
    code, _none, said = server("--capacity", "8G")  # the same image, but another disk
    assert (code, cause(said)) == (6, "name-taken")


def test_what_a_killed_import_left_is_known_and_replaced(vcenter):
    server, _made = vcenter
    with server.open() as connection:  # as it is before the snapshot
        (machine,) = connection.everything({"VirtualMachine": ["name"]})
        connection.wait(
            machine.reference.RemoveAllSnapshots_Task(), doing="undo", timeout_seconds=20
        )
    code, _none, said = server()
    assert (code, cause(said)) == (6, "unfinished")
    code, anew, said = server("--replace")
    assert code == 0, said
    assert anew["existed"] is False
    with server.open() as connection:
        assert len(machines(connection)) == 1


@pytest.mark.parametrize(("cut", "cuts"), [(1, 2), (1_000_000, 3)])
def test_an_upload_that_breaks_begins_anew_or_leaves_nothing(go_tools, source, tmp_path, cut, cuts):
    assert break_off(go_tools, source, tmp_path, cut_bytes=cut, cuts=cuts) == []


def test_a_host_without_vcenter_has_a_machine(go_tools, source, tmp_path):
    with vcsim(go_tools, "-esx", "-tls") as address:
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
