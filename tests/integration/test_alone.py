"""tether.pyz as an image builder uses it: one file, a Python of any age, a line, a document.

The agent is a process here and the line a unix socket or a terminal; everything else is real. The
oldest Python is Debian's own, unpacked.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import secrets
import select
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.host.transport import UnixListener, private_directory
from tests.guests.host import GuestHost
from tests.images import prepared
from tests.images.cache import ROOT
from tinykernel import zipapp

pytestmark = pytest.mark.integration

SECONDS = 60.0
SHELL = ("/bin/sh", "-c")


@dataclass
class Guest:
    """An agent that runs, and the host at the other end of its line."""

    process: subprocess.Popen[bytes]
    host: GuestHost
    document: Path

    def started(self) -> None:
        self.host.wait(lambda: "started" in self.host.processes[0].messages, SECONDS)

    def exit_code(self) -> int:
        """Be its host until it has ended."""
        self.host.wait(lambda: self.process.poll() is not None, SECONDS)
        return self.process.wait()

    def said(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


class Alone:
    """What starts agents."""

    def __init__(self, folder: Path, python: tuple[list[str], dict[str, str]]) -> None:
        self.folder = folder
        self.python, self.environment = python
        self.file = folder / "tether.pyz"
        zipapp.write(self.file, zipapp.make_zipapp())

    def command(self, *arguments: str) -> list[str]:
        return [*self.python, str(self.file), *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def write(self, document: object) -> Path:
        path = self.folder / f"document-{secrets.token_hex(4)}.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    @contextlib.contextmanager
    def guest(self, run: dict[str, Any], *, line: str = "unix", **members: Any) -> Iterator[Guest]:
        """Start an agent on a line of that kind."""
        key = secrets.token_bytes(32)
        document = self.write({"schema": 1, "key": key.hex(), "run": run, **members})
        with private_directory() as place, contextlib.ExitStack() as stack:
            listener = stack.enter_context(UnixListener(place / "line"))
            channel = f"unix:{place / 'line'}"
            if line == "pty":
                channel = stack.enter_context(terminal(place / "line"))
            process = subprocess.Popen(
                self.command("--config", str(document), "--channel", channel),
                env=self.environment,
                stderr=subprocess.PIPE,
            )
            with process, contextlib.closing(GuestHost(listener, key)) as host:
                try:
                    yield Guest(process, host, document)
                finally:
                    process.kill()


@contextlib.contextmanager
def terminal(target: Path) -> Iterator[str]:
    """Yield the path of a terminal whose other side is joined to the socket at `target`."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    with socket.socket(socket.AF_UNIX) as joined:
        joined.connect(os.fspath(target))
        ends, stop = os.pipe()

        def carry() -> None:
            while True:
                ready, _, _ = select.select([master, joined, ends], [], [])
                if ends in ready:
                    return
                if master in ready:
                    joined.sendall(os.read(master, 65536))
                if joined in ready and (data := memoryview(joined.recv(65536))):
                    while data:
                        data = data[os.write(master, data) :]

        thread = threading.Thread(target=carry, daemon=True)
        thread.start()
        try:
            yield os.ttyname(slave)
        finally:
            os.close(stop)
            thread.join(10)
            for descriptor in (master, slave, ends):
                os.close(descriptor)


def this_python() -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-I"], dict(os.environ)


@pytest.fixture(params=["this Python", "Debian 11's"])
def any_alone(
    request: pytest.FixtureRequest, tool: Callable[[str], str], tmp_path: Path
) -> Iterator[Alone]:
    if request.param == "this Python":
        yield Alone(tmp_path, this_python())
    else:
        tool("mmdebstrap")
        yield Alone(tmp_path, prepared.oldest_python())


@pytest.fixture
def alone(tmp_path: Path) -> Alone:
    return Alone(tmp_path, this_python())


@pytest.mark.parametrize("line", ["unix", "pty"])
def test_a_life(any_alone: Alone, line: str) -> None:
    main = {"args": [*SHELL, "pwd; read word; exit 7"], "stdin": True, "workdir": "/usr"}
    with any_alone.guest(main, line=line) as guest:
        host = guest.host
        guest.started()
        assert not guest.document.exists()
        left = host.start(1, args=[*SHELL, "sleep 1000 >&- 2>&- & echo $!; exit 3"], user="nobody")
        seen = host.start(2, args=[*SHELL, "stty size; exit 4"], tty=True, rows=10, cols=20)
        none = host.start(3, args=["no-such-program"])
        copy = host.start(4, kind="copy-out", path="/etc/passwd", follow=False)
        host.wait(lambda: all(one.closed for one in (left, seen, none, copy)), SECONDS)
        assert (left.code, seen.code, none.code, copy.code) == (3, 4, 127, 0)
        assert seen.stdout == b"10 20\r\n"
        with tarfile.open(fileobj=io.BytesIO(copy.stdout)) as archive:
            sizes = {one.name: one.size for one in archive}
        assert sizes == {"passwd": Path("/etc/passwd").stat().st_size}
        orphan = int(left.stdout)
        assert parent_of(orphan) == guest.process.pid
        host.write(0, b"enough\n")
        assert guest.exit_code() == 7
        assert host.processes[0].stdout == b"/usr\n"
        assert host.processes[0].code == 7
        assert parent_of(orphan) is None


