"""A booted machine with the relay on one line and nothing but a plain loop on another.

Owns the root disk (the boot image's own Python, busybox, the worker and the bytes that it sends),
QEMU's arguments, the relay's process, an attached client in another, and the conversation with the
worker. What is measured is `in_vm`'s.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
import secrets
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from agent.host.relay import write_key
from agent.tether.host_config import HostConfig
from converter import events
from converter.machine.kvm import choose_accelerator
from converter.machine.model import CHANNEL_NAME, Channel, GuestConfig, RunConfig
from converter.machine.process import QemuProcess, qemu_version
from converter.machine.qemu_command import (
    CONFIG_ARGUMENT,
    CONFIG_FILE,
    CONSOLE_FILE,
    FW_CFG_NAME,
    KERNEL_COMMAND_LINE,
    Accelerator,
    base_arguments,
)
from tests.images.prepared import boot_store
from tests.integration.relay_runs import RelayProcess
from tinykernel import c_newc
from tinykernel.cpio import regular, write_newc
from tinykernel.record import BootImage, load_boot_image

FILE_BYTES = 1 << 20  # of each file of bytes to send
RANDOM, TEXT = "/data/random", "/data/text"
_ROOT_UUID = "6f1c9a3e-1111-4222-8333-0123456789ab"
_BOOT_SECONDS = 120.0
_PATIENCE_SECONDS = 180.0  # with the worker, whatever it does
_PORT = "bench"
_CLIENT = """
import sys
from agent.host import client
from agent.host import Stdio
address = client.UnixAddress(sys.argv[1])
if sys.argv[2:]:
    client.execute(address, client.Execution(sys.argv[2:], tty=True, stdin=True), Stdio(0, 1, 2))
else:
    client.attach(address, Stdio(0, 1, 2))
"""

# tether's own entry, which also gives the plain loop's port what tether gives its own.
_INIT = """\
#!/usr/bin/python{python} -ISB
import sys

sys.path.insert(0, "/usr/lib/saltflat")
from agent.tether import __main__, channel


def open_serial(device, _open=channel._open_serial):
    try:
        with open("/sys/class/tty/ttyS1/rx_trig_bytes", "w") as file:
            file.write("14")
    except OSError:
        pass
    return _open(device)

channel._open_serial = open_serial
sys.exit(__main__.main())
"""


@dataclass(frozen=True)
class Ends:
    """Descriptors of a client's stdin, stdout and stderr."""

    give: int
    take: int
    said: int


@dataclass(frozen=True)
class Bench:
    """A booted machine: `worker` is its stdio by the relay, `plain` the other line."""

    accelerator: str
    worker: Ends
    plain: socket.socket
    folder: Path

    def command(self, *words: object) -> None:
        """Tell the worker to do something."""
        write_all(self.worker.give, " ".join(map(str, words)).encode() + b"\n")

    def expect(self, word: str) -> None:
        """Wait until the worker says it."""
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self.worker.said], [], [], _PATIENCE_SECONDS)[0]:
                raise TimeoutError(f"the worker does not say {word}")
            letter = os.read(self.worker.said, 1)
            if not letter:
                raise RuntimeError("the machine or its relay has ended")
            line += letter
        if line.decode().strip() != word:
            raise RuntimeError(f"the worker says {line!r}, not {word}")

    def terminal(self) -> contextlib.AbstractContextManager[Ends]:
        """Start a process on a terminal, which echoes what it gets; give its ends."""
        return _client(self.folder, "/bin/busybox", "sleep", "1000000")


def write_all(descriptor: int, data: bytes) -> None:
    """Write to a pipe, however many calls that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@functools.cache
def payloads() -> dict[str, bytes]:
    """Return what is sent, by the path that it has in the guest; the same on every machine."""
    rng = random.Random(1)
    lines = []
    size = 0
    for number in itertools.count():
        line = (
            f"2026-01-01T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z "
            f"{rng.choice(('INFO', 'INFO', 'INFO', 'WARN', 'DEBUG'))} worker-{rng.randrange(8)} "
            f"request {rng.randbytes(6).hex()} {rng.choice(('GET', 'GET', 'PUT', 'POST'))} "
            f"/api/v1/{rng.choice(('users', 'items', 'orders', 'status'))}/{rng.randrange(10000)} "
            f"took {rng.randrange(2000)} ms, {rng.randrange(1 << 16)} bytes\n"
        ).encode()
        lines.append(line)
        size += len(line)
        if size >= FILE_BYTES:
            break
    return {RANDOM: rng.randbytes(FILE_BYTES), TEXT: b"".join(lines)[:FILE_BYTES]}


@contextlib.contextmanager
def booted(channel: Channel) -> Iterator[Bench]:
    """Boot a machine whose main process is the worker; yield it when the worker is ready."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saltflat-bench-")))
        (boot_record,) = (boot_store() / "boot").glob("*/boot.json")
        boot = load_boot_image(boot_record.parent)
        accelerator = choose_accelerator(
            boot, qemu_version=qemu_version(), record=folder / "kvm", monitor=events.ignore
        )
        _make_root(folder, boot)
        init = write_newc([regular("init", _INIT.format(python=boot.python).encode(), 0o755)])
        (folder / "initrd").write_bytes(_padded(boot.initrd.read_bytes()) + b"".join(init))
        key = secrets.token_bytes(32)
        where = _PORT if channel is Channel.VIRTIO_SERIAL else "/dev/ttyS1"
        python = f"/usr/bin/python{boot.python}"
        run = RunConfig(
            args=(python, "-ISB", "/worker.py", where),
            stdin=True,
            host_config=HostConfig(privileged=True),  # for the other line's device
        )
        config = GuestConfig(root_uuid=_ROOT_UUID, hostname="bench", image={}, run=run)
        (folder / CONFIG_FILE).write_bytes(config.encode(channel, key))
        write_key(folder / "machine", key)
        relay = RelayProcess(folder / "machine", folder / "line")
        stack.callback(relay.kill)
        arguments = _arguments(boot, accelerator, channel, folder)
        machine = stack.enter_context(QemuProcess(arguments, folder, temporary=False))
        plain = _connect(folder / "plain")
        stack.callback(plain.close)
        attached = stack.enter_context(_client(folder))
        bench = Bench(accelerator.name, attached, plain, folder)
        try:
            bench.expect("ready")
            yield bench
        except BaseException:
            sys.stderr.write(machine.console() + machine.log())
            raise


