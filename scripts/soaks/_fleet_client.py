"""One of the clients of a fleet: python _fleet_client.py PLAN NUMBER COUNT SEED [churn|collect].

Prints a line when it has made them, waits for one, and prints one JSON object: the names that it
`made` and `removed`, and `failures`, a sentence each. One that collects does so without any grace
until the file `stop` is in the plan's folder, and prints its `failures`.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from converter.errors import NotFoundError, UsageError  # noqa: E402 - after the path
from converter.machine.machines import MachineRequest, Status  # noqa: E402 - after the path
from converter.machine.spec_json import read_spec  # noqa: E402 - after the path
from converter.machine.vsphere import VsphereMachines  # noqa: E402 - after the path
from converter.vsphere.datastore_files import PART  # noqa: E402 - after the path
from converter.vsphere.leftovers import find_leftovers, remove  # noqa: E402 - after the path
from tests.integration.vsphere_place import Place  # noqa: E402 - after the path

CLIENTS = 2
CONTESTED = 4  # of so many names, all clients want one


def names(count: int) -> Sequence[str]:
    """Return the names of all machines."""
    return [f"machine-{number}" for number in range(count)]


def main() -> None:
    """Make, list, stop and remove; print what came of it."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    number, count, seed = map(int, sys.argv[2:5])
    folder = Path(plan["folder"])
    place = Place(plan["address"], folder, plan["image"], folder / "store")
    client = _Client(place.machines, plan)
    if sys.argv[5:] == ["churn"]:
        print("begins", flush=True)
        churn(client)
    if sys.argv[5:] == ["collect"]:
        print(json.dumps({"failures": collected(client.machines, folder / "stop")}))
        return
    wanted = [
        name
        for index, name in enumerate(names(count))
        if index % CONTESTED == 0 or index % CLIENTS == number
    ]
    chooser = random.Random(seed + number)
    chooser.shuffle(wanted)
    with client.machines.connection:
        for name in wanted:
            client.make(name)
        client.look()
        print("made", flush=True)
        sys.stdin.readline()  # all have: a name that is removed may be another's again
        mine = list(client.made)
        chooser.shuffle(mine)
        for name in mine:
            client.stop(name)
        while left := [one.name for one in client.machines.list()]:
            chooser.shuffle(left)
            for name in left:
                client.remove(name)
    print(json.dumps({"made": client.made, "removed": client.removed, "failures": client.failures}))


def churn(client: _Client) -> None:
    """Make, stop and remove machines until somebody kills us."""
    while True:
        for name in ("one", "two"):
            client.make(name)
        for name in ("one", "two"):
            client.stop(name)
        for name in ("one", "two"):
            client.remove(name)


def collected(machines: VsphereMachines, stop: Path) -> list[str]:
    """Collect what nobody needs, again and again without any grace; return what was wrong."""
    failures = []
    with machines.connection as connection:
        files = machines.place.files(machines.place.placement())
        while not stop.exists():
            for one in find_leftovers(connection, machines.place.folder, [files], timedelta()):
                if one.kind != "medium":
                    failures.append(f"{one.kind} {one.name} was taken for a leftover")
                elif PART not in one.name:  # what is being sent is one, without a grace
                    remove(connection, one, machines.remove_vm)
            print("has collected", flush=True)
    return failures


class _Client:
    """The machines, and what was done to them."""

    def __init__(self, machines: VsphereMachines, plan: dict[str, object]) -> None:
        self.machines = machines
        self.made: list[str] = []
        self.removed: list[str] = []
        self.failures: list[str] = []
        self._ids: dict[str, str] = {}
        self._plan = plan

    def make(self, name: str) -> None:
        """Create and start a machine, unless the other client was faster."""
        spec = read_spec(self._plan["spec"])  # type: ignore[arg-type]  # as it was written
        request = MachineRequest(
            spec=spec,
            image="fleet",
            image_digest="",
            store=Path(),
            name=name,
            base=str(self._plan["template"]),
        )
        try:
            record = self.machines.create(request)
        except UsageError as error:
            if "taken" not in error.what:
                self.failures.append(f"{name} was refused: {error.what}")
            return
        self.made.append(name)
        self._ids[name] = record.id
        try:
            self.machines.start(record.id)
        except NotFoundError:  # the other client removes what it sees
            return

    def look(self) -> None:
        """See each name once, and each of ours that was not removed as what we made."""
        listed = self.machines.list()
        for name, times in Counter(one.name for one in listed).items():
            if times > 1:
                self.failures.append(f"{name} is listed {times} times")
        for one in listed:
            if one.name in self._ids and one.id != self._ids[one.name]:
                self.failures.append(f"{one.name} is another machine than was made")
            if one.status is Status.DEAD:
                self.failures.append(f"{one.name} is dead: {one.reason}")

    def stop(self, name: str) -> None:
        """End a machine of ours; one that the other client has removed is no fault."""
        try:
            self.machines.stop(self._ids[name], 0)
            if self.machines.find(name).status is Status.RUNNING:
                self.failures.append(f"{name} runs though it was stopped")
        except NotFoundError:
            return

    def remove(self, name: str) -> None:
        """Remove a machine, whoever has made it, unless the other client was faster."""
        try:
            self.machines.remove(self.machines.find(name).id, force=True)
        except NotFoundError:
            return
        self.removed.append(name)


if __name__ == "__main__":
    main()
