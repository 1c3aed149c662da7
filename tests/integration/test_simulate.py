"""scripts/simulate as a command: what it prints is what the model says, in any process."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict

import pytest

from scripts.simulations.costs import Costs, Site
from scripts.simulations.large import compare
from scripts.simulations.population import Shape, populate
from tests.images.cache import ROOT

pytestmark = pytest.mark.integration


def test_the_same_seed_gives_the_same_hours_in_another_process() -> None:
    arguments = ["--images", "200", "--layers", "800", "--workers", "5", "--seed", "3"]
    done = subprocess.run(
        [ROOT / "scripts" / "simulate", "batch", *arguments, "--format", "json"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    document = json.loads(done.stdout)
    site = Site(5)
    forest = populate(Shape(images=200, layers=800), 3)
    assert document["ways"] == {
        way.name: asdict(outcome) for way, outcome in compare(forest, Costs(), site)
    }
    assert (document["site"], document["costs"]) == (asdict(site), asdict(Costs()))
