"""The fuzz targets: their corpora find nothing and cover their parsers, and planted bugs are found.

A bounded search tries the same inputs every time. It has to find each planted bug by a variation,
whatever the corpus itself finds, and nothing in the code as it is.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.fuzzers.covered import WANTED_PERCENT, measure, table
from scripts.fuzzers.finds import content_name
from scripts.fuzzers.planted import PLANTS, Plant, plant, search_in
from scripts.fuzzers.targets import NAMES, ROOT, corpus_folder, load_target, read_corpus

COUNT = 4000  # variations that a search may take
SEED = 1
MAX_CORPORA_BYTES = 2 << 20


@pytest.mark.parametrize("name", NAMES)
def test_the_bounded_search_finds_nothing_in_the_code_as_it_is(name: str) -> None:
    outcome = search_in(ROOT, name, count=COUNT, seed=SEED)
    assert outcome["replayed"] == len({*load_target(name).seeds(), *read_corpus(_corpus(name))})
    assert outcome["varied"] == COUNT, outcome["report"]
    assert not outcome["found_by_replay"], outcome["report"]
    assert not outcome["found_by_variation"], outcome["report"]


@pytest.mark.parametrize("bug", PLANTS, ids=lambda bug: f"{bug.target}: {bug.name}")
def test_a_variation_finds_the_planted_bug(bug: Plant, tmp_path: Path) -> None:
    plant(bug, tmp_path)
    outcome = search_in(tmp_path, bug.target, count=COUNT, seed=SEED)
    assert outcome["found_by_variation"], f"not within {COUNT} variations"


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus_alone_covers_each_parser(name: str) -> None:
    modules = measure(name)
    assert all(module.percent > WANTED_PERCENT for module in modules), f"\n{table(modules)}"


def test_corpora_are_small_and_named_by_their_content() -> None:
    files = [path for name in NAMES for path in _corpus(name).iterdir()]
    assert [path.name for path in files] == [content_name(path.read_bytes()) for path in files]
    assert sum(path.stat().st_size for path in files) <= MAX_CORPORA_BYTES


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_structured_variations_find_nothing(name: str, data: st.DataObject) -> None:
    target = load_target(name)
    made = data.draw(st.sampled_from(list(target.seeds())))
    choose: Random = data.draw(st.randoms(use_true_random=False))
    for _ in range(data.draw(st.integers(1, 3))):
        made = target.mutate(made, choose)
    target.one_input(made)


def test_the_guided_fuzzer_runs_and_counts(tmp_path: Path, lacking: Callable[[str], None]) -> None:
    if importlib.util.find_spec("atheris") is None:
        lacking("atheris has no wheel for this Python")
    command = [sys.executable, str(ROOT / "scripts" / "fuzz"), "state", "--count", "300"]
    command += ["--corpus", str(tmp_path / "corpus"), "--finds", str(tmp_path / "finds")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)
    line = json.loads(result.stdout)
    assert (line["target"], line["executions"], line["finds"]) == ("state", 300, [])
    assert line["corpus"] == len(list((tmp_path / "corpus").iterdir())) > 0


def _corpus(name: str) -> Path:
    return corpus_folder(name)
