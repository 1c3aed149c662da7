"""A host with machines of its own for the tests of verbs, and a terminal for people's side of it.

Owns the store, the state folder and what is left running at the end; the terminal is a real pty.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from agent.host import client
from agent.host.stdio import Stdio
from converter.cli.app import top
from converter.cli.output import Output
from tests.images import prepared
from tests.images.cache import ROOT
from tests.integration import warm

# Echoes lines of stdin, says which signals came, and ends with 7 on TERM.
LISTENER = r"""
$| = 1; print "out\n"; print STDERR "err\n";
$SIG{HUP} = sub { print "hup\n" };
$SIG{TERM} = sub { print "bye\n"; exit 7 };
while (1) {
    my $count = sysread(STDIN, my $line, 4096);
    if ($count) { print "read $line" } else { select(undef, undef, undef, 0.2) }
}
"""


@dataclass(frozen=True)
class Host:
    """The command line with a store and a state folder of its own."""

    folder: Path
    image: str

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SALTFLAT_STORE": str(self.folder / "store"),
            "SALTFLAT_STATE": str(self.state),
        }

    def __call__(
        self, *arguments: str | Path, stdin: bytes = b"", seconds: float = 200
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end, whatever the exit code."""
        return warm.COMMANDS.run(
            [os.fspath(argument) for argument in arguments],
            stdin=stdin,
            environment=self.environment,
            timeout_seconds=seconds,
        )

    def good(self, *arguments: str | Path, stdin: bytes = b"") -> str:
        """Run to the end, demand exit code 0, and return stdout."""
        done = self(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode(errors="surrogateescape")

    def refused(self, code: int, *arguments: str | Path, stdin: bytes = b"") -> str:
        """Run to the end, demand this exit code and nothing on stdout; return stderr."""
        done = self(*arguments, stdin=stdin)
        assert (done.returncode, done.stdout) == (code, b""), done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return done.stderr.decode()

    def begin(self, *arguments: str | Path, stdin: bool = False) -> subprocess.Popen[bytes]:
        """Start a command that goes on beside the test."""
        return subprocess.Popen(
            [*prepared.SALTFLAT, *map(os.fspath, arguments)],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )

    def look(self, *arguments: str) -> str:
        """Return what a verb that only looks prints, demanding exit code 0.

        The command line's own code in this process: whoever waits asks many times, and an
        interpreter for each costs the machine that is waited for its processor.
        """
        written = io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment),
            contextlib.redirect_stdout(written),
            top.make_context(
                "saltflat", list(arguments), obj=Output(), auto_envvar_prefix="SALTFLAT"
            ) as context,
        ):
            assert top.invoke(context) in (None, 0)
        return written.getvalue()

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what inspect tells of a machine."""
        found: dict[str, Any] = json.loads(
            self.look("inspect", "--type", "machine", "--format", "json", name)
        )
        return found

    def address(self, machine: str) -> client.Address:
        """Return where a running machine's relay is, for the library."""
        return client.UnixAddress(self.state / "machines" / machine / "relay" / "relay.sock")

    def inside(self, machine: str, script: str) -> str:
        """Run a script as root in a machine, by the library; demand 0 and return its stdout."""
        execution = client.Execution(args=("sh", "-c", script), user="0")
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            stdio = Stdio(None, out.fileno(), err.fileno())
            status = client.execute(self.address(machine), execution, stdio)
            err.seek(0)
            assert status.code == 0, err.read()
            out.seek(0)
            return out.read().decode()

    def log(self, name: str) -> str:
        """Return what a machine's process printed on stdout, as the relay has kept it."""
        folder = self.state / "machines" / self.inspect(name)["id"] / "relay"
        entries = client.saved_logs(folder) if folder.exists() else []
        printed = (one for one in entries if isinstance(one, client.Output) and not one.stderr)
        return b"".join(one.data for one in printed).decode(errors="surrogateescape")


@contextlib.contextmanager
def host(folder: Path, layout: Path, boot_store: Path) -> Iterator[Host]:
    """Yield a host that has the boot image; no machine of it is left afterwards."""
    shutil.copytree(boot_store, folder / "store")
    made = Host(folder, f"oci:{layout}:1")
    try:
        yield made
    finally:
        ids = made("ps", "-aq", "--no-trunc").stdout.decode().split()
        if ids:
            done = made("rm", "-f", "-v", *ids)
            assert done.returncode == 0, done.stderr.decode()


def until(condition: Any, seconds: float = 200) -> Any:
    """Wait until something is so; return what it is."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.3)
    return found


class Terminal:
    """A command at a terminal of its own, whose keys are typed and whose screen is read here."""

    def __init__(self, host: Host, *arguments: str, rows: int = 33, columns: int = 101) -> None:
        self.controller, self._user = pty.openpty()
        self.screen = b""
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self._user)
        # setsid makes the terminal the controlling one, so that SIGWINCH and SIGHUP come.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *prepared.SALTFLAT, *arguments],
            stdin=self._user,
            stdout=self._user,
            stderr=self._user,
            env=host.environment,
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self.controller)
        os.close(self._user)

    @property
    def is_raw(self) -> bool:
        """Whether keys pass as they are."""
        flags = int(termios.tcgetattr(self._user)[3])
        return flags & (termios.ICANON | termios.ECHO | termios.ISIG) == 0

    @property
    def is_as_before(self) -> bool:
        """Whether the terminal's modes are those from before the command."""
        return termios.tcgetattr(self._user) == self.before

    def resize(self, rows: int, columns: int) -> None:
        """Be another size, as when a window is dragged."""
        fcntl.ioctl(self.controller, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.controller, keys)

    def expect(self, text: bytes, seconds: float = 200) -> bytes:
        """Return what was shown up to and with `text`; what is behind it comes next time."""
        deadline = time.monotonic() + seconds
        while text not in self.screen:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.controller], [], [], max(0.0, left))
            assert ready, f"{text!r} did not come, but {self.screen!r}"
            self.screen += os.read(self.controller, 65536)
        shown, _, self.screen = self.screen.partition(text)
        return shown + text

    def end(self, seconds: float = 200) -> int:
        """Wait for the command; return its exit code, or minus the signal that ended it."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end: {self.screen!r}"
            if select.select([self.controller], [], [], 0.05)[0]:
                self.screen += os.read(self.controller, 65536)
        while select.select([self.controller], [], [], 0)[0]:
            self.screen += os.read(self.controller, 65536)
        return int(self.process.returncode)

    def signal(self, number: signal.Signals) -> None:
        """Send the command a signal from elsewhere."""
        self.process.send_signal(number)
