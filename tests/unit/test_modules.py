"""What files may be: no drawers for odds and ends, and none that does not fit in the head."""

from __future__ import annotations

from tests.unit.test_imports import PACKAGES, ROOT

LONGEST_FILE_LINES = 450


def test_no_drawer_for_odds_and_ends() -> None:
    vague = {"util", "utils", "helper", "helpers", "common", "misc"}
    files = [path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")]
    names = {part for path in files for part in path.relative_to(ROOT).with_suffix("").parts}
    assert names & vague == set()


def test_files_fit_in_the_head() -> None:
    folders = [*PACKAGES, "tests", "scripts"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    long = {
        f"{path.relative_to(ROOT)}: {count} lines"
        for path in files
        if (count := len(path.read_bytes().splitlines())) > LONGEST_FILE_LINES
    }
    assert not long, "\n".join(long)
