"""Many images at once: each blob once, each link once, and no process left whatever is killed."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import converter
from converter.store.layout import Store
from converter.store.links import ChainParameters, link_id
from converter.store.locks import LINK_PREFIX
from converter.vsphere.settings import PASSWORD_VARIABLE
from tests.images import prepared
from tests.images.raw_layout import digest_of, write_layout
from tests.images.workload import WorkImage, unique_blobs, unique_links, work_layers
from tests.integration.conftest import Saltflat
from tests.integration.direct_push import push_workload
from tests.integration.registry_server import RegistryServer, registry_server
from tests.integration.vcsim import vcsim
from tests.integration.watching_proxy import Asked, Reply, watching_proxy

pytestmark = pytest.mark.integration

WAIT_SECONDS = 30
# One layer is on two bases, one base has three ways up, and one image is another's beginning.
IMAGES = (
    WorkImage("team/one", "1.0", ("flavour-base-9", "flavour-lib-9", "flavour-a-3")),
    WorkImage("team/one", "1.1", ("flavour-base-9", "flavour-lib-9", "flavour-b-3")),
    WorkImage("team/one", "1.2-rc1", ("flavour-base-9",)),
    WorkImage("team/two", "2.0", ("flavour-other-9", "flavour-lib-9")),
)
LAYERS = work_layers(IMAGES)
PLAIN_HTTP = converter.Origin(access=converter.SourceOptions(plain_http=True))
OUTPUTS = """\
defaults:
  plain-http: true
  bundle: out/{repository}-{tag}
  push: HOST/chains/{name}:{tag}
  export:
    - type: sparse
      output: out/{name}-{tag}.vmdk
images:
  - image: HOST/team/one
    tags: ["1.*", "regex:[0-9]-none"]
    push: HOST/chains/all
  - HOST/team/two:2.0
