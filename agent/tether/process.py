"""Starting a process: the clone into its namespaces, and what the agent keeps of it.

Owns the parent's side; the child's is `child`. A start does not block: the report socket says when
the program runs or why it does not, and is one more descriptor of the supervisor's loop. Afterwards
the process is the supervisor's.
"""

from __future__ import annotations

import fcntl
import os
import struct

from agent import bare_json as json
from agent import bare_signal as signal
from agent import bare_socket as socket
from agent.bare_tools import suppress
from agent.hints import Callable, List, Mapping, Optional, Tuple
from agent.tether import c_linux, child, device_rules, syscalls, volumes, world
from agent.tether.child import Builtin, Pipes, Plan
from agent.tether.config import Job
from agent.tether.errors import StartError
from agent.tether.name_files import NameFiles
from agent.values import dataclass

NAMESPACES = (
    c_linux.CLONE_NEWNS
    | c_linux.CLONE_NEWPID
    | c_linux.CLONE_NEWUTS
    | c_linux.CLONE_NEWIPC
    | c_linux.CLONE_NEWCGROUP
)

MAX_REPORT_BYTES = 65536
_INT_BYTES = 4  # of a descriptor

# Four times the usual: process and agent take turns on a processor, and more is done in each.
PIPE_BYTES = 262144


