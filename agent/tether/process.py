"""Starting the image's main process: new namespaces, its world, its identity, exec.

Owns everything between the decision to start and the first instruction of the program, on both
sides of the clone: the child either becomes the program or reports a StartError to its parent over
a socket that exec closes. Afterwards the process is `supervisor`'s.
"""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import stat
import termios
from dataclasses import dataclass
from typing import Dict, List, NoReturn, Optional, Sequence, Tuple

from agent.tether import accounts, c_linux, log, resolve, syscalls, terminal, world
from agent.tether.config import Job
from agent.tether.errors import CANNOT_INVOKE, CANNOT_START, NOT_FOUND, StartError

NAMESPACES = (
    c_linux.CLONE_NEWNS
    | c_linux.CLONE_NEWPID
    | c_linux.CLONE_NEWUTS
    | c_linux.CLONE_NEWIPC
    | c_linux.CLONE_NEWCGROUP
)

# Docker's default set. Anything that reaches the machine itself (SYS_ADMIN, SYS_RAWIO, SYS_MODULE,
# SYS_BOOT, SYS_PTRACE) is not in it: that is what keeps the agent out of the process's reach.
DEFAULT_CAPABILITIES = (
    c_linux.CAP_CHOWN,
    c_linux.CAP_DAC_OVERRIDE,
    c_linux.CAP_FOWNER,
    c_linux.CAP_FSETID,
    c_linux.CAP_KILL,
    c_linux.CAP_SETGID,
    c_linux.CAP_SETUID,
    c_linux.CAP_SETPCAP,
    c_linux.CAP_NET_BIND_SERVICE,
    c_linux.CAP_NET_RAW,
    c_linux.CAP_SYS_CHROOT,
    c_linux.CAP_MKNOD,
    c_linux.CAP_AUDIT_WRITE,
    c_linux.CAP_SETFCAP,
)
LAST_POSSIBLE_CAPABILITY = 63

# Soft 1024 because select(2) breaks above it; hard as high as the kernel's default allows.
OPEN_FILES_LIMIT = (1024, 1048576)

MAX_ACCOUNT_FILE_BYTES = 16 << 20
MAX_REPORT_BYTES = 65536
MAX_MESSAGE = 8192  # letters, each at most six bytes of the report's JSON


@dataclass(frozen=True)
class Process:
    """A running process and the agent's ends of its stdio; the supervisor closes them.

    With a terminal, `stdin` and `stdout` are both its master, `stderr` is None and `slave` is the
    agent's own hold on the slave side. `stdin` is None when nothing will be written.
    """

    pid: int
    stdin: Optional[int]
    stdout: int
    stderr: Optional[int]
    slave: Optional[int] = None

    @property
    def has_terminal(self) -> bool:
        """Whether stdio is a terminal."""
        return self.slave is not None


@dataclass(frozen=True)
class Pipes:
    """Read and write ends of the pipes for a process without a terminal."""

    stdin: Optional[Tuple[int, int]]
    stdout: Tuple[int, int]
    stderr: Tuple[int, int]


def start(job: Job, *, root: str, agent_mounts: Tuple[str, ...], cgroup: int) -> Process:
    """Start the job's process in `root` and the cgroup of this descriptor; StartError if it fails.

    Returns when the program has been executed.
    """
    pipes = None if job.run.tty else _open_pipes(with_stdin=job.run.stdin)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid = syscalls.clone_process(NAMESPACES, exit_signal=signal.SIGCHLD, cgroup=cgroup)
    except OSError as error:
        raise StartError("world", "no new process: {}".format(error.strerror)) from error
    if pid == 0:
        _run_child(job, root, agent_mounts, pipes, theirs)
    theirs.close()
    if pipes:
        for pair, child_end in ((pipes.stdin, 0), (pipes.stdout, 1), (pipes.stderr, 1)):
            if pair:
                os.close(pair[child_end])
    with ours:
        terminal_ends = _await_exec(ours, pid)
    if pipes:
        return Process(
            pid,
            stdin=pipes.stdin[1] if pipes.stdin else None,
            stdout=pipes.stdout[0],
            stderr=pipes.stderr[0],
        )
    if len(terminal_ends) != 2:
        raise StartError("world", "the process died before it had its terminal")
    master, slave = terminal_ends
    return Process(
        pid, stdin=master if job.run.stdin else None, stdout=master, stderr=None, slave=slave
    )


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


