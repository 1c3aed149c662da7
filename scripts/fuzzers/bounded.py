"""A bounded search without guidance: the same variations every time, for tests.

    python -m scripts.fuzzers.bounded TARGET COUNT SEED

First every input of the corpus and every seed is tried, then `count` variations of those that found
nothing. Prints one JSON line. Needs no fuzzer, only the target.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from random import Random

from scripts.fuzzers.judge import judge, limit_memory
from scripts.fuzzers.targets import Target, corpus_folder, load_target, read_corpus

_HANG_CPU_SECONDS = 1.0  # on the safe side of milliseconds, and a planted hang waits for it


@dataclass(slots=True)
class Outcome:
    """What a search did: `replayed` inputs, of which some found something, then `varied` ones.

    The search ends with the first variation that finds something.
    """

    replayed: int = 0
    found_by_replay: list[str] = field(default_factory=list)
    varied: int = 0
    found_by_variation: str = ""
    report: str = ""
    cpu_seconds: float = 0


def search(target: Target, inputs: Sequence[bytes], *, count: int, seed: int) -> Outcome:
    """Try `inputs`, then up to `count` variations of them, all chosen by `seed`."""
    outcome = Outcome(replayed=len(inputs))
    sound = []
    for data in inputs:
        find = judge(target.one_input, data, hang_cpu_seconds=_HANG_CPU_SECONDS)
        if find is None:
            sound.append(data)
        else:
            outcome.found_by_replay.append(find.signature)
            outcome.report = find.report
    choose = Random(seed)
    while outcome.varied < count:
        data = target.mutate(choose.choice(sound), choose)
        outcome.varied += 1
        find = judge(target.one_input, data, hang_cpu_seconds=_HANG_CPU_SECONDS)
        if find is not None:
            outcome.found_by_variation = find.signature
            outcome.report = find.report
            break
    times = os.times()
    outcome.cpu_seconds = round(times.user + times.system, 1)
    return outcome


def main(name: str, count: int, seed: int) -> None:
    """Search with the kept corpus and the seeds of the target `name`; print the outcome."""
    limit_memory()
    target = load_target(name)
    inputs = sorted({*target.seeds(), *read_corpus(corpus_folder(name))})
    print(json.dumps(asdict(search(target, inputs, count=count, seed=seed))))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
