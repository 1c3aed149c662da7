"""Peak memory of a conversion depends on the number of files, not on what is in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images.heavy import MANY_FILES, bound_bytes, large_layer, many_files, peak_bytes, peak_of
from tests.integration.registry_server import registry_server

pytestmark = pytest.mark.integration


def test_layers_of_any_size_take_the_same_memory(tmp_path: Path) -> None:
    # A slice: `scripts/bench memory` has a layer of 5 GB.
    assert peak_bytes(large_layer(2 << 30, 200 << 20), tmp_path) <= bound_bytes(2)


def test_a_file_takes_at_most_a_kilobyte(tmp_path: Path) -> None:
    assert peak_bytes(many_files(), tmp_path) <= bound_bytes(MANY_FILES)


def test_pushing_and_pulling_hold_no_disk_in_memory(
    tool: Callable[[str], str], tmp_path: Path
) -> None:
    image = f"oci:{large_layer(2 << 30, 200 << 20)}:latest"
    with registry_server(tool("docker-registry"), tmp_path / "registry") as server:
        target = f"{server.host}/large:chain"
        peak_of("convert", "--store", tmp_path / "a", image)
        push = ("push", "--store", tmp_path / "a", "--plain-http", image, target)
        assert peak_of(*push) <= bound_bytes(2)
        pull = ("pull", "--store", tmp_path / "b", "--plain-http", target)
        assert peak_of(*pull) <= bound_bytes(2)
