"""A slice of each soak, by the same code that `scripts/soak` runs in full."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.soaks import (
    batch,
    batch_kills,
    copies,
    entries,
    execs,
    exits,
    fleet,
    flood,
    headers,
    kill,
    lifecycle,
    line,
    overlay,
    pulls,
    relay_frames,
    vmotion,
)
from tests.images.cache import ROOT

pytestmark = pytest.mark.integration


def test_five_of_fifty_kills(corner_layout: Path) -> None:
    assert kill.COUNT == 50
    assert kill.run(5, seed=2, source=corner_layout) == []


def test_thirty_of_five_hundred_pulls(tool: Callable[[str], str]) -> None:
    tool("docker-registry")
    tool("skopeo")
    assert pulls.COUNT == 500
    assert pulls.run(30, seed=2) == []


def test_six_of_sixty_images_on_shared_bases(tool: Callable[[str], str]) -> None:
    for name in ("docker-registry", "dpkg-deb", "apt-get"):
        tool(name)
    assert batch.COUNT == 60
    assert batch.run(6, 0) == []


def test_one_of_twenty_kills_of_a_batch_s_workers(tool: Callable[[str], str]) -> None:
    for name in ("docker-registry", "dpkg-deb", "apt-get"):
        tool(name)
    assert batch_kills.COUNT == 20
    assert batch_kills.run(1, seed=2, images=3) == []


def test_twenty_thousand_of_a_million_members() -> None:
    assert entries.COUNT == 1_000_000
    assert entries.run(20_000, seed=3) == []


@pytest.mark.vm
def test_five_of_three_hundred_lives_of_machines(tool: Callable[[str], str]) -> None:
    for name in ("busybox", "mke2fs", "qemu-img", "qemu-system-x86_64"):
        tool(name)
    assert lifecycle.COUNT == 300
    assert lifecycle.run(5, seed=4) == []


@pytest.mark.vm
@pytest.mark.timeout(300)
def test_a_hundred_and_twenty_of_ten_thousand_execs(tool: Callable[[str], str]) -> None:
    for name in ("busybox", "mke2fs", "qemu-img", "qemu-system-x86_64"):
        tool(name)
    assert execs.COUNT == 10_000
    assert execs.run(120, seed=3) == []


def test_six_of_a_hundred_machines_of_two_clients(go_tools: Path, boot_media_store: Path) -> None:
    assert fleet.COUNT == 100
    assert fleet.run(6, seed=5) == []


@pytest.mark.root
def test_sixty_of_three_thousand_random_images(tool: Callable[[str], str]) -> None:
    tool("umoci")
    assert overlay.COUNT == 3_000
    assert overlay.run(60, seed=2) == []


@pytest.mark.root
def test_sixty_of_three_thousand_random_archives(tool: Callable[[str], str]) -> None:
    tool("umoci")
    assert headers.COUNT == 3_000
    assert headers.run(60, seed=2) == []


def test_forty_of_a_thousand_migrations() -> None:
    assert vmotion.COUNT == 1000
    assert vmotion.run(40, seed=3) == []


def test_twenty_thousand_of_a_million_copied_entries() -> None:
    assert copies.COUNT == 1_000_000
    assert copies.run(20_000, seed=1) == []


def test_twenty_thousand_of_a_million_hostile_frames_into_a_relay() -> None:
    assert relay_frames.COUNT == 1_000_000
    assert relay_frames.run(20_000, seed=2) == []


@pytest.mark.vm
def test_thirty_of_a_thousand_processes_that_exit_at_once(boot_store: Path) -> None:
    assert exits.COUNT == 1_000
    assert exits.run(30, seed=2) == []


@pytest.mark.vm
def test_four_of_two_hundred_megabytes_for_a_slow_client_and_for_nobody(boot_store: Path) -> None:
    assert flood.COUNT == 200
    assert flood.run(4, seed=2) == []


@pytest.mark.vm
def test_half_a_mebibyte_of_sixty_four_each_way(boot_store: Path) -> None:
    assert line.COUNT == 64 << 10
    assert line.run(512, seed=2) == []


def test_the_program_prints_one_line(corner_layout: Path) -> None:
    command = [sys.executable, ROOT / "scripts" / "soak", "kill", "--count", "1", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, timeout=100, check=True)
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result.pop("seconds") > 0
    assert result == {"name": "kill", "seed": 7, "count": 1, "failures": []}