"""


@pytest.fixture(scope="module")
def server(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegistryServer]:
    """Serve the images, and write down who asks for what."""
    folder = tmp_path_factory.mktemp("registry")
    with registry_server(tool("docker-registry"), folder, access_log=True) as running:
        push_workload(running.host, IMAGES, LAYERS)
        yield running


def batch_file(folder: Path, text: str, server: RegistryServer) -> Path:
    file = folder / "images.yaml"
    file.write_text(text.replace("HOST", server.host))
    return file


def result(done: subprocess.CompletedProcess[bytes]) -> Any:
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return json.loads(done.stdout)


def test_what_images_share_is_done_once_and_not_again(
    server: RegistryServer,
    saltflat: Saltflat,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = batch_file(tmp_path, OUTPUTS, server)
    asked_before = len(server.fetched())
    command = ("batch", file, "--store", "store", "--jobs", "2", "--format", "json")

    plan = json.loads(saltflat.good(*command, "--dry-run"))
    assert plan["figures"]["fetch_blobs"] == len(unique_blobs(IMAGES)) == 5
    assert plan["figures"]["convert_links"] == len(unique_links(IMAGES)) == 6
    assert not list(Path("store/links").iterdir())

    first = result(saltflat(*command))
    assert (first["done"], first["links_made"], first["lost_tasks"]) == (4, 6, 0)
    layers = {digest_of(layer.blob) for layer in LAYERS.values()}
    asked = [digest for digest in server.fetched()[asked_before:] if digest in layers]
    assert sorted(asked) == sorted(layers)
    links = {path.stem: path.read_bytes() for path in Path("store/links").glob("*.vmdk")}
    assert len(links) == 6

    # The same bytes as one image after the other, and the same again of every output.
    for image in IMAGES:
        reference = f"{server.host}/{image.repository}:{image.tag}"
        converter.convert(reference, store=Path("alone"), origin=PLAIN_HTTP)
        converter.verify(Path("out") / f"{image.repository}-{image.tag}")
    alone = {path.stem: path.read_bytes() for path in Path("alone/links").glob("*.vmdk")}
    assert links == alone
    whole = Path("out/two-2.0.vmdk").read_bytes()

    asked_before = len(server.fetched())
    second = result(saltflat(*command))
    assert (second["unchanged"], second["links_made"], second["sent_bytes"]) == (4, 0, 0)
    assert not layers.intersection(server.fetched()[asked_before:])

    # An output that is gone, and one that was changed, are made anew, without any force.
    Path("out/two-2.0.vmdk").unlink()
    Path("out/one-1.0.vmdk").write_bytes(b"somebody's")
    third = saltflat(*command, "--keep-going")
    assert third.returncode == 0, third.stderr.decode()
    states = {image["reference"]: image["state"] for image in json.loads(third.stdout)["images"]}
    assert sorted(states.values()) == ["done", "done", "unchanged", "unchanged"]
    assert Path("out/two-2.0.vmdk").read_bytes() == whole


def test_an_export_makes_room_when_its_tag_has_moved_and_a_bundle_by_force(
    saltflat: Saltflat, tmp_path: Path
) -> None:
    layout, disk = tmp_path / "layout", tmp_path / "disk.vmdk"
    bundles = tmp_path / "kept", tmp_path / "forced"

    def nightly(layer: str) -> subprocess.CompletedProcess[bytes]:
        shutil.rmtree(layout, ignore_errors=True)
        source = write_layout(layout, [LAYERS[layer]])
        entries = [
            {"image": source, "bundle": {"output": str(bundle), "force": bundle.name == "forced"}}
            for bundle in bundles
        ]
        entries.append({"image": source, "export": {"type": "sparse", "output": str(disk)}})
        command = ("batch", "-", "--store", tmp_path / "store", "--keep-going", "--format", "json")
        return saltflat(*command, stdin="\n".join(map(json.dumps, entries)).encode())

    def bundled() -> list[str]:
        return [json.loads((bundle / "bundle.json").read_bytes())["digest"] for bundle in bundles]

    result(nightly("flavour-a-3"))
    first, (digest, _) = disk.read_bytes(), bundled()
    moved = nightly("flavour-b-3")
    images = json.loads(moved.stdout)["images"]
    assert [image["state"] for image in images] == ["failed", "done", "done"]
    assert moved.returncode == 2
    assert bundled() == [digest, images[1]["digest"]]
    assert disk.read_bytes() != first

    disk.write_bytes(b"somebody's")  # what was touched is not the batch's own any more
    again = json.loads(nightly("flavour-a-3").stdout)
    assert [image["state"] for image in again["images"]] == ["unchanged", "done", "failed"]
    assert disk.read_bytes() == b"somebody's"


def test_images_that_fail_leave_the_others_alone(
    server: RegistryServer, saltflat: Saltflat, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("schema: 1\nmax-layers: 1\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    lines = [
        {"defaults": {"plain-http": True, "retries": 0}},
        f"{server.host}/team/one:none",
        {"image": f"{server.host}/team/one:1.0", "max-layer-size": 2000},
        {"image": f"{server.host}/team/two", "newest": 1},
        {"image": f"{server.host}/team/two:2.0", "policy": str(policy)},
        f"{nobody}/team/two:2.0",
    ]
    stdin = "\n".join(map(json.dumps, lines)).encode()
    command = ("batch", "-", "--store", tmp_path / "store", "--format", "json")

    assert saltflat("batch", tmp_path).returncode == 2
    stopped = saltflat(*command, stdin=stdin)
    assert stopped.returncode == 7  # a rule is worse than an image that is not there
    assert json.loads(stopped.stdout)["skipped"] == 2

    done = saltflat(*command, "--keep-going", stdin=stdin)
    assert done.returncode == 5  # more bytes than allowed is worse than an image that is not there
    images = json.loads(done.stdout)["images"]
    assert [image["failure"] and image["failure"]["kind"] for image in images] == [
        "not-found",
        "integrity",
        None,
        "policy",
        "unavailable",
    ]
    assert [image["state"] for image in images] == ["failed", "failed", "done", "failed", "failed"]
    assert images[3]["failure"]["cause"] == "max-layers"
    assert "line 2:" in images[0]["failure"]["what"]


def test_machines_are_the_verbs_own_and_miss_no_boot_image_too_late(
    server: RegistryServer, saltflat: Saltflat, boot_media_store: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(boot_media_store / "boot", store / "boot")
    source = f"{server.host}/team/one:1.2-rc1"
    export = {"type": "ova", "output": f"{tmp_path}/{{name}}.ova", "memory": "1g", "cpus": 2}
    entry = json.dumps({"image": source, "plain-http": True, "export": export}).encode()
    alone = saltflat("batch", "-", "--store", tmp_path / "without", stdin=entry)
    assert alone.returncode == 3
    assert not list((tmp_path / "without" / "links").iterdir())

    saltflat.good("batch", "-", "--store", store, stdin=entry)
    options = ("--plain-http", "--type", "ova", "--memory", "1g", "--cpus", "2")
    (tmp_path / "verb").mkdir()
    out = tmp_path / "verb" / "one.ova"
    saltflat.good("export", source, *options, "-o", out, "--store", store)
    assert (tmp_path / "one.ova").read_bytes() == out.read_bytes()


class Running:
    """A batch that waits for a lock which the test has, so that it can be killed at its work."""

    def __init__(self, saltflat: Saltflat, file: Path, store: Path) -> None:
        command = ["--progress", "json", "batch", file, "--store", store, "--jobs", "1"]
        self.process = subprocess.Popen(
            [*prepared.SALTFLAT, *map(os.fspath, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=saltflat.whole_environment,
        )

    def event(self, name: str, kind: str) -> dict[str, Any]:
        """Return the next event of this name that is about a task of this kind."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == name and event.get("kind") == kind:
                return event
        raise AssertionError(f"it ended without {name}")

    def worker(self) -> int:
        """Return the process that converts: the starter of processes is its parent."""
        children = _children(self.process.pid)
        return next(worker for child in children for worker in _children(child))

    def family(self) -> list[int]:
        """Return all processes below the batch's."""
        children = _children(self.process.pid)
        return [*children, *(worker for child in children for worker in _children(child))]

    def end(self) -> bytes:
        """Return what it printed until its end."""
        printed, _errors = self.process.communicate(timeout=WAIT_SECONDS)
        return printed


