"""Peak memory of a conversion depends on the number of files, not on what is in them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.images.heavy import (
    MANY_FILES,
    bound_bytes,
    large_layer,
    many_files,
    peak_bytes,
    peak_of_command,
)
from tests.integration.conftest import Tool
from tests.integration.registry_server import registry_server

pytestmark = pytest.mark.integration


def test_layers_of_any_size_take_the_same_memory(tmp_path: Path) -> None:
    # A slice: `scripts/bench memory` has a layer of 5 GB.
    assert peak_bytes(large_layer(2 << 30, 200 << 20), tmp_path) <= bound_bytes(2)


def test_members_of_an_archive_of_any_size_take_the_same_memory(tool: Tool) -> None:
    layout = large_layer(2 << 30, 200 << 20)
    command = [tool("bsdtar"), "-cf", "-", "-C", layout, "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tar:
        peak = peak_of_command("inspect", "oci-archive:-:latest", stdin=tar.stdout)
    assert tar.returncode == 0
    assert peak <= bound_bytes(0) < 200 << 20  # the blob alone is larger


def test_a_file_takes_at_most_a_kilobyte(tmp_path: Path) -> None:
    assert peak_bytes(many_files(), tmp_path) <= bound_bytes(MANY_FILES)


def test_pushing_and_pulling_hold_no_disk_in_memory(tool: Tool, tmp_path: Path) -> None:
    image = f"oci:{large_layer(2 << 30, 200 << 20)}:latest"
    with registry_server(tool("docker-registry"), tmp_path / "registry") as server:
        target = f"{server.host}/large:chain"
        peak_of_command("convert", "--store", str(tmp_path / "a"), image)
        push = ("push", "--store", str(tmp_path / "a"), "--plain-http", image, target)
        assert peak_of_command(*push) <= bound_bytes(2)
        pull = ("pull", "--store", str(tmp_path / "b"), "--plain-http", target)
        assert peak_of_command(*pull) <= bound_bytes(2)
