"""Machines on a simulated vCenter (vcsim), which runs nothing: what is there after each verb.

Clients at once are threads with sessions of their own; `scripts/soak fleet` has processes.
"""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from agent.host.relay.keys import read_key
from agent.host.relay.roster import Roster
from converter.errors import HypervisorError, NotFoundError, SaltflatError, UsageError
from converter.machine.vsphere_gc import collect
from converter.vsphere import c_marks as marks
from converter.vsphere.connection import vim
from converter.vsphere.datastore_files import DatastoreFiles
from converter.vsphere.inventory import Kind
from converter.vsphere.leftovers import find_leftovers, remove
from converter.vsphere.survey import survey
from converter.vsphere.vms import look, set_extra, vms_below
from tests.integration.vcsim import vcsim
from tests.integration.vsphere_imports import kind_of
from tests.integration.vsphere_place import Place, make_image
from tests.schemas import check

pytestmark = pytest.mark.integration

HOURS = timedelta(hours=1)


@pytest.fixture(scope="module")
def place(
    go_tools: Path, boot_media_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("v")
    with vcsim(go_tools) as address:
        yield Place(address, folder, make_image(folder / "layout"), boot_media_store)


@pytest.mark.verbs("run", "inspect", on="vcsim")
def test_a_machine_is_a_clone_with_its_line_its_medium_and_its_card(place):
    machine = place.good("run", "-d", "--name", "web", "-l", "tier=front", place.image, "id")
    shown = place.inspect("web")
    assert (shown["id"], shown["status"]) == (machine.strip(), "running")
    assert (shown["labels"], shown["command"]) == ({"tier": "front"}, ["id"])
    with place.open() as connection:
        vm = place.vm("web", connection)
        devices = {kind_of(one): one for one in inherited(connection, vm)}
    line = devices["VirtualSerialPort"].backing
    assert (line.direction, line.serviceURI, line.proxyURI) == ("client", "saltflat", place.serial)
    card = devices["VirtualVmxnet3"]
    assert card.macAddress == shown["spec"]["networking"]["cards"][0]["mac"]
    assert card.backing.deviceName == "VM Network"
    # The medium is whole: its name is the digest of what the server gives for it.
    path = devices["VirtualCdrom"].backing.fileName.partition("] ")[2]
    url = f"http://{place.address}/folder/{quote(path)}?dcPath=DC0&dsName=LocalDS_0"
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert hashlib.sha256(answer.read()).hexdigest() == Path(path).stem
    # What the guest is told has the key that the relay has, and its card.
    document = json.loads(vm.extra[marks.GUEST_DOCUMENT])
    assert document["key"] == read_key(Roster(place.relays).folder("web")).hex()
    assert document["network"]["interfaces"][0]["mac"] == card.macAddress
    assert document["key"] not in json.dumps(shown)
    assert Roster(place.relays).resolve(vm.instance_uuid, None).name == "web"


@pytest.mark.verbs("run", "stop", "ps", "wait", "restart", "kill", "start", "rm", on="vcsim")
def test_its_life_goes_on_from_verb_to_verb(place):
    place.good("run", "-d", "--name", "job", "--network", "none", place.image)
    first = place.vm("job").extra[marks.GUEST_DOCUMENT]
    place.good("stop", "job")
    assert place.good("ps", "-a", "--filter", "name=job", "--format", "{{.State}}") == "exited\n"
    assert place.good("wait", "job") == "255\n"  # nobody was there to see it
    place.good("restart", "job")
    vm = place.vm("job")
    assert vm.is_on
    assert vm.extra[marks.GUEST_DOCUMENT] != first  # another key
    place.good("kill", "job")
    assert place.good("wait", "job") == "137\n"
    place.good("start", "job")
    with pytest.raises(UsageError, match="The machine job runs"):
        place.good("rm", "job")
    place.good("rm", "-f", "job")
    with pytest.raises(NotFoundError, match="no machine job"):
        place.good("rm", "job")
    assert Roster(place.relays).identity("job") is None


@pytest.mark.verbs("run", on="vcsim")
def test_a_name_is_taken_once(place):
    template = next(vm.name for vm in _templates(place))
    Roster(place.relays).add("by-hand", "501c62c0-f137-4aa0-8d3e-5c2b1e6f0a11")
    place.good("run", "-d", "--name", "mine", place.image)
    for name in ("mine", template, "by-hand"):
        with pytest.raises(UsageError, match=name):
            place.good("run", "-d", "--name", name, place.image)
    place.good("rm", "-f", "mine")


@pytest.mark.verbs("start", "rm", on="vcsim")
def test_two_clients_that_start_and_remove_one_machine(place):
    """It is started once, with the key that the relay has; and removed once."""
    place.good("run", "-d", "--name", "both", place.image)
    machine = place.inspect("both")["id"]
    place.good("kill", "both")
    with ThreadPoolExecutor(2) as pool:
        clients = [place.machines, place.machines]
        assert list(pool.map(lambda one: one.start(machine), clients)) == [None, None]
        document = json.loads(place.vm("both").extra[marks.GUEST_DOCUMENT])
        assert document["key"] == read_key(Roster(place.relays).folder("both")).hex()

        def removed(client):
            try:
                client.remove(machine, force=True)
            except SaltflatError as error:
                return type(error)
            return None

        assert set(pool.map(removed, clients)) == {None, NotFoundError}
        for client in clients:
            client.connection.close()


def test_several_at_once_by_one_command(place):
    names = ("one", "two", "three", "four")
    for name in names:
        place.good("run", "-d", "--name", name, place.image)
    assert place.good("stop", *names).split() == list(names)
    assert place.good("rm", *names).split() == list(names)
    assert Roster(place.relays).identity("four") is None


def test_what_is_written_on_it_may_be_damaged(place):
    place.good("run", "-d", "--name", "odd", place.image)
    with place.open() as connection:
        set_extra(connection, place.vm("odd", connection), {marks.SPEC: "{"})
    shown = place.inspect("odd")
    assert (shown["status"], shown["spec"]) == ("dead", None)
    place.good("rm", "-f", "odd")


def test_a_host_without_vcenter_makes_a_child_of_the_disk(go_tools, place):
    with vcsim(go_tools, "-esx") as address:
        alone = replace(place, address=address)
        alone.good("run", "-d", "--name", "alone", place.image)
        with alone.open() as connection:
            vm = alone.vm("alone", connection)
            devices = {kind_of(one): one for one in inherited(connection, vm)}
            (template,) = [one for one in vms_below(connection) if one.snapshots]
            uuid = connection.properties(vm.reference, ["config.uuid"])["config.uuid"]
        assert uuid == vm.instance_uuid  # which such a host tells the concentrator
        disk = devices["VirtualDisk"]
        assert disk.backing.parent.fileName.startswith(f"[LocalDS_0] {template.name}/")
        assert disk.capacityInBytes == 16 << 30
        assert {"VirtualSerialPort", "VirtualVmxnet3", "VirtualCdrom"} <= set(devices)
        alone.good("rm", "-f", "alone")


def test_a_card_on_a_distributed_switch(place):
    other = replace(place, others={"SALTFLAT_VSPHERE_NETWORK": "DC0_DVPG0"})
    other.good("run", "-d", "--name", "switched", place.image)
    with place.open() as connection:
        devices = inherited(connection, place.vm("switched", connection))
        (card,) = [one for one in devices if kind_of(one) == "VirtualVmxnet3"]
        network = survey(connection).find(Kind.NETWORK, "DC0_DVPG0")
    assert card.backing.port.portgroupKey == network.id
    place.good("rm", "-f", "switched")


def test_a_vm_that_is_renamed_is_the_same_machine(place):
    machine = place.good("run", "-d", "--name", "before", place.image).strip()
    with place.open() as connection:
        task = place.vm("before", connection).reference.Rename_Task("after this")
        connection.wait(task, doing="rename", timeout_seconds=20)
    place.good("restart", "after this")
    assert place.inspect(machine)["name"] == "after this"
    assert Roster(place.relays).identity("before") is not None
    place.good("rm", "-f", "after this")
    assert Roster(place.relays).identity("before") is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-p", "80:80"), "No port of this host"),
        (("-v", "data:/data"), "A volume is a disk of this host"),
        (("--storage-opt", "size=20G"), "cannot be larger"),
        (("--channel", "virtio-serial"), "has a serial line"),
        (("--template", "a/b"), "no name for a template"),
        (("--serial", "tcp://10.1.0.5:2377"), "no end for a serial line"),
        (("--on", "qemu", "--serial", "telnet://10.1.0.5:2377"), "--serial was given, but"),
        (("--on", "qemu", "--template", "web"), "--template was given, but"),
    ],
)
def test_what_a_machine_cannot_have_there_is_refused(place, arguments, said):
    with pytest.raises(UsageError, match=said):
        place.good("run", "-d", *arguments, place.image)


