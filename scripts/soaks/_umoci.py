"""What umoci makes of layers, to hold ours against it. Needs root."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.images.raw_layout import TAG, RawLayer, write_layout


def unpack(folder: Path, layers: Sequence[bytes]) -> Path | None:
    """Have umoci unpack `layers`, tar files, in `folder`; return the root, None if it refuses."""
    write_layout(folder / "image", [RawLayer(layer) for layer in layers])
    command = ["umoci", "unpack", "--image", f"{folder}/image:{TAG}", f"{folder}/bundle"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return None if done.returncode else folder / "bundle" / "rootfs"


def difference(ours: Mapping[bytes, object] | None, theirs: Mapping[bytes, object] | None) -> str:
    """Say where two trees, by path, differ first; None is a refusal. They have to differ."""
    if ours is None or theirs is None:
        return "only we refuse" if ours is None else "only umoci refuses"
    path = min(path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path))
    return f"{path!r} is {ours.get(path)} here and {theirs.get(path)} there"
