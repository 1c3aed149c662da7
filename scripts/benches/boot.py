"""How long a boot takes by a clock that counts instructions, beside the least that it could be.

    scripts/bench boot [--rounds N]

The limit is the same kernel with a static busybox as its init, which mounts the same disk and
executes the same program (boot_parts/bare.py). Each figure is the minimum of the rounds: what the
processor does repeats, waits for a real disk jump. The tiny kernel is measured when it is built.
"""

from __future__ import annotations

import json
import secrets
import socket
import tempfile
from itertools import pairwise
from pathlib import Path

from agent.tether.host_config import HostConfig
from agent.wire import Endpoint, Role
from converter.machine.model import Channel, GuestConfig, MachineSpec, RunConfig
from converter.machine.process import qemu_version
from converter.machine.qemu import make_scratch, write_guest_document
from converter.machine.qemu_command import Accelerator, machine_arguments
from scripts.benches.boot_parts.bare import bare_initrd
from scripts.benches.boot_parts.virtual import VirtualMachine, connected
from tests.guests import disk
from tests.images.prepared import boot_image, tiny_is_built
from tinykernel.archives import read_initramfs
from tinykernel.contents import breakdown, describe
from tinykernel.modules import KernelModule
from tinykernel.record import BootImage

_SCRIPT = "echo A >/dev/ttyS0; while :; do :; done"
_ARGUMENTS = ("/bin/busybox", "sh", "-c", _SCRIPT)
# What a kernel's code is compiled for: each of these ends with the letter of its mark.
_WORK = {
    "B": ("200,000 calls of a byte", "dd if=/dev/zero of=/dev/null bs=1 count=100000"),
    "C": (
        "200 programs",
        "sh -c 'i=0; while [ $i -lt 200 ]; do /bin/busybox true; i=$((i+1)); done'",
    ),
    "D": ("32 MiB into a file", "dd if=/dev/zero of=/big bs=65536 count=512"),
    "E": ("1000 new files", "sh -c 'i=0; while [ $i -lt 1000 ]; do : >/f$i; i=$((i+1)); done'"),
}
_MEMORY_MIB = 256
# A guest that waits for a real disk must not halt: then the clock would leap to its next timer,
# which may be seconds away. So it counts instructions while it waits.
_NEVER_HALT = "idle=poll"

FIRST_FRAME_OVER_INIT_SECONDS = {"stock": 0.25, "tiny": 0.15}
FIRST_BYTE_OVER_BARE = {"tiny": 1.25}


def run(rounds: int) -> dict[str, object]:
    """Boot each flavour `rounds` times, ours and the bare one in turn."""
    flavours = ["stock", *(["tiny"] if tiny_is_built() else [])]
    with tempfile.TemporaryDirectory(prefix="saltflat-bench-") as name:
        work = Path(name)
        link = disk.build(work)
        seconds: dict[str, float] = {}
        worked: dict[str, float] = {}
        sizes: dict[str, int] = {}
        for flavour in flavours:
            image = boot_image(flavour)
            for number in range(rounds):
                folder = work / f"{flavour}-{number}"
                for what, value in _measure(image, link, folder).items():
                    key = f"{flavour}: {what}"
                    seconds[key] = min(value, seconds.get(key, value))
            for what, value in _work(image, link, work / f"{flavour}-work").items():
                worked[f"{flavour}: {what}"] = value
            sizes[f"{flavour}: kernel"] = image.kernel.stat().st_size
            sizes[f"{flavour}: initramfs"] = image.initrd.stat().st_size
            entries = read_initramfs(image.initrd.read_bytes())
            for part in breakdown(map(describe, entries)):
                sizes[f"{flavour}: initramfs, unpacked: {part.part}"] = part.size_bytes
    return {
        "rounds": rounds,
        "virtual seconds": seconds,
        "virtual seconds of work": worked,
        **_judged(seconds, flavours),
        "bytes": sizes,
    }


def _judged(seconds: dict[str, float], flavours: list[str]) -> dict[str, object]:
    """Return the figures that are held to something, their names saying to what."""
    over: dict[str, float] = {}
    ratios: dict[str, float] = {}
    for flavour in flavours:
        bound = FIRST_FRAME_OVER_INIT_SECONDS[flavour]
        frame, init = seconds[f"{flavour}: first frame"], seconds[f"{flavour}: bare init"]
        over[f"{flavour}: first frame after bare init, at most {bound}"] = frame - init
        ratio = seconds[f"{flavour}: first byte"] / seconds[f"{flavour}: bare first byte"]
        most = FIRST_BYTE_OVER_BARE.get(flavour)
        ratios[f"{flavour}: first byte / bare{f', at most {most}' if most else ''}"] = ratio
    return {"differences": over, "ratios": ratios}