def parent_of(pid: int) -> int | None:
    """Return the parent of a process that lives."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return None
    return None if fields[0] == "Z" else int(fields[1])


def test_megabytes_both_ways(alone: Alone) -> None:
    data = secrets.token_bytes(3 << 20)
    with alone.guest({"args": ["cat"], "stdin": True}) as guest:
        guest.host.write(0, data, end=True)
        assert guest.exit_code() == 0
        assert guest.host.processes[0].stdout == data


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "stop", "timeout_seconds": 30}, 143),
        ({"type": "signal", "process": 0, "signal": 9}, 137),
        ({"type": "power-off"}, 137),
    ],
)
def test_it_ends_as_its_process_does_and_switches_nothing_off(
    alone: Alone, message: dict[str, Any], code: int
) -> None:
    with alone.guest({"args": ["sleep", "1000"]}) as guest:
        guest.started()
        beside = guest.host.start(1, args=["sleep", "1000"])
        guest.host.wait(lambda: "started" in beside.messages, SECONDS)
        guest.host.endpoint.control(message)
        assert guest.exit_code() == code
        assert beside.code == 137


def test_a_service_manager_s_sigterm_stops_the_process(alone: Alone) -> None:
    script = "trap 'echo stopped; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with alone.guest({"args": [*SHELL, script]}) as guest:
        guest.host.wait(lambda: guest.host.processes[0].stdout == b"ready\n", SECONDS)
        guest.process.terminate()
        assert guest.exit_code() == 5
        assert guest.host.processes[0].stdout == b"ready\nstopped\n"


@pytest.mark.parametrize(
    ("run", "members", "code", "kind", "text"),
    [
        pytest.param({"args": ["nope"]}, {}, 127, "command", "not found", id="missing"),
        pytest.param({"args": ["/etc"]}, {}, 126, "command", "directory", id="no program"),
        pytest.param({}, {}, 125, "command", "", id="no command"),
        pytest.param(
            {"args": ["id"], "user": "ghost"}, {}, 125, "user", "ghost", id="unknown user"
        ),
        pytest.param(
            {"args": ["id"], "workdir": "/none"}, {}, 125, "workdir", "/none", id="no such folder"
        ),
        pytest.param({"args": [1]}, {}, 125, "config", "run.args[0]", id="no text"),
        pytest.param(
            {"args": ["id"]}, {"root": {"uuid": "x"}}, 125, "config", "field root", id="a disk"
        ),
        pytest.param(
            {"args": ["id"], "host_config": {"read_only": True}},
            {},
            *(125, "config", "run.host_config.read_only"),
            id="a world of its own",
        ),
        pytest.param(
            {"args": ["id"]},
            {"output": {"ring_bytes": 1}},
            *(125, "config", "output.ring_bytes"),
            id="rules that are none",
        ),
    ],
)
def test_a_failure_reaches_the_host_and_is_the_exit_code(
    alone: Alone, run: dict[str, Any], members: dict[str, Any], code: int, kind: str, text: str
) -> None:
    with alone.guest(run, **members) as guest:
        assert guest.exit_code() == code
        failed = guest.host.processes[0].messages["failed"]
        assert (failed["code"], failed["kind"]) == (code, kind)
        assert text in failed["message"]
        assert failed["message"] in guest.said()


@pytest.mark.parametrize(
    ("document", "channel", "text"),
    [
        ("{", "unix:/none", "config field document"),
        ({"schema": 2}, "unix:/none", "config schema 2 is newer"),
        ({"schema": 1, "key": "secret"}, "unix:/none", "config field key"),
        ({"schema": 1, "key": "0" * 64}, None, "config field channel"),
        ({"schema": 1, "key": "0" * 64}, "/dev/none", "No such file"),
        ({"schema": 1, "key": "0" * 64}, "/etc/passwd", "no character device"),
        ({"schema": 1, "key": "0" * 64}, "vsock:x", "config field channel.port"),
        (
            {"schema": 1, "key": "0" * 64, "channel": {"kind": "carrier pigeon"}},
            *(None, "config field channel.kind"),
        ),
    ],
)
def test_without_a_line_stderr_says_it(
    alone: Alone, document: object, channel: str | None, text: str
) -> None:
    named = [] if channel is None else ["--channel", channel]
    done = alone.run("--config", str(alone.write(document)), *named)
    assert done.returncode == 125
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_no_document(alone: Alone) -> None:
    done = alone.run("--config", "/no/such/file")
    assert (done.returncode, done.stdout) == (125, "")
    assert "/no/such/file" in done.stderr


def test_usage(any_alone: Alone) -> None:
    assert any_alone.run("--help").returncode == 0
    version = any_alone.run("--version")
    assert (version.returncode, version.stdout) == (
        *(0, "tether, protocol 2, document schema 1\n"),
    )
    wrong = any_alone.run("--chanel-typo")
    assert wrong.returncode == 2
    assert "usage: tether" in wrong.stderr


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    made = zipapp.make_zipapp()
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    names = sorted((ROOT / "agent").rglob("*.py"), reverse=True)
    for name in names:  # in another order, at another time, with other permissions
        target = copy / name.relative_to(ROOT / "agent")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(name, target)
        target.chmod(0o600)
        os.utime(target, (1e9, 1e9))
    assert zipapp.make_zipapp(copy) == made
    (copy / "wire" / "control.py").write_text("")
    assert zipapp.make_zipapp(copy) != made