def test_what_nobody_needs_goes_after_its_grace(place):
    other = replace(place, others={"SALTFLAT_VSPHERE_TEMPLATE": "unfinished"})
    machine = place.good("run", "-d", "--rm", "--name", "gone", place.image).strip()
    other.good("run", "-d", "--name", "stays", place.image)
    place.good("stop", "gone")
    client = place.machines
    connection = client.connection
    with connection:
        unfinished = place.vm("unfinished", connection).reference
        task = unfinished.RemoveAllSnapshots_Task()  # as it is while it is imported
        connection.wait(task, doing="undo", timeout_seconds=20)
        with pytest.raises(HypervisorError, match="unfinished") as refused:
            other.good("vsphere", "import", "--wait", "0", "--name", "unfinished", place.image)
        assert "vsphere import --replace" in (refused.value.hint or "")
        # What stands on it proves that it was whole, so nobody takes it away.
        (kept,) = (
            one
            for one in find_leftovers(connection, client.place.folder, [], timedelta())
            if one.kind == "template"
        )
        assert (kept.name, kept.is_due) == ("unfinished", False)
        assert "stays was cloned of it" in kept.why
        with pytest.raises(HypervisorError, match="stays was cloned of it"):
            other.good("vsphere", "import", "--replace", "--name", "unfinished", place.image)
        place.good("rm", "-f", "stays")
        place.good("run", "-d", "--name", "stays", place.image)
        datacenter = client.place.inventory.find(Kind.DATACENTER, None)
        datastore = client.place.inventory.find(Kind.DATASTORE, None, datacenter=datacenter)
        files = DatastoreFiles(connection, datacenter, "DC0", datastore)
        unused = f"{marks.BOOT_FOLDER}/unused.iso"
        with (place.folder / "layout" / "oci-layout").open("rb") as file:
            files.put(unused, file, 10, lambda _sent: None)

        young = {(one.kind, one.name): one for one in collect(client, HOURS, dry_run=True)}
        assert set(young) == {
            ("machine", "gone"),
            ("template", "unfinished"),
            ("medium", files.full(unused)),
        }
        assert not any(one.due or one.removed for one in young.values())
        assert marks.NOTED not in place.vm("gone").extra

        collect(client, HOURS, dry_run=False)
        assert place.inspect("gone")["id"] == machine
        moment, run = place.vm("gone").extra[marks.NOTED].split()
        noted = datetime.fromisoformat(moment)
        assert datetime.now(UTC) - noted < HOURS
        long_ago = (noted - 2 * HOURS).isoformat()
        # One that was written for another run, by a gc that was slow, does not count.
        set_extra(connection, place.vm("gone", connection), {marks.NOTED: f"{long_ago} 1"})
        stale = {one.name: one for one in collect(client, HOURS, dry_run=False)}
        assert not stale["gone"].due
        set_extra(connection, place.vm("gone", connection), {marks.NOTED: f"{long_ago} {run}"})
        late = {one.name: one.removed for one in collect(client, HOURS, dry_run=False)}
        assert late["gone"]
        assert not late["unfinished"]
        assert Roster(place.relays).identity("gone") is None

        done = place.good("vsphere", "gc", "--grace", "0", "--format", "json")
        check("vsphere-gc", json.loads(done))
        removed = {one["name"]: one["removed"] for one in json.loads(done)["leftovers"]}
        assert removed == {"unfinished": True, files.full(unused): True}
        assert collect(client, timedelta(), dry_run=True) == []
        assert files.size(unused) is None
    assert place.inspect("stays")["status"] == "running"


