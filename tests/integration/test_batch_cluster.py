"""Batches on Dask: the commands of docs/cluster.md as they are written, and the Kubernetes example.

A real scheduler, workers and registry, as processes; what comes of it is compared with what this
host makes without them. `scripts/soak batch_kills` goes on from there.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import yaml

from scripts.soaks.batch import link_digests
from tests.images.cache import ROOT
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration

PAGE = ROOT / "docs" / "cluster.md"
MANIFEST = ROOT / "docs" / "pipelines" / "dask-cluster.yaml"
PORTS = ("5000", "8786")


def test_the_page_s_commands(
    saltflat: Saltflat, corner_layout: Path, tool: Callable[[str], str], tmp_path: Path
) -> None:
    for name in ("docker-registry", "skopeo"):
        tool(name)
    (script,) = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    for port, free in zip(PORTS, _free_ports(), strict=True):
        assert f":{port}" in script
        script = re.sub(rf"(127\.0\.0\.1:|--port ){port}\b", rf"\g<1>{free}", script)
    (tmp_path / "layout").symlink_to(corner_layout)
    said = _run_script(script, tmp_path, saltflat)
    tags = re.findall(r"app:(prefix-\d)\n", script)
    assert len(tags) == 3
    for tag in tags:
        saltflat.good("convert", "--store", tmp_path / "here", f"oci:{corner_layout}:{tag}")
    made = link_digests([tmp_path / "store-one", tmp_path / "store-two"])
    expected = link_digests([tmp_path / "here"])
    assert made == link_digests([tmp_path / "store"]) == expected != {}, said
    fetched = re.findall(r'"GET /v2/app/blobs/(\S+) ', (tmp_path / "registry.log").read_text())
    times = Counter(fetched)
    assert [times[layer] for layer in _layers(corner_layout)] == [1] * 5


def test_an_address_that_is_none_is_all_that_is_said(saltflat: Saltflat, tmp_path: Path) -> None:
    command = ("batch", "-", "--store", tmp_path / "store", "--scheduler", "wire://host:8786")
    done = saltflat(*command, stdin=b'"oci:layout:1"\n')
    assert done.returncode == 2
    problem, expected = done.stderr.decode().splitlines()
    assert "'wire://host:8786' is not a scheduler's address" in problem
    assert expected == "Expected: tcp://HOST:PORT, tls://HOST:PORT or local"


def test_the_kubernetes_example_fits_the_commands_that_there_are() -> None:
    from distributed.cli import dask_scheduler, dask_worker

    from converter.cli import batch as batch_verb
    from converter.cli.output import Output

    cluster, listed, job = yaml.safe_load_all(MANIFEST.read_text())
    for role, command in (("scheduler", dask_scheduler.main), ("worker", dask_worker.main)):
        (container,) = cluster["spec"][role]["spec"]["containers"]
        program, verb, *arguments = container["args"]
        assert (program, verb) == ("dask", role)
        command.make_context(verb, [*arguments])
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program, verb, *arguments = container["command"]
    assert (program, verb) == ("saltflat", "batch")
    parsed = batch_verb.command.make_context(verb, arguments, obj=Output()).params
    service = f"{cluster['metadata']['name']}-scheduler"  # the operator's name for it
    (port, _dashboard) = cluster["spec"]["scheduler"]["service"]["ports"]
    assert parsed["scheduler"] == f"tcp://{service}:{port['port']}"
    assert parsed["file"].name in listed["data"]


def _layers(layout: Path) -> list[str]:
    """Return the digests of the layers of the image that is tagged `latest`."""
    (digest,) = (
        entry["digest"]
        for entry in json.loads((layout / "index.json").read_text())["manifests"]
        if entry["annotations"]["org.opencontainers.image.ref.name"] == "latest"
    )
    manifest = json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())
    return [layer["digest"] for layer in manifest["layers"]]


def _run_script(script: str, folder: Path, saltflat: Saltflat) -> str:
    """Run a script to its good end, then end what it has left running; return what it said."""
    binaries = Path(sys.executable).parent
    log = folder / "script.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=folder,
            env={**saltflat.whole_environment, "PATH": f"{binaries}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,  # a group of its own, which its background processes are in
        )
        try:
            code = process.wait(60)
        finally:
            with suppress(ProcessLookupError):  # it left nothing running
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(10)
    text = log.read_text()
    assert code == 0, text
    return text


def _free_ports() -> list[int]:
    with ExitStack() as opened:
        servers = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORTS]
        return [server.getsockname()[1] for server in servers]
