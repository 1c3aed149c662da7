"""Imports into a simulator, for tests and soaks: the image, the command line, what is there after.

The image is small and does not compress, so that its disk is more than sockets hold.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.vmdk.chain import open_chain
from converter.vsphere.connection import Connection, open_connection
from converter.vsphere.settings import Given, read_settings
from converter.vsphere.trust import Trust
from tests.images import prepared
from tests.images.layout import LayoutWriter
from tests.images.tarball import noise
from tests.integration import warm
from tests.schemas import check_output

NOISE_BYTES = 4_000_000
_UNIT_BYTES = 4096
PASSWORD = "correct horse"


@dataclass(frozen=True, slots=True)
class Source:
    """An image that is converted, and the file that `export` makes of it."""

    image: str
    store: Path
    file: Path

    @property
    def stream(self) -> bytes:
        """The file's bytes."""
        return self.file.read_bytes()


def make_source(work: Path) -> Source:
    """Make the image in `work`, convert it, and export its disk."""
    writer = LayoutWriter(work / "layout")
    writer.layer(lambda tar: tar.file("noise", noise("import", NOISE_BYTES)), comment="noise")
    writer.layer(lambda tar: tar.file("more", noise("more", 70_000)), comment="a link of its own")
    writer.finish(config={})
    return source_of(f"oci:{work / 'layout'}:latest", work)


def source_of(image: str, work: Path) -> Source:
    """Convert an image into a store in `work`, and export its disk."""
    export = ("export", image, "--type", "stream", "-o", os.fspath(work / "disk1.vmdk"))
    _saltflat(export, {"SALTFLAT_STORE": os.fspath(work / "store")}).check_returncode()
    return Source(image, work / "store", work / "disk1.vmdk")


@dataclass(frozen=True, slots=True)
class Server:
    """A simulator, and the command line for it."""

    url: str
    source: Source
    state: Path
    pin: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What tells a command which server, and which store."""
        trust = {"THUMBPRINT": self.pin} if self.pin else {"INSECURE": "1"}
        told = {
            "URL": self.url,
            "USERNAME": "me",
            "PASSWORD": PASSWORD,
            "NETWORK": "VM Network",
            **trust,
        }
        return {
            **{f"SALTFLAT_VSPHERE_{name}": value for name, value in told.items()},
            "SALTFLAT_STORE": os.fspath(self.source.store),
            "SALTFLAT_STATE": os.fspath(self.state),
        }

    def __call__(self, *options: str) -> tuple[int, Mapping[str, Any], str]:
        """Import the source; return exit code, result and what was said."""
        command = ("vsphere", "import", self.source.image, "--format", "json", *options)
        done = _saltflat(("--progress", "plain", *command), self.environment)
        check_output(command, done)
        result = json.loads(done.stdout) if done.stdout else {}
        return done.returncode, result, done.stderr.decode()

    def killed(self, after_seconds: float, number: int = signal.SIGKILL) -> int:
        """Import the source, send that a signal after a while, and return how it ended."""
        with subprocess.Popen(
            [*prepared.SALTFLAT, "-q", "vsphere", "import", self.source.image],
            env={**os.environ, **self.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as running:
            with suppress(subprocess.TimeoutExpired):
                running.wait(after_seconds)
            running.send_signal(number)
            return running.wait(100)

    def open(self) -> Connection:
        """Open a session of the test's own."""
        given = Given(url=self.url, username="me", password=PASSWORD, trust=Trust(insecure=True))
        return open_connection(read_settings(given, {}))


def cause(said: str) -> str:
    """Return the cause of the error that a command ended with."""
    return str(json.loads(said.splitlines()[-1])["error"]["cause"])


def kind_of(thing: object) -> str:
    """Return the name of a pyvmomi object's type."""
    return type(thing).__name__.rpartition(".")[2]


def machines(connection: Connection) -> dict[str, Mapping[str, Any]]:
    """Return all machines of the server by name, with what makes them templates."""
    paths = ["name", "config.extraConfig", "config.template", "snapshot.rootSnapshotList"]
    paths += ["config.hardware.device"]
    found = connection.everything({"VirtualMachine": paths})
    return {one.values["name"]: one.values for one in found}


def contents(disk: Path) -> str:
    """Return a hash of all that a disk holds, by our reader: every unit that is not zeros."""
    digest = hashlib.sha256()
    with open_chain(disk) as chain:
        for offset, data in chain.contents(_UNIT_BYTES):
            for at in range(0, len(data), _UNIT_BYTES):
                if any(unit := data[at : at + _UNIT_BYTES]):
                    digest.update(b"%d\n" % (offset + at) + unit)
    return digest.hexdigest()


def top_link(store: Path) -> Path:
    """Return the link in a store that no other one stands on: all of the one image's disk."""
    parents: set[Path] = set()
    files = sorted(store.rglob("*.vmdk"))
    for file in files:
        with open_chain(file) as chain:
            parents.update(link.path for link in chain.links[:-1])
    (top,) = {*files} - parents
    return top


def is_same_disk(one: Path, other: Path) -> bool:
    """Say whether qemu-img reads the same of two disks, each with what it stands on."""
    command: list[str | Path] = ["qemu-img", "compare", "-f", "vmdk", "-F", "vmdk", one, other]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def _saltflat(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    return warm.COMMANDS.run(
        arguments, stdin=b"", environment={**os.environ, **environment}, timeout_seconds=100
    )
