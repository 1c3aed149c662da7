"""Rows of the case table by the command itself: what their common guest leaves out of the product.

That is the store, the machine, the line, the supervisor's loop, and the agent as PID 1 that has
removed its own files. `test_docker_cases.py` has all rows.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases import rows
from tests.cases.observe import observe
from tests.images import cases
from tests.integration.conftest import Saltflat
from tests.integration.test_docker_cases import differences

pytestmark = [pytest.mark.integration, pytest.mark.vm, pytest.mark.timeout(300)]

BY_COMMAND = (
    "defaults",
    "--group-add for a user with groups",
    "--read-only with --tmpfs",
    "--init reaps and is PID 1",
    "--pid host",
    "a command that is no program",
)


def run(saltflat: Saltflat, store: Path, *arguments: str) -> tuple[int, bytes, str]:
    # The table's guest has no network, nor has what runc ran in.
    flags = ("--hostname", rows.HOST_NAME, "--network", "none", "--store", str(store))
    done = saltflat("run", "--rm", *flags, *arguments, timeout_seconds=200)
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.parametrize("name", BY_COMMAND)
def test_a_row_by_the_command(saltflat: Saltflat, store: Path, name: str) -> None:
    (row,) = [row for row in rows.load() if row.id == name]
    source = f"oci:{cases.layout()}:latest"
    code, output, errors = run(saltflat, store, *row.flags, source, *row.command)
    seen = observe(output, code=code)
    assert not differences(row, seen, rows.load_seen()), errors


def test_what_is_left_running_beside_the_machine_s_processes_ends(
    saltflat: Saltflat, store: Path
) -> None:
    """Leave a child behind that holds the output, where no PID namespace would end it."""
    script = "sleep 100000 & echo $!; exit 6"
    source = f"oci:{cases.layout()}:latest"
    code, output, _ = run(saltflat, store, "--pid", "host", source, "sh", "-c", script)
    assert (code, int(output) > 1) == (6, True)


@pytest.mark.parametrize(
    "flags", [["--cap-add", "FLY"], ["--ulimit", "nofile=2:1"], ["--oom-score-adj", "5000"]]
)
def test_what_is_refused_costs_no_machine(
    saltflat: Saltflat, store: Path, flags: list[str]
) -> None:
    code, output, errors = run(saltflat, store, *flags, "no-such-image")
    assert (code, output) == (125, b"")
    assert flags[0] in errors
