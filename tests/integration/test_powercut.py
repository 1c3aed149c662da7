"""A slice of the power-cut soak, and that it catches what it is there to catch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.soaks import powercut
from scripts.soaks._crash_states import ROOT, Chmod, DataOp, NameOp, Truncate, Write
from scripts.soaks._recording import RecordingError, record

pytestmark = pytest.mark.integration

FIRST, REPLACED, COLLECTION = powercut.SCENES
EVERYTHING = powercut.COUNT

# Python that the recorded program runs first: one promise of converter/atomic.py or of the order of
# things broken.
DEFECTS = {
    "no content is synced": (
        FIRST,
        "import os, stat; sync = os.fsync\n"
        "os.fsync = lambda fd: None if stat.S_ISREG(os.fstat(fd).st_mode) else sync(fd)",
    ),
    "a record is there before its disk is synced": (
        FIRST,
        "import os; sync = os.fsync\n"
        "os.fsync = lambda fd: "
        "None if os.readlink(f'/proc/self/fd/{fd}').endswith('.vmdk') else sync(fd)",
    ),
    "no name is synced": (
        FIRST,
        "import converter.atomic; converter.atomic.sync_directory = lambda path: None",
    ),
    "the folder of a new folder is not synced": (
        FIRST,
        "import converter.store.images as images\n"
        "images.make_directory = lambda path: path.mkdir(exist_ok=True)",
    ),
    "a bundle's disks are not synced": (
        REPLACED,
        "import os; sync = os.fsync\n"
        "os.fsync = lambda fd: "
        "None if '/disk/' in os.readlink(f'/proc/self/fd/{fd}') else sync(fd)",
    ),
    "a bundle's names are not synced": (
        REPLACED,
        "import converter.store.bundle as bundle; bundle.sync_directory = lambda path: None",
    ),
    "gc deletes files with their records": (
        COLLECTION,
        "import converter.store.gc as gc; gc.sync_directory = lambda path: None",
    ),
}


@pytest.fixture(autouse=True)
def _strace(tool: Callable[[str], str]) -> None:
    tool("strace")


def test_sixty_of_some_sixteen_hundred_states(corner_layout: Path) -> None:
    assert powercut.run(60, seed=2, source=corner_layout) == []


@pytest.mark.parametrize("what", DEFECTS)
def test_a_defect_is_caught(corner_layout: Path, what: str) -> None:
    scene, defect = DEFECTS[what]
    failures = powercut.failures_of(scene, EVERYTHING, 1, corner_layout, defect=defect)
    assert next(failures, None) is not None


def _recorded(folder: Path, program: str) -> list[object]:
    history = record([sys.executable, "-c", f"import os; os.chdir('/')\n{program}"], folder)
    return [
        (op.node, op.change)
        if isinstance(op, DataOp)
        else (op.node, op.slots)
        if isinstance(op, NameOp)
        else op.node
        for op in history.operations
    ]


def test_a_recording_has_every_change_in_order(tmp_path: Path) -> None:
    tmp_path.joinpath("old").write_bytes(b"before")
    program = f"""
import shutil
os.mkdir({str(tmp_path / "d")!r}, 0o700)
fd = os.open({str(tmp_path / "d" / 'x",<n')!r}, os.O_RDWR | os.O_CREAT, 0o640)
os.write(fd, b"one\\0\\xff")
os.lseek(fd, 100, os.SEEK_SET)
os.write(fd, b"two")
os.pwrite(fd, b"three", 1)
os.ftruncate(fd, 50)
os.fchmod(fd, 0o444)
os.fsync(fd)
os.rename({str(tmp_path / "d" / 'x",<n')!r}, {str(tmp_path / "d" / "y")!r})
os.link({str(tmp_path / "d" / "y")!r}, {str(tmp_path / "z")!r})
shutil.copyfile({str(tmp_path / "old")!r}, {str(tmp_path / "copy")!r})
os.fdatasync(os.open({str(tmp_path)!r}, os.O_RDONLY))
os.close(os.open({str(tmp_path / "old")!r}, os.O_WRONLY | os.O_TRUNC))
shutil.rmtree({str(tmp_path / "d")!r})
"""
    old, folder, x, copy = 1, 2, 3, 4
    assert _recorded(tmp_path, program) == [
        (ROOT, (("d", folder),)),
        (folder, (('x",<n', x),)),
        (x, Write(0, b"one\0\xff")),
        (x, Write(100, b"two")),
        (x, Write(1, b"three")),
        (x, Truncate(50)),
        (x, Chmod(0o444)),
        x,
        (folder, (('x",<n', None), ("y", x))),
        (ROOT, (("z", x),)),
        (ROOT, (("copy", copy),)),
        (copy, Write(0, b"before")),
        ROOT,
        (old, Truncate(0)),
        (folder, (("y", None),)),
        (ROOT, (("d", None),)),
    ]


@pytest.mark.parametrize(
    ("program", "what"),
    [
        ("os.symlink('x', {path!r})", "symlink"),
        ("os.rename({path!r}, {folder!r} + '/d/f')", "folder to folder"),
        ("os.chmod({path!r}, 0o600)", "chmod"),
        ("os.open({path!r}, os.O_WRONLY | os.O_APPEND)", "append"),
        ("import mmap; mmap.mmap(os.open({path!r}, os.O_RDWR), 4)", "mmap"),
        ("os.posix_fallocate(os.open({path!r}, os.O_RDWR), 0, 10)", "fallocate"),
        ("import subprocess; subprocess.run(['true'])", "starts others"),
        ("os.chdir({folder!r}); os.unlink('f')", "chdir"),
    ],
)
def test_what_is_not_understood_is_an_error(tmp_path: Path, program: str, what: str) -> None:
    tmp_path.joinpath("d").mkdir()
    path = tmp_path / ("new" if "symlink" in program else "f")
    tmp_path.joinpath("f").write_bytes(b"four")
    with pytest.raises(RecordingError, match=what):
        _recorded(tmp_path, program.format(path=str(path), folder=str(tmp_path)))
