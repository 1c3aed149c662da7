"""`vsphere import` into simulators. What they receive is held to what `export` makes of the image.

The simulator keeps no disk, only the length and SHA-1 of what came; a stream's bytes follow from the
image, and other tests read an exported stream with programs that are not ours.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from converter.vsphere.connection import Connection, open_connection
from converter.vsphere.settings import Given, read_settings
from converter.vsphere.trust import Trust
from tests.images.layout import write_layout
from tests.integration.conftest import Saltflat
from tests.integration.vcsim import vcsim

pytestmark = pytest.mark.integration
PASSWORD = "correct horse"


@dataclass(frozen=True, slots=True)
class Source:
    """An image that is converted, and the stream that `export` makes of it."""

    image: str
    store: Path
    stream: bytes


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]) -> Source:
    work = tmp_path_factory.mktemp("import")
    image = f"oci:{write_layout(work / 'layout', Path(tool('busybox')).read_bytes())}:latest"
    environment = {"SALTFLAT_STORE": os.fspath(work / "store")}
    Saltflat(environment).good("export", image, "--type", "stream", "-o", work / "d.vmdk")
    return Source(image, work / "store", (work / "d.vmdk").read_bytes())


@dataclass(frozen=True, slots=True)
class Server:
    """A simulator, and the command line for it."""

    address: str
    source: Source
    state: Path

    def __call__(self, *options: str) -> tuple[int, Mapping[str, Any], str]:
        """Import the source; return exit code, result and what was said."""
        saltflat = Saltflat(
            {
                "GOVC_URL": f"http://me@{self.address}",
                "GOVC_INSECURE": "1",
                "SALTFLAT_VSPHERE_PASSWORD": PASSWORD,
                "SALTFLAT_STORE": os.fspath(self.source.store),
                "SALTFLAT_STATE": os.fspath(self.state),
            }
        )
        command = ("vsphere", "import", self.source.image, "--format", "json", *options)
        done = saltflat("--progress", "json", *command)
        result = json.loads(done.stdout) if done.stdout else {}
        return done.returncode, result, done.stderr.decode()

    def open(self) -> Connection:
        """Open a session of the test's own."""
        trust = Trust(insecure=True)
        given = Given(url=f"http://me@{self.address}", password=PASSWORD, trust=trust)
        return open_connection(read_settings(given, {}))


@pytest.fixture
def serve(go_tools: Path, source: Source, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    def start(*options: str) -> Any:
        return vcsim(go_tools, *options)

    return start


def machines(connection: Connection) -> dict[str, Mapping[str, Any]]:
    paths = ["name", "config.extraConfig", "config.template", "snapshot.rootSnapshotList"]
    paths += ["config.hardware.device"]
    found = connection.everything({"VirtualMachine": paths})
    return {one.values["name"]: one.values for one in found}


def test_a_template_is_made_once(serve, source, tmp_path):
    with serve() as address:
        server = Server(address, source, tmp_path)
        code, made, said = server("--network", "VM Network")
        assert code == 0, said
        assert made["sent"] == {
            "size": len(source.stream),
            "sha1": hashlib.sha1(source.stream).hexdigest(),
            "compared": True,
        }
        name = made["template"].rpartition("/")[2]
        assert name == f"layout-{made['digest'].removeprefix('sha256:')[:12]}"
        with server.open() as connection:
            (machine,) = machines(connection).values()
            names = {
                one.values["name"]: one.reference
                for one in connection.everything({"Network": ["name"]})
            }
        assert machine["name"] == name
        assert machine["config.template"] is True
        assert [one.name for one in machine["snapshot.rootSnapshotList"]] == [made["digest"]]
        marks = {one.key: one.value for one in machine["config.extraConfig"]}
        assert marks["saltflat.disk"] == made["disk"]
        assert marks["saltflat.digest"] == made["digest"]
        devices = {
            type(one).__name__.rpartition(".")[2]: one for one in machine["config.hardware.device"]
        }
        assert devices["VirtualDisk"].capacityInBytes == made["capacity"] == 16 << 30
        assert devices["VirtualDisk"].backing.thinProvisioned is True
        assert devices["VirtualVmxnet3"].backing.deviceName == "VM Network"
        assert "VM Network" in names
        again_code, again, said = server("--network", "VM Network")
        assert again_code == 0, said
        assert (again["existed"], again["sent"], again["id"]) == (True, None, made["id"])
        # The same image with another disk is another template.
        code, _none, said = server("--network", "VM Network", "--capacity", "8G")
        assert (code, json.loads(said.splitlines()[-1])["error"]["cause"]) == (6, "name-taken")
        code, other, said = server("--network", "VM Network", "--capacity", "8G", "--name", "small")
        assert (code, other["template"]) == (0, "/DC0/vm/small")
        with server.open() as connection:
            assert sorted(machines(connection)) == sorted([name, "small"])


@pytest.mark.parametrize("cut", [1, 70_000])
def test_an_upload_that_breaks_begins_anew_and_leaves_nothing(serve, source, tmp_path, cut):
    with serve("-cut", str(cut)) as address:
        server = Server(address, source, tmp_path)
        code, made, said = server("--network", "VM Network")
        assert code == 0, said
        assert "Beginning anew" in said
        assert made["sent"]["size"] == len(source.stream)
        assert made["sent"]["compared"] is True
        with server.open() as connection:
            assert len(machines(connection)) == 1


def test_what_a_killed_import_left_is_known_and_replaced(serve, source, tmp_path):
    with serve() as address:
        server = Server(address, source, tmp_path)
        code, made, said = server("--network", "VM Network", "--name", "web")
        assert code == 0, said
        with server.open() as connection:  # as it is before the snapshot
            (machine,) = connection.everything({"VirtualMachine": ["name"]})
            for action in (machine.reference.RemoveAllSnapshots_Task,):
                connection.wait(action(), doing="undo", timeout_seconds=20)
        code, _none, said = server("--network", "VM Network", "--name", "web")
        assert (code, json.loads(said.splitlines()[-1])["error"]["cause"]) == (6, "unfinished")
        code, anew, said = server("--network", "VM Network", "--name", "web", "--replace")
        assert code == 0, said
        assert anew["id"] != made["id"]
        assert anew["existed"] is False


def test_a_host_without_vcenter_has_a_machine(serve, source, tmp_path):
    with serve("-esx") as address:
        server = Server(address, source, tmp_path)
        code, made, said = server()
        assert code == 0, said
        assert made["sent"]["compared"] is True
        assert server()[1]["existed"] is True
        with server.open() as connection:
            (machine,) = machines(connection).values()
        assert not machine["config.template"]
        assert [one.name for one in machine["snapshot.rootSnapshotList"]] == [made["digest"]]
