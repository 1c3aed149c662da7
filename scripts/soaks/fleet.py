"""A fleet of machines on a simulated vCenter, by two clients at once: each there once, then none.

COUNT machines are created, started, listed, stopped and removed by two processes that know nothing
of each other. Of every four names both clients want one: exactly one may get it. Both remove all
machines that they see at the end, so that each machine goes while the other client is at it. A
third process collects what nobody needs, without any grace, while they make theirs: each machine
has its boot medium then.

Then, once for every 20 machines, a client that makes, stops and removes machines is killed at a
random instant. What it leaves is seen by the next client, which can start and remove all of it.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from agent.host.relay.keys import read_key
from agent.host.relay.roster import Roster
from converter.machine.spec_json import spec_document
from converter.store.layout import Store
from converter.vsphere import c_marks as marks
from converter.vsphere.vms import vms_below
from scripts.soaks import _fleet_client
from tests.images import prepared
from tests.images.gotools import go_tools
from tests.integration.vcsim import vcsim
from tests.integration.vsphere_place import Place, make_image

COUNT = 100
_CLIENTS = 2
_SECONDS = 600
_MACHINES_TO_A_KILL = 20
_KILL_SECONDS = (0.0, 1.0)


def run(count: int, seed: int) -> list[str]:
    """Run `count` machines by two clients; return what was wrong."""
    with tempfile.TemporaryDirectory() as name, vcsim(go_tools()) as address:
        place = Place(
            address, Path(name), make_image(Path(name) / "layout"), prepared.boot_media_store()
        )
        plan = _prepare(place)
        collector = subprocess.Popen(
            [sys.executable, _fleet_client.__file__, plan, "0", "0", "0", "collect"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **place.environment},
        )
        assert collector.stdout is not None
        collector.stdout.readline()  # the medium is away: nothing starts from it yet
        clients = [
            subprocess.Popen(
                [sys.executable, _fleet_client.__file__, plan, str(number), str(count), str(seed)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **place.environment},
            )
            for number in range(_CLIENTS)
        ]
        for client in clients:
            assert client.stdout is not None
            client.stdout.readline()  # it has made what it could
        (place.folder / "stop").touch()
        last = collector.communicate(timeout=_SECONDS)[0].splitlines()[-1:]
        failures = json.loads(last[0])["failures"] if last else ["the collector failed"]
        failures += _without_medium(place)
        told = [
            json.loads(client.communicate("go on\n", timeout=_SECONDS)[0] or "{}")
            for client in clients
        ]
        if any(client.returncode for client in clients):
            return [f"a client ended with {[client.returncode for client in clients]}"]
        failures += _judge(place, count, told)
        chooser = random.Random(seed)
        for _ in range(max(1, count // _MACHINES_TO_A_KILL)):
            failures += _kill(place, plan, chooser.uniform(*_KILL_SECONDS))
        return failures


def _kill(place: Place, plan: str, seconds: float) -> list[str]:
    """Kill a client while it works; return what was wrong with what it has left."""
    command = [sys.executable, _fleet_client.__file__, plan, "0", "0", "0", "churn"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, **place.environment}
    ) as client:
        assert client.stdout is not None
        client.stdout.readline()  # it has begun
        with suppress(subprocess.TimeoutExpired):
            client.wait(seconds)
        client.kill()
    machines = place.machines
    with machines.connection as connection:
        for record in machines.list():
            machines.start(record.id)
            document = json.loads(place.vm(record.name, connection).extra[marks.GUEST_DOCUMENT])
            if document["key"] != read_key(place.relays / "machines" / record.name).hex():
                return [f"killed after {seconds:.3f} s: {record.name} has another key"]
            machines.remove(record.id, force=True)
    wrong = _left(place)
    return [f"killed after {seconds:.3f} s: {what}" for what in wrong]


def _prepare(place: Place) -> str:
    """Have a template and a boot medium there; return the file that says what to make."""
    place.good("run", "-d", "--name", "first", place.image)
    machines = place.machines
    with machines.connection as connection:
        spec = machines.find("first").spec
        (template,) = [vm.id for vm in vms_below(connection) if vm.is_template]
    place.good("rm", "-f", "first")
    assert spec is not None
    folder = Store(place.folder / "store").boot / spec.boot.id
    spec = replace(spec, boot=replace(spec.boot, folder=folder))
    plan = place.folder / "plan.json"
    document = {"template": template, "spec": spec_document(spec), "address": place.address}
    plan.write_text(json.dumps({**document, "folder": str(place.folder), "image": place.image}))
    return str(plan)


def _without_medium(place: Place) -> list[str]:
    """Return the boot media that machines are to start from and that are not there."""
    machines = place.machines
    with machines.connection as connection:
        files = machines.place.files(machines.place.placement())
        wanted = {vm.extra.get(marks.BOOT, "") for vm in vms_below(connection)} - {""}
        return [
            f"{full} is missing, from which machines start"
            for full in sorted(wanted)
            if files.size(full.partition("] ")[2]) is None
        ]


def _judge(place: Place, count: int, told: list[dict[str, list[str]]]) -> list[str]:
    failures = [what for one in told for what in one["failures"]]
    made = [name for one in told for name in one["made"]]
    removed = [name for one in told for name in one["removed"]]
    names = set(_fleet_client.names(count))
    if sorted(made) != sorted(names):
        failures.append(f"made were {sorted(made)}")
    if sorted(removed) != sorted(names):
        failures.append(f"removed were {sorted(removed)}")
    return failures + _left(place)


def _left(place: Place) -> list[str]:
    """Return what is wrong with what is there when all machines were removed."""
    with place.open() as connection:
        left = [vm.name for vm in vms_below(connection) if marks.MACHINE in vm.extra]
    keys = Roster(place.relays).names()
    return [f"left were the machines {left} and the keys {keys}"] if left or keys else []
