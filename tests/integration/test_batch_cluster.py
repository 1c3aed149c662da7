"""Batches on Dask: the commands of docs/cluster.md and the Kubernetes example as they are written.

Real schedulers, workers and registries, as processes; what comes of it is compared with what this
host makes without them.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.images.cache import ROOT
from tests.images.workload import work_images, work_layers
from tests.integration.conftest import Saltflat
from tests.integration.direct_push import push_workload
from tests.integration.registry_server import registry_server

pytestmark = pytest.mark.integration

PAGE = ROOT / "docs" / "cluster.md"
MANIFEST = ROOT / "docs" / "pipelines" / "dask-cluster.yaml"
TAGS = ("prefix-1", "prefix-3", "prefix-5")


def test_the_page_s_commands(
    saltflat: Saltflat, corner_layout: Path, tool: Callable[[str], str], tmp_path: Path
) -> None:
    for name in ("docker-registry", "skopeo"):
        tool(name)
    (script,) = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    for port, free in zip(("5000", "8786"), _free_ports(2), strict=True):
        assert port in script
        script = script.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
        script = script.replace(f"--port {port}", f"--port {free}")
    (tmp_path / "layout").symlink_to(corner_layout)
    with _shell(script, tmp_path, _environment(saltflat)) as done:
        code, said = done
    assert code == 0, said
    for tag in TAGS:
        saltflat.good("convert", "--store", tmp_path / "here", f"oci:{corner_layout}:{tag}")
    assert _links(tmp_path / "store") == _links(tmp_path / "here")
    workers = {path.name for path in tmp_path.glob("*.log") if "saltflat" in path.read_text()}
    assert workers <= {"one.log", "two.log"}


def test_the_kubernetes_example(
    saltflat: Saltflat, tool: Callable[[str], str], tmp_path: Path
) -> None:
    """Its containers as processes of this host, each worker with a store of its own."""
    cluster, batch, job = yaml.safe_load_all(MANIFEST.read_text())
    (port,) = _free_ports(1)
    wanted = work_images(6)
    layers = work_layers(wanted)
    with registry_server(tool("docker-registry"), tmp_path / "registry", access_log=True) as server:
        references = push_workload(server.host, wanted, layers)
        listed = yaml.safe_load(batch["data"]["images.yaml"])
        assert {*listed} == {"images"}
        (tmp_path / "images.yaml").write_text(yaml.safe_dump({"images": references}))
        meant = {
            "tcp://saltflat-scheduler:8786": f"tcp://127.0.0.1:{port}",
            "/etc/saltflat/batch": str(tmp_path),
            "/etc/saltflat/registries": str(tmp_path),
            "registry.example.com": server.host,
        }
        environment = _environment(saltflat) | {"SALTFLAT_PLAIN_HTTP": "1"}
        address = {"DASK_SCHEDULER_ADDRESS": f"tcp://127.0.0.1:{port}"}  # the operator's to set
        with ExitStack() as running:
            (container,) = cluster["spec"]["scheduler"]["spec"]["containers"]
            ours = ["--host", "127.0.0.1", "--port", str(port), "--dashboard-address", ":0"]
            running.enter_context(_process([*container["args"], *ours], tmp_path, environment))
            (container,) = cluster["spec"]["worker"]["spec"]["containers"]
            for name in ("one", "two"):
                own = meant | {"/var/lib/saltflat": str(tmp_path / name)}
                own["$(DASK_WORKER_NAME)"] = name
                arguments = [_meant(each, own) for each in container["args"]]
                settings = environment | address | _variables(container, own)
                running.enter_context(_process(arguments, tmp_path, settings))
            (container,) = job["spec"]["template"]["spec"]["containers"]
            own = meant | {"/var/lib/saltflat": str(tmp_path / "client")}
            done = subprocess.run(
                [_meant(each, own) for each in container["command"]],
                env=environment | _variables(container, own),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        assert done.returncode == 0, done.stderr
        made = [_links(tmp_path / name) for name in ("one", "two")]
        fetched = Counter(server.fetched())
        from_registries = Counter(
            line.split(" ")[6].rpartition("/")[2]
            for line in server.access_log.read_text().splitlines()
            if '"GET ' in line and "/blobs/" in line and "/v2/cache/" not in line
        )
