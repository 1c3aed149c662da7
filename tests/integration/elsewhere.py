"""Copies of the project and of stores for processes that live elsewhere, and what they made."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from tests.images.cache import ROOT

PACKAGES = ("agent", "converter", "tinykernel")
MAIN = "from converter.cli import main; main()"


def copy_source(target: Path) -> Path:
    """Copy the project's packages to the new folder `target`, readable by everyone."""
    for package in PACKAGES:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, target / package, ignore=ignore)
    open_to_all(target)
    return target


def open_to_all(folder: Path) -> None:
    """Let every user read `folder`, whatever the umask was."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def link_digests(store: Path) -> dict[str, str]:
    """Return the SHA-256 of everything in the store's folder of links, by file name."""
    found = {}
    for path in sorted((store / "links").iterdir()):
        if path.is_file() and not path.name.startswith("."):
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def disk_digests(store: Path) -> dict[str, str]:
    """Return the SHA-256 of each disk of a store, by file name, in their order."""
    found = link_digests(store)
    return {name: digest for name, digest in found.items() if name.endswith(".vmdk")}