def test_what_was_cloned_of_a_template_is_not_taken_for_one(place):
    """Marks are inherited: by our machines, and by what somebody clones under the same name."""
    place.good("run", "-d", "--name", "heir", place.image)
    place.good("stop", "heir")
    with place.open() as connection:
        template = next(vm for vm in vms_below(connection) if vm.is_template and vm.snapshots)
        pool = connection.properties(place.vm("heir", connection).reference, ["resourcePool"])
        parent = connection.properties(template.reference, ["parent"])["parent"]
        folder = parent.CreateFolder("copies")
        location = vim.vm.RelocateSpec(pool=pool["resourcePool"])
        specification = vim.vm.CloneSpec(location=location, powerOn=False, template=False)
        task = template.reference.CloneVM_Task(folder, template.name, specification)
        copy = look(connection, connection.wait(task, doing="clone", timeout_seconds=20))
        ours = (marks.TEMPLATE, marks.DISK, marks.IMPORT)  # vcsim leaves out what vSphere copies
        for vm in (copy, place.vm("heir", connection)):
            set_extra(connection, vm, {name: template.extra[name] for name in ours})
    for name, beside in (("heir", {}), (template.name, {"SALTFLAT_VSPHERE_FOLDER": "copies"})):
        there = replace(place, others=beside)
        with pytest.raises(HypervisorError, match=f"{name} is there already") as refused:
            there.good("vsphere", "import", "--replace", "--name", name, place.image)
        assert refused.value.cause == "name-taken"
        collected = json.loads(
            there.good("vsphere", "gc", "--grace", "0", "--dry-run", "--format", "json")
        )
        assert [one for one in collected["leftovers"] if one["kind"] == "template"] == []
    place.good("rm", "heir")


