"""One thing done to each of several machines. Owns what a failure of one means for the others."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence

import click

from converter.cli.output import Output
from converter.cli.report import report
from converter.errors import SaltflatError

SOME_FAILED = 1
_WORKERS = 64

Act = Callable[[str], str | None]
_Outcome = str | BaseException | None


def for_each(output: Output, names: Sequence[str], act: Act, *, together: bool = False) -> int:
    """Call `act` for each name and print what it returns, in the order of the names; None: nothing.

    An error ends only what it is about: it is printed, the others are done, and the exit code is 1.
    Of a single name the error is the command's own, with its own exit code. `together` does not
    wait for one before the next begins, where each may take long.
    """
    if len(names) == 1:
        _print(act(names[0]))
        return 0
    failed = False
    for outcome in _side_by_side(names, act) if together else _in_turn(names, act):
        if isinstance(outcome, SaltflatError):
            failed = True
            report(output, outcome, SOME_FAILED)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            _print(outcome)
    return SOME_FAILED if failed else 0


def _print(said: str | None) -> None:
    if said is not None:
        click.echo(said)


def _in_turn(names: Sequence[str], act: Act) -> Iterator[_Outcome]:
    for name in names:
        try:
            yield act(name)
        except SaltflatError as error:
            yield error


def _side_by_side(names: Sequence[str], act: Act) -> Iterator[_Outcome]:
    # Daemons, so that Ctrl-C ends the command though a machine takes its time.
    todo: queue.SimpleQueue[tuple[str, queue.SimpleQueue[_Outcome]]] = queue.SimpleQueue()
    outcomes = []
    for name in names:
        outcomes.append(queue.SimpleQueue[_Outcome]())
        todo.put((name, outcomes[-1]))

    def work() -> None:
        while True:
            try:
                name, outcome = todo.get_nowait()
            except queue.Empty:
                return
            try:
                outcome.put(act(name))
            except BaseException as error:  # raised again where it can be seen
                outcome.put(error)

    for _ in range(min(_WORKERS, len(names))):
        threading.Thread(target=work, daemon=True).start()
    for outcome in outcomes:
        yield outcome.get()
