"""`vsphere import` into simulators. What they receive is held to what `export` makes of the image.

The simulator keeps no disk, only the length and SHA-1 of what came; a stream's bytes follow from
the image, and other tests read an exported stream with programs that are not ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from converter.vsphere.connection import Connection, open_connection
from converter.vsphere.settings import Given, read_settings
from converter.vsphere.trust import Trust, thumbprint
from tests.images.layout import LayoutWriter
from tests.images.tarball import noise
from tests.integration.conftest import Saltflat
from tests.integration.vcsim import vcsim

pytestmark = pytest.mark.integration
NOISE_BYTES = 4_000_000
PASSWORD = "correct horse"


@dataclass(frozen=True, slots=True)
class Source:
    """An image that is converted, and the stream that `export` makes of it."""

    image: str
    store: Path
    stream: bytes


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    work = tmp_path_factory.mktemp("import")
    writer = LayoutWriter(work / "layout")
    # More than the sockets between us and the simulator hold.
    writer.layer(lambda tar: tar.file("noise", noise("import", NOISE_BYTES)), comment="noise")
    writer.finish(config={})
    image = f"oci:{work / 'layout'}:latest"
    environment = {"SALTFLAT_STORE": os.fspath(work / "store")}
    Saltflat(environment).good("export", image, "--type", "stream", "-o", work / "disk1.vmdk")
    return Source(image, work / "store", (work / "disk1.vmdk").read_bytes())


@dataclass(frozen=True, slots=True)
class Server:
    """A simulator, and the command line for it."""

    url: str
    source: Source
    state: Path
    pin: str = ""

    def __call__(self, *options: str) -> tuple[int, Mapping[str, Any], str]:
        """Import the source; return exit code, result and what was said."""
        saltflat = Saltflat(
            {
                "SALTFLAT_VSPHERE_URL": self.url,
                "SALTFLAT_VSPHERE_USERNAME": "me",
                "SALTFLAT_VSPHERE_PASSWORD": PASSWORD,
                "SALTFLAT_VSPHERE_NETWORK": "VM Network",
                **(
                    {"SALTFLAT_VSPHERE_THUMBPRINT": self.pin}
                    if self.pin
                    else {"SALTFLAT_VSPHERE_INSECURE": "1"}
                ),
                "SALTFLAT_STORE": os.fspath(self.source.store),
                "SALTFLAT_STATE": os.fspath(self.state),
            }
        )
        command = ("vsphere", "import", self.source.image, "--format", "json", *options)
        done = saltflat("--progress", "plain", *command)
        result = json.loads(done.stdout) if done.stdout else {}
        return done.returncode, result, done.stderr.decode()

    def open(self) -> Connection:
        """Open a session of the test's own."""
        given = Given(url=self.url, username="me", password=PASSWORD, trust=Trust(insecure=True))
        return open_connection(read_settings(given, {}))


def cause(said: str) -> str:
    """Return the cause of the error that a command ended with."""
    return str(json.loads(said.splitlines()[-1])["error"]["cause"])


def kind_of(thing: object) -> str:
    return type(thing).__name__.rpartition(".")[2]


def machines(connection: Connection) -> dict[str, Mapping[str, Any]]:
    paths = ["name", "config.extraConfig", "config.template", "snapshot.rootSnapshotList"]
    paths += ["config.hardware.device"]
    found = connection.everything({"VirtualMachine": paths})
    return {one.values["name"]: one.values for one in found}


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
    with vcsim(go_tools, "-cut", str(cut), "-cuts", str(cuts)) as address:
        server = Server(f"http://{address}", source, tmp_path)
        code, made, said = server()
        assert said.count("Beginning anew") == min(cuts, 2)
        with server.open() as connection:
            left = machines(connection)
    if cuts == 3:
        assert (code, cause(said), len(left)) == (8, "unreachable", 0)
    else:
        assert (code, len(left)) == (0, 1), said
        assert made["sent"]["compared"] is True


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
