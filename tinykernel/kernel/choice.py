"""From the name that a user gives to a kernel to the way that gets it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from converter.errors import UsageError
from tinykernel.kernel import KernelSource
from tinykernel.kernel.given import GivenKernel
from tinykernel.kernel.stock import GENERIC, STOCK
from tinykernel.kernel.tiny import TinyKernel

NAMES = ("stock", "generic", "tiny")


def choose_kernel(
    name: str, modules: Path | None = None, *, signed_modules: bool = False
) -> KernelSource:
    """Return the kernel `name`: one of NAMES, else a path, which only then may have `modules`.

    `signed_modules` keeps the signatures of the distribution's; those of a path's kernel always
    stay. Raises UsageError.
    """
    if "/" not in name and name not in NAMES:
        raise UsageError(
            f"there is no kernel {name!r}",
            expected=f"{', '.join(NAMES)}, or a path with a slash, such as ./vmlinuz",
        )
    if "/" in name:
        return GivenKernel(Path(name), modules)
    if modules is not None:
        raise UsageError(
            f"the kernel {name} takes no --modules", expected="--modules with a kernel's path"
        )
    if name == "tiny":
        return TinyKernel()
    return replace({"stock": STOCK, "generic": GENERIC}[name], signed=signed_modules)
