"""Progress of real conversions: in a real terminal, in a log, and for a program that reads it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyte
import pytest

from tests.images import archives
from tests.images.prepared import SALTFLAT
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration

PHASES = ("pull", "convert")
CONTROL_SEQUENCE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(rb"\x1b\[[0-9;]*3[0-9][0-9;]*m")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a terminal got from a command: its bytes, its last screen, the exit code."""

    raw: bytes
    lines: list[str]
    code: int
    cursor_is_hidden: bool
    settings_changed: bool


def in_terminal(
    saltflat: Saltflat,
    *arguments: str | Path,
    columns: int = 100,
    environment: Mapping[str, str] | None = None,
    on_text: tuple[bytes, Callable[[int], object]] | None = None,
) -> Seen:
    """Run saltflat in a pseudo terminal; at the text on_text[0], do on_text[1] with its master."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    before = termios.tcgetattr(slave)
    chosen = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(environment or {})}
    process = subprocess.Popen(
        # Its controlling terminal too, so that control characters are signals to it.
        ["setsid", "--ctty", *SALTFLAT, *map(os.fspath, arguments)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, **saltflat.environment, **chosen},
    )
    raw = b""
    screen = pyte.Screen(columns, 24)
    stream = pyte.ByteStream(screen)
    while process.poll() is None or _readable(master):
        if not _readable(master):
            continue
        data = os.read(master, 65536)
        raw += data
        stream.feed(data)
        if on_text is not None and on_text[0] in raw:
            on_text[1](master)
            on_text = None
    changed = termios.tcgetattr(slave) != before
    os.close(master)
    os.close(slave)
    lines = "\n".join(line.rstrip() for line in screen.display).rstrip().split("\n")
    return Seen(raw, lines, process.returncode, bool(screen.cursor.hidden), changed)


def _readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0.1)[0])


@pytest.fixture(scope="module")
def pulled(push: Callable[..., str], corner_layout: Path) -> str:
    """Return the reference of the corner image in the registry."""
    return push(corner_layout, "latest", "progress:1")


def test_a_terminal_ends_as_if_there_had_been_no_bars(
    saltflat: Saltflat, pulled: str, tmp_path: Path
) -> None:
    seen = in_terminal(saltflat, "convert", "--store", tmp_path, "--plain-http", pulled)
    assert seen.code == 0
    assert b"in all" in seen.raw
    assert [line.partition(":")[0] for line in seen.lines[:5]] == [
        f"layer {number}/5" for number in range(1, 6)
    ]
    assert seen.lines[5].startswith(f"{pulled}  sha256:")
    assert len(seen.lines) == 5 + 1 + 4  # layers, image, links: no bar is left
    assert not seen.cursor_is_hidden
    assert not seen.settings_changed


@pytest.mark.parametrize(
    ("environment", "columns"),
    [
        ({"NO_COLOR": "1"}, 100),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, 30),
        ({"TERM": "dumb"}, 100),
    ],
    ids=["no colour", "narrow and not UTF-8", "dumb"],
)
def test_terminals_that_can_do_less(
    saltflat: Saltflat,
    corner_layout: Path,
    tmp_path: Path,
    environment: Mapping[str, str],
    columns: int,
) -> None:
    source = f"oci:{corner_layout}:latest"
    seen = in_terminal(
        saltflat, "convert", "--store", tmp_path, "--format", "json", source,
        environment=environment, columns=columns,
    )  # fmt: skip
    assert seen.code == 0
    assert not COLOUR.search(seen.raw) or "NO_COLOR" not in environment
    assert not CONTROL_SEQUENCE.search(seen.raw) or environment.get("TERM") != "dumb"
    if "PYTHONUTF8" in environment:
        assert seen.raw.isascii()
    plain = CONTROL_SEQUENCE.sub(b"", seen.raw)
    for number in range(1, 6):
        assert f"layer {number}/5: ".encode() in plain


def test_control_c_leaves_the_terminal_as_it_was(saltflat: Saltflat, tmp_path: Path) -> None:
    pipe = tmp_path / "archive"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)  # held open, so that the archive never ends
    try:
        os.write(writer, b"\0" * 4096)
        seen = in_terminal(
            saltflat, "convert", "--store", tmp_path / "store", f"docker-archive:{pipe}",
            on_text=(b"read ", lambda master: os.write(master, b"\x03")),
        )  # fmt: skip
    finally:
        os.close(writer)
    assert seen.code == 130
    # The terminal itself echoes ^C, wherever the cursor stands.
    assert seen.lines[-1].endswith("Interrupted.")
    assert not seen.cursor_is_hidden
    assert not seen.settings_changed


def test_the_events_of_a_pull_for_a_program(
    saltflat: Saltflat, pulled: str, corner_layout: Path, tmp_path: Path
) -> None:
    """What docs/progress.md promises, of a real conversion: order, sums and pairs."""
    done = saltflat("--progress", "json", "convert", "--store", tmp_path, "--plain-http", pulled)
    assert done.returncode == 0
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert {event["schema"] for event in events} == {1}
    sizes = [len(layer) for layer in archives.parts_of(corner_layout, "latest").layers]
    planned = [event for event in events if event["event"] == "planned"]
    assert planned == [{"schema": 1, "event": "planned", "layers": 5, "total_bytes": sum(sizes)}]
    for number, size in enumerate(sizes, 1):
        for phase in PHASES:
            own = [
                event
                for event in events
                if event.get("step") == f"layer {number}/5" and event["phase"] == phase
            ]
            assert own[0]["event"] == "started"
            assert own[0]["total_bytes"] == size
            assert own[-1]["event"] == "finished"
            done_bytes = [event["done_bytes"] for event in own[1:-1]]
            assert done_bytes == sorted(done_bytes)
            assert all(0 <= count <= size for count in done_bytes)
    order = [(event["step"], event["phase"]) for event in events if event["event"] == "finished"]
    assert Counter(order) == Counter(
        (f"layer {number}/5", phase) for number in range(1, 6) for phase in PHASES
    )
    for number in range(1, 6):
        step = f"layer {number}/5"
        assert order.index((step, "pull")) < order.index((step, "convert"))

    again = saltflat("--progress", "json", "convert", "--store", tmp_path, "--plain-http", pulled)
    events = [json.loads(line) for line in again.stderr.splitlines()]
    finished = [event for event in events if event["event"] == "finished"]
    assert len(finished) == 5
    assert all(event["minor"] for event in finished)
    assert not [event for event in events if event["event"] == "planned"]


def test_a_log_has_a_line_for_each_layer_and_no_control_characters(
    saltflat: Saltflat, pulled: str, tmp_path: Path
) -> None:
    done = saltflat("convert", "--store", tmp_path, "--plain-http", pulled)
    lines = done.stderr.decode().splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"layer {n}/5" for n in range(1, 6)]
    assert not CONTROL_SEQUENCE.search(done.stderr)
    quiet = saltflat("-q", "convert", "--store", tmp_path / "q", "--plain-http", pulled)
    assert (quiet.returncode, quiet.stderr) == (0, b"")