def _open_pipes(*, with_stdin: bool) -> Pipes:
    return Pipes(os.pipe() if with_stdin else None, os.pipe(), os.pipe())


def _await_exec(report: socket.socket, pid: int) -> List[int]:
    """Return the descriptors that the child sent before its exec; StartError if that failed."""
    received = array.array("i")
    while True:
        message, ancillary, _, _ = report.recvmsg(
            MAX_REPORT_BYTES, socket.CMSG_SPACE(2 * received.itemsize), socket.MSG_CMSG_CLOEXEC
        )
        if not message:
            return list(received)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                received.frombytes(data)
        failure = json.loads(message.decode("utf-8"))
        if failure:
            os.waitpid(pid, 0)
            raise StartError(failure["kind"], failure["message"], code=failure["code"])


def _run_child(
    job: Job,
    root: str,
    agent_mounts: Tuple[str, ...],
    pipes: Optional[Pipes],
    report: socket.socket,
) -> NoReturn:
    """Become the program, or tell the parent why not. Nothing may escape: this is a clone of it."""
    code = CANNOT_START
    try:
        try:
            _become(job, root, agent_mounts, pipes, report)
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


def _become(
    job: Job,
    root: str,
    agent_mounts: Tuple[str, ...],
    pipes: Optional[Pipes],
    report: socket.socket,
) -> NoReturn:
    world.enter_root(root, agent_mounts)
    world.build(job.host_name)
    identity = accounts.resolve_identity(
        resolve.resolve_user(job.image, job.run),
        _read_account_file("/etc/passwd"),
        _read_account_file("/etc/group"),
    )
    environment = resolve.resolve_environment(
        job.image, job.run, host_name=job.host_name, home=identity.home
    )
    arguments = resolve.resolve_arguments(job.image, job.run)
    os.umask(0o022)
    _enter_working_dir(resolve.resolve_working_dir(job.image, job.run))
    os.setsid()
    if pipes:
        _take_pipes(pipes, identity)
    else:
        _take_terminal(job, identity, report)
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("0")  # the agent's own is not for the process
    resource.setrlimit(resource.RLIMIT_NOFILE, OPEN_FILES_LIMIT)
    _become_user(identity)
    program = find_command(arguments[0], environment.get("PATH"))
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


def _enter_working_dir(path: str) -> None:
    """Go there while still root: a user may be started in a directory that it cannot enter."""
    encoded = _encode(path)
    try:
        os.makedirs(encoded, 0o755, exist_ok=True)
        os.chdir(encoded)
    except OSError as error:
        raise StartError(
            "workdir", "the working directory {}: {}".format(path, error.strerror)
        ) from error


def _take_pipes(pipes: Pipes, identity: accounts.Identity) -> None:
    if pipes.stdin:
        stdin = pipes.stdin[0]
        os.fchown(stdin, identity.uid, -1)
    else:
        stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    for descriptor, end in ((0, stdin), (1, pipes.stdout[1]), (2, pipes.stderr[1])):
        os.dup2(end, descriptor)
    for descriptor in (1, 2):
        os.fchown(descriptor, identity.uid, -1)  # so that /dev/stdout can be opened by its user


def _take_terminal(job: Job, identity: accounts.Identity, report: socket.socket) -> None:
    master, slave = terminal.open_terminal()
    if job.run.rows is not None and job.run.columns is not None:
        # Before the program runs: one that asks first would see 0 x 0 and never ask again.
        terminal.set_size(slave, job.run.rows, job.run.columns)
    os.fchown(slave, identity.uid, world.TTY_GROUP)
    os.fchmod(slave, 0o620)
    world.bind_console(os.ttyname(slave))
    descriptors = array.array("i", [master, slave])
    report.sendmsg([b"{}"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    for descriptor in (0, 1, 2):
        os.dup2(slave, descriptor)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _become_user(identity: accounts.Identity) -> None:
    """Give up what the process must not have; the order is forced by who may still do what."""
    for capability in range(LAST_POSSIBLE_CAPABILITY + 1):
        if capability not in DEFAULT_CAPABILITIES:
            try:
                syscalls.drop_bounding_capability(capability)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    break  # the kernel has no more
                raise
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    if identity.uid == 0:  # for any other user the kernel has just cleared them
        mask = 0
        for capability in DEFAULT_CAPABILITIES:
            mask |= 1 << capability
        syscalls.set_capabilities(mask)


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
