"""Kernel modules: which ones this machine needs, and loading them in order.

Owns /lib/modules/order.json of the boot image and the table from PCI ids to drivers. It waits for
nothing: devices announce themselves (`uevents`).
"""

from __future__ import annotations

import errno
import os

from agent import bare_json as json
from agent.hints import Dict, Iterable, List, Mapping, Protocol, Set, Tuple
from agent.tether import c_linux, syscalls
from agent.tether.errors import StartError

ORDER_FILE = "/lib/modules/order.json"
PCI_DEVICES = "/sys/bus/pci/devices"

PciId = Tuple[int, int]

# Only hardware that can carry the root disk; anything else waits until it is asked for, since each
# module costs a start several milliseconds.
DRIVERS: Mapping[PciId, Tuple[str, ...]] = {
    c_linux.PCI_VMWARE_PVSCSI: ("vmw_pvscsi", "sd_mod"),
    c_linux.PCI_VMWARE_AHCI: ("ahci", "sd_mod"),
    c_linux.PCI_INTEL_ICH9_AHCI: ("ahci", "sd_mod"),
    c_linux.PCI_VMWARE_NVME: ("nvme",),
    c_linux.PCI_QEMU_NVME: ("nvme",),
    c_linux.PCI_LSI_53C1030: ("mptspi", "sd_mod"),
    c_linux.PCI_LSI_SAS1068: ("mptsas", "sd_mod"),
    c_linux.PCI_VIRTIO_BLOCK: ("virtio_pci", "virtio_blk"),
    c_linux.PCI_VIRTIO_1_BLOCK: ("virtio_pci", "virtio_blk"),
    c_linux.PCI_VIRTIO_SCSI: ("virtio_pci", "virtio_scsi", "sd_mod"),
    c_linux.PCI_VIRTIO_1_SCSI: ("virtio_pci", "virtio_scsi", "sd_mod"),
}

# Loaded first, for a channel of that kind.
PORT_DRIVERS: Mapping[PciId, Tuple[str, ...]] = {
    c_linux.PCI_VIRTIO_CONSOLE: ("virtio_pci", "virtio_console"),
    c_linux.PCI_VIRTIO_1_CONSOLE: ("virtio_pci", "virtio_console"),
}

# Loaded only for a channel of that kind: every machine of VMware's has a VMCI device.
VSOCK_DRIVERS: Mapping[PciId, Tuple[str, ...]] = {
    c_linux.PCI_VMWARE_VMCI: ("vmw_vsock_vmci_transport",),
    c_linux.PCI_VIRTIO_VSOCK: ("virtio_pci", "vmw_vsock_virtio_transport"),
    c_linux.PCI_VIRTIO_1_VSOCK: ("virtio_pci", "vmw_vsock_virtio_transport"),
}

# Loaded only for a machine that is to have a network.
NETWORK_DRIVERS: Mapping[PciId, Tuple[str, ...]] = {
    c_linux.PCI_VMWARE_VMXNET3: ("vmxnet3",),
    c_linux.PCI_INTEL_82574L: ("e1000e",),  # VMware's other one; not every kernel has its driver
    c_linux.PCI_VIRTIO_NET: ("virtio_pci", "virtio_net"),
    c_linux.PCI_VIRTIO_1_NET: ("virtio_pci", "virtio_net"),
}

# Without it the driver's load blocks for the scan of every target (200 ms for pvscsi, 1 s for
# virtio-scsi), while the root disk is nearly always the first one: `disks` scans by hand. Not
# `scan=none`, which keeps AHCI and SAS from adding what they find by themselves.
PARAMETERS: Mapping[str, str] = {"scsi_mod": "scan=manual"}


class Loader(Protocol):
    """Whoever loads kernel modules here."""

    def load(self, name: str) -> None:
        """Load a module and what it needs; one that is built into the kernel is there already."""


class ModuleLoader:
    """Loads modules by name, dependencies first, each at most once."""

    def __init__(self, order: Mapping[str, Tuple[str, List[str]]]) -> None:
        self._order = order
        self._loaded: Set[str] = set()

    def load(self, name: str) -> None:
        """Load a module and what it depends on; StartError("module") when the kernel refuses.

        A name that the boot image has no file for is taken to be built into the kernel: if it is
        not, the device that needed it stays away and its user says so in better words.
        """
        if name in self._loaded or name not in self._order:
            return
        self._loaded.add(name)  # before its dependencies, so that a circular list ends
        path, depends = self._order[name]
        for dependency in depends:
            self.load(dependency)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                syscalls.load_module(descriptor, PARAMETERS.get(name, ""))
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise StartError(
                    "module", "kernel module {} ({}): {}".format(name, path, error.strerror)
                ) from error

    def load_all(self, names: Iterable[str]) -> None:
        """Load several modules, as `load`."""
        for name in names:
            self.load(name)


def read_order(path: str = ORDER_FILE) -> ModuleLoader:
    """Read the boot image's list of modules; StartError("module") when it is not one."""
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read().decode("utf-8"))
        order = {
            str(name): (str(entry["file"]), [str(depends) for depends in entry["depends"]])
            for name, entry in document.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StartError("module", "{} is not usable: {!r}".format(path, error)) from error
    return ModuleLoader(order)


def read_pci_ids(folder: str = PCI_DEVICES) -> List[PciId]:
    """Return vendor and device of everything on the PCI bus, in bus order."""
    ids = []
    for address in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        values = []
        for name in ("vendor", "device"):
            with open(os.path.join(folder, address, name), encoding="utf-8") as file:
                values.append(int(file.read(), 16))
        ids.append((values[0], values[1]))
    return ids


def drivers_for(
    ids: Iterable[PciId], drivers: Mapping[PciId, Tuple[str, ...]] = DRIVERS
) -> List[str]:
    """Return the modules for these devices, each once, in an order that can be loaded."""
    names: Dict[str, None] = {}
    for pci_id in ids:
        for name in drivers.get(pci_id, ()):
            names[name] = None
    return list(names)