def _children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@contextmanager
def watched(pids: list[int]) -> Iterator[Callable[[], None]]:
    """Yield what waits until all processes `pids`, which run now, are gone."""
    handles = [os.pidfd_open(pid) for pid in pids]

    def wait() -> None:
        for handle in handles:
            assert select.select([handle], [], [], WAIT_SECONDS)[0], "a process is left"

    try:
        yield wait
    finally:
        for handle in handles:
            os.close(handle)


Waiting = tuple[Running, Callable[[], None]]


@pytest.fixture
def waiting(
    server: RegistryServer, saltflat: Saltflat, tmp_path: Path
) -> Iterator[tuple[Any, Any]]:
    """Yield a batch whose worker waits for the lowest link's lock, and what lets it go on."""
    store = Store(tmp_path / "store")
    file = batch_file(tmp_path, "images: [HOST/team/two:2.0]\ndefaults: {plain-http: true}", server)
    lowest = link_id("", (LAYERS["flavour-other-9"].diff_id,), ChainParameters())
    with (store.locks / f"{LINK_PREFIX}{lowest}").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        running = Running(saltflat, file, store.root)
        try:
            running.event("task-started", "convert")
            yield running, lambda: fcntl.flock(lock, fcntl.LOCK_UN)
        finally:
            running.process.kill()
            running.end()


