"""Choose kernel modules and their load order. Owns the list of drivers and reading .modinfo.

Knows nothing of where modules come from: it is given a kernel tree as paths and a reader.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

import zstandard

from converter.errors import IntegrityError
from tinykernel import elf

# What the guest asks for by name; what these depend on is read from the modules themselves.
DRIVERS = (
    "ext4",  # the root file system; built into some kernels
    "sd_mod",
    "vmw_pvscsi",  # the disk controller, on QEMU as on ESXi
    "virtio_pci",
    "virtio_console",  # the fast channel under QEMU
    "vmw_vsock_virtio_transport",  # virtual sockets as the channel, under QEMU
    "vmw_vsock_vmci_transport",  # and on ESXi
    "qemu_fw_cfg",  # the configuration under QEMU
    "virtio_net",  # the network card under QEMU
    "vmxnet3",  # and on ESXi, or where QEMU is asked for it
    "button",  # the power button: an orderly stop from outside
    "evdev",
    "virtio_blk",
    "virtio_scsi",
)

# What only machines with fewer paravirtual devices need; the cloud kernel has most of them not.
HARDWARE_DRIVERS = (
    "ahci",
    "nvme",
    "mptspi",  # LSI Logic Parallel
    "mptsas",  # LSI Logic SAS
    "e1000e",
)

# Which module to take where one asks for a service by its name, as ext4 does: the one that runs on
# any processor.
SERVICES = {"crypto_crc32c": "crc32c_generic", "crc32c": "crc32c_generic"}

SIGNATURE_MAGIC = b"~Module signature appended~\n"  # kernel: include/linux/module_signature.h
_SIGNATURE_TRAILER_BYTES = 12  # struct module_signature, its last four bytes the length, big endian
_MODULE_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class KernelModule:
    """One module: `depends` is everything that must be loaded before it, in load order."""

    name: str
    depends: tuple[str, ...]
    data: bytes


def choose_modules(
    wanted: Iterable[str],
    *,
    paths: Iterable[str],
    builtin: Iterable[str],
    read: Callable[[str], bytes],
    signed: bool = False,
) -> list[KernelModule]:
    """Return the wanted modules and all that they depend on, by name.

    `paths` are the files of a kernel package, `builtin` the lines of its modules.builtin, `read`
    gives a file's bytes. A wanted driver that the kernel has built in is left out: there is
    nothing to load. `signed` ones keep their signatures. Raises IntegrityError when a driver is
    missing or dependencies form a loop.
    """
    files = {module_name(path): path for path in paths if _is_module(path)}
    built_in = {module_name(path) for path in builtin if path}
    direct: dict[str, tuple[str, ...]] = {}
    data: dict[str, bytes] = {}

    def visit(name: str, above: tuple[str, ...]) -> list[str]:
        """Return the load order that ends in `name`."""
        if name in above:
            raise IntegrityError(f"kernel modules depend on each other: {' '.join(above)} {name}")
        if name in built_in:
            return []
        if name not in files:
            raise IntegrityError(
                f"the kernel package has no driver {name}",
                expected="a kernel of Debian's, 6.1 or newer",
            )
        if name not in data:
            module = _unpacked(files[name], read(files[name]))
            data[name] = module if signed else without_signature(module)
            soft = (SERVICES.get(needed, needed) for needed in _soft_depends(data[name], name=name))
            direct[name] = (
                *_depends(data[name], name=name),
                *(needed for needed in soft if needed in files),
            )
        order = [step for needed in direct[name] for step in visit(needed, (*above, name))]
        return list(dict.fromkeys([*order, name]))

    orders: dict[str, list[str]] = {}
    for name in wanted:
        for step in visit(name, ()):
            orders.setdefault(step, visit(step, ()))
    return [KernelModule(name, tuple(orders[name][:-1]), data[name]) for name in sorted(orders)]


def module_name(path: str) -> str:
    """Return the name that the kernel uses for the module file `path`."""
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")


def without_signature(module: bytes) -> bytes:
    """Return the module without its appended signature.

    Checking it takes most of the time of loading (86 of 106 ms for scsi_mod, measured), and the
    whole initramfs is trusted or not as one. The kernel marks itself tainted (E), nothing more.
    """
    if not module.endswith(SIGNATURE_MAGIC):
        return module
    end = len(module) - len(SIGNATURE_MAGIC)
    size = int.from_bytes(module[end - 4 : end], "big")
    start = end - _SIGNATURE_TRAILER_BYTES - size
    if start <= 0:
        raise IntegrityError("a kernel module's signature is longer than the module")
    return module[:start]


def _is_module(path: str) -> bool:
    return "/kernel/" in path and path.endswith((".ko", ".ko.xz", ".ko.zst"))


def _depends(module: bytes, *, name: str) -> tuple[str, ...]:
    """Return the direct dependencies: names with commas between them."""
    found = _modinfo(module, "depends", name=name)
    return tuple(part.replace("-", "_") for value in found for part in value.split(",") if part)


def _soft_depends(module: bytes, *, name: str) -> tuple[str, ...]:
    """Return what should be loaded before: `pre: name name post: name name`."""
    found: list[str] = []
    for value in _modinfo(module, "softdep", name=name):
        wanted = False
        for word in value.split():
            if word in {"pre:", "post:"}:
                wanted = word == "pre:"
            elif wanted:
                found.append(word.replace("-", "_"))
    return tuple(found)


def _modinfo(module: bytes, key: str, *, name: str) -> list[str]:
    """Return the values of a key in .modinfo: NUL-separated `key=value` text."""
    entries = elf.section(module, ".modinfo", name=name).split(b"\0")
    pairs = (entry.partition(b"=") for entry in entries)
    return [value.decode("ascii", "replace") for at, _, value in pairs if at == key.encode()]


def _unpacked(path: str, data: bytes) -> bytes:
    try:
        if path.endswith(".xz"):
            unpacker = lzma.LZMADecompressor()
            module = unpacker.decompress(data, _MODULE_LIMIT_BYTES)
            if not unpacker.eof:
                raise IntegrityError(f"kernel module {path} is cut short or too large")
            return module
        if path.endswith(".zst"):
            return zstandard.ZstdDecompressor().decompress(
                data, max_output_size=_MODULE_LIMIT_BYTES
            )
    except (lzma.LZMAError, zstandard.ZstdError) as error:
        raise IntegrityError(f"kernel module {path} is damaged: {error}") from error
    return data
