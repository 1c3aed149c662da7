"""Starting and removing a VM is for one at a time, whoever it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.host.relay.roster import Roster, WorkedOnError

ONE, OTHER = "501c62c0-f137-4aa0-8d3e-5c2b1e6f0a11", "501c62c0-f137-4aa0-8d3e-5c2b1e6f0a12"
HOLDER = """
import sys
from pathlib import Path
from agent.host.relay.roster import Roster
with Roster(Path(sys.argv[1])).working_on(sys.argv[2], 0):
    print("has it", flush=True)
    sys.stdin.read()
"""


def test_it_is_one_at_a_time_for_each_machine(tmp_path: Path) -> None:
    roster, same_process = Roster(tmp_path / "relays"), Roster(tmp_path / "relays")
    with roster.working_on(ONE, 0):
        with pytest.raises(WorkedOnError), same_process.working_on(ONE, 0):
            pass
        with same_process.working_on(OTHER, 0):
            pass
    with same_process.working_on(ONE, 0):
        pass


def test_it_ends_with_the_process_that_works(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "relays"), ONE]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "has it\n"
        roster = Roster(tmp_path / "relays")
        with pytest.raises(WorkedOnError), roster.working_on(ONE, 0):
            pass
        holder.kill()
        holder.wait(10)
        with roster.working_on(ONE, 0):
            pass
