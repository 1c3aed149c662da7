"""What a program really does to a folder, as strace sees its system calls. Owns reading the trace.

Every call that names something in the folder is looked at. One that could change anything there and
is not understood is an error: what the recording leaves out, no power cut would test.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.soaks._crash_states import (
    ROOT,
    Change,
    Chmod,
    DataOp,
    File,
    History,
    NameOp,
    SyncOp,
    Truncate,
    Write,
)

_TIMEOUT_SECONDS = 100
_STRING_LIMIT = 1 << 26  # bytes of a string that strace prints; a longer one is refused here
_LINE = re.compile(r"(\d+) +(.*)")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)(.*)")
_DESCRIPTOR = re.compile(r"(-?\d+|AT_FDCWD)(?:<(.*)>)?(?:\(deleted\))?")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
# They change neither a name nor content nor mode. utimensat sets times, which are not modelled.
_HARMLESS = frozenset(
    [
        *("access", "execve", "faccessat", "faccessat2", "fadvise64", "flock", "fstat", "fstatfs"),
        *("getcwd", "getdents64", "getxattr", "lgetxattr", "listxattr", "lstat", "newfstatat"),
        *("pread64", "readlink", "readlinkat", "stat", "statfs", "statx", "utimensat"),
    ]
)


class RecordingError(Exception):
    """The program failed, or did something that the recorder does not understand."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A system call that succeeded; `began` and `ended` are lines of the trace."""

    name: str
    arguments: tuple[str, ...]
    result: int
    began: int
    ended: int


def record(
    command: Sequence[str], folder: Path, *, environment: Mapping[str, str] | None = None
) -> History:
    """Run `command` to its end and return what it did in `folder`, all of which was durable before.

    Raises RecordingError.
    """
    folder = folder.resolve()
    history, nodes = _snapshot(folder)
    with tempfile.TemporaryDirectory(prefix="saltflat-trace-") as temp:
        trace = Path(temp) / "trace"
        strace = ["strace", "-f", "-qq", "-y", "-xx", "-s", f"{_STRING_LIMIT}", "--seccomp-bpf"]
        strace += ["-e", "trace=%file,%desc,%process", "-e", "signal=none"]
        done = subprocess.run(
            [*strace, "-o", os.fspath(trace), *command],
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            env=environment,
        )
        if done.returncode:
            raise RecordingError(done.stderr.decode(errors="replace"))
        follower = _Follower(folder, history, nodes)
        with trace.open(encoding="ascii") as lines:
            for call in _calls(lines, _hexed(os.fspath(folder))):
                follower.follow(call)
    return history


def _snapshot(folder: Path) -> tuple[History, int]:
    """Return the history that begins with what is in `folder`, and how many nodes it has."""
    history = History()
    numbers = {folder.stat().st_ino: ROOT}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        node = numbers.setdefault(status.st_ino, len(numbers))
        history.folders[numbers[path.parent.stat().st_ino]][path.name] = node
        if stat.S_ISDIR(status.st_mode):
            history.folders[node] = {}
        elif stat.S_ISREG(status.st_mode):
            history.files[node] = File(path.read_bytes(), stat.S_IMODE(status.st_mode))
        else:
            raise RecordingError(f"{path} is neither a file nor a folder")
    return history, len(numbers)


def _calls(lines: Iterator[str], marker: str) -> Iterator[_Call]:
    """Yield the calls that succeeded and have a path or a descriptor that begins with `marker`."""
    begun: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        match = _LINE.match(line)
        if match is None:
            raise RecordingError(f"no line of a trace: {line[:200]!r}")
        thread, text = match.groups()
        began = number
        if text.endswith(_UNFINISHED):
            begun[thread] = (number, text.removesuffix(_UNFINISHED))
            if not text.startswith("close("):
                continue
            # Its number may be given to another thread's file before it returns.
            text = begun[thread][1] + ") = 0"
        elif resumed := _RESUMED.match(text):
            began, first = begun.pop(thread)
            if first.startswith("close("):
                continue
            text = first + resumed[1]
        if text.startswith(("fork(", "vfork(", "clone")) and "CLONE_THREAD" not in text:
            raise RecordingError("the program starts others, which are not followed")
        places = (f"<{marker}",) if text.startswith("write(") else (f"<{marker}", f'"{marker}')
        if not any(place in text for place in places):
            continue
        call = _CALL.fullmatch(text)
        if call is None:
            raise RecordingError(f"not understood: {text[:200]!r}")
        if call[3] != "?" and int(call[3]) >= 0:
            yield _Call(call[1], tuple(call[2].split(", ")), int(call[3]), began, number)


