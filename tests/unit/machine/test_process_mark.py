"""Processes that cannot be mistaken for others."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from converter.machine.process_mark import ProcessMark, own_mark


def mark_of(process: subprocess.Popen[bytes]) -> ProcessMark:
    stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return replace(own_mark(), pid=process.pid, start_ticks=int(stat[19]))


def test_a_mark_survives_being_written_down() -> None:
    mark = own_mark()
    assert mark.pid == os.getpid()
    assert ProcessMark.parse(f"{mark}\n") == mark
    assert mark.is_alive()


@pytest.mark.parametrize("text", ["", "12", "12 34", "-1 2 x", "a b c", "1 2 3 4", "1.0 2 x"])
def test_what_was_not_written_whole_is_no_mark(text: str) -> None:
    assert ProcessMark.parse(text) is None


def test_a_process_that_ends_and_one_that_nobody_reaps() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        mark = mark_of(process)
        assert mark.is_alive()
        assert not mark.wait(0)
        mark.signal(signal.SIGKILL)
        assert mark.wait(20)
        assert not mark.is_alive()  # a zombie by now
        assert mark.open() is None
    mark.signal(signal.SIGKILL)  # nobody


def test_the_same_pid_in_another_boot_or_of_a_later_process_is_somebody_else() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        mark = mark_of(process)
        for other in (
            replace(mark, start_ticks=mark.start_ticks - 1),
            replace(mark, boot_id="0" * 36),
        ):
            assert not other.is_alive()
            assert other.wait(0)
            other.signal(signal.SIGKILL)
        assert process.poll() is None
        process.kill()
