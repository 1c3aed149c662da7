"""Choose what is worth keeping of many inputs: the smallest that together take every branch.

    python -m scripts.fuzzers.keep TARGET FOLDER...

Goes through the inputs in `FOLDER`s from the smallest up and keeps each that takes a way from line
to line of the target's parsers that none before it took, and that finds nothing. libFuzzer's merge
counts more than that, so its corpora are larger: good to fuzz with, too large to keep in a project.
"""

from __future__ import annotations

import sys
from pathlib import Path

import coverage

from scripts.fuzzers.finds import content_name
from scripts.fuzzers.judge import judge, limit_memory
from scripts.fuzzers.targets import corpus_folder, load_target, read_corpus


def choose(name: str, folders: list[Path]) -> list[bytes]:
    """Return the inputs to keep. Has to be the first in its process to load the target."""
    recorder = coverage.Coverage(
        branch=True, config_file=False, data_file=None, include=["*/converter/*"]
    )
    recorder.start()
    target = load_target(name)
    inputs = {*target.seeds(), *(data for folder in folders for data in read_corpus(folder))}
    candidates = []
    for number, data in enumerate(sorted(inputs, key=lambda each: (len(each), each))):
        recorder.switch_context(f"{number}")
        if judge(target.one_input, data) is None:
            candidates.append((f"{number}", data))
    recorder.stop()
    files = [str(sys.modules[module].__file__) for module in target.MODULES]
    collected = recorder.get_data()
    kept, taken = [], set[tuple[str, int, int]]()
    for context, data in candidates:
        collected.set_query_context(context)
        arcs = {(file, *arc) for file in files for arc in collected.arcs(file) or ()}
        if not arcs <= taken:
            taken |= arcs
            kept.append(data)
    return kept


def main(name: str, folders: list[Path]) -> None:
    """Replace the kept corpus by the best of itself and of `folders`."""
    limit_memory()
    corpus = corpus_folder(name)
    kept = {content_name(data): data for data in choose(name, [corpus, *folders])}
    corpus.mkdir(parents=True, exist_ok=True)
    for path in corpus.iterdir():
        if path.name not in kept:
            path.unlink()
    for file, data in kept.items():
        (corpus / file).write_bytes(data)
    print(f"{name}: {len(kept)} inputs, {sum(map(len, kept.values()))} bytes")


if __name__ == "__main__":
    main(sys.argv[1], [Path(folder) for folder in sys.argv[2:]])
