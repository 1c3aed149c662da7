"""Print the SHA-256 of disks as dissect.hypervisor reads them: `dissected.py FILE...`.

A process of its own, for that library closes no file. Each FILE is the top of a chain, whose
parents the library finds by itself.
"""

from __future__ import annotations

import hashlib
import sys

from dissect.hypervisor.disk.vmdk import VMDK


def main() -> None:
    """Read each disk in full."""
    for path in sys.argv[1:]:
        with open(path, "rb") as file:
            sys.stdout.write(hashlib.sha256(VMDK(file).read()).hexdigest() + "\n")


if __name__ == "__main__":
    main()
