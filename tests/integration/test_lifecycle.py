"""The life of machines, and what is left of them when any process of ours is killed.

Hardly any of these guests gets far in its boot: what is looked at is who owns which QEMU. /proc is
the witness of what runs, not our own records.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.host import ExitStatus, MachineEndedError, Stdio, client
from converter import events
from converter.errors import NotFoundError, SaltflatError, UsageError
from converter.machine import settle
from converter.machine.directory import PID_FILE, STATE_FILE
from converter.machine.foreground import run_in_foreground
from converter.machine.local import LocalMachines
from converter.machine.machines import MachineRecord, Status
from converter.machine.model import GuestConfig, MachineSpec, RunConfig
from converter.machine.process_mark import own_mark
from converter.machine.removal import all_names
from converter.machine.state import UNKNOWN_END
from converter.store.layout import Store
from converter.store.pins import pins
from tests.guests import disk
from tests.guests.machines import local_machines, request, seat
from tinykernel.record import load_boot_image

pytestmark = [pytest.mark.integration, pytest.mark.vm]


@pytest.fixture(scope="module")
def spec(boot_store: Path, link: Path) -> MachineSpec:
    (boot,) = (boot_store / "boot").glob("*/boot.json")
    return MachineSpec(
        chain=(link,),
        capacity_bytes=disk.CAPACITY_BYTES,
        boot=load_boot_image(boot.parent),
        guest=GuestConfig(
            root_uuid=disk.ROOT_UUID,
            hostname="",
            image={"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["true"]},
            run=RunConfig(),
        ),
        memory_mib=128,
    )


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[LocalMachines]:
    """Machines of which nothing is left in the end, whatever the test did to them."""
    opened = local_machines(tmp_path)
    yield opened
    for record in opened.list():
        opened.remove(record.id, force=True)
    assert [path.name for path in (tmp_path / "state/machines").iterdir()] in ([], [".lock"])
    assert qemus(tmp_path) == []
    if (tmp_path / "store").is_dir():
        assert pins(Store(tmp_path / "store"))[0] == frozenset()


@pytest.fixture
def made(machines: LocalMachines, spec: MachineSpec, tmp_path: Path) -> MachineRecord:
    return machines.create(request(spec, tmp_path, name="box"))


def qemus(work: Path) -> list[int]:
    """Return the processes whose working directory is, or was, a machine's folder of this test."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            where = os.fspath((process / "cwd").readlink())
            if where.startswith(f"{work}/state/machines/") and state != "Z":
                found.append(int(process.name))
    return found


def killed(pid: int | None) -> None:
    """Kill a process and wait until it is gone."""
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}/cwd").exists() or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def test_created_found_and_removed(
    machines: LocalMachines, made: MachineRecord, spec: MachineSpec, tmp_path: Path
) -> None:
    folder = tmp_path / "state/machines" / made.id
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (made.status, made.name, made.command) == (
        Status.CREATED,
        "box",
        ("/bin/sh", "-c", "true"),
    )
    assert made.spec == replace(spec, guest=replace(spec.guest, hostname=made.short_id))
    assert machines.find("box") == machines.find(made.id) == machines.find(made.id[:5]) == made
    assert machines.list() == (made,)
    with pytest.raises(UsageError, match="name box is taken"):
        machines.create(request(spec, tmp_path, name="box"))
    with pytest.raises(UsageError, match="name box is taken"):
        machines.check_name("box")
    machines.check_name("other")
    with pytest.raises(UsageError, match="no name"):
        machines.create(request(spec, tmp_path, name="../box"))
    with pytest.raises(UsageError, match="never started"):
        machines.address(made.id)
    other = machines.create(request(spec, tmp_path))
    assert other.name != "box"
    assert machines.list() == (other, made)
    assert machines.find(other.short_id) == other
    while not (alike := [m for m in machines.list()[1:] if m.id[0] == machines.list()[0].id[0]]):
        machines.create(request(spec, tmp_path))
    with pytest.raises(UsageError, match=f"begin with {alike[0].id[0]}:.*{alike[0].name}"):
        machines.find(alike[0].id[0])
    for nothing in ("", "BOX", "box ", "../box", made.id[1:]):
        with pytest.raises(NotFoundError):
            machines.find(nothing)
    kept, void = pins(Store(tmp_path / "store"))
    assert (kept, void) == ({spec.boot.id}, ())
    machines.remove(made.id)
    with pytest.raises(NotFoundError):
        machines.find("box")
    with pytest.raises(NotFoundError):
        machines.remove(made.id)
    assert machines.create(request(spec, tmp_path, name="box")).id != made.id


