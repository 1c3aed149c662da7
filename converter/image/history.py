"""What an image's configuration tells of how its layers were made. Pure.

The history is for people: nothing depends on it, so one that does not fit the layers is no error.
"""

from __future__ import annotations

import json
from typing import Any


def created_by(config_raw: bytes, layer_count: int) -> tuple[str, ...]:
    """Return what made each layer, base first; "" where the history does not say.

    Entries of empty layers have no layer and are passed over; a history with another number of
    entries than there are layers says nothing. (image-spec config.md, "history")
    """
    nothing = ("",) * layer_count
    config: Any = json.loads(config_raw)
    entries = config.get("history")
    if not isinstance(entries, list):
        return nothing
    steps = [
        entry.get("created_by") or entry.get("comment")
        for entry in entries
        if isinstance(entry, dict) and entry.get("empty_layer") is not True
    ]
    if len(steps) != layer_count:
        return nothing
    return tuple(step if isinstance(step, str) else "" for step in steps)
