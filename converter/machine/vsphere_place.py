"""Where machines of a vCenter are: the session, and the places that its settings name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from converter.vsphere.connection import Connection
from converter.vsphere.datastore_files import DatastoreFiles
from converter.vsphere.inventory import Inventory
from converter.vsphere.placement import Placement, find_datacenter, find_folder
from converter.vsphere.survey import survey

FindPlace = Callable[[Connection], tuple[Inventory, Placement]]


class VspherePlace:
    """A session that `connect` opens when it is needed first, and what is looked up by it once.

    `find_place` finds where new machines go, as templates do.
    """

    def __init__(self, connect: Callable[[], Connection], find_place: FindPlace) -> None:
        """Take what opens the session; nothing is asked yet."""
        self._connect = connect
        self._find_place = find_place
        self._placement: Placement | None = None
        self._lock = threading.RLock()
        self._opened: Connection | None = None
        self._surveyed: Inventory | None = None

    @property
    def connection(self) -> Connection:
        """The session. Raises as `connect`."""
        with self._lock:
            if self._opened is None:
                self._opened = self._connect()
            return self._opened

    @property
    def inventory(self) -> Inventory:
        """The places that there are, as they were when they were needed first."""
        with self._lock:
            if self._surveyed is None:
                self._surveyed = survey(self.connection)
            return self._surveyed

    @property
    def host(self) -> str:
        """The server's name, for sentences."""
        return self.connection.settings.address.host

    @property
    def folder(self) -> Any:  # noqa: ANN401 - pyvmomi's own
        """The folder of machines. Raises NotFoundError, UsageError."""
        wishes = self.connection.settings.wishes
        datacenter = find_datacenter(self.inventory, wishes)
        return find_folder(self.inventory, wishes, datacenter).reference

    def placement(self) -> Placement:
        """Return where a new machine goes. Raises NotFoundError, UsageError, HypervisorError."""
        with self._lock:
            if self._placement is None:
                self._surveyed, self._placement = self._find_place(self.connection)
            return self._placement

    def files(self, placement: Placement) -> DatastoreFiles:
        """Return the files of the datastore that new machines are on."""
        return DatastoreFiles(
            self.connection,
            placement.datacenter,
            self.inventory.path(placement.datacenter),
            placement.datastore,
        )
