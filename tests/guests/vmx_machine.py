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
    """Answers calls, and makes requests when the test wants them."""

    def __init__(self, known: vmx.Vmx, folder: Path) -> None:
        self.vmx = known
        self.folder = folder
        self._line: socket.socket | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Listen on both ports."""
        with contextlib.ExitStack() as stack:
            for port in (_RPCI_PORT, _TCLO_PORT):
                listener = stack.enter_context(socket.socket(socket.AF_UNIX))
                listener.bind(str(self.folder / str(port)))
                listener.listen()
                listener.settimeout(_PATIENCE_SECONDS)
                if port == _RPCI_PORT:
                    thread = threading.Thread(target=self._answer, args=(listener,), daemon=True)
                    thread.start()
                else:
                    self._requests = listener
            targets = {port: self.folder / str(port) for port in (_RPCI_PORT, _TCLO_PORT)}
            stack.enter_context(vsock_device(self.folder / "vsock", targets))
            yield
            if self._line is not None:
                self._line.close()

    def ask(self, request: bytes) -> bytes:
        """Make a request; return the guest's answer."""
        return vmx.ask(self._connection(), request, self.vmx)

    def wait_for_heartbeat(self) -> None:
        """Wait until the guest says that it lives."""
        assert vmx.read(self._connection()) == (vmx.TYPE_PING, None)

    def _connection(self) -> socket.socket:
        if self._line is None:
            self._line = self._requests.accept()[0]
            self._line.settimeout(_PATIENCE_SECONDS)
        return self._line

    def _answer(self, listener: socket.socket) -> None:
        while True:
            try:
                connected, _ = listener.accept()
            except OSError:  # it was closed, or nobody came
                return
            with connected:
                vmx.serve(connected, self.vmx)


@contextlib.contextmanager
def hypervisor(known: vmx.Vmx) -> Iterator[Hypervisor]:
    """Yield a hypervisor that machines with `as_vmware`'s arguments find."""
    with tempfile.TemporaryDirectory() as short:  # a socket's path is not to be long
        made = Hypervisor(known, Path(short))
        with made.open():
            yield made


def as_vmware(arguments: list[str], there: Hypervisor, memory_mib: int) -> list[str]:
    """Return QEMU's arguments for a machine of VMware's, whose document is in guestinfo."""
    changed = [word.replace(CONFIG_ARGUMENT, "tether.config=guestinfo") for word in arguments]
    # QEMU takes a comma in a value when it is doubled.
    changed += ["-smbios", "type=1,manufacturer=VMware,, Inc."]
    return changed + vsock_arguments(there.folder / "vsock", memory_mib)
