"""What `vsphere check` looks at, once somebody is logged in. Looks only; changes nothing.

Each look is a finding of its own, and one that fails hides no other, unless that needs its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from converter.errors import SaltflatError
from converter.finding import Finding, Verdict
from converter.vsphere import c_vsphere as c
from converter.vsphere.connection import Connection
from converter.vsphere.inventory import Inventory, Node
from converter.vsphere.placement import (
    Resources,
    find_datacenter,
    find_datastore,
    find_folder,
    find_network,
    find_resources,
)
from converter.vsphere.privileges import granted
from converter.vsphere.storage_policy import find_policy
from converter.vsphere.survey import survey

_T = TypeVar("_T")
# A disk of the default capacity, thick; a thin one has less at first, and may grow to it.
_SPACE_BYTES = 16 << 30


def examine(connection: Connection) -> Iterator[Finding]:
    """Yield what was found. Raises what a request may raise where the session is at fault."""
    yield from _session(connection)
    if connection.about.is_vcenter:
        yield _tags(connection)
    looking = _Looking()
    inventory = survey(connection)
    wishes = connection.settings.wishes
    datacenter = looking.at("datacenter", inventory, lambda: find_datacenter(inventory, wishes))
    yield from looking.found()
    if datacenter is None:
        return
    folder = looking.at("folder", inventory, lambda: find_folder(inventory, wishes, datacenter))
    resources: Resources | None = None

    def pool() -> Node:
        nonlocal resources
        resources = find_resources(inventory, wishes, datacenter)
        return resources.pool

    looking.at("resource pool", inventory, pool)
    yield from looking.found()
    if folder is not None:
        yield _privileges(connection, inventory, folder, "folder", c.FOLDER_PRIVILEGES)
    if resources is None:
        return
    yield _privileges(connection, inventory, resources.pool, "resource pool", c.POOL_PRIVILEGES)
    chosen = resources
    fitting = None
    if wishes.storage_policy is not None:
        finding, fitting = _policy(connection, wishes.storage_policy)
        yield finding
    datastore = looking.at(
        "datastore",
        inventory,
        lambda: find_datastore(inventory, wishes, datacenter, chosen, fitting=fitting),
    )
    yield from looking.found()
    if datastore is not None:
        yield _space(connection, datastore)
        yield _privileges(connection, inventory, datastore, "datastore", c.DATASTORE_PRIVILEGES)
    network = looking.at(
        "network", inventory, lambda: find_network(inventory, wishes, datacenter, chosen)
    )
    yield from looking.found()
    if network is not None:
        yield _privileges(connection, inventory, network, "network", c.NETWORK_PRIVILEGES)
    hosts = [resources.host] if resources.host else inventory.hosts_of(resources.compute)
    yield from _hosts(connection, hosts)
    yield _licence(connection)


class _Looking:
    """Collects findings of names, so that an error becomes one."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []

    def at(self, subject: str, inventory: Inventory, look: Callable[[], Node]) -> Node | None:
        try:
            node = look()
        except SaltflatError as error:
            self._findings.append(_failed(subject, error))
            return None
        self._findings.append(Finding(subject, Verdict.OK, inventory.path(node)))
        return node

    def found(self) -> Iterator[Finding]:
        yield from self._findings
        self._findings.clear()


def _failed(subject: str, error: SaltflatError) -> Finding:
    parts = [error.what, error.expected and f"Expected: {error.expected}."]
    return Finding(subject, Verdict.FAILED, " ".join(filter(None, parts)), error.hint or "")


def _session(connection: Connection) -> Iterator[Finding]:
    settings, about = connection.settings, connection.about
    way = f"{settings.address.url}, trusted {settings.trust.told}"
    if settings.address.scheme == "http":
        yield Finding("server", Verdict.WARNING, f"{settings.address.url}, not encrypted")
    elif settings.trust.verifies:
        yield Finding("server", Verdict.OK, way)
    else:
        remedy = (
            "Give the certificate's --vsphere-thumbprint, or the authority's --vsphere-ca-file."
        )
        yield Finding("server", Verdict.WARNING, way, remedy)
    if _is_older(about.version, c.OLDEST_RELEASE):
        detail = f"{about.name}, older than {c.OLDEST_RELEASE}, whose API is spoken"
        yield Finding("version", Verdict.WARNING, detail)
    else:
        yield Finding("version", Verdict.OK, about.name)
    how = "by a kept session" if connection.resumed else f"password from {settings.password_from}"
    yield Finding("login", Verdict.OK, f"{settings.username}, {how}")


def _privileges(
    connection: Connection,
    inventory: Inventory,
    node: Node,
    subject: str,
    needed: Mapping[str, str],
) -> Finding:
    """Ask what the session may do with an object."""
    subject = f"{subject} privileges"
    if not connection.about.is_vcenter:
        needed = {name: uses for name, uses in needed.items() if name not in c.VCENTER_PRIVILEGES}
    try:
        present = granted(connection, node.reference, list(needed))
    except SaltflatError as error:
        return Finding(subject, Verdict.WARNING, error.what)
    missing = [f"{name} ({uses})" for name, uses in needed.items() if name not in present]
    if not missing:
        return Finding(subject, Verdict.OK, f"all {len(needed)} on {inventory.path(node)}")
    return Finding(
        subject,
        Verdict.FAILED,
        f"missing on {inventory.path(node)}: {', '.join(missing)}",
        "Give the user a role with them on that object, or on one above it that is propagated.",
    )