def _spec(image: BootImage, link: Path, arguments: tuple[str, ...]) -> MachineSpec:
    return MachineSpec(
        chain=(link,),
        capacity_bytes=disk.CAPACITY_BYTES,
        boot=image,
        guest=GuestConfig(
            root_uuid=disk.ROOT_UUID,
            hostname="guest",
            image={},
            run=RunConfig(args=arguments, host_config=HostConfig(privileged=True)),
        ),
        memory_mib=_MEMORY_MIB,
        channel=Channel.VIRTIO_SERIAL,
    )


def _measure(image: BootImage, link: Path, folder: Path) -> dict[str, float]:
    """Boot both once."""
    spec = _spec(image, link, _ARGUMENTS)
    folder.mkdir()
    (folder / "ours").mkdir()
    ours = _booted(spec, folder / "ours", ("line", "port:A"))
    bare_folder = folder / "bare"
    bare_folder.mkdir()
    (bare_folder / "initrd").write_bytes(bare_initrd(_modules(image), _ARGUMENTS))
    bare = _booted(spec, bare_folder, ("port:I", "port:A"), initrd=bare_folder / "initrd")
    return {
        "bare init": bare["port:I"],
        "first frame": ours["line"],
        "bare first byte": bare["port:A"],
        "first byte": ours["port:A"],
    }


def _work(image: BootImage, link: Path, folder: Path) -> dict[str, float]:
    """Return how long a program's calls take under the image's kernel."""
    steps = [
        f"/bin/busybox {command} 2>/dev/null; echo {letter} >/dev/ttyS0"
        for letter, (_what, command) in _WORK.items()
    ]
    script = "; ".join(["echo A >/dev/ttyS0", *steps, "while :; do :; done"])
    folder.mkdir()
    spec = _spec(image, link, ("/bin/busybox", "sh", "-c", script))
    found = _booted(spec, folder, ("port:A", *(f"port:{letter}" for letter in _WORK)))
    ends = [found[f"port:{letter}"] for letter in ("A", *_WORK)]
    spans = [end - begin for begin, end in pairwise(ends)]
    return {what: span for (what, _command), span in zip(_WORK.values(), spans, strict=True)}


def _booted(
    spec: MachineSpec, folder: Path, marks: tuple[str, ...], *, initrd: Path | None = None
) -> dict[str, float]:
    """Return when the marks came, with the spec's initramfs or another."""
    key = secrets.token_bytes(32)
    make_scratch(folder, spec)
    write_guest_document(folder, spec, key)
    host = Endpoint(Role.HOST, key, nonce=secrets.token_bytes(32), now=0.0)
    arguments = machine_arguments(
        spec,
        Accelerator("tcg", qemu_version()),
        machine=secrets.token_hex(32),
        channel=folder / "line",
        temporary=True,
    )
    port = folder / "port"
    # The first serial port, which a machine with a virtio line has for nothing, hears the stages.
    at = arguments.index("null,id=nothing")
    arguments[at] = f"socket,id=nothing,path={port},server=on,wait=off"
    arguments[arguments.index("-append") + 1] += f" {_NEVER_HALT}"
    if initrd is not None:
        arguments[arguments.index("-initrd") + 1] = str(initrd)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "line"))
        listener.listen()
        with VirtualMachine(arguments, folder) as machine:
            line, _address = listener.accept()
            line.sendall(host.data_to_send(0.0))  # its greeting: the guest speaks when spoken to
            with line, connected(port) as heard:
                return machine.run({"line": line, "port": heard}, marks)


def _modules(image: BootImage) -> list[KernelModule]:
    """Return the kernel modules that the boot image brings."""
    files = {entry.path: entry.data for entry in read_initramfs(image.initrd.read_bytes())}
    order = json.loads(files["usr/lib/modules/order.json"])
    return [
        KernelModule(name, tuple(item["depends"]), files[f"usr{item['file']}"])
        for name, item in order.items()
    ]
