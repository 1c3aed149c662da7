"""govmomi's simulator of a vCenter or ESXi (tests/tools/vcsim), as a process of the tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def vcsim(go_tools: Path, *options: str) -> Iterator[str]:
    """Run the simulator with `options` until the block ends; yield its host and port."""
    with subprocess.Popen(
        [go_tools / "vcsim", *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        try:
            address = server.stdout.readline().decode().strip()  # once it listens
            if not address:
                raise RuntimeError("the simulator of vSphere did not start")
            yield address
        finally:
            server.terminate()
            server.wait(10)
