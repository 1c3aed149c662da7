"""Why a guest could not start its process. Owns the one error that crosses to the host.

Imports nothing of ours. `code` is what the host's command exits with, as Docker numbers it.
"""

from __future__ import annotations

CANNOT_START = 125  # the fault is the machine's or the request's
CANNOT_INVOKE = 126  # the command was found and cannot be executed
NOT_FOUND = 127  # the command was not found


class StartError(Exception):
    """Report that the process was not started.

    `kind` names the class for machines: config, channel, disk, module, network, world, volume,
    user, workdir, command, internal. `message` is one sentence for a person.
    """

    def __init__(self, kind: str, message: str, *, code: int = CANNOT_START) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.code = code
