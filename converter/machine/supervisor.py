"""The process that owns one machine: starts QEMU, relays, writes down the end, serves who is left.

    python -m converter.machine.supervisor MODE FOLDER LOCK READY HOLD [FOR_QEMU...]

MODE is `start`, or `adopt` for a machine whose supervisor was killed, whether its QEMU still runs
or not. LOCK, READY and HOLD are descriptors: the folder's lock, held already; a pipe that is told
in one line of JSON that the relay can be reached, or why not; a pipe that says when to go, and is
closed at the other end when nobody counts on the relay any more. FOR_QEMU are descriptors that QEMU
inherits and this process does not keep. QEMU does not die with this process.

SIGTERM cuts the machine's power, or lets a machine that has ended go at once. Start-up is part of
every `run`, so imports are few.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from agent.host.loop import READABLE
from agent.host.relay import (
    PATIENCE_VARIABLE,
    Condition,
    RelayOptions,
    RelayServer,
    read_patience,
)
from agent.host.signals import SignalInbox
from agent.host.vspc.seam import Notice
from converter.errors import IntegrityError, NotFoundError, SaltflatError
from converter.machine.directory import (
    GO,
    LINE_SOCKET,
    LINGERING,
    MACHINE_FILE,
    PID_FILE,
    QEMU_LOG,
    SERVING,
    START_FILE,
    MachineFolder,
)
from converter.machine.process_mark import own_mark
from converter.machine.state import CUT_END, UNKNOWN_END, State, Status

_POWER_OFF_SECONDS = 15.0  # for a guest whose process has ended
_LOOK_SECONDS = 5.0  # between two looks at whether the folder is still there
_TURN_SECONDS = 0.02
_RETRY_SECONDS = 1.0  # after the disk was full
_ABNORMAL = "its hypervisor {} before the process had ended"


class Supervisor:
    """Own the machine in `folder`, whose lock is `lock`."""

    def __init__(self, folder: MachineFolder, *, lock: int, hold: int) -> None:
        self._folder = folder
        self._lock = lock
        self._hold: int | None = hold
        self._inbox = SignalInbox()
        self._server = RelayServer(
            folder.relay,
            folder.path / LINE_SOCKET,
            options=_relay_options(),
            notice=_log,
            changed=self._changed,
        )
        self._loop = self._server.loop
        self._child: subprocess.Popen[bytes] | None = None
        self._pidfd: int | None = None  # of a QEMU that runs
        self._exit: int | None = None  # how it ended, if somebody saw it
        self._started_ns: int | None = None
        self._cut = ""  # why its power was cut
        self._counting = False  # down to the time when the guest must have powered off
        self._over = False  # and written down
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._inbox.put)

    # --- the beginning ---------------------------------------------------------------------------

    def start(self, for_qemu: Sequence[int] = ()) -> None:
        """Start QEMU, which gets the descriptors `for_qemu`. Raises OSError."""
        before = self._folder.state()
        arguments = json.loads((self._folder.path / START_FILE).read_bytes())["arguments"]
        self._started_ns = time.time_ns()
        self._folder.write_state(State(status=Status.RUNNING, started_ns=self._started_ns))
        try:
            self._child = spawn(arguments, self._folder.path, for_qemu)
        except OSError:
            self._folder.write_state(before)
            raise
        finally:
            for descriptor in for_qemu:
                os.close(descriptor)
        self._pidfd = os.pidfd_open(self._child.pid)

    def adopt(self) -> None:
        """Take on a machine that was somebody else's."""
        self._started_ns = self._folder.state().started_ns
        qemu = self._folder.qemu()
        self._pidfd = None if qemu is None else qemu.open()

    def run(self) -> None:
        """Serve until the machine has ended, that is written down, and nobody is left."""
        loop = self._loop
        loop.watch(self._inbox.fileno(), READABLE, self._take_signals)
        if self._hold is not None:
            loop.watch(self._hold, READABLE, self._let_go)
        if self._pidfd is not None:
            loop.watch(self._pidfd, READABLE, self._qemu_ended)
        else:
            self._drain()
        self._server.call_every(_LOOK_SECONDS, self._look)
        self._changed()
        self._server.run()

    def close(self) -> None:
        """Close the relay."""
        self._server.close()

    # --- what happens ----------------------------------------------------------------------------

    def _take_signals(self, _events: int) -> None:
        if signal.SIGTERM in self._inbox.drain():
            if self._over:
                self._server.stop()
            else:
                self.cut("its power was cut")

    def _let_go(self, _events: int) -> None:
        assert self._hold is not None
        self._loop.forget(self._hold)
        os.close(self._hold)
        self._hold = None

    def _look(self) -> None:
        """Do not keep alive what nobody can find any more."""
        if not (self._folder.path / MACHINE_FILE).exists():
            self.cut("its folder was removed")
            if self._pidfd is None:
                self._server.stop()

    def _changed(self) -> None:
        self._write_life()
        if self._server.status is not None and not self._counting:
            self._counting = True
            self._loop.call_at(self._loop.now() + _POWER_OFF_SECONDS, self._power_off_is_due)

    def _write_life(self) -> None:
        """Let everybody know of restarts and health, as far as the disk has room for it."""
        life = self._server.machine.session.life
        with contextlib.suppress(OSError, SaltflatError):  # the next change is written again
            state = self._folder.state()
            if state.status is Status.RUNNING and state.life != life:
                self._folder.write_state(replace(state, life=life))

    def _power_off_is_due(self) -> None:
        if self._pidfd is not None:
            _log(Notice(f"no power-off within {_POWER_OFF_SECONDS:g} s, which ends now"))
            self.cut("")

    def cut(self, reason: str) -> None:
        """Cut the machine's power; what follows comes when it has ended."""
        self._cut = self._cut or reason
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    # --- the end ---------------------------------------------------------------------------------

    def _qemu_ended(self, _events: int) -> None:
        assert self._pidfd is not None
        self._loop.forget(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = None
        if self._child is not None:
            self._exit = self._child.wait()
        self._drain()

    def _drain(self) -> None:
        """Take what QEMU sent before it ended, then let the relay know that there is no more."""
        machine = self._server.machine
        stuck = machine.diagnosis().condition is Condition.STUCK
        if machine.line_connected or stuck:
            self._again(self._drain)
            return
        machine.machine_ended(self._reason(plain=True))
        self._again(self._write_end)

    def _write_end(self) -> None:
        if self._server.machine.diagnosis().condition is Condition.STUCK:
            self._again(self._write_end)
            return
        if self._is_to_be_told():
            status = self._server.status
            known = CUT_END if self._cut else UNKNOWN_END
            state = State(
                status=Status.EXITED,
                started_ns=self._started_ns,
                finished_ns=time.time_ns(),
                end=status or known,
                reason="" if status is not None else self._reason(),
                hypervisor_exit=self._exit,
                life=self._server.machine.session.life,
            )
            try:
                self._folder.write_state(state)
            except OSError as error:
                _log(Notice(f"the end cannot be written down: {error}", warning=True))
                if (self._folder.path / MACHINE_FILE).exists():
                    self._loop.call_at(self._loop.now() + _RETRY_SECONDS, self._write_end)
                else:
                    self._server.stop()
                return
        self._over = True
        self._folder.say_role(self._lock, LINGERING)
        self._linger()

    def _is_to_be_told(self) -> bool:
        try:
            return self._folder.state().status is Status.RUNNING
        except IntegrityError:  # damaged, and about to be mended
            return True

    def _linger(self) -> None:
        """Stay for those who still read, and for who started the machine and is about to."""
        if self._hold is None and not self._server.clients:
            self._server.stop()
        else:
            self._again(self._linger)

    def _reason(self, *, plain: bool = False) -> str:
        if self._cut:
            return self._cut
        if self._exit is None:
            how = "ended, how is not known,"
        elif self._exit < 0:
            how = f"was killed by signal {-self._exit}"
        else:
            how = f"ended with status {self._exit}"
        return how.rstrip(",") if plain else _ABNORMAL.format(how)

    def _again(self, call: Callable[[], None]) -> None:
        self._loop.call_at(self._loop.now() + _TURN_SECONDS, call)


def spawn(
    arguments: list[str], folder: Path, descriptors: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start QEMU in its folder, a process that leaves its mark before it becomes QEMU.

    It inherits the folder's lock until then: so whoever gets the lock after a supervisor that was
    killed finds the mark of a QEMU, or there is none. Raises OSError.
    """
    mark_path = folder / PID_FILE
    mark_path.unlink(missing_ok=True)

    def leave_mark() -> None:
        with mark_path.open("w", encoding="ascii") as file:
            file.write(f"{own_mark()}\n")

    with (folder / QEMU_LOG).open("wb") as log:
        return subprocess.Popen(
            arguments,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=descriptors,
            preexec_fn=leave_mark,  # noqa: PLW1509 - there are no other threads
        )


def _relay_options() -> RelayOptions:
    """Return what the environment of whoever started us says. Raises ValueError."""
    settings = os.environ.get(PATIENCE_VARIABLE, "").split()
    try:
        return RelayOptions(patience=read_patience(settings))
    except ValueError as error:
        raise ValueError(f"{PATIENCE_VARIABLE}: {error}.") from error


def _log(notice: Notice) -> None:
    """Write a line to supervisor.log, which is our stderr."""
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    sys.stderr.write(f"{when} {notice.text}\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    """Own a machine; return the exit code."""
    mode, path = arguments[0], Path(arguments[1])
    lock, ready, hold, *for_qemu = (int(number) for number in arguments[2:])
    for descriptor in (lock, ready, hold):
        os.set_inheritable(descriptor, False)
    folder = MachineFolder(path)
    if os.read(hold, len(GO)) != GO:  # who started us has failed at something, or was killed
        return 0
    try:
        supervisor = Supervisor(folder, lock=lock, hold=hold)
        if mode == "start":
            supervisor.start(for_qemu)
        else:
            supervisor.adopt()
        folder.say_role(lock, SERVING)
    except Exception as error:  # whatever it is, who waits for us shall know
        traceback.print_exc()
        told = {"ok": False, "what": str(error) or type(error).__name__}
        told["hint"] = getattr(error, "hint", None) or ""
        if isinstance(error, FileNotFoundError):
            told["kind"] = "not-found"
        os.write(ready, json.dumps(told).encode() + b"\n")
        return 1
    with contextlib.suppress(BrokenPipeError):  # it does not wait any more
        os.write(ready, b'{"ok": true}\n')
    os.close(ready)
    supervisor.run()
    supervisor.close()
    with contextlib.suppress(NotFoundError):  # somebody has removed the folder by hand
        if folder.machine().get("auto_remove") is True:
            from converter.machine.removal import remove_machine  # noqa: PLC0415 - at the end only

            remove_machine(folder, volumes=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
