"""PID 1 of a guest that starts the processes of many rows, one after the other.

It stands where tether stands and uses tether's own modules for everything that a process goes
through: the document's check, the clone, the world, the identity, the exit. Only what is outside
of that is not here: the removal of the initramfs, and for rows that are one process and its output
the line to the host and the supervisor's loop, which tests that boot the product look at; other
rows are `lives`'. Runs under the boot image's Python, with what is in it.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import sys
import termios
import time

sys.path.insert(0, "/usr/lib/saltflat")
sys.path.insert(0, "/")

from agent import bare_signal as signal
from agent.tether import __main__ as tether
from agent.tether import config, disks, log, messages, modules, process, syscalls, world
from agent.tether.cgroups import ControlGroup
from agent.tether.errors import StartError
from agent.tether.name_files import NameFiles
from agent.tether.uevents import UeventListener
from tests.cases import lives, observe

TYPE_CHECKING = False  # the boot image has no typing: see agent.hints
if TYPE_CHECKING:
    from collections.abc import Generator
    from types import ModuleType
    from typing import Any

SECONDS = 60  # for one row, on a machine that is busy with others
LIVES_OF_A_FAULT = 4  # at once: all that have begun when one shows it were for nothing
ANSWERS = "/dev/ttyS0"


def main() -> None:
    try:
        tether._mount_agent_world()
        tether._keep_standard_descriptors()
        with open("/rows.json", encoding="utf-8") as file:
            wanted = json.load(file)
        with UeventListener() as events:
            loader = modules.read_order()
            for name in (*modules.drivers_for(modules.read_pci_ids()), "ext4"):
                loader.load(name)
            device, superblock = disks.find_root(wanted["root"], events)
            disks.mount(device, superblock, tether.ROOT, "the root disk")
        world.bring_loopback_up()
        answers = os.open(ANSWERS, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        _make_raw(answers)
        sound = {}
        for name, document in wanted["documents"].items():
            sound[name] = _answer(document)
            _say(answers, {"row": name, **sound[name]})
        for name, answer in lives.answers(wanted["lives"]):
            sound[name] = answer
            _say(answers, {"row": name, **answer})
        for fault in wanted["faults"]:
            _under_fault(fault, wanted, sound, answers)
        _say(answers, {"end": True})
    except BaseException as error:  # the console has it, and the host misses the end
        log.error(log.describe(error))
    finally:
        tether._power_off()


def _under_fault(
    fault: dict[str, Any], wanted: dict[str, Any], sound: dict[str, Any], answers: int
) -> None:
    """Run rows in a fork of ours, in which a module of the product is wrong in one place.

    The first that is not as it was without the fault is enough.
    """
    pid = os.fork()
    if not pid:
        code = 1
        try:
            _break(sys.modules["agent.tether." + fault["module"]], fault["source"])
            found = _answers(fault["rows"], wanted)
            for name, answer in found:
                _say(answers, {"fault": fault["name"], "row": name, **answer})
                if _sight(answer) != _sight(sound[name]):
                    break
            found.close()
            code = 0
        except BaseException as error:
            log.error(log.describe(error))
        finally:
            os._exit(code)
    os.waitpid(pid, 0)


def _answers(
    names: list[str], wanted: dict[str, Any]
) -> Generator[tuple[str, dict[str, Any]], None, None]:
    """Yield the answers to these rows, the first of which is run by itself.

    Of the others some with a life may change places.
    """
    for part in (names[:1], names[1:]):
        for has_life, some in itertools.groupby(part, wanted["lives"].__contains__):
            if has_life:
                rows = {name: wanted["lives"][name] for name in some}
                yield from lives.answers(rows, together=LIVES_OF_A_FAULT)
            else:
                yield from ((name, _answer(wanted["documents"][name])) for name in some)


def _break(module: ModuleType, source: str) -> None:
    """Execute another source for a module, and have those that imported names of it see these."""
    before = dict(vars(module))
    exec(compile(source, module.__name__, "exec"), vars(module))
    users = [user for name, user in sys.modules.items() if name.startswith("agent.tether")]
    for user in [*users, lives]:
        for name, value in list(vars(user).items()):
            if name in before and value is before[name]:
                setattr(user, name, getattr(module, name))


def _sight(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what can be compared of an answer."""
    output = answer.get("stdout", "").encode("latin-1")
    seen = observe.observe(output, code=answer["code"], by_terminal=True)
    return {**seen, "told": answer.get("told")}


def _answer(document: dict[str, Any]) -> dict[str, Any]:
    """Start the document's process, and return its output and exit code, or why there is none."""
    try:
        job = config.parse_job(document)
    except StartError as error:
        return {"code": error.code, "why": error.message}
    kept = _network_settings(job)
    files = NameFiles(job.host_name, job.run.host)
    files.open()
    group = ControlGroup("row")
    directory = group.open()
    try:
        launch = process.start(
            job,
            root=tether.ROOT,
            agent_mounts=tuple(target for _, target, _ in tether.AGENT_MOUNTS),
            volume_mounts={},
            files=files,
            cgroup=directory,
        )
    except StartError as error:
        return {"code": error.code, "why": error.message}
    else:
        return _supervise(launch, group)
    finally:
        os.close(directory)
        group.kill()
        _bury()
        os.rmdir(group.path)
        syscalls.unmount(files.folder)
        for path, value in kept.items():
            _write(path, value)


def _supervise(launch: process.Launch, group: ControlGroup) -> dict[str, Any]:
    try:
        while True:
            select.select([launch.descriptor], [], [], SECONDS)
            running = launch.poll()
            if running is not None:
                break
    except StartError as error:
        os.waitpid(launch.pid, 0)
        return {"code": error.code, "why": error.message}
    finally:
        launch.close()
    assert running.stderr is not None  # no row has a terminal
    outputs = {running.stdout: b"", running.stderr: b""}
    status, deadline = None, time.monotonic() + SECONDS
    waiting = set(outputs)
    while waiting:
        ready, _, _ = select.select(list(waiting), [], [], 0.02 if status is None else 1)
        for descriptor in ready:
            data = os.read(descriptor, 65536)
            outputs[descriptor] += data
            if not data:
                waiting.discard(descriptor)
                os.close(descriptor)
        if status is None:
            pid, found = os.waitpid(launch.pid, os.WNOHANG)
            if pid:
                status = found
                group.kill()
        if time.monotonic() > deadline:
            os.kill(launch.pid, signal.SIGKILL)
            deadline += SECONDS
    if status is None:
        _, status = os.waitpid(launch.pid, 0)
    message = messages.describe_exit(status, out_of_memory=False)
    stdout, stderr = (outputs[running.stdout], outputs[running.stderr])
    return {
        "code": message["code"],
        "stdout": stdout.decode("latin-1"),
        "stderr": stderr.decode("utf-8", "replace")[-500:],
    }


def _network_settings(job: config.Job) -> dict[str, Any]:
    """Return what a row is about to change for good: all share the machine's network."""
    names = [*world.DEFAULT_SYSCTLS, *(name for name, _ in job.run.host.sysctls)]
    paths = ["/proc/sys/" + name.replace(".", "/") for name in names if name.startswith("net.")]
    return {path: open(path).read() for path in paths}


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _bury() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _make_raw(descriptor: int) -> None:
    attributes = termios.tcgetattr(descriptor)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)


def _say(descriptor: int, answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode("ascii") + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    main()
