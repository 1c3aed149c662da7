"""Is this VMware's machine, and how its hypervisor is reached.

Owns the signs, and the kernel command line's `tether.hypervisor=`, with which another context may
play the hypervisor. Everything that only VMware's machines need is imported behind this.
"""

from __future__ import annotations

from agent.hints import Iterable, Optional
from agent.tether.c_linux import PCI_VMWARE_VMCI
from agent.tether.modules import PciId

VENDOR_FILE = "/sys/class/dmi/id/sys_vendor"
VENDOR = "VMware, Inc."
HYPERVISOR_CID = 0
_WORD = "tether.hypervisor="


def find_hypervisor(
    ids: Iterable[PciId], command_line: str = "", vendor_file: str = VENDOR_FILE
) -> Optional[int]:
    """Return the context id under which the hypervisor is reached, None when it is not VMware's.

    A machine of VMware's may lack the VMCI device: then nobody answers there, and the backdoor may.
    """
    named = [word[len(_WORD) :] for word in command_line.split() if word.startswith(_WORD)]
    if named and named[-1].isdigit():
        return int(named[-1])
    if PCI_VMWARE_VMCI in ids:
        return HYPERVISOR_CID
    try:
        with open(vendor_file, encoding="ascii", errors="replace") as file:
            return HYPERVISOR_CID if file.read().strip() == VENDOR else None
    except OSError:
        return None
