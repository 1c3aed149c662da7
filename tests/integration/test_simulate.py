"""scripts/simulate as a command: what it prints is what the model says, in any process."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from scripts.simulations.costs import Costs, Site, read_costs
from scripts.simulations.large import compare
from scripts.simulations.population import Shape, populate
from tests.images.cache import ROOT
from tests.integration.conftest import Tool

pytestmark = pytest.mark.integration


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/simulate to its end."""
    command = [str(ROOT / "scripts" / "simulate"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_same_seed_gives_the_same_hours_in_another_process() -> None:
    arguments = ["--images", "200", "--layers", "800", "--workers", "5", "--seed", "3"]
    done = simulate("batch", *arguments, "--format", "json")
    document = json.loads(done.stdout)
    site = Site(5)
    forest = populate(Shape(images=200, layers=800), 3)
    assert document["ways"] == {
        way.name: asdict(outcome) for way, outcome in compare(forest, Costs(), site)
    }
    assert (document["site"], document["costs"]) == (asdict(site), asdict(Costs()))


def test_costs_are_measured_and_predict_the_bytes_of_a_batch(tool: Tool, tmp_path: Path) -> None:
    tool("docker-registry")
    kept = tmp_path / "costs.json"
    done = simulate("costs", str(kept), "--rounds", "1", "--scale", "1")
    assert done.returncode == 0, done.stderr
    costs = read_costs(kept)
    # A disk is hardly more than its blocks, and no seconds were measured that nothing takes.
    assert 1.0 <= costs.disk_bytes < 1.1
    assert 0.0 < costs.regained_bytes < 0.5
    assert min(costs.content_byte_seconds, costs.fetch_byte_seconds, costs.push_byte_seconds) > 0
    assert min(costs.content_processors, costs.fetch_processors) > 0.5
    batch = ["--count", "2", "--files", "50", "--jobs", "2", "--cache"]
    done = simulate("check", str(kept), *batch)
    assert done.returncode in (0, 1), done.stderr  # how near the times are is for a quiet machine
    off = dict(re.findall(r"(\w+) ([+-][0-9.]+)%", done.stdout))
    assert off["fetched"] == "+0.0"
    assert abs(float(off["written"])) < 15
    assert abs(float(off["sent"])) < 15
