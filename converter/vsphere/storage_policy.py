"""Storage policies: which one a name means, and which datastores can keep it.

They are another service of vCenter (PBM, "vSphere Storage Policy API"), with the same session; a
host alone has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from converter.errors import NotFoundError
from converter.vsphere.c_vsphere import DATASTORE, PBM_PATH, PBM_VERSION
from converter.vsphere.connection import Connection, pbm

_STORAGE = "STORAGE"
_REQUIREMENT = "REQUIREMENT"  # what people choose from, not what datastores or arrays say


@dataclass(frozen=True, slots=True)
class StoragePolicy:
    """A policy, and the ids of the datastores that can keep it."""

    id: str
    name: str
    datastores: frozenset[str]


def find_policy(connection: Connection, name: str) -> StoragePolicy:
    """Return the policy of that name. Raises NotFoundError, and what a request may raise."""
    if not connection.about.is_vcenter:
        raise NotFoundError(
            f"There is no storage policy {name!r}: a host without vCenter has none.",
            cause="no-storage-policy",
        )
    with connection.beside(PBM_PATH, PBM_VERSION) as stub, connection.doing("list its policies"):
        content = pbm.ServiceInstance("ServiceInstance", stub).RetrieveContent()
        profiles = _profiles(content.profileManager)
        found = next((one for one in profiles if one.name == name), None)
        if found is None:
            raise NotFoundError(
                f"There is no storage policy {name!r}.",
                expected="one of " + ", ".join(sorted(one.name for one in profiles)),
                cause="no-storage-policy",
            )
        results = content.placementSolver.PbmCheckCompatibility(profile=found.profileId)
    fitting = frozenset(
        str(one.hub.hubId) for one in results if one.hub.hubType == DATASTORE and not one.error
    )
    return StoragePolicy(str(found.profileId.uniqueId), name, fitting)


def _profiles(manager: Any) -> list[Any]:  # noqa: ANN401 - pyvmomi's own
    storage = pbm.profile.ResourceType(resourceType=_STORAGE)
    ids = manager.PbmQueryProfile(resourceType=storage, profileCategory=_REQUIREMENT)
    return list(manager.PbmRetrieveContent(profileIds=ids)) if ids else []
