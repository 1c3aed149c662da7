"""The real parts that integration tests share: images, a registry, a boot image, a Debian 13."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.guests import disk
from tests.images import prepared
from tests.images.cache import ROOT
from tests.images.gotools import go_program
from tests.images.gotools import go_tools as go_tools_folder
from tests.integration import warm
from tests.integration.artifact_places import Place, serve_place
from tests.integration.registry_server import registry_server
from tests.schemas import check_output
from tinykernel.record import BootImage

Tool = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Saltflat:
    """Run the command line as a process of its own, which has imported it before (see `warm`)."""

    environment: Mapping[str, str]

    @property
    def whole_environment(self) -> dict[str, str]:
        """What the command's environment is."""
        return {**os.environ, **self.environment}

    def __call__(
        self, *arguments: str | Path, stdin: bytes = b"", timeout_seconds: float = 100
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end whatever the exit code; stdout and stderr are captured as bytes.

        What is JSON of it has to fit the schema that we publish.
        """
        done = warm.COMMANDS.run(
            [os.fspath(argument) for argument in arguments],
            stdin=stdin,
            environment=self.whole_environment,
            timeout_seconds=timeout_seconds,
        )
        check_output([os.fspath(argument) for argument in arguments], done)
        return done

    def good(
        self, *arguments: str | Path, stdin: bytes = b"", timeout_seconds: float = 100
    ) -> bytes:
        """Run to the end, demand exit code 0, and return stdout."""
        done = self(*arguments, stdin=stdin, timeout_seconds=timeout_seconds)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def afresh(self, *arguments: str | Path) -> bytes:
        """Run with an interpreter and a seed of hashes of its own; the rest is as with `good`."""
        command = [*prepared.SALTFLAT, *arguments]
        done = subprocess.run(
            command, capture_output=True, timeout=100, env=self.whole_environment, check=False
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout


@pytest.fixture(scope="session")
def saltflat(tmp_path_factory: pytest.TempPathFactory) -> Saltflat:
    """Return the `saltflat` command of this checkout; its machines are not the user's."""
    state = tmp_path_factory.mktemp("state")
    return Saltflat({"PYTHONPATH": str(ROOT), "SALTFLAT_STATE": str(state)})


@pytest.fixture(scope="session")
def corner_layout() -> Path:
    """Return the OCI layout of the corner image, tags `latest` and `prefix-1` ... `prefix-5`."""
    return prepared.corner_layout()


@pytest.fixture(scope="session")
def demo_layout(tool: Tool) -> Path:
    """Return the OCI layout of the demo image, tags `1`, `latest`, `prefix-1` ... `prefix-4`."""
    tool("mmdebstrap")
    return prepared.demo_layout()


@pytest.fixture(scope="session")
def boot_store(tool: Tool) -> Path:
    """Return a store that holds the boot image and nothing else; never write to it."""
    for name in ("qemu-system-x86_64", "dpkg-deb", "apt-get"):
        tool(name)
    return prepared.boot_store()


@pytest.fixture(scope="session")
def boot_media_store(boot_store: Path, tool: Tool) -> Path:
    """Return a store with the boot image and every kind of medium of it; never write to it."""
    for name in ("xorriso", "mkfs.fat", "mcopy", "sfdisk"):
        tool(name)
    return prepared.boot_media_store()


@pytest.fixture(scope="session")
def tiny_image() -> BootImage:
    """Return the boot image with the tiny kernel, where one is built."""
    if not prepared.tiny_is_built():
        pytest.skip("no tiny kernel is built; scripts/soak tinykernel builds one")
    return prepared.boot_image("tiny")


@pytest.fixture
def store(boot_store: Path, tmp_path: Path) -> Path:
    """Return a store of the test's own that already has the boot image (as hard links)."""
    target = tmp_path / "store"
    shutil.copytree(boot_store, target, copy_function=link_or_copy)
    return target


@pytest.fixture(scope="session")
def link(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root disk of small guests, on which machines stand with a child of their own."""
    for name in ("busybox", "mke2fs", "qemu-img", "qemu-system-x86_64", "setpriv"):
        tool(name)
    return disk.build(tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="session")
def registry(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve an empty docker-registry over plain HTTP; return its `localhost:port`."""
    with registry_server(tool("docker-registry"), tmp_path_factory.mktemp("registry")) as server:
        yield f"localhost:{server.host.rpartition(':')[2]}"


@pytest.fixture(scope="session")
def push(tool: Tool, registry: str) -> Callable[..., str]:
    """Return push(layout, tag, name, *skopeo options): the image's reference in the registry."""
    skopeo = tool("skopeo")

    def copy(layout: Path, tag: str, name: str, *options: str) -> str:
        reference = f"{registry}/{name}"
        command = [skopeo, "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
        command += [*options, f"oci:{layout}:{tag}", f"docker://{reference}"]
        subprocess.run(command, check=True, timeout=100)
        return reference

    return copy


@pytest.fixture(scope="session")
def go_tools(lacking: Callable[[str], None]) -> Path:
    """Return the folder of the programs that are made from Go modules."""
    if go_program() is None:
        lacking("no Go that can build tests/tools")
    return go_tools_folder()


@pytest.fixture
def place_of(tool: Tool, go_tools: Path, tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    """Return a function from a kind of registry (`artifact_places.KINDS`) to an empty one."""
    with ExitStack() as running:

        def start(kind: str) -> Place:
            served = serve_place(kind, tmp_path / "registry", tool=tool, go_tools=go_tools)
            return running.enter_context(served)

        yield start


@pytest.fixture(scope="session")
def trixie(tool: Tool) -> Path:
    """Return a Debian 13 root folder with Python and the project's dependencies but isal."""
    tool("mmdebstrap")
    return prepared.trixie_root()


def link_or_copy(source: str, target: str) -> None:
    """Have `target` be the file `source`: what `shutil.copytree` may call for files that stay."""
    try:
        os.link(source, target)
    except OSError:  # the cache lies on another file system
        shutil.copy2(source, target)
