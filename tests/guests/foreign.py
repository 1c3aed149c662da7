"""Programs of this host for a guest's disk that has no libraries: each with all that it loads."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path


def copy_with_libraries(
    root: Path, program: Path, *, plugins: Iterable[Path] = (), names: Iterable[str] = ()
) -> None:
    """Put `program` into /bin of the tree `root`, also under other `names`.

    Its libraries, and those of its `plugins`, go where they are here.
    """
    target = root / "bin" / program.name
    shutil.copy(program.resolve(), target)
    for name in names:
        (root / "bin" / name).symlink_to(program.name)
    plugins = list(plugins)
    for file in {*plugins, *_libraries(program), *(one for p in plugins for one in _libraries(p))}:
        there = root / file.relative_to("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.resolve(), there)


def _libraries(file: Path) -> list[Path]:
    """Return what the dynamic linker would load, itself included (ldd(1))."""
    said = subprocess.run(["ldd", str(file)], check=True, capture_output=True, timeout=30)
    return [Path(path) for path in re.findall(r"(?:=> |^\t)(/\S+) \(", said.stdout.decode(), re.M)]
