"""The forms of progress: lines in a log, objects for a program, bars on a screen that is read."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pyte
import pytest
from rich.console import Console

from converter.cli.bars import BarRenderer
from converter.cli.progress import PlainRenderer, duration, make_renderer
from converter.events import (
    CONVERT,
    PULL,
    Event,
    Note,
    StepAdvanced,
    StepFinished,
    StepStarted,
    WorkPlanned,
)
from tests.unit.cli.test_totals import Clock

MB = 1_000_000
PULLING: list[Event] = [
    WorkPlanned(3, 100 * MB),
    StepStarted("layer 1/3", 60 * MB, PULL),
    StepStarted("layer 2/3", 30 * MB, PULL),
    StepAdvanced("layer 1/3", 15 * MB, PULL),
]
CONVERTING: list[Event] = [
    StepFinished("layer 1/3", "60000000 bytes", minor=True, phase=PULL),
    StepStarted("layer 1/3", 60 * MB, CONVERT),
    StepAdvanced("layer 1/3", 30 * MB, CONVERT),
]
CONVERTED = StepFinished("layer 1/3", "80.0 MB", phase=CONVERT)


def plain(*events: Event, seconds: float = 0, verbose: bool = False) -> list[str]:
    """Return the lines for events that come `seconds` apart."""
    clock, lines = Clock(), list[str]()
    renderer = PlainRenderer(lines.append, verbose=verbose, clock=clock)
    for event in events:
        clock.seconds += seconds
        renderer.show(event)
    renderer.close()
    return lines


def test_a_log_has_a_line_for_each_finished_layer() -> None:
    assert plain(*PULLING, *CONVERTING, CONVERTED) == ["layer 1/3: 80.0 MB"]
    assert plain(*PULLING, *CONVERTING, CONVERTED, verbose=True) == [
        "layer 1/3: pulling ...",
        "layer 2/3: pulling ...",
        "layer 1/3: 60000000 bytes",
        "layer 1/3: converting ...",
        "layer 1/3: 80.0 MB",
    ]


def test_a_sign_of_life_has_the_totals() -> None:
    assert plain(*PULLING, *CONVERTING, CONVERTED, seconds=5) == [
        "layer 1/3: pulling 15.0 of 60.0 MB; "
        "in all 15.0 pulled, 0.0 converted of 100.0 MB, 3:05 left",
        "layer 1/3: converting 30.0 of 60.0 MB; "
        "in all 60.0 pulled, 30.0 converted of 100.0 MB, 0:37 left",
        "layer 1/3: 80.0 MB",
    ]


def test_signs_of_life_are_five_seconds_apart() -> None:
    steps = [StepAdvanced("read x", number * MB) for number in range(1, 21)]
    assert plain(StepStarted("read x"), *steps, seconds=1) == [
        f"read x: {number}.0 MB" for number in (4, 9, 14, 19)
    ]
    notes = [Note("a"), *steps[:3], Note("b"), *steps[3:6]]  # any line is a sign of life
    assert plain(*notes, seconds=1) == ["a", "b"]


def test_minor_things_are_for_who_asks() -> None:
    events = [StepFinished("layer 1/1", "cached", minor=True), Note("x", minor=True)]
    assert plain(*events) == []
    assert plain(*events, Note("y", warning=True), verbose=True) == [
        "layer 1/1: cached",
        "x",
        "Warning: y",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3723, "1:02:03")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Screen:
    """A terminal that is read: what the bars draw is fed to an emulator of one."""

    def __init__(self, columns: int = 90, encoding: str = "utf-8") -> None:
        self.clock = Clock()
        self._raw = io.BytesIO()
        file = io.TextIOWrapper(self._raw, encoding, errors="backslashreplace", write_through=True)
        console = Console(
            file=file, force_terminal=True, width=columns, height=20, color_system="standard"
        )
        self._screen = pyte.Screen(columns, 20)
        self._screen.set_mode(pyte.modes.LNM)  # what a terminal's driver does to line ends
        self.renderer = BarRenderer(verbose=False, clock=self.clock, console=console)

    def show(self, *events: Event) -> list[str]:
        """Return the lines on the screen after these events."""
        for event in events:
            self.renderer.show(event)
        self.renderer.refresh()
        return self.lines()

    def lines(self) -> list[str]:
        """Return the lines on the screen, without their ends and those at the bottom."""
        pyte.ByteStream(self._screen).feed(self._raw.getvalue())
        self._raw.seek(0)
        self._raw.truncate()
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip().split("\n")

    @property
    def cursor_is_hidden(self) -> bool:
        return bool(self._screen.cursor.hidden)


def words(lines: list[str]) -> list[str]:
    """Return lines without their bars, and with single spaces."""
    return [" ".join(re.sub(r"[━╸╺-]+", " ", line).split()) for line in lines]


def test_a_layer_has_one_bar_that_fills_twice() -> None:
    screen = Screen()
    screen.clock.seconds = 0
    first = screen.show(*PULLING)
    assert words(first) == [
        "layer 1/3 pulling 15.0/60.0 MB",
        "layer 2/3 pulling 0.0/30.0 MB",
        "in all 8% 100.0 MB",
    ]
    assert len({line.index("━") for line in first}) == 1  # the bars begin in one column
    screen.clock.seconds = 10
    assert words(screen.show(*CONVERTING)) == [
        "layer 2/3 pulling 0.0/30.0 MB",
        "layer 1/3 converting 30.0/60.0 MB",
        "in all 45% 100.0 MB 0:12 left",
    ]
    assert words(screen.show(CONVERTED)) == [
        "layer 1/3: 80.0 MB",
        "layer 2/3 pulling 0.0/30.0 MB",
        "in all 60% 100.0 MB 0:07 left",
    ]
    screen.renderer.close()
    assert screen.lines() == ["layer 1/3: 80.0 MB"]  # bars go, lines stay
    assert not screen.cursor_is_hidden


def test_the_cursor_is_never_away() -> None:
    """Whoever is killed while bars are there leaves a terminal that can be used."""
    screen = Screen()
    screen.show(*PULLING)
    assert not screen.cursor_is_hidden
    screen.renderer.close()


def test_steps_of_unknown_size_and_names_that_look_like_markup() -> None:
    screen = Screen()
    assert words(screen.show(StepStarted("read [bold]x[/bold].tar"))) == ["read [bold]x[/bold].tar"]
    assert words(screen.show(StepAdvanced("read [bold]x[/bold].tar", 2 * MB))) == [
        "read [bold]x[/bold].tar 2.0 MB"
    ]
    lines = screen.show(StepFinished("read [bold]x[/bold].tar", "2.0 MB"))
    assert lines == ["read [bold]x[/bold].tar: 2.0 MB"]
    screen.renderer.close()


@pytest.mark.parametrize("columns", [20, 30, 40, 50, 60, 132])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_no_terminal_is_too_narrow_or_too_old(columns: int, encoding: str) -> None:
    screen = Screen(columns, encoding)
    assert len(screen.show(*PULLING)) == 3  # a line each, none of which is broken
    lines = screen.show(*CONVERTING, CONVERTED)
    assert lines[0] == "layer 1/3: 80.0 MB"
    assert len(lines) == 3
    text = "".join(lines)
    assert text.encode(encoding).decode(encoding) == text
    assert "\\u" not in text
    screen.renderer.close()
    assert screen.lines() == ["layer 1/3: 80.0 MB"]


def test_bars_are_for_terminals_that_can_move_their_cursor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_renderer("tty", verbose=False), PlainRenderer)
    monkeypatch.setenv("TERM", "xterm")
    renderer = make_renderer("tty", verbose=False)
    assert isinstance(renderer, BarRenderer)
    renderer.close()
    assert isinstance(make_renderer("auto", verbose=False), PlainRenderer)  # stderr is captured


def test_every_event_of_the_json_form_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    page = Path(__file__).resolve().parents[3] / "docs" / "progress.md"
    rows = re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|", page.read_text(), re.MULTILINE)
    documented = {event: re.findall(r"`(\w+)`", members) for event, members in rows}
    renderer = make_renderer("json", verbose=False)
    for event in (*PULLING, *CONVERTING, CONVERTED, Note("x")):
        renderer.show(event)
    renderer.close()
    objects = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {entry["event"] for entry in objects} == set(documented)
    for entry in objects:
        assert entry.pop("schema") == 1
        assert list(entry) == ["event", *documented[entry["event"]]]