def test_a_killed_supervisor_leaves_a_machine_that_is_shown_adopted_and_removed(
    machines: LocalMachines, made: MachineRecord, tmp_path: Path
) -> None:
    machines.start(made.id)
    first = machines.find("box")
    assert (first.status, first.supervised) == (Status.RUNNING, True)
    assert qemus(tmp_path) == [first.details["hypervisor_pid"]]
    machines.start(made.id)  # runs already
    assert machines.find("box") == first

    killed(first.details["supervisor_pid"])
    orphan = machines.find("box")
    assert (orphan.status, orphan.supervised) == (Status.RUNNING, False)
    assert orphan.details["hypervisor_pid"] == first.details["hypervisor_pid"]
    assert orphan.started_ns == first.started_ns
    with pytest.raises(UsageError, match="runs"):
        machines.remove(made.id)

    session = client.describe(machines.address(made.id))["session"]
    adopted = machines.find("box")
    assert adopted.supervised
    assert adopted.details["hypervisor_pid"] == first.details["hypervisor_pid"]
    killed(adopted.details["supervisor_pid"])
    machines.start(made.id)  # a start adopts, too
    assert client.describe(machines.address(made.id))["session"] == session
    assert qemus(tmp_path) == [first.details["hypervisor_pid"]]

    killed(machines.find("box").details["supervisor_pid"])
    machines.remove(made.id, force=True)
    assert qemus(tmp_path) == []


def test_a_killed_qemu_is_an_end_that_is_not_the_processes_own(
    machines: LocalMachines, made: MachineRecord, tmp_path: Path
) -> None:
    with machines.started(made.id):
        killed(machines.find("box").details["hypervisor_pid"])
        assert machines.wait(made.id) == UNKNOWN_END
        ended = machines.find("box")
        assert (ended.status, ended.details["hypervisor_exit"]) == (Status.EXITED, -9)
        assert "killed by signal 9" in ended.reason
        assert ended.finished_ns is not None
        with pytest.raises(MachineEndedError) as caught:
            client.wait(machines.address(made.id))
        explained = machines.explain(made.id, caught.value)
        assert "The hypervisor was killed by signal 9" in explained.what
    machines.start(made.id)
    again = machines.find("box")
    assert (again.status, again.end, again.reason) == (Status.RUNNING, None, "")
    # Nobody watches this time.
    killed(again.details["supervisor_pid"])
    killed(again.details["hypervisor_pid"])
    ended = machines.find("box")
    assert (ended.status, ended.end, ended.reason) == (
        Status.EXITED,
        UNKNOWN_END,
        settle.UNWATCHED,
    )
    machines.remove(made.id)


def test_a_machine_that_was_to_go_goes_though_nobody_watched_its_end(
    machines: LocalMachines, spec: MachineSpec, tmp_path: Path
) -> None:
    record = machines.create(request(spec, tmp_path, auto_remove=True))
    machines.start(record.id)
    running = machines.find(record.id)
    killed(running.details["supervisor_pid"])
    killed(running.details["hypervisor_pid"])
    assert machines.find(record.id).reason == settle.UNWATCHED  # found, and not lost by looking
    until(lambda: machines.list() == ())
    with all_names(tmp_path / "state/machines"):  # whoever removes it has finished then
        pass


def test_a_restarted_host_and_a_pid_of_somebody_else(
    machines: LocalMachines, made: MachineRecord, tmp_path: Path
) -> None:
    machines.start(made.id)
    running = machines.find("box")
    folder = tmp_path / "state/machines" / made.id
    state = (folder / STATE_FILE).read_bytes()
    killed(running.details["supervisor_pid"])
    killed(running.details["hypervisor_pid"])
    # As a host leaves it that lost its power: in another boot, with a pid that is ours now.
    mark = own_mark()
    (folder / PID_FILE).write_text(str(replace(mark, boot_id="0" * 36)))
    ended = machines.find("box")
    assert (ended.status, ended.end, ended.reason) == (
        Status.EXITED,
        UNKNOWN_END,
        settle.RESTARTED,
    )
    # In this boot, but another process.
    (folder / STATE_FILE).write_bytes(state)
    (folder / PID_FILE).write_text(str(replace(mark, start_ticks=mark.start_ticks - 1)))
    assert machines.find("box").reason == settle.UNWATCHED
    # A mark that its writer did not finish.
    (folder / STATE_FILE).write_bytes(state)
    (folder / PID_FILE).write_text("")
    assert machines.find("box").status is Status.EXITED
    machines.remove(made.id, force=True)  # and we are alive


