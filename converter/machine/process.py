"""QEMU as a child that cannot outlive us, for a probe or a test; its version, its logs.

Machines are no such children: their supervisor starts them, and may come and go.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from converter.errors import HypervisorError, NotFoundError
from converter.machine.directory import QEMU_LOG
from converter.machine.qemu_command import CONSOLE_FILE, PROGRAM

_INSTALL_HINT = "install it: apt-get install qemu-system-x86"
_TAIL_BYTES = 16384
_KILL_TIMEOUT_SECONDS = 10
_VERSION_TIMEOUT_SECONDS = 10


class QemuProcess:
    """A running QEMU and the folder that it lives in; use it as a context manager.

    `temporary` says that the folder goes when the machine does.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, *, temporary: bool) -> None:
        self._folder = folder
        self._temporary = temporary
        with (folder / QEMU_LOG).open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    # setpriv makes the kernel kill QEMU when the thread that started it ends,
                    # even by SIGKILL; the setting survives the exec.
                    ["setpriv", "--pdeathsig", "KILL", "--", *arguments],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # Ctrl-C at the terminal is for us to handle, not for QEMU to die of.
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise NotFoundError(
                    "setpriv is not installed", hint="install it: apt-get install util-linux"
                ) from error

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Say whether the machine still runs."""
        return self._process.poll() is None

    def wait(self, timeout_seconds: float) -> int | None:
        """Wait for the machine's own end; None when it still runs after `timeout_seconds`."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_seconds)
        return None

    def kill(self) -> None:
        """Cut the power, and wait until the machine is gone. Does nothing to one that ended."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            try:
                self._process.wait(_KILL_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise HypervisorError(
                    f"QEMU (process {self._process.pid}) does not end when killed",
                    hint="a process stuck in the kernel waits for a disk: look at the host's log",
                ) from error

    def console(self) -> str:
        """Return the last part of the guest's console."""
        return tail(self._folder / CONSOLE_FILE)

    def log(self) -> str:
        """Return the last part of what QEMU itself complained about."""
        return tail(self._folder / QEMU_LOG)

    def __enter__(self) -> QemuProcess:
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            self.kill()
        finally:
            if self._temporary:
                shutil.rmtree(self._folder, ignore_errors=True)


def qemu_version() -> tuple[int, int]:
    """Return the installed QEMU's version.

    Raises NotFoundError when there is none, HypervisorError when it does not answer.
    """
    if shutil.which(PROGRAM) is None:
        raise NotFoundError(f"{PROGRAM} is not installed", hint=_INSTALL_HINT)
    try:
        result = subprocess.run(
            [PROGRAM, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_TIMEOUT_SECONDS,
            check=True,
            text=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise HypervisorError(f"{PROGRAM} does not run: {error}", hint=_INSTALL_HINT) from error
    found = re.search(r"version (\d+)\.(\d+)", result.stdout)
    if found is None:
        raise HypervisorError(f"{PROGRAM} --version says nothing that we know: {result.stdout!r}")
    return int(found[1]), int(found[2])


def tail(path: Path) -> str:
    """Return the end of a file that something untrusted may have filled."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            return file.read(_TAIL_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
