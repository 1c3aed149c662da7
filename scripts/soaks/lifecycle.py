"""Kill clients, supervisors and QEMUs at any instant of a machine's life; nothing may be lost.

In each round one or two clients create, start, adopt, kill and remove a machine, and up to three
processes of ours are killed with SIGKILL while they do. Afterwards each QEMU that lives is in the
list of machines as running, a removal by force leaves no QEMU, no folder and no pin, and there is
no supervisor without a machine. /proc says what lives, not our own records.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from converter.errors import NotFoundError, SaltflatError
from converter.machine.local import LocalMachines
from converter.machine.machines import Status
from converter.machine.model import GuestConfig, MachineSpec, RunConfig
from converter.machine.spec_json import spec_document
from converter.store.layout import Store
from converter.store.pins import pins
from tests.guests import disk
from tests.images import prepared
from tinykernel.record import load_boot_image

COUNT = 300

_CLIENT = Path(__file__).with_name("_lifecycle_client.py")
_LIVES = (
    ("create", "start", "kill", "start", "remove"),
    ("create", "start", "adopt", "remove"),
    ("create", "start", "start", "kill", "remove"),
    ("run",),
)
_OTHERS = (("adopt", "adopt", "adopt"), ("start", "start"), ("remove",), ("kill", "start"))
_LIFE_SECONDS = 2.5  # about as long as a life takes that nobody disturbs
_PATIENCE_SECONDS = 90.0


def run(count: int, seed: int) -> list[str]:
    """Kill in `count` rounds; return what was not as it should be."""
    rng = random.Random(seed)
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="saltflat-soak-") as named:
        work = Path(named)
        spec = work / "spec.json"
        spec.write_text(json.dumps(spec_document(_spec(work))))
        for number in range(count):
            for failure in _round(work, spec, rng):
                failures.append(f"round {number}: {failure}")
        _end_all(work)
    return failures


def _spec(work: Path) -> MachineSpec:
    (work / "disk").mkdir()
    (boot,) = (prepared.boot_store() / "boot").glob("*/boot.json")
    return MachineSpec(
        chain=(disk.build(work / "disk"),),
        capacity_bytes=disk.CAPACITY_BYTES,
        boot=load_boot_image(boot.parent),
        guest=GuestConfig(
            root_uuid=disk.ROOT_UUID,
            hostname="",
            image={},
            run=RunConfig(args=("/bin/sh", "-c", "sleep 1000")),
        ),
        memory_mib=128,
    )


def _round(work: Path, spec: Path, rng: random.Random) -> list[str]:
    log = (work / "clients.log").open("ab")
    lives: list[tuple[str, ...]] = [rng.choice(_LIVES)]
    if rng.random() < 0.5:
        lives.append(rng.choice(_OTHERS))
    clients = [
        subprocess.Popen(
            [sys.executable, str(_CLIENT), str(work), str(spec), *life], stdout=log, stderr=log
        )
        for life in lives
    ]
    begun = time.monotonic()
    moments = sorted(rng.uniform(0, _LIFE_SECONDS) for _ in range(rng.randrange(1, 4)))
    for moment in moments:
        time.sleep(max(0.0, begun + moment - time.monotonic()))
        kind = rng.choice(("client", "supervisor", "qemu"))
        victims = {
            "client": [client.pid for client in clients if client.poll() is None],
            "supervisor": _supervisors(work),
            "qemu": _qemus(work),
        }[kind]
        if victims:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(victims), signal.SIGKILL)
    # One that runs in the foreground would wait for ever.
    if "run" in lives[0]:
        clients[0].kill()
    for client in clients:
        try:
            client.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            client.send_signal(signal.SIGUSR1)
            time.sleep(1)
            client.kill()
            client.wait()
            where = (work / "clients.log").read_text()[-2000:]
            return [f"a client of {lives} did not end: {where}", *_check(work)]
    log.close()
    return [f"{failure} ({lives})" for failure in _check(work)]


def _check(work: Path) -> list[str]:
    """Return what is wrong, and leave nothing behind."""
    machines = LocalMachines(work / "state", accelerator="tcg")
    failures = []

    def all_known() -> bool:
        alive = set(_qemus(work))
        known = {record.details.get("hypervisor_pid") for record in machines.list()}
        return alive <= known

    if not _until(all_known):
        failures.append(f"QEMU {_qemus(work)} is in nobody's record: {machines.list()}")
    for record in machines.list():
        if record.status is Status.DEAD:
            failures.append(f"a machine is damaged: {record.reason}")
        try:
            machines.remove(record.id, force=True)
        except SaltflatError as error:
            # One that removes itself when it has ended may have been faster.
            if not (record.auto_remove and isinstance(error, NotFoundError)):
                failures.append(f"rm -f: {error} {error.hint}")
    folders = [path.name for path in (work / "state/machines").glob("[!.]*")]
    if folders:
        failures.append(f"left are {folders}")
    if not _until(lambda: not _qemus(work)):
        failures.append(f"QEMU {_qemus(work)} outlived its machine")
    if not _until(lambda: not _supervisors(work)):
        failures.append(f"supervisor {_supervisors(work)} outlived its machine")
    if pins(Store(work / "store"))[0]:
        failures.append("a pin is left that counts")
    _end_all(work)
    return failures


def _end_all(work: Path) -> None:
    for pid in (*_supervisors(work), *_qemus(work)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _qemus(work: Path) -> list[int]:
    return [pid for pid, words in _ours(work) if words[0].startswith("qemu-system")]


def _supervisors(work: Path) -> list[int]:
    return [pid for pid, words in _ours(work) if "converter.machine.supervisor" in words]


def _ours(work: Path) -> list[tuple[int, list[str]]]:
    """Return the living processes that have to do with machines below `work`, and their words."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            where = os.fspath((process / "cwd").readlink())
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            place = f"{work}/state/machines/"
            here = where.startswith(place) or any(word.startswith(place) for word in words)
            if here and state not in "ZX":
                found.append((int(process.name), words))
    return found