def test_a_machine_that_cannot_start_has_no_key_and_was_not_started(go_tools, place):
    with vcsim(go_tools, "-fault", "PowerOnVM_Task:InsufficientMemoryResourcesFault") as address:
        full = replace(place, address=address)
        with pytest.raises(HypervisorError, match="memory or processors do not suffice"):
            full.good("run", "-d", "--name", "late", place.image)
        with full.open() as connection:
            assert marks.GUEST_DOCUMENT not in full.vm("late", connection).extra
        assert full.good("ps", "-a", "--format", "{{.Names}} {{.State}}") == "late created\n"
        full.good("rm", "late")
        with pytest.raises(HypervisorError, match="do not suffice"):
            full.good("run", "-d", "--rm", place.image)
        assert full.good("ps", "-a", "-q") == ""


def test_one_that_was_suspended_goes_on(place):
    place.good("run", "-d", "--name", "asleep", place.image)
    with place.open() as connection:
        vm = place.vm("asleep", connection)
        task = vm.reference.SuspendVM_Task()
        connection.wait(task, doing="suspend", timeout_seconds=20)
        assert place.vm("asleep", connection).is_suspended
        place.good("start", "asleep")
        again = place.vm("asleep", connection)
    assert (again.is_on, again.is_suspended) == (True, False)
    assert again.extra[marks.GUEST_DOCUMENT] == vm.extra[marks.GUEST_DOCUMENT]  # and its key
    place.good("rm", "-f", "asleep")


def test_media_stay_where_others_machines_are_not_seen(go_tools, place):
    with vcsim(go_tools, "-deny", "System.Read") as address:
        limited = replace(place, address=address)
        limited.good("run", "-d", "--name", "only", place.image)
        limited.good("rm", "-f", "only")
        told = limited.good("vsphere", "gc", "--grace", "0")
        assert limited.good("vsphere", "gc", "--grace", "0", "--keep-media") == ""
    assert told.startswith("left              medium ")
    assert "does not see" in told


def test_a_datastore_out_of_reach_keeps_nothing_else(go_tools, place):
    with vcsim(go_tools, "-fault", "SearchDatastore_Task:InvalidDatastore") as address:
        other = replace(place, address=address)
        other.good("run", "-d", "--rm", "--name", "ended", place.image)
        other.good("stop", "ended")
        told = other.good("vsphere", "gc", "--grace", "0").splitlines()
    assert told[0].startswith("removed           machine   ended ")
    assert told[1].startswith(
        "left              medium    [LocalDS_0] saltflat/boot  (vSphere could"
    )


def test_a_medium_that_is_needed_while_it_is_collected_stays(place):
    """Another client makes a machine with it between the collector's two looks."""
    client = place.machines
    with client.connection as connection:
        datacenter = client.place.inventory.find(Kind.DATACENTER, None)
        datastore = client.place.inventory.find(Kind.DATASTORE, None, datacenter=datacenter)
        wanted = f"{marks.BOOT_FOLDER}/wanted.iso"
        stays = place.vm("stays", connection)

        class Raced(DatastoreFiles):
            def rename(self, old: str, new: str) -> None:
                super().rename(old, new)
                if old == wanted:
                    set_extra(connection, stays, {marks.BOOT: self.full(wanted)})

        class Untouched(DatastoreFiles):
            def rename(self, old: str, new: str) -> None:
                raise AssertionError(f"{old} was set aside as {new}")

        files = DatastoreFiles(connection, datacenter, "DC0", datastore)
        with (place.folder / "layout" / "oci-layout").open("rb") as file:
            files.put(wanted, file, 10, lambda _sent: None)
        raced = Raced(connection, datacenter, "DC0", datastore)
        found = [
            one
            for one in find_leftovers(connection, client.place.folder, [raced], timedelta())
            if one.name == raced.full(wanted)
        ]
        assert [remove(connection, one, client.remove_vm) for one in found] == [False]
        assert files.size(wanted) == 10
        # Or it has been made by the time of the second look: nothing is set aside.
        raced = Untouched(connection, datacenter, "DC0", datastore)
        assert [
            remove(connection, replace(one, files=raced), client.remove_vm) for one in found
        ] == [False]
        # Or the collector was killed while it was set aside: the next one puts it back.
        files.rename(wanted, f"{wanted}{marks.UNUSED}killed")
        again = find_leftovers(connection, client.place.folder, [files], timedelta())
        assert [remove(connection, one, client.remove_vm) for one in again] == [False]
        assert files.size(wanted) == 10
        assert [one.name for one in files.listing(marks.BOOT_FOLDER) if "unused" in one.name] == []


def _templates(place):
    with place.open() as connection:
        return [vm for vm in vms_below(connection) if vm.is_template]


def inherited(connection, vm):
    found = connection.properties(vm.reference, ["config.hardware.device"])
    return found["config.hardware.device"]
