"""What a session may do with an object, as the server says."""

from __future__ import annotations

from collections.abc import Sequence

from converter.vsphere.connection import Connection


def granted(connection: Connection, thing: object, names: Sequence[str]) -> frozenset[str]:
    """Return those of some privileges that the session has on an object."""
    with connection.doing(f"say what {connection.settings.username} may do"):
        answers = connection.content.authorizationManager.HasPrivilegeOnEntities(
            [thing], connection.session_key, list(names)
        )
    return frozenset(
        one.privId for answer in answers for one in answer.privAvailability if one.isGranted
    )
