"""The sources of the agent that a guest may hold. Owns which they are, not what is made of them."""

from __future__ import annotations

from pathlib import Path

from converter.errors import NotFoundError

_PARTS = ("wire", "tether")  # and the modules beside them; `host` is this side's


def agent_sources(folder: Path) -> dict[str, bytes]:
    """Return path -> source, in the order of their paths, of the `agent` package in `folder`.

    Paths are relative to where the package stands: "agent/wire/frames.py". Raises NotFoundError
    when there are none.
    """
    files = [
        *folder.glob("*.py"),
        *(file for part in _PARTS for file in (folder / part).rglob("*.py")),
    ]
    sources = {f"agent/{file.relative_to(folder).as_posix()}": file.read_bytes() for file in files}
    if not {"agent/__init__.py", *(f"agent/{part}/__init__.py" for part in _PARTS)} <= set(sources):
        raise NotFoundError(
            f"the agent's own files are missing in {folder}",
            expected="an installation with its sources",
            hint="Install saltflat anew.",
        )
    return dict(sorted(sources.items()))
