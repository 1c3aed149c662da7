"""A converted image as the outside sees it: conversion, e2fsck's and the kernel's word, debugfs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.images.trees import mounted

Tool = Callable[[str], str]
Run = Callable[..., bytes]


def convert(good: Run, store: Path, source: str, *options: str) -> Path:
    """Convert `source` by the command line `good` and return its topmost disk."""
    return convert_links(good, store, source, *options)[-1]


def convert_links(good: Run, store: Path, source: str, *options: str) -> list[Path]:
    """Convert `source` by the command line `good` and return all disks, base first."""
    output = good("convert", "--store", store, "--format", "json", *options, source)
    return [Path(link["file"]) for link in json.loads(output)["links"]]


@contextmanager
def checked_mount(tool: Tool, disk: Path, work: Path) -> Iterator[Path]:
    """Mount the chain below `disk`, which e2fsck has to find clean, without a question. As root.

    The flattened disk is `work`/flat.raw as long as it is mounted.
    """
    tool("qemu-img")
    with mounted(disk, work / "mount", work) as mount:
        fsck = [tool("e2fsck"), "-fn", f"{work}/flat.raw"]
        done = subprocess.run(fsck, capture_output=True, text=True, timeout=100, check=False)
        # With -n it answers some questions with no and still ends with 0.
        assert (done.returncode, "? no" in done.stdout) == (0, False), done.stdout
        yield mount


def debugfs(tool: Tool, raw: Path, request: str) -> bytes:
    """Return what debugfs answers to `request`. Its exit code says nothing."""
    done = subprocess.run(
        [tool("debugfs"), "-R", request, raw], capture_output=True, timeout=60, check=True
    )
    return done.stdout
