"""Which lines of its parsers a corpus reaches, on its own: no seeds, no variations.

    python -m scripts.fuzzers.covered TARGET [CORPUS]

Prints one JSON line: for each module of the target its lines (statements, as coverage.py counts
them) and the numbers of those that were not reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scripts.fuzzers.targets import ROOT, corpus_folder, load_target, read_corpus

WANTED_PERCENT = 95.0
_TIMEOUT_SECONDS = 110


@dataclass(frozen=True, slots=True)
class Module:
    """One row of the table."""

    name: str
    lines: int
    missing: tuple[int, ...]

    @property
    def percent(self) -> float:
        """Return how much of the module was reached."""
        return 100 * (1 - len(self.missing) / self.lines)


def measure(target: str, corpus: Path | None = None) -> list[Module]:
    """Replay a corpus, by default the kept one, in a process of its own; return the rows."""
    result = subprocess.run(
        [sys.executable, "-m", "scripts.fuzzers.covered", target, str(corpus or "")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=True,
    )
    return [
        Module(name, lines, tuple(missing)) for name, lines, missing in json.loads(result.stdout)
    ]


def table(modules: list[Module]) -> str:
    """Return the rows as text, the lines that were not reached behind each."""
    rows = [f"{'module':<40} {'lines':>6} {'reached':>8}  not reached"]
    for module in modules:
        missing = ", ".join(map(str, module.missing))
        rows.append(
            f"{module.name:<40} {module.lines:>6} {module.percent:>7.1f}%  {missing}".rstrip()
        )
    return "\n".join(rows)


def _main(name: str, folder: Path) -> None:
    import coverage  # noqa: PLC0415 - only here: others who import this module need none of it

    recorder = coverage.Coverage(config_file=False, data_file=None, include=["*/converter/*"])
    # What no input decides: the type checker, this machine's byte order, what is installed.
    recorder.exclude("if TYPE_CHECKING:")
    recorder.exclude('if sys.byteorder == "big":')
    recorder.exclude("except ImportError:")
    recorder.exclude(r"^\s*raise AssertionError")  # what no input is to reach
    recorder.exclude(r"^\s*\.\.\.$|: \.\.\.$")  # a protocol's body
    recorder.start()
    target = load_target(name)
    for data in read_corpus(folder):
        target.one_input(data)
    recorder.stop()
    rows = []
    for module in target.MODULES:
        path = sys.modules[module].__file__
        assert path is not None
        _, statements, _, missing, _ = recorder.analysis2(path)
        rows.append((module, len(statements), missing))
    print(json.dumps(rows))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]) if sys.argv[2] else corpus_folder(sys.argv[1]))
