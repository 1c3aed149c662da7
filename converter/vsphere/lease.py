"""A lease to fill a new machine's disk (HttpNfcLease): wait, keep alive, complete or give up.

A lease that ends without being completed takes the machine with it, whoever ends it: we, or the
server when nobody has been heard of for some minutes. So a killed import leaves nothing, later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from converter.errors import HypervisorError, IntegrityError, SaltflatError
from converter.vsphere.connection import FAULTS, Connection
from converter.vsphere.faults import from_fault

_READY_SECONDS = 300.0  # DRS and storage DRS have to choose first
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 1.0
_ALIVE_SECONDS = 20.0  # of the 300 that servers wait


class Lease:
    """One lease, ready: its machine, and where the disk of each key goes."""

    def __init__(self, connection: Connection, reference: Any) -> None:  # noqa: ANN401 - pyvmomi's own
        """Wait until `reference` is ready. Raises the error of the fault for which it is not."""
        self._connection = connection
        self._reference = reference
        self._percent = 0
        try:
            self._wait()
            info = connection.properties(reference, ["info"])["info"]
        except BaseException:
            self.abort()
            raise
        self.machine = info.entity
        self._urls = list(info.deviceUrl)

    def _wait(self) -> None:
        connection, reference = self._connection, self._reference
        end = time.monotonic() + _READY_SECONDS
        pause = _FIRST_PAUSE_SECONDS
        while True:
            about = connection.properties(reference, ["state", "error"])
            if about.get("state") == "ready":
                break
            if about.get("state") == "error":
                raise from_fault(about["error"], doing="make the machine", named=connection.name_of)
            if time.monotonic() > end:
                raise HypervisorError(
                    f"vSphere was not ready for the disk in {_READY_SECONDS:g} seconds.",
                    hint="Look at the task in the client.",
                    cause="task-timeout",
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def disk_url(self, key: str) -> tuple[str, str | None]:
        """Return where the disk with an import key goes, and the thumbprint of who is there.

        Raises HypervisorError if there is no such disk.
        """
        disks = [one for one in self._urls if one.disk]
        for one in disks:
            if one.importKey == key or len(disks) == 1:
                return one.url, one.sslThumbprint or None
        raise HypervisorError(
            f"vSphere made a machine without the disk {key}.", expected="a place to send it to"
        )

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Tell the server now and then that somebody is there, while the block runs."""
        stop = threading.Event()

        def tell() -> None:
            while not stop.wait(_ALIVE_SECONDS):
                # A lease that has ended breaks the upload off, which says it better.
                with suppress(SaltflatError, FAULTS), self._connection.doing("keep the lease"):
                    self._reference.HttpNfcLeaseProgress(self._percent)

        with self._connection.doing("keep the lease"):
            self._reference.HttpNfcLeaseProgress(0)
        teller = threading.Thread(target=tell, name="lease", daemon=True)
        teller.start()
        try:
            yield
        finally:
            stop.set()
            teller.join()

    def tell(self, percent: int) -> None:
        """Note how much is done, for the server's next news and the client's progress bar."""
        self._percent = min(percent, 99)

    def compare(self, size_bytes: int, sha1: str) -> bool:
        """Hold what the server got to what was sent; say whether it could tell.

        Raises IntegrityError if it got something else.
        """
        try:
            with self._connection.doing("tell what it received"):
                entries = self._reference.HttpNfcLeaseGetManifest()
        except SaltflatError:  # old servers, and some hosts, do not keep account
            return False
        for entry in entries:
            if (entry.size, entry.sha1) != (size_bytes, sha1):
                raise IntegrityError(
                    f"vSphere received a disk of {entry.size} bytes with SHA-1 {entry.sha1}.",
                    expected=f"{size_bytes} bytes with {sha1}",
                    hint="Try again; if it comes again, look for what changes bytes on the way.",
                )
        return bool(entries)

    def complete(self) -> None:
        """Make the machine a lasting one."""
        with self._connection.doing("complete the machine"):
            self._reference.HttpNfcLeaseProgress(100)
            self._reference.HttpNfcLeaseComplete()

    def abort(self) -> None:
        """Give up and take the machine with it. Raises nothing."""
        with suppress(SaltflatError), self._connection.doing("give up the machine"):
            self._reference.HttpNfcLeaseAbort()
