"""A registry with the referrers API, of a test's own: tests/tools/registry, over plain HTTP."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def referrers_registry(program: Path, folder: Path) -> Iterator[str]:
    """Run `program` with its blobs in `folder` until the block ends; yield its host and port."""
    blobs = folder / "blobs"
    blobs.mkdir(parents=True)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program, blobs], stdout=subprocess.PIPE, stderr=log)
        assert server.stdout is not None
        try:
            host = server.stdout.readline().decode().strip()  # once it listens
            if not host:
                raise RuntimeError(f"the registry did not start: {(folder / 'log').read_text()}")
            yield host
        finally:
            server.terminate()
            server.wait(10)
            server.stdout.close()
