"""Whose a virtual machine is, by marks that whatever is cloned of it has, too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.tether import guestinfo
from converter.package import vmx
from converter.vsphere import c_marks as marks
from converter.vsphere.vm import Vm, import_id, is_import, machine_id, uuid_of

IMPORT = "8e4711d55b84792088284ed92bc6e3f6"
MACHINE = "280c947b760f8dfd76f0257e5a0b1cf1" + 32 * "0"
UNDER_WAY = Vm(
    reference=None,
    id="vm-1",
    name="debian-1",
    folder="group-1",
    extra={marks.TEMPLATE: "debian-1", marks.IMPORT: IMPORT},
    instance_uuid=uuid_of(IMPORT),
    is_on=False,
    is_suspended=False,
    is_template=False,
    created=None,
    snapshots=frozenset(),
)


def test_an_import_s_machine_is_known_by_its_uuid():
    assert uuid_of(IMPORT) == "8e4711d5-5b84-7920-8828-4ed92bc6e3f6"
    assert is_import(UNDER_WAY)
    assert import_id(UNDER_WAY) == IMPORT
    assert machine_id(UNDER_WAY) is None


@pytest.mark.parametrize(
    "other",
    [
        {"name": "renamed"},
        {"instance_uuid": uuid_of(IMPORT[::-1])},  # a clone
        {"is_on": True},
        {"snapshots": frozenset({"sha256:1"})},  # whole
        {"extra": {marks.TEMPLATE: "debian-1"}},
        {"extra": {marks.TEMPLATE: "debian-1", marks.IMPORT: "no digits"}},
    ],
)
def test_what_is_no_import_under_way(other):
    assert not is_import(replace(UNDER_WAY, **other))


def test_a_machine_is_no_import_though_it_has_inherited_the_marks():
    machine = replace(
        UNDER_WAY,
        extra={**UNDER_WAY.extra, marks.MACHINE: MACHINE},
        instance_uuid=uuid_of(MACHINE),
    )
    assert machine_id(machine) == MACHINE
    assert not is_import(machine)
    assert machine_id(replace(machine, is_template=True)) is None


def test_guest_and_host_have_the_same_names():
    ours = (marks.GUEST_DOCUMENT, marks.GUEST_STATUS, marks.GUEST_NETWORK)
    assert ours == (guestinfo.CONFIG, guestinfo.STATUS, guestinfo.NETWORK)
    assert marks.GUEST_DOCUMENT == vmx.GUEST_DOCUMENT
