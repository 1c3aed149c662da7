"""A docker-registry of a test's own, whose storage can be looked into and damaged."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 20


@dataclass(frozen=True, slots=True)
class RegistryServer:
    """A registry that serves plain HTTP at `host` ("127.0.0.1:port")."""

    host: str
    storage: Path

    def blob_file(self, digest: str) -> Path:
        """Return the file in which the registry keeps a blob or manifest."""
        algorithm, encoded = digest.split(":")
        blobs = self.storage / "docker" / "registry" / "v2" / "blobs"
        return blobs / algorithm / encoded[:2] / encoded / "data"


@contextmanager
def registry_server(program: str, folder: Path) -> Iterator[RegistryServer]:
    """Run `program` (docker-registry) in `folder` on a free port until the block ends."""
    storage = folder / "storage"
    storage.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    config = folder / "config.json"  # JSON is YAML
    config.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "warn", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(storage)}},
                "http": {"addr": host},
            }
        )
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log)
    try:
        _wait_until_it_listens(host, server, folder / "log")
        yield RegistryServer(host, storage)
    finally:
        server.terminate()
        server.wait(10)


def _wait_until_it_listens(host: str, server: subprocess.Popen[bytes], log: Path) -> None:
    address, port = host.split(":")
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((address, int(port)), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"the registry did not start:\n{log.read_text(errors='replace')}")
