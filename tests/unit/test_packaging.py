"""What an installation has: every file that stands among the product's sources."""

from __future__ import annotations

import configparser
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("agent", "converter", "tinykernel")


def test_data_files_are_installed_with_the_sources() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    patterns = [text.strip() for text in settings["options.package_data"]["*"].split(",")]
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()]
    data = {
        path.relative_to(ROOT)
        for path in files
        if path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    }
    assert {path.name for path in data} >= {"py.typed", "tether.service", "kernel.config"}
    left_out = {path for path in data if not any(fnmatch(path.name, each) for each in patterns)}
    assert left_out == set()


def test_every_folder_of_sources_is_a_package() -> None:
    folders = {path.parent for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    assert {folder for folder in folders if not (folder / "__init__.py").is_file()} == set()