def _tags(connection: Connection) -> Finding:
    """Ask whether import could tag; a template without a tag is as good."""
    subject, root = "tag privileges", connection.content.rootFolder
    try:
        present = granted(connection, root, list(c.TAG_PRIVILEGES))
    except SaltflatError as error:
        return Finding(subject, Verdict.WARNING, error.what)
    missing = [name for name in c.TAG_PRIVILEGES if name not in present]
    if not missing:
        return Finding(subject, Verdict.OK, f"all {len(c.TAG_PRIVILEGES)} on /")
    remedy = "Give the user a role with them on vCenter itself, or import with --no-tag."
    return Finding(subject, Verdict.WARNING, f"missing on /: {', '.join(missing)}", remedy)


def _policy(connection: Connection, name: str) -> tuple[Finding, frozenset[str] | None]:
    """Look for a storage policy; return also the datastores that keep it, None if unknown."""
    subject = "storage policy"
    try:
        policy = find_policy(connection, name)
    except SaltflatError as error:
        return _failed(subject, error), None
    detail = f"{name}, kept by {len(policy.datastores)} datastores"
    return Finding(subject, Verdict.OK, detail), policy.datastores


def _space(connection: Connection, node: Node) -> Finding:
    paths = ("summary.accessible", "summary.freeSpace", "summary.capacity")
    about = connection.properties(node.reference, (*paths, "summary.maintenanceMode"))
    subject = "datastore space"
    if about.get("summary.accessible") is False:
        return Finding(subject, Verdict.FAILED, f"{node.name} is not mounted where it can be used")
    mode = about.get("summary.maintenanceMode") or c.DATASTORE_NORMAL
    if mode != c.DATASTORE_NORMAL:
        return Finding(subject, Verdict.FAILED, f"{node.name} is in maintenance ({mode})")
    free = about.get("summary.freeSpace")
    if free is None:
        return Finding(subject, Verdict.WARNING, f"how much {node.name} has free may not be read")
    detail = f"{_size(free)} of {_size(about.get('summary.capacity', 0))} free on {node.name}"
    if free < _SPACE_BYTES:
        verdict = Verdict.WARNING if free else Verdict.FAILED
        detail += f"; a disk may grow to {_size(_SPACE_BYTES)}"
        return Finding(subject, verdict, detail, "Free space, or name another with --datastore.")
    return Finding(subject, Verdict.OK, detail)


def _hosts(connection: Connection, hosts: Sequence[Node]) -> Iterator[Finding]:
    """Look at the hosts that may run a machine: are they there, do they let serial ports out?"""
    firewall = "configManager.firewallSystem"
    paths = ("runtime.connectionState", "runtime.inMaintenanceMode", firewall)
    abouts = connection.each([host.reference for host in hosts], paths)
    usable, away = [], []
    for host in hosts:
        about = abouts.get(host.id, {})
        if about.get("runtime.connectionState", c.HOST_CONNECTED) != c.HOST_CONNECTED:
            away.append(f"{host.name} is {about['runtime.connectionState']}")
        elif about.get("runtime.inMaintenanceMode"):
            away.append(f"{host.name} is in maintenance")
        else:
            usable.append(host)
    detail = "; ".join([f"{len(usable)} of {len(hosts)} can run machines", *away])
    if not usable:
        remedy = "Take one out of maintenance, or name others."
        yield Finding("hosts", Verdict.FAILED, detail, remedy)
        return
    yield Finding("hosts", Verdict.OK, detail)
    systems = {host.id: abouts.get(host.id, {}).get(firewall) for host in usable}
    rules = connection.each([one for one in systems.values() if one], ("firewallInfo",))
    yield _firewall(
        {
            host.name: None if (system := systems[host.id]) is None else rules.get(system._moId)
            for host in usable
        }
    )


def _firewall(rules: Mapping[str, Mapping[str, Any] | None]) -> Finding:
    """Judge the firewalls of hosts by name; None is one that may not be read."""
    subject = "serial ports"
    closed, unknown = [], []
    for name, about in rules.items():
        info = (about or {}).get("firewallInfo")
        if info is None:
            unknown.append(name)
        elif not any(one.enabled for one in info.ruleset if one.key in c.SERIAL_RULESETS):
            closed.append(name)
    remedy = f"On each of these hosts: {c.OPEN_SERIAL_PORTS}"
    if closed:
        # Not a failure: attach and exec need it, import and a detached run do not.
        detail = f"the firewall blocks network serial ports on {', '.join(closed)}"
        return Finding(subject, Verdict.WARNING, detail, remedy)
    if unknown:
        detail = (
            f"the firewall's rules for network serial ports cannot be read on {', '.join(unknown)}"
        )
        return Finding(subject, Verdict.WARNING, detail, remedy)
    opened = " or ".join(c.SERIAL_RULESETS)
    return Finding(subject, Verdict.OK, f"the firewall of each host has {opened} enabled")


def _licence(connection: Connection) -> Finding:
    """Look whether any licence has network serial ports; which host has which may not be asked."""
    subject = "serial ports' licence"
    about = connection.properties(connection.content.licenseManager, ("licenses",))
    licences = about.get("licenses")
    if not licences:
        return Finding(subject, Verdict.WARNING, "licences may not be read")
    for licence in licences:
        features = [one.value for one in licence.properties if one.key == c.LICENSE_FEATURE]
        if any(str(one.key).partition(":")[0] == c.SERIAL_FEATURE for one in features):
            return Finding(subject, Verdict.OK, f"{licence.name} has network serial ports")
    names = ", ".join(sorted({licence.name for licence in licences}))
    detail = f"none of the licences tells of network serial ports ({names})"
    return Finding(subject, Verdict.WARNING, detail)


def _is_older(version: str, than: str) -> bool:
    """Compare versions like 8.0.3; what is no number is not older than anything."""
    try:
        return [*map(int, version.split("."))] < [*map(int, than.split("."))]
    except ValueError:
        return False


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
