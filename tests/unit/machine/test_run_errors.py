"""What a lost machine leaves behind, told in the tool's words."""

from __future__ import annotations

import pytest

from agent.host.errors import (
    GuestLostError,
    MachineEndedError,
    NeverConnectedError,
    NoHelloError,
    OutputError,
    RelayError,
)
from converter.errors import HypervisorError, SaltflatError
from converter.machine.explain import translated_error


def explained(
    error: RelayError, *, status: int | None = 0, console: str = "", log: str = ""
) -> SaltflatError:
    return translated_error(error, console=console, log=log, hypervisor_exit=status)


ENDED = MachineEndedError("The machine ended.", hint="Look at the console text.")


def test_a_kernel_panic_is_named() -> None:
    console = (
        "[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs\n"
        "[    2.2] CPU: 0 PID: 1 Comm: swapper/0\n"
    )
    error = explained(ENDED, console=console)
    assert isinstance(error, HypervisorError)
    assert error.what == "The guest's kernel panicked: VFS: Unable to mount root fs"
    assert "CPU: 0 PID: 1" in str(error.hint)


def test_a_panic_for_want_of_memory_says_what_to_do() -> None:
    console = "Kernel panic - not syncing: System is deadlocked on memory\n"
    error = explained(ENDED, console=console)
    assert "--memory" in str(error.hint)


def test_what_qemu_said_is_shown_when_it_fails() -> None:
    error = explained(ENDED, status=1, log="qemu-system-x86_64: could not open disk\n")
    assert "ended with status 1" in error.what
    assert "could not open disk" in str(error.hint)


def test_a_killed_qemu_is_told_from_a_failed_one() -> None:
    assert "killed by signal 9" in explained(ENDED, status=-9).what


@pytest.mark.parametrize(
    "error",
    [
        NeverConnectedError("Nobody came.", expected="somebody", hint="Look."),
        NoHelloError("No hello.", expected="a hello", hint="Look."),
        GuestLostError("Gone.", expected="an answer", hint="Look.", console="last line"),
    ],
)
def test_other_losses_keep_their_words(error: RelayError) -> None:
    translated = explained(error, status=None, console="agent: no disk")
    assert isinstance(translated, HypervisorError)
    assert (translated.what, translated.expected) == (error.what, error.expected)
    assert str(translated.hint).startswith("Look.")


def test_console_text_cannot_drive_the_terminal() -> None:
    console = "\x1b[2J\x1b]0;owned\x07Kernel panic - not syncing: \x1b[31mred\n"
    error = explained(ENDED, console=console)
    assert "\x1b" not in error.what + str(error.hint)
    assert "\x07" not in error.what + str(error.hint)


def test_only_the_last_lines_are_shown() -> None:
    console = "".join(f"line {number}\n" for number in range(1000))
    hint = str(explained(ENDED, console=console).hint)
    assert "line 999" in hint
    assert len(hint.splitlines()) < 20


def test_output_that_cannot_be_written_is_no_fault_of_the_machine() -> None:
    error = explained(OutputError("Disk full.", hint="Make room."))
    assert type(error) is SaltflatError
    assert error.exit_code == 1
