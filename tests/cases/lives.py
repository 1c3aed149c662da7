"""Rows that take the agent's whole loop: a terminal and its user, further starts, health checks.

Runs in the guest of table_init.py, which imports it. Each row has two forks of its own: the agent,
whose runs, supervisor, health checks and line are the product's; and its host, at the other end of
a socket pair, who does what the row's dialogue says and notes what it is told. The rows run side by
side, for they wait most of the time.
"""

from __future__ import annotations

import binascii
import json
import os
import select
import time

from agent import bare_signal as signal
from agent import bare_socket as socket
from agent.tether import __main__ as tether
from agent.tether import channel, config, guest, log, probes, resolve, runs
from agent.tether.cgroups import CGROUP_ROOT
from agent.tether.errors import StartError
from agent.tether.line import guest_line
from agent.tether.name_files import NameFiles
from agent.tether.supervisor import Supervisor
from agent.wire import STDIN, STDOUT, Control, Data, Endpoint, Role, kind_of

TYPE_CHECKING = False  # the boot image has no typing: see agent.hints
if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from typing import Any

KEY = bytes(range(32))
TOGETHER = 16
SECONDS = 60.0  # for one row, on a machine that is busy with others
READ_BYTES = 65536
assert probes, "tether imports it when it is wanted, and a fault of it is to be seen"

Answer = dict[str, "Any"]


def answers(
    rows: Mapping[str, dict[str, Any]], together: int = TOGETHER
) -> Generator[tuple[str, Answer], None, None]:
    """Yield each row's name and what its host has noted, as they come.

    A row is `document`, `dialogue`, and what it `makes` on the disk, which is not there at first.
    Who has heard enough closes the iterator.
    """
    names = list(rows)
    for start in range(0, len(names), together):
        running = {_Row(name, rows[name]) for name in names[start : start + together]}
        try:
            while running:
                ready, _, _ = select.select(running, [], [])
                running -= set(ready)
                for row in ready:
                    yield row.name, row.answer()
        finally:
            for row in running:
                row.end()


class _Row:
    """One row: a fork that is its host, which has one that is its agent, and a control group."""

    def __init__(self, name: str, row: dict[str, Any]) -> None:
        self.name = name
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.setsid()
            try:
                answer = json.dumps(_serve(row)).encode("ascii")
                with open(writer, "wb") as file:
                    file.write(answer)
            except BaseException as error:
                log.error(log.describe(error))
            finally:
                os._exit(0)
        os.close(writer)

    def fileno(self) -> int:
        """Return what is readable when there is an answer."""
        return self._reader

    def answer(self) -> Answer:
        """Return it; all that was started has ended then."""
        with open(self._reader, "rb", closefd=False) as file:
            data = file.read()
        self.end()
        return json.loads(data) if data else {"code": -1, "why": "its host broke off"}

    def end(self) -> None:
        """End whatever still runs of it."""
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._reader)
        for name in os.listdir(CGROUP_ROOT):
            if name.startswith(_group(self._pid)):
                with open(f"{CGROUP_ROOT}/{name}/cgroup.kill", "w", encoding="ascii") as file:
                    file.write("1")


def _group(pid: int) -> str:
    """Return how the control groups of the row with this host begin: no other row has such."""
    return f"life-{pid}-"


def _serve(row: dict[str, Any]) -> Answer:
    for path in row["makes"]:
        _remove(tether.ROOT + path)
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        ours.close()
        try:
            _be_agent(row["document"], theirs)
        except BaseException as error:
            log.error(log.describe(error))
        finally:
            os._exit(0)
    theirs.close()
    host = _Host(ours, row["dialogue"])
    host.serve(time.monotonic() + SECONDS)
    return host.noted()


def _remove(path: str) -> None:
    if os.path.isdir(path):
        os.rmdir(path)
    elif os.path.exists(path):
        os.unlink(path)


def _be_agent(document: dict[str, Any], line: socket.socket) -> None:
    """Do what tether does from the document on, with a network and a disk that are there."""
    runs.GROUP = _group(os.getppid())
    transport = channel.Device(line.fileno(), limits=channel.VIRTIO_LIMITS, read_bytes=READ_BYTES)
    rules, _ = config.output_rules(document)
    with Supervisor(guest_line(transport, KEY, rules)) as supervisor:
        try:
            job = config.parse_job(document)
            _run(job, supervisor, f"/names-{os.getpid()}")
        except StartError as error:
            supervisor.report_failure(error)


