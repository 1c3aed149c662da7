"""What an installation has: every file that stands among the product's sources."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("agent", "converter", "tinykernel")
EXTRAS = ("cluster", "fast", "vsphere")  # that people install; the others are for developers
LATER_LIBRARY = {"_sha2"}  # of Python 3.12, asked for where it may be missing


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


def test_whatever_is_imported_is_asked_for() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    wanted = [settings["options"]["install_requires"], *(extras[name] for name in EXTRAS)]
    lines = "\n".join(wanted).split("\n")
    asked = {_distribution(line) for line in lines if line.strip()}
    sources = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    modules = {name for path in sources for name in _imports(ast.parse(path.read_bytes()))}
    strange = modules - set(PACKAGES) - sys.stdlib_module_names - LATER_LIBRARY
    owners = packages_distributions()
    found = {_distribution(owner) for name in strange for owner in owners.get(name, [name])}
    assert found == asked


def _distribution(requirement: str) -> str:
    """Return the normal form of the name that a requirement begins with."""
    name = re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yield the topmost package of each import that is carried out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]
        else:
            yield from _imports(node)
