"""Say why a machine failed, from its console and the hypervisor's log. Pure."""

from __future__ import annotations

import re

from agent.host.errors import MachineEndedError, NoHelloError, OutputError, RelayError
from agent.host.status import printable
from converter.errors import HypervisorError, SaltflatError

_CONSOLE_LINES = 12
_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")
_OUT_OF_MEMORY = re.compile(r"deadlocked on memory|Out of memory|out_of_memory")


def translated_error(
    error: RelayError, *, console: str, log: str, hypervisor_exit: int | None
) -> SaltflatError:
    """Say in the tool's terms what went wrong, as precisely as the machine's traces allow.

    `hypervisor_exit` is how its process ended, negative for a signal; None: it runs, or nobody
    knows. `console` and `log`, which a guest may have written, are shown only as text.
    """
    if isinstance(error, OutputError):
        return SaltflatError(error.what, expected=error.expected, hint=error.hint)
    console = console or error.console
    panic = _PANIC.search(console)
    if panic is not None:
        memory = _OUT_OF_MEMORY.search(console) is not None
        return HypervisorError(
            f"The guest's kernel panicked: {printable(panic[1]).strip()}",
            expected=error.expected,
            hint=_with_lines("Give it more memory (--memory)." if memory else error.hint, console),
            cause=error.kind,
        )
    if isinstance(error, MachineEndedError) and hypervisor_exit not in (0, None):
        assert hypervisor_exit is not None
        how = f"ended with status {hypervisor_exit}"
        if hypervisor_exit < 0:
            how = f"was killed by signal {-hypervisor_exit}"
        return HypervisorError(
            f"The hypervisor {how} before the guest's process had ended.",
            expected=error.expected,
            hint=_with_lines("This is what it said last:", log),
            cause=error.kind,
        )
    shown = console if isinstance(error, (MachineEndedError, NoHelloError)) else error.console
    return HypervisorError(
        error.what,
        expected=error.expected,
        hint=_with_lines(error.hint, shown),
        cause=error.kind,
    )


def _with_lines(hint: str | None, text: str) -> str:
    """Append the last lines of `text`, which a guest may have written, to a hint."""
    lines = [printable(line).rstrip() for line in text.splitlines()]
    shown = [line for line in lines if line][-_CONSOLE_LINES:]
    return "\n    ".join([hint or "The last lines were:", *shown])
