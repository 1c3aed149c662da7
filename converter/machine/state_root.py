"""Where what outlives a command is kept on this host: machines, volumes. Owns only the place."""

from __future__ import annotations

import os
from pathlib import Path


def default_state_root() -> Path:
    """Return the folder when none is named: $XDG_STATE_HOME/saltflat, else ~/.local/state's."""
    state_home = os.environ.get("XDG_STATE_HOME", "")
    # The XDG specification: relative paths are invalid and must be ignored.
    base = Path(state_home) if state_home.startswith("/") else Path.home() / ".local" / "state"
    return base / "saltflat"
