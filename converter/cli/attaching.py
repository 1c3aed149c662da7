"""The user's terminal at a process in a guest: what attach, exec, run and start -a share.

Owns raw mode, window size and signals for as long as that lasts, and what its ends mean here: an
exit code and a line on stderr. The bytes are moved by agent.host.client.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import click

from agent.host.client import UNANSWERED, Address, Manners, attach
from agent.host.errors import AbortedError, DetachedError
from agent.host.signals import SignalInbox, catch_signals
from agent.host.status import ExitStatus, printable
from agent.host.stdio import Stdio
from agent.host.terminal import raw_mode, window_size
from converter.cli.output import Output
from converter.errors import UsageError

SIGNALLED = 128  # plus the signal's number: how shells tell it
_STDOUT_FIRST = (1, 0, 2)

Errors = Callable[[], contextlib.AbstractContextManager[None]]
Seated = contextlib.AbstractContextManager[tuple[Stdio, Manners]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """How the user sits at a process: `stdin` is passed on, `tty` says that it has a terminal.

    The `detach_keys` count at a terminal only: elsewhere input may be any bytes. With `end_stdin`
    the end of our input is its end.
    """

    stdin: bool
    tty: bool
    detach_keys: bytes = b""
    sig_proxy: bool = True
    end_stdin: bool = True

    def check(self) -> None:
        """Raise UsageError when this cannot be: a terminal for a process from what is none."""
        if self.tty and self.stdin and not sys.stdin.isatty():
            raise UsageError(
                "Standard input is not a terminal.",
                expected="a terminal, as the process has one that it is passed on to",
                hint="Do not pass input on (leave out -i, or attach --no-stdin), or leave out -t.",
            )


def terminal_size() -> tuple[int, int] | None:
    """Return (rows, columns) of the terminal that this command is used at, None without one."""
    sizes = (window_size(descriptor) for descriptor in _STDOUT_FIRST)
    return next((size for size in sizes if size is not None), None)


@contextlib.contextmanager
def _seated(output: Output, seat: Seat, inbox: SignalInbox) -> Iterator[tuple[Stdio, Manners]]:
    """Have the terminal for a process in a guest; give it back on every way out."""
    output.close()  # from here on the terminal is the guest's
    sys.stdout.flush()
    stdin = sys.stdin.fileno() if seat.stdin else None
    is_raw = seat.tty and stdin is not None

    def show(event: Mapping[str, object]) -> None:
        if event.get("type") == "warning":  # a raw terminal does not go back to its first column
            text = f"Warning: {printable(str(event.get('text', '')))}"
            click.echo(text + ("\r\n" if is_raw else "\n"), err=True, nl=False)

    manners = Manners(
        on_event=show,
        detach_keys=seat.detach_keys if seat.tty else b"",
        sig_proxy=seat.sig_proxy,
        end_stdin=seat.end_stdin,
        inbox=inbox,
        terminal_size=terminal_size if seat.tty else None,
        fatal=UNANSWERED,
    )
    with raw_mode(stdin) if is_raw and stdin is not None else contextlib.nullcontext():
        yield Stdio(stdin=stdin), manners


def attach_seat(
    output: Output, address: Address, errors: Errors, seat: Seat, *, replay: str
) -> int:
    """Attach to a machine's main process until it ends; return the exit code for the command.

    `replay` is "all" of this boot's output, or "none". `errors` translates the library's errors.
    """

    def relay(seated: Seated) -> ExitStatus:
        with errors(), seated as (stdio, manners):
            # Who sees all that there was waits for the first end, whenever it came.
            first = 0 if replay == "all" else None
            return attach(address, stdio, replay=replay, manners=manners, ends_after=first)

    return relayed(output, seat, relay)


def relayed(output: Output, seat: Seat, relay: Callable[[Seated], ExitStatus]) -> int:
    """Have `relay` move the process's bytes until it ends; return the exit code for the command.

    It gets the user's end, which it enters when there is a process to move bytes for; signals are
    collected from the beginning. The exit code is the process's own; 0 when the user detached,
    128 + N when signal N ended this client, and when there was no process, why not on stderr and
    its code. Raises UsageError before `relay` is called.
    """
    seat.check()
    try:
        with catch_signals() as inbox:
            status = relay(_seated(output, seat, inbox))
    except DetachedError:
        click.echo("Detached; the process goes on.", err=True)
        return 0
    except AbortedError as error:
        output.close()
        click.echo(f"Error: {error.what}", err=True)
        return SIGNALLED + error.signal
    return exit_code(status)


def exit_code(status: ExitStatus) -> int:
    """Return a process's exit code; say on stderr why there was no process, if there was none."""
    if status.failure is not None:
        click.echo(f"Error: {status.failure.message}", err=True)
    return status.code
