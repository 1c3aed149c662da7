"""A machine that looks like VMware's to its guest: its maker's name, and a hypervisor to talk to.

Owns QEMU's arguments and the sockets behind the hypervisor's ports. The guest calls CID 0, as on
ESXi; but its driver is virtio's, and the host's side of that is `vsock`, which answers to any CID.
There is no backdoor.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from converter.machine.qemu_command import CONFIG_ARGUMENT
from tests.guests import vmx
from tests.guests.vsock import vsock_arguments, vsock_device

_RPCI_PORT, _TCLO_PORT = 976, 975
_PATIENCE_SECONDS = 60


class Hypervisor:
    """Answers calls, and makes requests when the test wants them. Its sockets are in `folder`."""

    def __init__(self, known: vmx.Vmx, folder: Path) -> None:
        self.vmx = known
        self.folder = folder
        self._calls = self._listen(_RPCI_PORT)
        self._requests = self._listen(_TCLO_PORT)
        self._requests.settimeout(_PATIENCE_SECONDS)
        self._line: socket.socket | None = None
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def targets(self) -> dict[int, Path]:
        """Return the sockets by the ports that the guest knows."""
        return {port: self.folder / str(port) for port in (_RPCI_PORT, _TCLO_PORT)}

    def close(self) -> None:
        """Be there no more; the guest has gone."""
        # Wakes who waits for a connection, but only one without a timeout, which polls.
        self._calls.shutdown(socket.SHUT_RDWR)
        self._thread.join(_PATIENCE_SECONDS)
        for opened in (self._calls, self._requests, self._line):
            if opened is not None:
                opened.close()

    def ask(self, request: bytes) -> bytes:
        """Make a request; return the guest's answer."""
        return vmx.ask(self._connection(), request)

    def wait_for_heartbeat(self) -> None:
        """Wait until the guest says that it lives."""
        assert vmx.read(self._connection()) == (vmx.TYPE_PING, None)

    def _connection(self) -> socket.socket:
        if self._line is None:
            self._line = self._requests.accept()[0]
            self._line.settimeout(_PATIENCE_SECONDS)
        return self._line

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.folder / str(port)))
        listener.listen()
        return listener

    def _answer(self) -> None:
        while True:
            try:
                connected, _ = self._calls.accept()
            except OSError:  # the end
                return
            with connected:
                vmx.serve(connected, self.vmx)


@contextlib.contextmanager
def hypervisor(known: vmx.Vmx) -> Iterator[Hypervisor]:
    """Yield a hypervisor that machines with `as_vmware`'s arguments find."""
    with tempfile.TemporaryDirectory() as short:  # a socket's path is not to be long
        made = Hypervisor(known, Path(short))
        with contextlib.closing(made), vsock_device(made.folder / "vsock", made.targets()):
            yield made


def as_vmware(arguments: list[str], there: Hypervisor, memory_mib: int) -> list[str]:
    """Return QEMU's arguments for a machine of VMware's, whose document is in guestinfo."""
    changed = [word.replace(CONFIG_ARGUMENT, "tether.config=guestinfo") for word in arguments]
    # QEMU takes a comma in a value when it is doubled.
    changed += ["-smbios", "type=1,manufacturer=VMware,, Inc."]
    return changed + vsock_arguments(there.folder / "vsock", memory_mib)
