"""What stands on a machine on vSphere, and what is made of it: whoever wrote it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.host.status import ExitStatus
from agent.tether.config import load_document, parse_connection, parse_job
from converter.errors import UsageError
from converter.machine.machines import MachineRequest
from converter.machine.state import UNKNOWN_END, Status
from converter.machine.vsphere_record import (
    UNSEEN,
    End,
    guest_document,
    marks_of,
    record_of,
    spec_for_vsphere,
    told_network,
)
from converter.network.model import Card, Networking, PortRequest
from converter.vsphere import c_marks as marks
from converter.vsphere.vm import Vm, machine_id, uuid_of

MACHINE = "c0ffee" * 10 + "abcd"


@pytest.fixture
def vm(make_spec) -> Vm:
    spec = spec_for_vsphere(MACHINE, make_spec(networking=Networking(cards=(Card(),))))
    request = MachineRequest(
        spec=spec, image="app:1", image_digest="sha256:0", store=Path(), labels={"a": "b"}
    )
    return Vm(
        reference=None,
        id="vm-1",
        name="web\x1b",
        folder="group-v1",
        extra={
            **marks_of(MACHINE, "web", request, boot="[ds] boot.iso", created_ns=5),
            marks.STARTED: "7",
        },
        instance_uuid=uuid_of(MACHINE),
        is_on=False,
        is_suspended=False,
        is_template=False,
        created=None,
        snapshots=frozenset(),
    )


def with_extra(vm: Vm, **extra: str) -> Vm:
    return replace(vm, extra={**vm.extra, **{getattr(marks, key): extra[key] for key in extra}})


def test_a_machine_is_what_was_asked_for(vm):
    record = record_of(vm, server="https://vc", end=ExitStatus(7))
    assert (record.id, record.name, record.status) == (MACHINE, "web\ufffd", Status.EXITED)
    assert (record.labels, record.created_ns, record.started_ns) == ({"a": "b"}, 5, 7)
    assert (record.end, record.reason) == (ExitStatus(7), "")
    assert record.spec is not None
    # No path of the host that made it.
    assert [str(link) for link in record.spec.chain] == ["base.vmdk", "top.vmdk"]
    assert str(record.spec.boot.folder) == record.spec.boot.id


def test_what_is_cloned_of_a_machine_by_hand_is_none(vm):
    assert machine_id(vm) == MACHINE
    assert machine_id(replace(vm, instance_uuid="501c62c0-f137-4aa0-8d3e-5c2b1e6f0a11")) is None
    assert machine_id(replace(vm, is_template=True)) is None
    assert machine_id(with_extra(vm, MACHINE=MACHINE[:-1])) is None


@pytest.mark.parametrize(
    ("written", "end", "reason"),
    [
        ({}, UNKNOWN_END, UNSEEN),
        ({"GUEST_STATUS": '{"type": "exited", "code": 3}'}, ExitStatus(3), ""),
        ({"GUEST_STATUS": '{"type": "exited", "code": 300}'}, UNKNOWN_END, UNSEEN),
        ({"GUEST_STATUS": "[" * 100_000}, UNKNOWN_END, UNSEEN),
    ],
)
def test_how_it_ended_is_what_its_guest_says_if_it_can_be(vm, written, end, reason):
    record = record_of(with_extra(vm, **written), server="https://vc", end=None)
    assert (record.end, record.reason) == (end, reason)


def test_an_end_that_is_written_is_that_of_one_run(vm):
    ended = with_extra(vm, END=End(ExitStatus(9), 11, "because").encode(vm), GUEST_STATUS="{}")
    record = record_of(ended, server="https://vc", end=ExitStatus(1))
    assert (record.end, record.finished_ns, record.reason) == (ExitStatus(9), 11, "because")
    later = record_of(with_extra(ended, STARTED="8"), server="https://vc", end=ExitStatus(1))
    assert (later.end, later.finished_ns, later.reason) == (ExitStatus(1), None, "")


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ('{"interfaces": [{"name": "eth0", "addresses": ["10.0.0.9/24", "x"]}]}', ["10.0.0.9/24"]),
        ("[" * 100_000, None),
        ("[]", None),
    ],
)
def test_what_a_guest_says_of_its_network_is_cleaned(vm, text, addresses):
    told = told_network(with_extra(vm, GUEST_NETWORK=text))
    assert (told and told["interfaces"][0]["addresses"]) == addresses


@pytest.mark.parametrize("mark", ["SPEC", "LABELS", "CREATED", "STARTED", "END"])
@pytest.mark.parametrize("value", ["", "{", "[]", "[" * 100_000])
def test_a_damaged_mark_is_a_dead_machine(vm, mark, value):
    record = record_of(with_extra(vm, **{mark: value}), server="https://vc", end=None)
    assert record.status is Status.DEAD
    assert record.reason


def test_the_guest_is_told_its_job_and_its_key(vm):
    spec = record_of(vm, server="https://vc", end=None).spec
    assert spec is not None
    enrolment = {"schema": 1, "epoch": 3, "key": "ab" * 32}
    document = load_document(guest_document(spec, enrolment).encode())
    assert parse_connection(document).key == b"\xab" * 32
    job = parse_job(document)
    assert job.run.arguments == ("echo", "hi")
    (interface,) = json.loads(guest_document(spec, enrolment))["network"]["interfaces"]
    assert interface["mac"].startswith("00:50:56:")
    assert int(interface["mac"].split(":")[3], 16) <= 0x3F


@pytest.mark.parametrize(
    "networking",
    [
        Networking(cards=(Card(), Card())),
        Networking(cards=(Card(ip="10.0.0.2"),)),
        Networking(cards=(Card(),), ports=(PortRequest(container=80, protocol="tcp"),)),
    ],
)
def test_what_cannot_be_there_is_refused(make_spec, networking):
    with pytest.raises(UsageError, match="on vSphere"):
        spec_for_vsphere(MACHINE, make_spec(networking=networking))
