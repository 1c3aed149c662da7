"""A kernel that the user has. Owns reading it and its modules, and saying what it lacks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from converter.errors import NotFoundError, UsageError
from converter.events import Monitor, Note
from tinykernel import modules
from tinykernel.kernel import Kernel
from tinykernel.kernel.bzimage import kernel_version, unpacked_kernel
from tinykernel.kernel.needs import check_needs, embedded_config
from tinykernel.packages import PackageSet

FLAVOUR = "given"
_BUILTIN = "modules.builtin"
_WANTED = (*modules.DRIVERS, *modules.HARDWARE_DRIVERS)


@dataclass(frozen=True)
class GivenKernel:
    """The kernel file `path`; `folder` is its /lib/modules/VERSION, None: all is built in."""

    path: Path
    folder: Path | None = None

    @property
    def flavour(self) -> str:
        """The name that boot.json gives it."""
        return FLAVOUR

    def identity(self) -> object:
        """Return the digests of the kernel and of every module that would be taken."""
        chosen, _missing = self._chosen
        return {
            "kernel": hashlib.sha256(self._image).hexdigest(),
            "modules": {m.name: hashlib.sha256(m.data).hexdigest() for m in chosen},
        }

    def make(self, packages: PackageSet, *, scratch_dir: Path, monitor: Monitor) -> Kernel:
        """Read the kernel; what it lacks is an error, or a warning when other hardware will do.

        Only a kernel that holds its own configuration can be asked.
        """
        del packages, scratch_dir
        name = str(self.path)
        version = kernel_version(self._image, name)
        unpacked = unpacked_kernel(self._image, name)
        config = None if unpacked is None else embedded_config(unpacked)
        if config is None:
            monitor(Note(f"{name} does not hold its configuration: nothing was checked"))
        else:
            check_needs(config, name)
        chosen, missing = self._chosen
        if missing:
            monitor(
                Note(
                    f"{self.folder} has no driver {', '.join(missing)}: machines with such "
                    "hardware will not find it",
                    warning=True,
                )
            )
        return Kernel(FLAVOUR, "", version, self._image, tuple(chosen), ())

    @cached_property
    def _image(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise NotFoundError(
                f"the kernel {self.path} cannot be read: {error.strerror}",
                expected="stock, generic, tiny, or the file of a kernel",
            ) from error

    @cached_property
    def _chosen(self) -> tuple[list[modules.KernelModule], list[str]]:
        """Return the modules to take, and the drivers that are neither there nor built in."""
        if self.folder is None:
            return [], []
        try:
            builtin = (self.folder / _BUILTIN).read_text("ascii").splitlines()
        except OSError as error:
            raise UsageError(
                f"{self.folder} has no {_BUILTIN}: {error.strerror}",
                expected="the folder /lib/modules/VERSION that belongs to the kernel",
            ) from error
        root = self.folder
        paths = sorted(f"/{path.relative_to(root)}" for path in (root / "kernel").rglob("*.ko*"))
        names = {modules.module_name(path) for path in (*paths, *builtin)}
        return (
            modules.choose_modules(
                [name for name in _WANTED if name in names],
                paths=paths,
                builtin=builtin,
                read=lambda path: (root / path[1:]).read_bytes(),
                # It may accept signed modules only; what it would cost to look is not known.
                signed=True,
            ),
            [name for name in _WANTED if name not in names],
        )
