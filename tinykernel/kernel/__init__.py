"""The kernels that a boot image can have, behind one interface. Each module here is one way to one.

stock, generic   the distribution's kernel packages and the modules that are needed
tiny             built here from the distribution's kernel source and kernel.config, no modules
PATH             a kernel that the user has, with or without a folder of modules
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from converter.events import Monitor
from tinykernel.modules import KernelModule
from tinykernel.packages import Package, PackageSet


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that is ready to be put into a boot image.

    `package` is the name of the package that it comes from, "" when it comes from none; `packages`
    are all that bytes of it come from. `modules` are by name, all that tether may load. Of a kernel
    that was built here, `config` is the configuration that is ours, `built_by` what built it.
    """

    flavour: str
    package: str
    version: str
    image: bytes
    modules: tuple[KernelModule, ...]
    packages: tuple[Package, ...]
    config: bytes = b""
    built_by: tuple[str, ...] = ()


class KernelSource(Protocol):
    """One way to get a kernel."""

    @property
    def flavour(self) -> str:
        """The name that boot.json gives it."""

    def identity(self) -> object:
        """Return a JSON value of all that can change a byte beside packages and our own sources."""

    def make(self, packages: PackageSet, *, scratch_dir: Path, monitor: Monitor) -> Kernel:
        """Fetch, build or read the kernel.

        Raises UnavailableError when a package cannot be fetched, NotFoundError when something is
        missing on this host, IntegrityError when a kernel is not what a boot image needs.
        """
