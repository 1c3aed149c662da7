"""A project on the server: its resource pool with limits, and its folder. Makes, removes them.

Owns what becomes of a project there. Nothing is kept of it: what there is, is what is named so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from converter.errors import HypervisorError, UsageError
from converter.vsphere import c_vsphere as c
from converter.vsphere.connection import Connection, vim
from converter.vsphere.inventory import Inventory, Node
from converter.vsphere.placement import find_datacenter, find_folder, find_resources
from converter.vsphere.projects import Limits, Project
from converter.vsphere.survey import survey

_TASK_SECONDS = 120.0
_UNLIMITED = -1  # ResourceAllocationInfo.limit
_MEBIBYTE = 1 << 20
_PATTERNS = "*?"


@dataclass(frozen=True, slots=True)
class _Branch:
    """Names below a node, of which some may not be there: all there is of a pool or a folder."""

    top: Node
    names: list[str]
    kinds: tuple[str, ...]

    def existing(self, inventory: Inventory) -> list[Node]:
        """Return the nodes that are there, from the top's child on."""
        found: list[Node] = []
        for name in self.names:
            child = inventory.child(found[-1] if found else self.top, name, self.kinds)
            if child is None:
                break
            found.append(child)
        return found


def create_project(connection: Connection, project: Project) -> list[str]:
    """Make what is not there of a project, and set its limits; return the paths that changed.

    Raises UsageError for a project without a pool's name, HypervisorError, NotFoundError, and what
    a request may raise.
    """
    inventory = survey(connection)
    pool, folder = _branches(connection, inventory, project)
    changed = []
    pools = pool.existing(inventory)
    is_new = len(pools) < len(pool.names)
    changed += _grow(connection, inventory, pool, pools, _make_pool)
    if _set_limits(connection, pools[-1], project.limits) and not is_new:
        changed.append(_path(inventory, pool, pool.names))
    if folder is not None:
        folders = folder.existing(inventory)
        changed += _grow(connection, inventory, folder, folders, _make_folder)
    return changed


def remove_project(connection: Connection, project: Project) -> list[str]:
    """Remove a project's folder and pool, if they are empty; return the paths that are gone.

    What is above them stays. Raises HypervisorError if there is something in one of them, and as
    `create_project`.
    """
    inventory = survey(connection)
    pool, folder = _branches(connection, inventory, project)
    going: list[tuple[_Branch, Node]] = []
    for branch, paths in ((folder, ("childEntity",)), (pool, ("vm", "resourcePool"))):
        if branch is None or len(there := branch.existing(inventory)) < len(branch.names):
            continue
        about = connection.properties(there[-1].reference, paths)
        if count := sum(len(about.get(path, ())) for path in paths):
            raise HypervisorError(
                f"{_path(inventory, branch, branch.names)} is not empty: {count} in it.",
                expected="a project without machines, templates, folders and pools",
                hint="Remove what is in it, or move it elsewhere.",
                cause="not-empty",
            )
        going.append((branch, there[-1]))
    gone = []
    for branch, node in going:
        path = _path(inventory, branch, branch.names)
        reference: Any = node.reference
        with connection.doing(f"remove {path}"):
            task = reference.Destroy_Task()
        connection.wait(task, doing=f"remove {path}", timeout_seconds=_TASK_SECONDS)
        gone.append(path)
    return gone


def _branches(
    connection: Connection, inventory: Inventory, project: Project
) -> tuple[_Branch, _Branch | None]:
    wishes = connection.settings.wishes
    if wishes.resource_pool is None:
        raise UsageError(
            f"The project {project.name} has no resource pool of its own.",
            expected="resource-pool: NAME in the file of projects",
        )
    datacenter = find_datacenter(inventory, wishes)
    resources = find_resources(inventory, replace(wishes, resource_pool=None), datacenter)
    pool = _Branch(
        resources.pool,
        _names("resource-pool", wishes.resource_pool),
        (c.RESOURCE_POOL,),
    )
    if wishes.folder is None:
        return pool, None
    if not connection.about.is_vcenter:
        raise UsageError(
            f"The project {project.name} has a folder, and {connection.about.name} has none.",
            expected="vCenter, or a project without folder",
        )
    top = find_folder(inventory, replace(wishes, folder=None), datacenter)
    return pool, _Branch(top, _names("folder", wishes.folder), (c.FOLDER,))


def _names(member: str, wish: str) -> list[str]:
    names = wish.split("/")
    if not all(names) or any(pattern in wish for pattern in _PATTERNS):
        raise UsageError(
            f"{wish[:80]!a} is no {member} that can be made.",
            expected="a name, or a path below the cluster's or datacenter's own: TEAM/PROJECT",
        )
    return names


def _grow(
    connection: Connection,
    inventory: Inventory,
    branch: _Branch,
    there: list[Node],
    make: Callable[[Node, str], Any],
) -> list[str]:
    """Make what lacks of a branch, and add it to `there`; return the new paths."""
    made = []
    while len(there) < len(branch.names):
        above = there[-1] if there else branch.top
        name = branch.names[len(there)]
        path = _path(inventory, branch, branch.names[: len(there) + 1])
        with connection.doing(f"make {path}"):
            reference = make(above, name)
        there.append(Node(reference._moId, branch.kinds[0], name, above.id, reference=reference))
        made.append(path)
    return made


def _make_pool(above: Node, name: str) -> Any:  # noqa: ANN401 - pyvmomi's own
    normal = vim.SharesInfo(level="normal", shares=0)
    free = vim.ResourceAllocationInfo(
        reservation=0, expandableReservation=True, limit=_UNLIMITED, shares=normal
    )
    spec = vim.ResourceConfigSpec(cpuAllocation=free, memoryAllocation=free)
    reference: Any = above.reference
    return reference.CreateResourcePool(name, spec)


def _make_folder(above: Node, name: str) -> Any:  # noqa: ANN401 - pyvmomi's own
    reference: Any = above.reference
    return reference.CreateFolder(name)


def _set_limits(connection: Connection, node: Node, limits: Limits) -> bool:
    """Set what limits there are, unless they are set; say whether something changed."""
    wanted = {
        "cpuAllocation": limits.cpu_mhz,
        "memoryAllocation": limits.memory_bytes and limits.memory_bytes // _MEBIBYTE,
    }
    pool: Any = node.reference
    about = connection.properties(pool, [f"config.{name}" for name in wanted])
    changing = {}
    for name, limit in wanted.items():
        allocation = about[f"config.{name}"]
        if limit is not None and allocation.limit != limit:
            allocation.limit = limit
            changing[name] = limit
    if not changing:
        return False
    spec = vim.ResourceConfigSpec(
        cpuAllocation=about["config.cpuAllocation"],
        memoryAllocation=about["config.memoryAllocation"],
    )
    with connection.doing(f"limit the resource pool {node.name}"):
        pool.UpdateConfig(None, spec)
    return True


def _path(inventory: Inventory, branch: _Branch, names: list[str]) -> str:
    return "/".join([inventory.path(branch.top), *names])