@dataclass(frozen=True)
class Process:
    """A running process and the agent's ends of its stdio; whoever relays it closes them.

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


class Launch:
    """A process on its way to its program. `descriptor` is readable when `poll` has news.

    `pipes` has the agent's ends only, None for a terminal, which comes with the report.
    """

    def __init__(
        self, pid: int, report: socket.socket, ends: Optional[Process], *, with_stdin: bool
    ) -> None:
        self.pid = pid
        self._report = report
        self._ends = ends
        self._with_stdin = with_stdin
        self._terminal: Tuple[int, ...] = ()

    @property
    def descriptor(self) -> int:
        """What to wait on."""
        return self._report.fileno()

    def poll(self) -> Optional[Process]:
        """Return the process when it has executed its program, None while it has not.

        Raises StartError when it never will; its stdio is closed then. After either, `close`.
        """
        while True:
            try:
                message, ancillary, _, _ = self._report.recvmsg(
                    MAX_REPORT_BYTES,
                    socket.CMSG_SPACE(2 * _INT_BYTES),
                    socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT,
                )
            except BlockingIOError:
                return None
            if not message:
                return self._running()
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    self._terminal += struct.unpack("%di" % (len(data) // _INT_BYTES), data)
            failure = json.loads(message.decode("utf-8"))
            if failure:
                self._close_ends()
                raise StartError(failure["kind"], failure["message"], code=failure["code"])

    def close(self) -> None:
        """Close the report, once nobody waits on it."""
        self._report.close()

    def abandon(self) -> None:
        """Close the report and the stdio, in place of `poll`: nobody wants to know any more."""
        self.close()
        self._close_ends()

    def _close_ends(self) -> None:
        ends = self._ends
        pipes = (ends.stdin, ends.stdout, ends.stderr) if ends else ()
        for descriptor in (*pipes, *self._terminal):
            if descriptor is not None:
                os.close(descriptor)

    def _running(self) -> Process:
        if self._ends is not None:
            return self._ends
        if len(self._terminal) != 2:
            raise StartError("world", "the process died before it had its terminal")
        master, slave = self._terminal
        return Process(
            self.pid,
            stdin=master if self._with_stdin else None,
            stdout=master,
            stderr=None,
            slave=slave,
        )


def start(
    job: Job,
    *,
    root: str,
    agent_mounts: tuple[str, ...],
    volume_mounts: Mapping[str, str],
    files: NameFiles,
    cgroup: int,
) -> Launch:
    """Start the job's process in a world of its own, in `root` and the cgroup of this descriptor.

    `volume_mounts` are where the agent has the job's volumes, by serial number; `files`, open, are
    the run's names. The group is kept
    from the machine's devices first, unless the process is privileged. Raises StartError when there
    can be no process at all.
    """
    host = job.run.host
    if not host.privileged:
        device_rules.restrict(cgroup)
    namespaces = NAMESPACES & ~c_linux.CLONE_NEWPID if host.machine_processes else NAMESPACES

    def enter() -> None:
        held = volumes.hold(job.volumes, volume_mounts)
        names = files.hold()
        world.enter_root(root, (*agent_mounts, files.folder, *volume_mounts.values()))
        volumes.fill(held)
        world.build(job.host_name, host, names, held)

    return _launch(
        Plan(job, enter, is_main=True),
        lambda: syscalls.clone_process(namespaces, exit_signal=signal.SIGCHLD, cgroup=cgroup),
    )


def start_beside(job: Job, main: int, *, cgroup: int, builtin: Optional[Builtin] = None) -> Launch:
    """Start another process in the world of the process with the pidfd `main`.

    It is the agent's own child, so the agent collects its status like any other's, and ends with
    the world that it is in. Raises StartError when there can be no process at all.
    """

    def clone() -> int:
        # setns(2) into a PID namespace is about children to come, and can be taken back.
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        pid = -1
        try:
            syscalls.enter_namespaces(main, c_linux.CLONE_NEWPID)
            pid = syscalls.clone_process(0, exit_signal=signal.SIGCHLD, cgroup=cgroup)
        finally:
            if pid:  # the child cannot go back, and does not want to
                syscalls.enter_namespaces(own, c_linux.CLONE_NEWPID)
                os.close(own)
        return pid

    return _launch(
        Plan(
            job,
            lambda: syscalls.enter_namespaces(main, NAMESPACES & ~c_linux.CLONE_NEWPID),
            builtin=builtin,
        ),
        clone,
    )


def start_here(job: Job, *, builtin: Optional[Builtin] = None) -> Launch:
    """Start a process in the world that the agent itself is in, as it is.

    Raises StartError when there can be no process at all.
    """
    return _launch(Plan(job, _stay, as_it_is=True, builtin=builtin), os.fork)


def is_ending(pid: int) -> bool:
    """Return whether a process has ended, or has begun to: then the kernel kills its world.

    That it kills the others first is why a wait for this one would come too late. proc(5), stat.
    """
    try:
        threads = os.listdir("/proc/{}/task".format(pid))
        return all(_is_exiting("/proc/{}/task/{}/stat".format(pid, one)) for one in threads)
    except OSError:
        return True  # nobody is left


def _is_exiting(path: str) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return bool(int(fields[6]) & c_linux.PF_EXITING)


def _stay() -> None:
    """Enter no other world."""


def _launch(plan: Plan, clone: Callable[[], int]) -> Launch:
    with_stdin = plan.job.run.stdin
    opened: List[int] = []
    try:
        pipes = None if plan.job.run.tty else _open_pipes(opened, with_stdin=with_stdin)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        _close(opened)
        raise StartError("world", "no stdio for a process: {}".format(error)) from error
    # The child has our handlers until it resets them: a signal would be taken for one to us.
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        pid = clone()
        if pid == 0:
            child.run(plan, pipes, theirs)
    except OSError as error:
        ours.close()
        _close(opened)
        raise StartError("world", "no new process: {}".format(error.strerror)) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
    ends = None
    if pipes:
        _close([pipes.stdout[1], pipes.stderr[1], *(pipes.stdin[:1] if pipes.stdin else ())])
        stdin = pipes.stdin[1] if pipes.stdin else None
        ends = Process(pid, stdin=stdin, stdout=pipes.stdout[0], stderr=pipes.stderr[0])
    return Launch(pid, ours, ends, with_stdin=with_stdin)


def _open_pipes(opened: List[int], *, with_stdin: bool) -> Pipes:
    """Open the pipes and note each end in `opened`, so that none is left when one fails."""

    def pipe() -> tuple[int, int]:
        ends = os.pipe()
        opened.extend(ends)
        with suppress(OSError):  # a limit: then it is as large as any
            fcntl.fcntl(ends[0], c_linux.F_SETPIPE_SZ, PIPE_BYTES)
        return ends

    return Pipes(pipe() if with_stdin else None, pipe(), pipe())


def _close(descriptors: List[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
