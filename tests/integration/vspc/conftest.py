"""One concentrator for telnet and one for telnets in each module, on loopback."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.certificates import self_signed
from tests.integration.vspc.rooms import Room
from tests.integration.vspc.simulated_esxi import (
    Lab,
    concentrator,
)


@pytest.fixture(scope="module")
def certificate(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    return self_signed(tool("openssl"), tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Return a folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="vspc-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def rooms(certificate: tuple[Path, Path]) -> Iterator[dict[str, Room]]:
    trust = ssl.create_default_context(cafile=os.fspath(certificate[0]))
    tls = ("--certificate", os.fspath(certificate[0]), "--key", os.fspath(certificate[1]))
    with (
        tempfile.TemporaryDirectory(prefix="vspc-") as one,
        tempfile.TemporaryDirectory(prefix="vspc-") as other,
        concentrator(Path(one)) as plain,
        concentrator(Path(other), *tls, scheme="telnets") as secure,
    ):
        made = {"telnet": Room(plain, None), "telnets": Room(secure, trust)}
        yield made
        for room in made.values():
            room.slow.close()


@pytest.fixture(params=["telnet", "telnets"])
def room(rooms: dict[str, Room], request: pytest.FixtureRequest) -> Iterator[Room]:
    found = rooms[request.param]
    assert found.server.process.poll() is None, found.server.log()
    with Lab() as found.lab:
        yield found


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made
