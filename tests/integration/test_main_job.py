"""The main job, end to end: a registry's image becomes a machine, and its process speaks to us."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images.prepared import SALTFLAT
from tests.integration.conftest import Saltflat
from tests.integration.elsewhere import disk_digests

pytestmark = [pytest.mark.integration, pytest.mark.vm]


@pytest.fixture(scope="module")
def reference(push: Callable[..., str], demo_layout: Path) -> str:
    """Return the demo image's name in a real registry."""
    return push(demo_layout, "1", "demo/app:1")


def test_from_registry_to_exit_code(saltflat: Saltflat, store: Path, reference: str) -> None:
    command = ["sh", "-c", "echo out; echo err >&2; exit 7"]
    done = saltflat("-q", "run", "--store", store, "--plain-http", reference, *command)
    assert (done.returncode, done.stdout) == (7, b"out\n"), done.stderr
    assert done.stderr.splitlines()[-1] == b"err"
    before = disk_digests(store)
    assert len(before) == 4
    # A second run uses what is there, on the other line, and leaves the chain as it was.
    options = ["--plain-http", "--channel", "serial", "-i"]
    done = saltflat("-q", "run", "--store", store, *options, reference, "cat", stdin=b"hi\n")
    assert (done.returncode, done.stdout) == (0, b"hi\n"), done.stderr
    assert disk_digests(store) == before


def test_bundle_with_docker_runs_options(
    saltflat: Saltflat, store: Path, demo_layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.parent)  # as it is typed: the hypervisor has another folder
    bundle = "./bundle"
    source = f"oci:{demo_layout}:1"
    saltflat.good("convert", "--store", store, source, "-o", bundle, "--boot", "stock")
    (image,) = (path for path in (store / "boot").iterdir() if path.is_dir())
    shown = json.loads(saltflat.good("inspect", bundle, "--format", "json"))
    assert shown["boot"]["id"] == image.name
    script = "id -un; pwd; echo $COLOUR; echo $HOSTNAME; grep MemTotal /proc/meminfo; nproc"
    script += "; df --output=size --block-size=1M / | tail -n 1"
    options = ["-e", "COLOUR=green", "-u", "nobody", "-w", "/tmp", "--entrypoint", "/bin/sh"]
    options += ["--hostname", "box", "--memory", "300m", "--cpus", "2"]
    options += ["--storage-opt", "size=20G"]  # the chain has 16
    done = saltflat("-q", "run", "--store", store, *options, bundle, "-c", script)
    assert done.returncode == 0, done.stderr
    user, folder, colour, host, memory, processors, disk = done.stdout.decode().splitlines()
    assert (user, folder, colour, host, processors) == ("nobody", "/tmp", "green", "box", "2")
    assert 19_000 < int(disk) < 20 << 10
    assert 200_000 < int(memory.split()[1]) < 300 * 1024


def test_terminal(saltflat: Saltflat, store: Path, demo_layout: Path) -> None:
    ours, theirs = pty.openpty()
    os.set_inheritable(theirs, True)
    subprocess.run(["stty", "rows", "31", "cols", "99"], stdin=theirs, check=True, timeout=10)
    command = [*SALTFLAT, "-q", "run", "--store", store, "-i", "-t", f"oci:{demo_layout}:1"]
    command += ["sh", "-c", "tty; stty size; read line; echo got $line; exit 3"]
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, **saltflat.environment},
    )
    os.close(theirs)
    output = b""
    while b"31 99\r\n" not in output:
        output += os.read(ours, 1000)
    os.write(ours, b"typed\n")
    while b"got typed\r\n" not in output:
        output += os.read(ours, 1000)
    _, errors = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 3, errors
    assert b"/dev/pts/0\r\n" in output


def test_platforms_without_a_boot_image_are_refused_with_a_way_out(
    saltflat: Saltflat, store: Path, demo_layout: Path
) -> None:
    done = saltflat("run", "--store", store, "--platform", "linux/arm64", f"oci:{demo_layout}:1")
    assert done.returncode == 125
    assert b"no boot image for linux/arm64" in done.stderr
    assert b"--platform linux/amd64" in done.stderr


def test_without_a_boot_image_the_hint_is_how_to_make_one(
    saltflat: Saltflat, tmp_path: Path, corner_layout: Path
) -> None:
    done = saltflat("run", "--store", tmp_path, f"oci:{corner_layout}:latest")
    assert done.returncode == 125
    assert b"saltflat boot build" in done.stderr
    assert not list((tmp_path / "links").iterdir())


@pytest.mark.parametrize(
    ("system", "architecture", "code"), [("linux", "s390x", 0), ("windows", "amd64", 2)]
)
def test_any_linux_platform_is_converted_and_no_other_system(
    saltflat: Saltflat,
    tmp_path: Path,
    corner_layout: Path,
    system: str,
    architecture: str,
    code: int,
) -> None:
    layout = tmp_path / "layout"
    _change_platform(corner_layout, layout, system, architecture)
    platform = f"{system}/{architecture}"
    done = saltflat(
        "convert", "--store", tmp_path / "store", "--platform", platform, f"oci:{layout}"
    )
    assert done.returncode == code, done.stderr


def _change_platform(source: Path, target: Path, system: str, architecture: str) -> None:
    """Write a layout that has one image, the source's, for another platform."""
    blobs = target / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for blob in (source / "blobs" / "sha256").iterdir():
        (blobs / blob.name).symlink_to(blob)

    def rewrite(descriptor: dict[str, object], document: dict[str, object]) -> None:
        data = json.dumps(document).encode()
        encoded = hashlib.sha256(data).hexdigest()
        (blobs / encoded).write_bytes(data)
        descriptor.update(digest=f"sha256:{encoded}", size=len(data))

    def read(descriptor: dict[str, str]) -> dict[str, dict[str, str]]:
        encoded = descriptor["digest"].partition(":")[2]
        document: dict[str, dict[str, str]] = json.loads((blobs / encoded).read_bytes())
        return document

    index = json.loads((source / "index.json").read_bytes())
    entry = next(
        entry
        for entry in index["manifests"]
        if entry["annotations"]["org.opencontainers.image.ref.name"] == "latest"
    )
    manifest = read(entry)
    config: dict[str, object] = dict(read(manifest["config"]))
    config.update(os=system, architecture=architecture)
    rewrite(dict_config := dict(manifest["config"]), config)
    rewrite(entry, {**manifest, "config": dict_config})
    entry.pop("platform", None)
    (target / "oci-layout").write_bytes((source / "oci-layout").read_bytes())
    (target / "index.json").write_text(json.dumps({**index, "manifests": [entry]}))
