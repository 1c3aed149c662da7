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
_UUID_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Vm:
    """A virtual machine as it was when it was looked at. `created` is by the server's clock.

    `is_on` is true of a suspended one too: it has not ended. `tasks` may have ended.
    """

    reference: Any = field(compare=False, repr=False)
    id: str
    name: str
    folder: str  # the id of what it is right in
    extra: Mapping[str, str] = field(repr=False)
    instance_uuid: str
    is_on: bool
    is_template: bool
    created: datetime | None
    snapshots: frozenset[str]
    tasks: tuple[Any, ...] = field(compare=False, repr=False, default=())


def is_id(text: str) -> bool:
    """Say whether a text is a machine's whole id."""
    return _ID.fullmatch(text) is not None


def uuid_of(machine: str) -> str:
    """Return the instanceUuid that a machine with this id is given."""
    return str(UUID(machine[:_UUID_DIGITS]))


def machine_id(vm: Vm) -> str | None:
    """Return the id of the machine of ours that a virtual machine is, None if it is none.

    What somebody has cloned of a machine has its marks, but a UUID of its own.
    """
    machine = vm.extra.get(c_marks.MACHINE, "")
    is_ours = is_id(machine) and uuid_of(machine) == vm.instance_uuid and not vm.is_template
    return machine if is_ours else None
