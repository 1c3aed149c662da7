"""What a new process does before its program runs: stdio, world, identity, exec.

Owns the child's side of a clone. It either becomes the program (or one of ours, which is executed
in this very interpreter) or reports a StartError to its parent over a socket that exec closes.
Nothing of the agent may be in reach of the programs that already run in the world it enters: it
cannot be traced, and has closed every descriptor but its own before it goes anywhere.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import termios

from agent import bare_json as json
from agent import bare_signal as signal
from agent import bare_socket as socket
from agent.hints import Callable, Dict, NoReturn, Optional, Sequence, Tuple
from agent.tether import accounts, init, log, privileges, resolve, syscalls, terminal, world
from agent.tether.config import Job
from agent.tether.errors import CANNOT_INVOKE, CANNOT_START, NOT_FOUND, StartError
from agent.values import dataclass

MAX_ACCOUNT_FILE_BYTES = 16 << 20
MAX_MESSAGE = 8192  # letters, each at most six bytes of the report's JSON


Builtin = Callable[[], int]


@dataclass(frozen=True)
class Pipes:
    """Read and write ends of the pipes for a process without a terminal."""

    stdin: Optional[Tuple[int, int]]
    stdout: Tuple[int, int]
    stderr: Tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """What a child becomes.

    `enter` takes it into its world, as root. `is_main` makes what only the first process of a world
    has: the working directory if it is missing, and /dev/console. With `as_it_is` nothing is taken
    from the agent's own limits and capabilities but what the job says. With a `builtin` the job's
    command does not count: the child calls it, as root, and exits with what it returns.
    """

    job: Job
    enter: Callable[[], None]
    is_main: bool = False
    as_it_is: bool = False
    builtin: Optional[Builtin] = None


def run(plan: Plan, pipes: Optional[Pipes], report: socket.socket) -> NoReturn:
    """Become the program, or tell the parent why not. Nothing may escape: this is a clone of it.

    All signals are blocked until then: the handlers are still the agent's.
    """
    code = CANNOT_START
    try:
        try:
            _become(plan, pipes, report)
        except StartError as error:
            failure = error
        except OSError as error:
            failure = StartError("world", "the process's world: {}".format(error))
        except Exception as error:  # a fault of ours must reach the host as well
            failure = StartError("internal", log.describe(error))
        code = failure.code
        fields = {"kind": failure.kind, "message": failure.message[:MAX_MESSAGE], "code": code}
        report.send(json.dumps(fields).encode("ascii"))
    finally:
        os._exit(code)


def find_command(command: str, path: str | None) -> str:
    """Return the file to execute for argv[0], as the current user and from the current directory.

    Raises StartError("command") with Docker's codes: 127 when there is none, 126 when the one that
    was named by a path cannot be executed. In PATH, what cannot be executed is passed over.
    """
    named_by_path = "/" in command
    for candidate in resolve.command_candidates(command, path):
        try:
            mode = os.stat(candidate).st_mode
        except OSError as error:
            if named_by_path:
                code = NOT_FOUND if error.errno == errno.ENOENT else CANNOT_INVOKE
                raise _no_command(command, error.strerror, code) from error
            continue
        if not stat.S_ISDIR(mode) and os.access(candidate, os.X_OK):
            return candidate
        if named_by_path:
            why = "is a directory" if stat.S_ISDIR(mode) else "permission denied"
            raise _no_command(command, why, CANNOT_INVOKE)
    raise _no_command(command, "executable file not found in $PATH", NOT_FOUND)


def _no_command(command: str, why: str | None, code: int) -> StartError:
    return StartError("command", "exec: {!r}: {}".format(command, why), code=code)


def _become(plan: Plan, pipes: Optional[Pipes], report: socket.socket) -> NoReturn:
    # Our memory is the agent's, its key included. Until exec nobody in there may look at it.
    syscalls.forbid_tracing()
    if pipes:
        for descriptor, pair, end in (
            (0, pipes.stdin, 0),
            (1, pipes.stdout, 1),
            (2, pipes.stderr, 1),
        ):
            if pair:
                os.dup2(pair[end], descriptor)
    plan.enter()
    # Only now, for `enter` needs some; and before the working directory, which could lead to one.
    syscalls.close_range(3, report.fileno() - 1)
    syscalls.close_range(report.fileno() + 1)
    job = plan.job
    identity = accounts.resolve_identity(
        "0:0" if plan.builtin else resolve.resolve_user(job.image, job.run),
        _read_account_file("/etc/passwd"),
        _read_account_file("/etc/group"),
        added=() if plan.builtin else job.run.host.groups,
    )
    if job.call_filter:  # while we may
        syscalls.filter_system_calls(job.call_filter)
    os.umask(0o022)
    os.setsid()
    if pipes:
        _take_pipes(pipes, identity)
    else:
        _take_terminal(plan, identity, report)
    with open("/proc/self/oom_score_adj", "w", encoding="utf-8") as file:
        file.write(str(job.run.host.oom_score_adj))  # the agent's own is not for the process
    if plan.builtin:
        privileges.become(identity, None if plan.as_it_is else privileges.DEFAULT_CAPABILITIES)
        _reset_signals()
        report.close()
        os._exit(plan.builtin())
    environment = resolve.resolve_environment(
        job.image, job.run, host_name=job.host_name, home=identity.home
    )
    arguments = resolve.resolve_arguments(job.image, job.run)
    _enter_working_dir(resolve.resolve_working_dir(job.image, job.run), make=plan.is_main)
    if plan.is_main and job.run.host.read_only:
        world.close_root()
    host = job.run.host
    if plan.as_it_is:
        privileges.set_limits(privileges.resolve_limits(host, {}))
        privileges.become(identity, None)
    else:
        privileges.set_limits(privileges.resolve_limits(host))
        privileges.become(identity, privileges.resolve_capabilities(host))
    if job.run.host.no_new_privileges:
        syscalls.forbid_new_privileges()
    program = find_command(arguments[0], environment.get("PATH"))
    if plan.is_main and job.run.host.init:
        init.split_off(report)
    _reset_signals()
    _execute(program, arguments, environment)


def _read_account_file(path: str) -> str:
    """Return a file of the image as text, "" when there is none or it is no ordinary file."""
    try:
        # Without O_NONBLOCK a FIFO in its place would hold us for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_ACCOUNT_FILE_BYTES).decode("utf-8", "surrogateescape")
    finally:
        os.close(descriptor)


def _enter_working_dir(path: str, *, make: bool) -> None:
    """Go there while still root: a user may be started in a directory that it cannot enter."""
    encoded = _encode(path)
    try:
        if make:
            os.makedirs(encoded, 0o755, exist_ok=True)
        os.chdir(encoded)
    except OSError as error:
        raise StartError(
            "workdir", "the working directory {}: {}".format(path, error.strerror)
        ) from error


def _take_pipes(pipes: Pipes, identity: accounts.Identity) -> None:
    if not pipes.stdin:
        os.dup2(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), 0)
    for descriptor in (0, 1, 2):
        if descriptor or pipes.stdin:  # /dev/null is everybody's
            os.fchown(descriptor, identity.uid, -1)  # /dev/stdout can be opened by its user


def _take_terminal(plan: Plan, identity: accounts.Identity, report: socket.socket) -> None:
    master, slave = terminal.open_terminal()
    run = plan.job.run
    if run.rows is not None and run.columns is not None:
        # Before the program runs: one that asks first would see 0 x 0 and never ask again.
        terminal.set_size(slave, run.rows, run.columns)
    os.fchown(slave, identity.uid, world.TTY_GROUP)
    os.fchmod(slave, 0o620)
    if plan.is_main:
        world.bind_console(os.ttyname(slave))
    descriptors = struct.pack("2i", master, slave)
    report.sendmsg([b"{}"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    for descriptor in (0, 1, 2):
        os.dup2(slave, descriptor)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _reset_signals() -> None:
    """Undo what Python and the agent did: exec resets handlers, but keeps SIG_IGN and the mask."""
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _execute(program: str, arguments: Sequence[str], environment: Dict[str, str]) -> NoReturn:
    try:
        os.execve(  # noqa: S606  # that it runs without a shell is the point
            _encode(program),
            [_encode(argument) for argument in arguments],
            {_encode(name): _encode(value) for name, value in environment.items()},
        )
    except OSError as error:
        # The file was there a moment ago: ENOENT now means its interpreter.
        code = NOT_FOUND if error.errno == errno.ENOENT else CANNOT_INVOKE
        raise _no_command(arguments[0], error.strerror, code) from error


def _encode(text: str) -> bytes:
    """Encode as the config was decoded, whatever locale the guest's Python believes in."""
    return text.encode("utf-8", "surrogateescape")
