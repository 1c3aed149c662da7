"""Find this host's ports for a machine that is about to start. Owns the look at what is free.

QEMU itself binds them, a moment later: a port that somebody takes in between is QEMU's error.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from converter.errors import UsageError
from converter.network.model import Binding, PortRequest

EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  # docker's default for -p without an address
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def find_ports(requests: Sequence[PortRequest]) -> tuple[Binding, ...]:
    """Return a port of this host for each request; those that name theirs come first.

    Raises UsageError when one is in use, or is none that we may have.
    """
    found: dict[PortRequest, Binding] = {}
    with ExitStack() as held:  # until all are found, so that none is found twice
        for request in sorted(requests, key=lambda request: request.host_first == 0):
            address = request.host_ip or EVERY_ADDRESS
            found[request] = Binding(
                container=request.container,
                protocol=request.protocol,
                host_ip=address,
                host_port=_find(request, address, held),
            )
    return tuple(found[request] for request in requests)


def _find(request: PortRequest, address: str, held: ExitStack) -> int:
    in_use: OSError | None = None
    for port in _candidates(request):
        try:
            probe = held.enter_context(socket.socket(socket.AF_INET, _KINDS[request.protocol]))
            if request.protocol == "tcp":  # as QEMU does; a connection that ended holds no port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
            if request.protocol == "tcp":
                probe.listen(1)
            return int(probe.getsockname()[1])
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UsageError(
                    f"Port {port}/{request.protocol} of {address} cannot be published: "
                    f"{error.strerror}.",
                    hint=_HINTS.get(error.errno or 0),
                ) from error
            in_use = error
    span = f"{request.host_first}"
    if request.host_last > request.host_first:
        span = f"{request.host_first}-{request.host_last}"
    raise UsageError(
        f"Port {span}/{request.protocol} of {address} is in use on this host.",
        expected=f"a free port for the machine's {request.name}",
        hint="Publish another one, or end what listens there.",
    ) from in_use


def _candidates(request: PortRequest) -> Iterator[int]:
    yield from range(request.host_first, request.host_last + 1)


_HINTS = {
    errno.EACCES: "Ports below 1024 are for root; publish another one.",
    errno.EADDRNOTAVAIL: "It is no address of this host: leave it out for all of them.",
}
