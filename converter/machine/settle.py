"""How a machine really is, whatever is written of it. Owns what is concluded from what is left.

A supervisor that was killed, a host that was restarted and a QEMU that was killed from outside
leave a state.json that is not true any more; whoever looks next finds out. That a machine runs is
written before its QEMU is started, so a QEMU that runs is always in some state.json.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

from agent.host.client import saved_status
from agent.host.status import ExitStatus
from converter.errors import IntegrityError, NotFoundError
from converter.machine.directory import CHANGING, MachineFolder
from converter.machine.process_mark import host_boot_id
from converter.machine.state import UNKNOWN_END, State, Status

RESTARTED = "the host was restarted while it ran"
UNWATCHED = "its hypervisor ended while nobody watched"


def look(folder: MachineFolder) -> State:
    """Return how a machine is. One that ended while nobody watched is written down as ended.

    Raises IntegrityError, NotFoundError, OSError.
    """
    state = folder.state()
    if folder.living_qemu() is not None:
        return _running(state)
    if state.status is not Status.RUNNING:
        return state
    descriptor = folder.try_lock(CHANGING)
    if descriptor is None:  # its supervisor is about to write down more than we can know
        return folder.state()
    try:
        return settle(folder)
    finally:
        os.close(descriptor)


def has_ended(folder: MachineFolder) -> bool:
    """Say whether a machine does not run (any more), or is gone.

    Where its state cannot be read, its QEMU is what counts.
    """
    try:
        return look(folder).status is not Status.RUNNING
    except NotFoundError:
        return True
    except IntegrityError:
        return folder.living_qemu() is None


def settle(folder: MachineFolder) -> State:
    """Write down that a machine has ended, if it has and nobody did. Its lock must be held."""
    state = folder.state()
    qemu = folder.qemu()
    if qemu is not None and qemu.is_alive():
        return _running(state)
    if state.status is not Status.RUNNING:
        return state
    end = _saved_end(folder)
    reason = ""
    if end is None:
        restarted = qemu is not None and qemu.boot_id != host_boot_id()
        reason = RESTARTED if restarted else UNWATCHED
    state = replace(
        state,
        status=Status.EXITED,
        finished_ns=time.time_ns(),
        end=UNKNOWN_END if end is None else end,
        reason=reason,
    )
    folder.write_state(state)
    return state


def _running(state: State) -> State:
    """Return `state`, or what it should be where somebody has taken the file away."""
    return state if state.status is Status.RUNNING else State(status=Status.RUNNING)


def _saved_end(folder: MachineFolder) -> ExitStatus | None:
    try:
        return saved_status(folder.relay)
    except ValueError:
        return None
