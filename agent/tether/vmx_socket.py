"""A virtual socket to the process of the hypervisor that runs this machine (its VMX).

Owns making the connection, from a port that says that root asks.
"""

from __future__ import annotations

import errno

from agent import bare_socket as socket
from agent.tether.c_rpci import PRIVILEGED_PORT_MAX, VMCI_HYPERVISOR_CONTEXT_ID

CALL_SECONDS = 2.0
_PORT_TRIES = 8


def connect(service: int) -> socket.socket:
    """Return a socket to a service of the hypervisor, from a privileged port if we may have one.

    Raises OSError: ENODEV where there is no VMCI device, EAFNOSUPPORT without its drivers.
    """
    port = PRIVILEGED_PORT_MAX
    while True:
        connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connection.settimeout(CALL_SECONDS)
            port = _bind_below(connection, port)
            connection.connect((VMCI_HYPERVISOR_CONTEXT_ID, service))
            return connection
        except OSError as error:
            connection.close()
            # The port's last connection may not be forgotten at the other end yet.
            if error.errno != errno.ECONNRESET or port <= PRIVILEGED_PORT_MAX - _PORT_TRIES:
                raise
            port -= 1


def _bind_below(connection: socket.socket, port: int) -> int:
    """Bind to a free port from `port` downwards; return which."""
    while True:
        try:
            connection.bind((socket.VMADDR_CID_ANY, port))
            return port
        except PermissionError:
            return port  # unprivileged then
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port <= PRIVILEGED_PORT_MAX - _PORT_TRIES:
                raise
            port -= 1
