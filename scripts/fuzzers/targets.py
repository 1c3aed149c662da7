"""What a fuzz target is, and which there are. Owns their names and where their corpora are kept."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Protocol, cast

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("tar", "ext4", "vmdk", "state")
MAX_INPUT_BYTES = 64 << 10


class Target(Protocol):
    """A module of this folder. `MODULES` are the parsers that its corpus has to cover."""

    MODULES: tuple[str, ...]

    def one_input(self, data: bytes) -> None:
        """Judge one input: return if all is well; whatever is raised is a bug that was found.

        Depends on nothing but `data` and takes any bytes.
        """

    def mutate(self, data: bytes, choose: Random) -> bytes:
        """Return a variation of an input that keeps most of its structure."""

    def seeds(self) -> Sequence[bytes]:
        """Return inputs to begin with: sound ones, which no corpus is needed for."""


def load_target(name: str) -> Target:
    """Import the target `name`, and with it the parsers that it is about."""
    return cast(Target, importlib.import_module(f"scripts.fuzzers.{name}_target"))


def corpus_folder(name: str) -> Path:
    """Return the folder of the kept corpus."""
    return ROOT / "tests" / "corpus" / name


def read_corpus(folder: Path) -> list[bytes]:
    """Return the inputs in `folder`, in the order of their names."""
    return [path.read_bytes() for path in sorted(folder.glob("*")) if path.is_file()]