@dataclass(slots=True)
class _Open:
    """An open file or folder of the program, and its position."""

    node: int
    position: int = 0


class _Follower:
    """Keeps the folder as the program sees it, and writes its history."""

    def __init__(self, folder: Path, history: History, nodes: int) -> None:
        self._prefix = os.fspath(folder)
        self._history = history
        self._nodes = nodes
        self._entries = {node: dict(entries) for node, entries in history.folders.items()}
        self._data = {node: bytearray(file.data) for node, file in history.files.items()}
        self._open: dict[int, _Open] = {}

    def follow(self, call: _Call) -> None:
        if call.name in _HARMLESS or (call.name == "mmap" and not _writes_through(call)):
            return
        try:
            method = getattr(self, f"_on_{call.name}")
        except AttributeError:
            raise RecordingError(f"{call.name} is not understood: {call.arguments}") from None
        method(call, *call.arguments)

    # Descriptors

    def _on_openat(self, call: _Call, folder: str, path: str, flags: str, mode: str = "0") -> None:
        above, name = self._place(folder, path)
        node = ROOT if above is None else self._entries[above].get(name)
        options = flags.split("|")
        if node is None:
            if "O_CREAT" not in options or above is None:
                raise RecordingError(f"{path} is opened but was never made")
            node = self._new()
            self._history.files[node] = File(mode=int(mode, 8))
            self._data[node] = bytearray()
            self._name(call, above, (name, node))
        elif "O_TRUNC" in options:
            self._change(call, node, Truncate(0))
        if "O_APPEND" in options:
            raise RecordingError(f"{path} is opened to append, which is not understood")
        self._open[call.result] = _Open(node)

    def _on_open(self, call: _Call, path: str, flags: str, mode: str = "0") -> None:
        self._on_openat(call, "AT_FDCWD", path, flags, mode)

    def _on_close(self, call: _Call, descriptor: str) -> None:
        self._open.pop(_number(descriptor), None)

    def _on_lseek(self, call: _Call, descriptor: str, *_rest: str) -> None:
        self._at(descriptor).position = call.result

    def _on_read(self, call: _Call, descriptor: str, *_rest: str) -> None:
        self._at(descriptor).position += call.result

    def _on_fcntl(self, call: _Call, descriptor: str, command: str, *_rest: str) -> None:
        if command in {"F_DUPFD", "F_DUPFD_CLOEXEC"}:
            self._open[call.result] = self._at(descriptor)  # they share the position
        elif command not in {"F_GETFD", "F_SETFD", "F_GETFL"}:
            raise RecordingError(f"fcntl {command} is not understood")

    # Content

    def _on_write(self, call: _Call, descriptor: str, data: str, _count: str) -> None:
        file = self._at(descriptor)
        self._change(call, file.node, Write(file.position, _bytes(data)[: call.result]))
        file.position += call.result

    def _on_pwrite64(
        self, call: _Call, descriptor: str, data: str, _count: str, offset: str
    ) -> None:
        node = self._at(descriptor).node
        self._change(call, node, Write(int(offset), _bytes(data)[: call.result]))

    def _on_ftruncate(self, call: _Call, descriptor: str, size: str) -> None:
        self._change(call, self._at(descriptor).node, Truncate(int(size)))

    def _on_fchmod(self, call: _Call, descriptor: str, mode: str) -> None:
        self._change(call, self._at(descriptor).node, Chmod(int(mode, 8)))

    def _on_sendfile(self, call: _Call, target: str, source: str, offset: str, *_rest: str) -> None:
        self._transfer(call, target, source, offset)

    def _on_copy_file_range(
        self, call: _Call, source: str, offset: str, target: str, to_offset: str, *_rest: str
    ) -> None:
        if to_offset != "NULL":
            raise RecordingError("copy_file_range to an offset is not understood")
        self._transfer(call, target, source, offset)

    def _transfer(self, call: _Call, target: str, source: str, offset: str) -> None:
        """Copy between two open files of the folder; offset is "NULL" or "[from] => [to]"."""
        reader, writer = self._at(source), self._at(target)
        start = reader.position if offset == "NULL" else int(offset.lstrip("[").partition("]")[0])
        data = bytes(self._data[reader.node][start : start + call.result])
        if len(data) != call.result:
            raise RecordingError(f"{call.name} copied {call.result} bytes of {len(data)}")
        if offset == "NULL":
            reader.position += call.result
        self._change(call, writer.node, Write(writer.position, data))
        writer.position += call.result

    def _on_ioctl(self, call: _Call, descriptor: str, request: str, *rest: str) -> None:
        if "CLONE" not in request:
            raise RecordingError(f"ioctl {request} is not understood")
        node = self._at(descriptor).node
        self._change(call, node, Write(0, bytes(self._data[self._at(rest[0]).node])))

    # Durability

    def _on_fsync(self, call: _Call, descriptor: str) -> None:
        node = self._at(descriptor).node
        self._history.operations.append(SyncOp(call.began, call.ended, node))

    _on_fdatasync = _on_fsync

    # Names

    def _on_mkdir(self, call: _Call, path: str, _mode: str) -> None:
        above, name = self._place("AT_FDCWD", path)
        node = self._new()
        self._history.folders[node] = {}
        self._entries[node] = {}
        self._name(call, above, (name, node))

    def _on_rename(self, call: _Call, old: str, new: str) -> None:
        above, before = self._place("AT_FDCWD", old)
        target, after = self._place("AT_FDCWD", new)
        if above is None or target != above:
            raise RecordingError(f"a rename from folder to folder is not modelled: {old} to {new}")
        self._name(call, above, (before, None), (after, self._entries[above][before]))

    def _on_link(self, call: _Call, old: str, new: str) -> None:
        above, before = self._place("AT_FDCWD", old)
        target, after = self._place("AT_FDCWD", new)
        assert above is not None, "the folder itself has no second name"
        self._name(call, target, (after, self._entries[above][before]))

    def _on_unlink(self, call: _Call, path: str) -> None:
        above, name = self._place("AT_FDCWD", path)
        self._name(call, above, (name, None))

    _on_rmdir = _on_unlink

    def _on_unlinkat(self, call: _Call, folder: str, path: str, _flags: str) -> None:
        above, name = self._place(folder, path)
        self._name(call, above, (name, None))

    # The folder as it is now

    def _place(self, folder: str, path: str) -> tuple[int | None, str]:
        """Return (node of the folder, name) of a path; (None, "") for the root itself."""
        text = os.fsdecode(_bytes(path))
        if not text.startswith("/"):
            match = _DESCRIPTOR.fullmatch(folder)
            if match is None or match[1] == "AT_FDCWD":
                raise RecordingError(f"{text!r} is relative to the working folder")
            return self._at(folder).node, text
        if text == self._prefix:
            return None, ""
        if not text.startswith(f"{self._prefix}/"):
            raise RecordingError(f"{text} is not in {self._prefix}")
        *above, name = text.removeprefix(f"{self._prefix}/").split("/")
        node = ROOT
        for part in above:
            node = self._entries[node][part]
        return node, name

    def _at(self, descriptor: str) -> _Open:
        try:
            return self._open[_number(descriptor)]
        except KeyError:
            raise RecordingError(f"{descriptor} was never opened") from None

    def _new(self) -> int:
        self._nodes += 1
        return self._nodes - 1

    def _change(self, call: _Call, node: int, change: Change) -> None:
        if isinstance(change, Write) and not change.data:
            return
        self._history.operations.append(DataOp(call.began, call.ended, node, change))
        data = self._data[node]
        if isinstance(change, Write):
            data.extend(bytes(max(0, change.offset - len(data))))
            data[change.offset : change.offset + len(change.data)] = change.data
        elif isinstance(change, Truncate):
            del data[change.size :]
            data.extend(bytes(change.size - len(data)))

    def _name(self, call: _Call, folder: int | None, *slots: tuple[str, int | None]) -> None:
        if folder is None:
            raise RecordingError(f"{call.name} of the folder that is recorded")
        self._history.operations.append(NameOp(call.began, call.ended, folder, slots))
        for name, node in slots:
            if node is None:
                del self._entries[folder][name]
            else:
                self._entries[folder][name] = node


def _writes_through(call: _Call) -> bool:
    protection, flags = call.arguments[2:4]
    return "PROT_WRITE" in protection and "MAP_SHARED" in flags


def _number(descriptor: str) -> int:
    match = _DESCRIPTOR.fullmatch(descriptor)
    if match is None:
        raise RecordingError(f"no descriptor: {descriptor[:200]}")
    return int(match[1])


def _bytes(argument: str) -> bytes:
    match = _STRING.fullmatch(argument)
    if match is None:
        raise RecordingError(f"no whole string: {argument[:200]}")
    return bytes.fromhex(match[1].replace("\\x", ""))


def _hexed(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(text))
