"""Inputs that found something, as files. Owns their names; one of each kind is kept."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from scripts.fuzzers.judge import Find


def save_find(folder: Path, find: Find) -> bool:
    """Keep the input and the report of a find; of equal signatures, the shortest input.

    Return whether the signature is new.
    """
    stem = folder / re.sub(r"[^A-Za-z0-9._-]+", "-", find.signature)
    old = stem.with_name(f"{stem.name}.input")
    is_new = not old.exists()
    if is_new or old.stat().st_size > len(find.input):
        old.write_bytes(find.input)
        old.with_suffix(".txt").write_text(f"{find.signature}\n\n{find.report}")
    return is_new


def content_name(data: bytes) -> str:
    """Return the name of an input in a kept corpus."""
    return hashlib.sha256(data).hexdigest()[:16]
