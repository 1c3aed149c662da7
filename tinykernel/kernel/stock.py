"""The distribution's own kernels. Owns which package is which flavour and what is taken out of it.

The cloud flavour is small and quick but knows paravirtual disks alone; the generic one has drivers
for the rest of VMware's hardware.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from converter.errors import IntegrityError
from converter.events import Monitor
from tinykernel import modules
from tinykernel.deb import DebArchive, open_deb
from tinykernel.kernel import Kernel
from tinykernel.kernel.needs import check_needs
from tinykernel.packages import PackageSet, fetch_behind
from tinykernel.record import STOCK_FLAVOUR


@dataclass(frozen=True, slots=True)
class PackagedKernel:
    """A kernel package of the distribution: the one that `metapackage` depends on.

    `signed` modules keep their signatures, as a kernel under Secure Boot wants them.
    """

    flavour: str
    metapackage: str
    drivers: tuple[str, ...]
    signed: bool = False

    def identity(self) -> object:
        """Return the flavour and how modules are taken: all else comes out of the package."""
        return [self.flavour, self.signed]

    def make(self, packages: PackageSet, *, scratch_dir: Path, monitor: Monitor) -> Kernel:
        """Read the kernel and its modules out of the package; `monitor` hears of fetching alone."""
        del monitor  # the package set has its own
        package = fetch_behind(packages, self.metapackage, r"linux-image-\d\S*")
        with open_deb(packages.path(package), scratch_dir=scratch_dir) as archive:
            path = _only(archive, r"boot/vmlinuz-(.+)")
            version = path.removeprefix("boot/vmlinuz-")
            check_needs(archive.read(f"boot/config-{version}"), f"package {package.name}")
            builtin = archive.read(_only(archive, r"usr/lib/modules/[^/]+/modules\.builtin"))
            chosen = modules.choose_modules(
                self.drivers,
                paths=archive,
                builtin=builtin.decode().split("\n"),
                read=archive.read,
                signed=self.signed,
            )
            image = archive.read(path)
        return Kernel(self.flavour, package.name, version, image, tuple(chosen), (package,))


STOCK = PackagedKernel(STOCK_FLAVOUR, "linux-image-cloud-amd64", modules.DRIVERS)
GENERIC = PackagedKernel(
    "generic", "linux-image-amd64", (*modules.DRIVERS, *modules.HARDWARE_DRIVERS)
)


def _only(archive: DebArchive, pattern: str) -> str:
    found = [path for path in archive if re.fullmatch(pattern, path)]
    if len(found) != 1:
        raise IntegrityError(
            f"the kernel package has {len(found)} files like /{pattern}", expected="one"
        )
    return found[0]
