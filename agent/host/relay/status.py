"""The end of a process as JSON, for the log, the journal and clients; and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.host.status import ExitStatus, exit_status

Json = dict[str, Any]


def status_json(status: ExitStatus) -> Json:
    """Return the control message that says this, cleaned of whatever else the guest said."""
    if status.failure is not None:
        failure = status.failure
        return {
            "type": "failed",
            "code": status.code,
            "kind": failure.kind,
            "message": failure.message,
        }
    said: Json = {
        "type": "exited",
        "code": status.code,
        "signal": status.signal,
        "core": status.core,
        "oom": status.oom,
    }
    return {**said, "restarts": True} if status.restarts else said


def reported_status(message: Mapping[str, Any] | None) -> ExitStatus | None:
    """Return what `status_json` said; None for None. Raises ValueError on anything else."""
    return None if message is None else exit_status(message)
