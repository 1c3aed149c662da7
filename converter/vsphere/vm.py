"""A virtual machine as it was looked at, and whether it is a machine of ours. Pure.

What it is stands on it as extra configuration; what that means beyond this is for whoever calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from converter.vsphere import c_marks

_ID = re.compile(r"[0-9a-f]{64}")
_IMPORT = re.compile(r"[0-9a-f]{32}")
_UUID_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Vm:
    """A virtual machine as it was when it was looked at. `created` is by the server's clock.

    `is_on` is true of one that `is_suspended` too: it has not ended. `tasks` may have ended.
    """

    reference: Any = field(compare=False, repr=False)
    id: str
    name: str
    folder: str  # the id of what it is right in
    extra: Mapping[str, str] = field(repr=False)
    instance_uuid: str
    is_on: bool
    is_suspended: bool
    is_template: bool
    created: datetime | None
    snapshots: frozenset[str]
    tasks: tuple[Any, ...] = field(compare=False, repr=False, default=())


def is_id(text: str) -> bool:
    """Say whether a text is a machine's whole id."""
    return _ID.fullmatch(text) is not None


def uuid_of(machine: str) -> str:
    """Return the instanceUuid that a machine with this id, or of this import, is given."""
    return str(UUID(machine[:_UUID_DIGITS]))


def import_id(vm: Vm) -> str | None:
    """Return which import has made a virtual machine, None if it is none's, or a clone of such."""
    mark = vm.extra.get(c_marks.IMPORT, "")
    return mark if _IMPORT.fullmatch(mark) and uuid_of(mark) == vm.instance_uuid else None


def is_import(vm: Vm) -> bool:
    """Say whether a virtual machine is as an import has it under way: its own, bare, and off."""
    is_named_so = vm.extra.get(c_marks.TEMPLATE) == vm.name
    return is_named_so and import_id(vm) is not None and not (vm.snapshots or vm.is_on)


def machine_id(vm: Vm) -> str | None:
    """Return the id of the machine of ours that a virtual machine is, None if it is none.

    What somebody has cloned of a machine has its marks, but a UUID of its own.
    """
    machine = vm.extra.get(c_marks.MACHINE, "")
    is_ours = is_id(machine) and uuid_of(machine) == vm.instance_uuid and not vm.is_template
    return machine if is_ours else None