def test_a_run_that_somebody_else_ends(
    machines: LocalMachines, spec: MachineSpec, tmp_path: Path
) -> None:
    record = machines.create(request(spec, tmp_path, auto_remove=True))
    ends: list[ExitStatus] = []

    def attached() -> None:
        with open(os.devnull, "wb") as nowhere:
            stdio = Stdio(None, nowhere.fileno(), nowhere.fileno())
            ends.append(run_in_foreground(machines, record, seat(stdio), monitor=events.ignore))

    thread = threading.Thread(target=attached)
    thread.start()
    until(lambda: machines.find(record.id).supervised)
    machines.kill(record.id, signal.SIGKILL)
    thread.join(60)
    assert ends == [ExitStatus(137, signal=9)]
    assert machines.list() == ()


def test_a_machine_that_cannot_be_made_leaves_nothing(
    machines: LocalMachines, spec: MachineSpec, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="smaller than the chain"):
        machines.create(request(replace(spec, capacity_bytes=1 << 20), tmp_path))
    assert [path.name for path in (tmp_path / "state/machines").iterdir()] == [".lock"]
    gone = replace(spec, boot=replace(spec.boot, folder=tmp_path / "gone"))
    made = machines.create(request(gone, tmp_path))
    with pytest.raises(NotFoundError, match="vmlinuz is gone"):
        machines.start(made.id)
    assert machines.find(made.id).status is Status.CREATED


def test_starting_and_removing_at_the_same_time(
    machines: LocalMachines, made: MachineRecord, spec: MachineSpec, tmp_path: Path
) -> None:
    at_once([lambda: machines.start(made.id)] * 4)
    assert qemus(tmp_path) == [machines.find("box").details["hypervisor_pid"]]
    failures = at_once([lambda: machines.remove(made.id, force=True)] * 2)
    assert all(isinstance(failure, NotFoundError) for failure in failures)
    assert qemus(tmp_path) == []

    taken = at_once([lambda: machines.create(request(spec, tmp_path, name="one"))] * 4)
    assert len(taken) == 3
    assert all("name one is taken" in str(failure) for failure in taken)

    one = machines.find("one").id
    failures = at_once([lambda: machines.start(one), lambda: machines.remove(one, force=True)])
    assert all(isinstance(failure, NotFoundError) for failure in failures)
    if machines.list():  # the removal came first, and a start has nothing to start then
        machines.remove(one, force=True)
    assert qemus(tmp_path) == []


def at_once(calls: list[Callable[[], object]]) -> list[SaltflatError]:
    """Call all at the same time; return what was raised."""
    failures: list[SaltflatError] = []
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        gate.wait()
        try:
            call()
        except SaltflatError as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_a_supervisor_that_hangs_keeps_nobody_from_removing(
    machines: LocalMachines, made: MachineRecord, tmp_path: Path
) -> None:
    machines.start(made.id)
    os.kill(machines.find("box").details["supervisor_pid"], signal.SIGSTOP)
    machines.remove(made.id, force=True)
    assert qemus(tmp_path) == []


def test_a_folder_that_is_removed_by_hand_takes_its_qemu_with_it(
    machines: LocalMachines, made: MachineRecord, tmp_path: Path
) -> None:
    machines.start(made.id)
    assert len(qemus(tmp_path)) == 1
    folder = tmp_path / "state/machines" / made.id

    def removed() -> bool:  # what is being written to may need another go
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    until(removed)
    until(lambda: qemus(tmp_path) == [])


@pytest.mark.parametrize("content", ['{"schema": 1', None])
@pytest.mark.parametrize("name", ["machine.json", "state.json"])
def test_a_damaged_folder_is_dead_and_can_be_removed(
    machines: LocalMachines, made: MachineRecord, tmp_path: Path, name: str, content: str | None
) -> None:
    machines.start(made.id)
    path = tmp_path / "state/machines" / made.id / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    (found,) = machines.list()
    assert found.id == made.id
    if (name, content) == ("state.json", None):
        assert found.status is Status.RUNNING
    else:
        assert found.status is Status.DEAD
        assert name in found.reason or "no machine" in found.reason
    with pytest.raises(SaltflatError):
        machines.remove(made.id)
    machines.remove(made.id, force=True)
    assert qemus(tmp_path) == []


def test_long_paths(spec: MachineSpec, tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100) / "a,b"
    machines = LocalMachines(deep, accelerator="tcg")
    made = machines.create(request(spec, tmp_path, auto_remove=True))
    machines.start(made.id)
    assert client.describe(machines.address(made.id))["condition"] in {
        "no-hello",
        "never-connected",
    }
    until(lambda: client.describe(machines.address(made.id))["condition"] == "no-hello")
    machines.kill(made.id, signal.SIGKILL)
    until(lambda: machines.list() == ())  # it removes itself
