"""A terminal with bars, one for each thing at work, and lines that stay above them.

Owns what all such screens share: columns that fit, the cursor, and bars that go when their thing
has ended. What the bars tell of belongs to `bars` and `batch_bars`.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID
from rich.table import Column

_NARROWEST_BAR = 8  # on a terminal with less room for it there is none


class BarScreen:
    """Bars by name on `console`, which is a terminal. To be opened once there is what to show."""

    def __init__(
        self, *columns: ProgressColumn, console: Console, kind: type[Progress] = Progress
    ) -> None:
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._progress = kind(
            *columns,
            console=console,
            transient=True,
            redirect_stdout=False,  # results come after progress has ended
        )

    def refresh(self) -> None:
        """Draw the bars now; they are drawn several times in a second anyway."""
        self._progress.refresh()

    def close(self) -> None:
        """Take the bars away."""
        self._progress.stop()

    def _open(self) -> None:
        self._progress.start()
        # Kept in sight: then there is nothing to restore when we are stopped or killed.
        self._console.show_cursor(True)

    def _begin(self, name: str, text: str, *, total: int | None, state: str) -> None:
        """Have a bar for `name` that begins anew."""
        self._end(name)
        self._tasks[name] = self._progress.add_task(text, total=total, state=state, left="")

    def _advance(self, name: str, completed: float) -> None:
        """Move the bar for `name`, if there is one."""
        if name in self._tasks:
            self._progress.update(self._tasks[name], completed=completed)

    def _end(self, name: str) -> None:
        """Take away the bar for `name`, if there is one."""
        task = self._tasks.pop(name, None)
        if task is not None:
            self._progress.remove_task(task)

    def _print(self, line: str) -> None:
        """Print what stays."""
        self.refresh()  # else the line would be printed above bars that have gone
        self._console.print(line, markup=False, highlight=False)


def column(width: int | None = None) -> Column:
    """Return a column of a table of bars; `width` is in characters, None for what it needs."""
    # Cropped, since an ellipsis is no character of every encoding.
    return Column(width=width, no_wrap=True, overflow="crop")


def bar_column(console: Console, *, widest: int, beside: int) -> list[BarColumn]:
    """Return the column of the bars themselves, none if there is no room for it.

    `beside` is how many characters stand beside a bar at the most, `widest` how many it may have.
    """
    room = min(widest, console.width - beside)
    return [BarColumn(room)] if room >= _NARROWEST_BAR else []