def test_a_killed_workers_task_is_begun_once_more(
    waiting: Waiting, saltflat: Saltflat, tmp_path: Path
) -> None:
    running, let_go = waiting
    # The new worker must not wait for a deleter, which waits for the batch.
    deleting = subprocess.Popen(
        [*prepared.SALTFLAT, "store", "gc", "--store", os.fspath(tmp_path / "store")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=saltflat.whole_environment,
    )
    assert deleting.stderr is not None
    assert b"others use the store" in deleting.stderr.readline()
    os.kill(running.worker(), signal.SIGKILL)
    assert "SIGKILL" in running.event("task-lost", "convert")["reason"]
    assert running.event("task-started", "convert")["attempt"] == 2
    let_go()
    running.end()
    assert running.process.returncode == 0
    deleting.communicate(timeout=WAIT_SECONDS)
    assert deleting.returncode == 0


def test_a_worker_that_is_killed_again_is_a_failure(waiting: Waiting) -> None:
    running, _let_go = waiting
    os.kill(running.worker(), signal.SIGKILL)
    running.event("task-started", "convert")
    os.kill(running.worker(), signal.SIGKILL)
    failure = running.event("task-finished", "convert")["failure"]
    assert "SIGKILL, at attempt 2" in failure["what"]
    running.end()
    assert running.process.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_batch_that_is_ended(
    waiting: Waiting, saltflat: Saltflat, tmp_path: Path, number: signal.Signals
) -> None:
    running, let_go = waiting
    with watched(running.family()) as wait:
        running.process.send_signal(number)
        running.end()
        wait()
    if number != signal.SIGKILL:
        assert running.process.returncode == 130
        return
    let_go()
    saltflat.good("batch", tmp_path / "images.yaml", "--store", tmp_path / "store", "--jobs", "1")
    saltflat.good("store", "verify", "--store", tmp_path / "store")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"])
def test_an_interrupt_does_not_wait_for_a_registry(
    saltflat: Saltflat, tmp_path: Path, answer: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(WAIT_SECONDS)
        file = tmp_path / "images.jsonl"
        file.write_text(json.dumps({"image": f"127.0.0.1:{mute.getsockname()[1]}/a:1"}))
        command = ("batch", file, "--store", tmp_path / "store", "--plain-http")
        process = subprocess.Popen(
            [*prepared.SALTFLAT, *map(os.fspath, command)], env=saltflat.whole_environment
        )
        line, _address = mute.accept()
        with line:
            assert line.recv(1000).startswith(b"GET ")
            line.sendall(answer)
            process.send_signal(signal.SIGINT)
            assert process.wait(WAIT_SECONDS) == 130  # of a timeout of 60 seconds, and second tries


@pytest.mark.parametrize("verb", ["batch", "convert"])
def test_nor_does_it_wait_for_layers(
    server: RegistryServer, saltflat: Saltflat, tmp_path: Path, verb: str
) -> None:
    layer = digest_of(LAYERS["flavour-base-9"].blob)
    at_it, let_go = threading.Event(), threading.Event()

    def hold(asked: Asked) -> Reply | None:
        if not asked.path.endswith(layer):
            return None
        at_it.set()
        let_go.wait(2 * WAIT_SECONDS)
        return Reply(0)

    with watching_proxy(server.host) as proxy:
        proxy.meddle = hold
        source = f"{proxy.host}/team/one:1.0"
        (tmp_path / "images.jsonl").write_text(json.dumps(source))
        what = source if verb == "convert" else tmp_path / "images.jsonl"
        command = (verb, what, "--store", tmp_path / "store", "--plain-http")
        process = subprocess.Popen(
            [*prepared.SALTFLAT, *map(os.fspath, command)], env=saltflat.whole_environment
        )
        try:
            assert at_it.wait(WAIT_SECONDS)
            process.send_signal(signal.SIGINT)
            assert process.wait(WAIT_SECONDS) == 130
        finally:
            let_go.set()
            process.kill()
            process.wait()


def test_templates_are_imported_once(
    go_tools: Path, saltflat: Saltflat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "of a simulator")
    write_layout(tmp_path / "layout", [LAYERS["flavour-a-3"]])
    with vcsim(go_tools) as address:
        entry = {
            "image": f"oci:{tmp_path / 'layout'}",
            "vsphere": {
                "url": f"http://user@{address}",
                "insecure": True,
                "network": "VM Network",
            },
        }
        command = ("batch", "-", "--store", tmp_path / "store", "--format", "json")
        stdin = json.dumps(entry).encode()
        first, second = (result(saltflat(*command, stdin=stdin)) for _ in range(2))
    assert (first["images"][0]["state"], second["images"][0]["state"]) == ("done", "unchanged")
    called = f"layout-{first['images'][0]['digest'].removeprefix('sha256:')[:12]}"
    assert first["images"][0]["outputs"] == [{"kind": "import", "place": called}]
    assert first["sent_bytes"] > 0 == second["sent_bytes"]