def _run(job: config.Job, supervisor: Supervisor, names: str) -> None:
    files = NameFiles(job.host_name, job.run.host, folder=names)
    files.open()
    mounts = tuple(target for _, target, _ in tether.AGENT_MOUNTS)
    life = runs.Runs(job, root=tether.ROOT, agent_mounts=mounts, volume_mounts={}, files=files)
    try:
        supervisor.supervise(
            life.start(),
            stop_signal=resolve.resolve_stop_signal(job.image, job.run),
            stop_seconds=job.run.host.stop_seconds,
            oom_kills=life.oom_kills,
            start=life.start_beside,
            end=life.kill,
            policy=job.run.host.restart,
            again=life.start,
            health=guest._health(job),
        )
    finally:
        life.kill()


class _Host:
    """The other end of the line.

    The dialogue's texts are looked for in the output, in which "<STATUS>" stands for each change of
    the health.
    """

    def __init__(self, line: socket.socket, dialogue: list[dict[str, Any]]) -> None:
        self._line = line
        self._dialogue = list(dialogue)
        self._endpoint = Endpoint(Role.HOST, KEY, nonce=os.urandom(32), now=time.monotonic())
        self._story = b""
        self._searched = 0
        self._typed = b""
        self._output: dict[int, bytes] = {}
        self._end: dict[str, Any] = {}
        self._delays: list[int] = []
        self._restarts = 0
        self._health: list[str] = []
        self._checks: list[list[object]] = []

    def noted(self) -> Answer:
        """Return the answer; members of `told` only where there was something to tell."""
        told = {
            "restarts": self._restarts,
            "delays": self._delays,
            "health": self._health,
            "checks": self._checks,
        }
        output = {kind: data.decode("latin-1") for kind, data in self._output.items()}
        return {
            "code": self._end.get("code", -1),
            "why": self._end.get("message", "" if self._end else "it did not end"),
            "stdout": output.pop(STDOUT, ""),
            "stderr": "".join(output.values()),
            "told": {name: value for name, value in told.items() if value},
        }

    def serve(self, deadline: float) -> None:
        """Be the host until the agent leaves, or it is too late."""
        self._line.setblocking(False)
        waiting = b""
        while (now := time.monotonic()) < deadline:
            due = self._endpoint.deadline()
            wait = min(deadline - now, 1.0 if due is None else max(0.0, due - now))
            writers = [self._line] if waiting else []
            ready, _, _ = select.select([self._line], writers, [], wait)
            now = time.monotonic()
            try:
                data = self._line.recv(READ_BYTES) if ready else None
                if data == b"":
                    return
                happened = self._endpoint.receive(data, now) if data else []
                for event in [*happened, *self._endpoint.tick(now)]:
                    self._take(event)
                self._talk()
                waiting = waiting or self._endpoint.data_to_send(now)
                while waiting:
                    waiting = waiting[self._line.send(waiting) :]
                    waiting = waiting or self._endpoint.data_to_send(now)
            except BlockingIOError:
                continue  # the agent has not read yet
            except ConnectionError:
                return

    def _take(self, event: object) -> None:
        if isinstance(event, Data):
            kind = kind_of(event.stream)
            self._output[kind] = self._output.get(kind, b"") + event.data
            self._endpoint.consumed(event.stream, len(event.data))
            if kind == STDOUT:
                self._story += event.data
        elif isinstance(event, Control):
            self._note(event.message)

    def _note(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind in ("exited", "failed"):
            self._end = message
        elif kind == "restarting":
            self._restarts = message["count"]
            self._delays.append(message["delay_ms"])
        elif kind == "health":
            self._note_health(message)

    def _note_health(self, message: dict[str, Any]) -> None:
        """Note what changes: how often the same was found is a matter of the machine's speed."""
        status, streak = message["status"], message["streak"]
        if not self._health or self._health[-1].split()[0] != status:
            self._health.append(f"{status} after {streak}" if streak else status)
            self._story += f"<{status}>".encode()
        if message["result"] is not None:
            output = binascii.a2b_base64(message["result"]["output"]).decode()
            result: list[object] = [message["result"]["code"], output]
            if self._checks[-1:] != [result]:
                self._checks.append(result)

    def _talk(self) -> None:
        """Go on with the dialogue as far as what was seen allows."""
        while self._dialogue:
            step = self._dialogue[0]
            after = step["after"].encode()
            found = self._story.find(after, self._searched)
            if found < 0:
                break
            self._searched = found + len(after)
            del self._dialogue[0]
            self._do(step)
        self._typed = self._typed[self._endpoint.send(STDIN, self._typed) :] if self._typed else b""

    def _do(self, step: dict[str, Any]) -> None:
        self._typed += step.get("type", "").encode()
        if "size" in step:
            rows, columns = step["size"]
            self._endpoint.control({"type": "resize", "process": 0, "rows": rows, "cols": columns})
        if "signal" in step:
            number = signal.NAMES[step["signal"]]
            self._endpoint.control({"type": "signal", "process": 0, "signal": number})
        if step.get("stop"):
            self._endpoint.control({"type": "stop"})
