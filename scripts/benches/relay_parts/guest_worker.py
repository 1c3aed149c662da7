"""What runs inside the guest: does what it is told on stdin, by the relay or by the plain loop.

Owns both ends' peers in the guest: a process that writes or reads its stdio as any program does,
and a loop that carries the same bytes over a line of its own, in frames of the same size with the
same tag, and does nothing else. Runs under the boot image's own Python, whose library is small.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys

sys.path.insert(0, "/usr/lib/saltflat")  # where the boot image has it
from agent.hints import TYPE_CHECKING
from agent.tether.channel import make_raw
from agent.wire.c_frame import HEADER, MAGIC, TAG_PERSON, TAG_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = bytes(range(32))
CHUNK = 65536
LINE = "/dev/bench"
_PORTS = "/sys/class/virtio-ports"


def keyed() -> hashlib.blake2b:
    """Return the hash of the protocol's tags."""
    return hashlib.blake2b(key=KEY, digest_size=TAG_SIZE, person=TAG_PERSON)


def frame(state: hashlib.blake2b, data: bytes) -> bytes:
    """Return `data` with a header and a tag."""
    header = HEADER.pack(MAGIC, 0, 0, 0, len(data), 0, 0, 0)
    digest = state.copy()
    digest.update(header)
    digest.update(data)
    return b"".join((header, data, digest.digest()))


def write_all(descriptor: int, data: bytes) -> None:
    """Write, however many calls that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def plain_out(source: int, line: int, payload_bytes: int) -> None:
    """Read to the end of `source`, tag, and write to the line."""
    state = keyed()
    while data := os.read(source, payload_bytes):
        while len(data) < payload_bytes and (more := os.read(source, payload_bytes - len(data))):
            data += more
        write_all(line, frame(state, data))


def plain_in(line: int, sink: int, count: int, payload_bytes: int) -> None:
    """Read frames with `count` bytes of payload in all, check their tags, and write those bytes."""
    state = keyed()
    while count:
        payload = min(count, payload_bytes)
        need = HEADER.size + payload + TAG_SIZE
        pieces = []
        while need:
            pieces.append(os.read(line, need))
            need -= len(pieces[-1])
        whole = b"".join(pieces)
        digest = state.copy()
        digest.update(memoryview(whole)[:-TAG_SIZE])
        if digest.digest() != whole[-TAG_SIZE:]:
            raise ValueError("a damaged frame")
        write_all(sink, whole[HEADER.size : -TAG_SIZE])
        count -= payload


def consume(source: int, count: int) -> None:
    """Read `count` bytes, as a program does whose stdin this is."""
    while count:
        count -= len(os.read(source, min(count, CHUNK)))


def echo(line: int) -> None:
    """Hand each byte of the line to a terminal and its echo back, until a zero byte."""
    master, _slave = os.openpty()
    while (data := os.read(line, 1)) != b"\0":
        os.write(master, data)
        os.write(line, os.read(master, 4096))


def open_line(where: str) -> int:
    """Open the plain loop's own line: a virtio port by its name, or a ttyS by its path."""
    if where.startswith("/"):
        major, minor = (int(word) for word in _text(f"/sys/class/tty{where[4:]}/dev").split(":"))
    else:
        (folder,) = (
            f"{_PORTS}/{port}"
            for port in os.listdir(_PORTS)  # noqa: PTH208 - the guest's library has no pathlib
            if _text(f"{_PORTS}/{port}/name") == where
        )
        major, minor = (int(word) for word in _text(f"{folder}/dev").split(":"))
    os.mknod(LINE, stat.S_IFCHR | 0o600, os.makedev(major, minor))
    line = os.open(LINE, os.O_RDWR | os.O_NOCTTY)
    if where.startswith("/"):
        make_raw(line)
    return line


def _text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def spawn(call: Callable[[], None]) -> int:
    """Call in a process of its own; return its number."""
    child = os.fork()
    if child:
        return child
    try:
        call()
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(f"{error!r}\n")
        os._exit(1)


def cat(paths: list[str], target: int) -> int:
    """Start busybox's cat, which writes to `target`; return its number."""
    dup = [(os.POSIX_SPAWN_DUP2, target, 1)]
    return os.posix_spawn("/bin/busybox", ["cat", *paths], {}, file_actions=dup)


def obey(line: int, words: list[str]) -> None:
    """Carry out one command; its end is told by the bytes, or by `done` where those go in."""
    name, arguments = words[0], words[1:]
    if name == "relay-out":
        os.waitpid(cat(arguments, 1), 0)
    elif name == "cat-out":
        os.waitpid(cat(arguments, line), 0)
    elif name == "plain-out":
        source, target = os.pipe()
        child = cat(arguments[1:], target)
        os.close(target)
        plain_out(source, line, int(arguments[0]))
        os.close(source)
        os.waitpid(child, 0)
    elif name == "echo":
        say("go")
        echo(line)
    else:
        count = int(arguments[0])
        source, child = 0, 0
        if name == "plain-in":
            source, target = os.pipe()
            child = spawn(lambda: plain_in(line, target, count, int(arguments[1])))
            os.close(target)
        elif name == "cat-in":
            source = line
        say("go")
        consume(source, count)
        say("done")
        if child:
            os.close(source)
            os.waitpid(child, 0)


def say(word: str) -> None:
    """Tell the host something, on a line of its own."""
    os.write(2, word.encode() + b"\n")


def main() -> None:
    """Obey line after line until stdin ends."""
    line = open_line(sys.argv[1])
    say("ready")
    while True:
        command = b""
        while not command.endswith(b"\n"):
            letter = os.read(0, 1)
            if not letter:
                return
            command += letter
        obey(line, command.decode().split())


if __name__ == "__main__":
    main()