@contextlib.contextmanager
def _client(folder: Path, *words: str) -> Iterator[Ends]:
    """Run a client in a process of its own: attached, or of another process on a terminal."""
    command = [sys.executable, "-c", _CLIENT, os.fspath(folder / "machine/relay.sock"), *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0) as client:
        assert client.stdin
        assert client.stdout
        assert client.stderr
        try:
            yield Ends(client.stdin.fileno(), client.stdout.fileno(), client.stderr.fileno())
        finally:
            client.kill()


def _connect(path: Path) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX)
    until = time.monotonic() + _BOOT_SECONDS
    while True:
        try:
            connected.connect(os.fspath(path))
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return connected


def _arguments(
    boot: BootImage, accelerator: Accelerator, channel: Channel, folder: Path
) -> list[str]:
    arguments = base_arguments(accelerator, boot.kernel.absolute(), folder / "initrd")
    kernel_line = KERNEL_COMMAND_LINE
    line = ["-chardev", f"socket,id=line,path={folder}/line,server=off,reconnect=1"]
    plain = f"socket,id=plain,path={folder}/plain,server=on,wait=off"
    if channel is Channel.SERIAL:
        # The second port is the plain loop's: the first and the third share an interrupt.
        console = arguments.index(f"file,id=console,path={CONSOLE_FILE}")
        arguments[console] = plain.replace("id=plain", "id=console")
        kernel_line = kernel_line.replace("console=ttyS1 ", "")
        line += ["-device", "isa-serial,chardev=line,index=0"]
    else:
        line += ["-device", "virtio-serial-pci"]
        line += ["-device", f"virtserialport,chardev=line,name={CHANNEL_NAME}"]
        line += ["-chardev", plain, "-device", f"virtserialport,chardev=plain,name={_PORT}"]
        line += ["-chardev", "null,id=nothing", "-device", "isa-serial,chardev=nothing,index=0"]
    return [
        *arguments,
        *("-append", f"{kernel_line} {CONFIG_ARGUMENT}", "-m", "512", "-smp", "1"),
        *("-fw_cfg", f"name={FW_CFG_NAME},file={CONFIG_FILE}"),
        *("-drive", f"if=none,id=root,format=raw,file={folder}/root.raw"),
        *("-device", "pvscsi,id=scsi", "-device", "scsi-hd,bus=scsi.0,drive=root"),
        *line,
    ]


def _make_root(folder: Path, boot: BootImage) -> None:
    """Make the root disk: the boot image's own files, and what the worker needs."""
    root, raw = folder / "root", folder / "root.raw"
    _unpack(zstandard.ZstdDecompressor().stream_reader(boot.initrd.read_bytes()).read(), root)
    busybox = shutil.which("busybox")
    if busybox is None:
        raise FileNotFoundError("busybox is not installed: apt-get install busybox-static")
    shutil.copy(busybox, root / "bin/busybox")
    shutil.copy(Path(__file__).with_name("guest_worker.py"), root / "worker.py")
    (root / "etc").mkdir()
    for path, data in payloads().items():
        target = root / path[1:]
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
    with raw.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-U", _ROOT_UUID, "-d", root, raw],
        check=True,
        timeout=60,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % c_newc.ALIGNMENT)


def _unpack(archive: bytes, root: Path) -> None:
    """Write an initramfs of ours out: folders, files and links, each after its parent."""
    at = 0
    while True:
        numbers = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        header = dict(zip(c_newc.FIELDS, numbers, strict=True))
        name_at = at + c_newc.HEADER_SIZE
        name = archive[name_at : name_at + header["namesize"] - 1].decode()
        data_at = name_at + header["namesize"]
        data_at += -data_at % c_newc.ALIGNMENT
        data = archive[data_at : data_at + header["filesize"]]
        at = data_at + len(data) + -len(data) % c_newc.ALIGNMENT
        if name == c_newc.TRAILER:
            return
        path = root / name
        kind = header["mode"] & 0o170000
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == 0o040000:
            path.mkdir(exist_ok=True)
        elif kind == 0o120000:
            path.symlink_to(data.decode())
        else:
            path.write_bytes(data)
            path.chmod(header["mode"] & 0o7777)
