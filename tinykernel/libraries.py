"""Find the shared libraries that programs need. Owns the search through a package's dependencies.

What is needed is read from DT_NEEDED, where it is from the packages' own dependency fields: no list
of libraries is kept by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from converter.errors import IntegrityError, UnavailableError
from tinykernel import elf
from tinykernel.deb import DebArchive, merged_path, open_deb
from tinykernel.packages import Package, PackageSet

# Where the target's loader looks without an ld.so.cache; the initramfs has none.
_LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib")


@dataclass(frozen=True, slots=True)
class Binary:
    """A program or library that is in the initramfs: `package` brought it."""

    name: str
    data: bytes
    package: Package


class LibrarySearch:
    """Find sonames in the dependencies of the packages that need them; packages stay open."""

    def __init__(self, packages: PackageSet, *, scratch_dir: Path) -> None:
        self._packages = packages
        self._scratch_dir = scratch_dir
        self._open: dict[str, tuple[Package, DebArchive]] = {}
        self._stack = ExitStack()
        self.used: dict[str, Package] = {}
        self.origins: dict[str, str] = {}  # by path, the name of the package that has the file

    def __enter__(self) -> LibrarySearch:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def closure(self, binaries: Iterable[Binary]) -> dict[str, bytes]:
        """Return path -> content of the loader and every library that `binaries` need.

        Raises IntegrityError when a library is in none of the dependencies, UnavailableError when
        one of those that may have it cannot be fetched.
        """
        files: dict[str, bytes] = {}
        have: set[str] = set()
        queue = list(binaries)
        while queue:
            binary = queue.pop(0)
            needs = elf.dynamic_needs(binary.data, name=binary.name)
            if needs.interpreter is not None and needs.interpreter not in have:
                have.add(needs.interpreter)
                # Put at the path that programs name, whatever links the package has there.
                _, loader = self._find(PurePosixPath(needs.interpreter).name, binary.package)
                path = merged_path(needs.interpreter)
                files[path] = loader.data
                self.origins[path] = loader.package.name
                have.add(PurePosixPath(needs.interpreter).name)
            for soname in needs.libraries:
                if soname not in have:
                    have.add(soname)
                    path, found = self._find(soname, binary.package)
                    files[path] = found.data
                    self.origins[path] = found.package.name
                    queue.append(found)
        return files

    def _find(self, soname: str, needed_by: Package) -> tuple[str, Binary]:
        unavailable: UnavailableError | None = None
        for name in self._candidates(soname, needed_by):
            try:
                package, archive = self._opened(name)
            except UnavailableError as error:
                unavailable = error  # perhaps only a virtual name, or one of other releases
                continue
            for folder in _LIBRARY_FOLDERS:
                path = f"{folder}/{soname}"
                if path in archive:
                    self.used[package.name] = package
                    return path, Binary(soname, archive.read(path), package)
        if unavailable is not None:
            raise unavailable
        raise IntegrityError(f"no dependency of {needed_by.name} has the library {soname}")

    def _candidates(self, soname: str, needed_by: Package) -> list[str]:
        """Return the packages to look in: open ones, then dependencies, the likely name first."""
        stem = _plain(soname)
        direct = [name for clause in self._packages.requires(needed_by) for name in clause]
        # libffi.so.8 is in libffi8, libc.so.6 in libc6: mostly. Sorting is stable, so the rest
        # keep the package's own order, and a wrong guess costs one small download.
        direct.sort(key=lambda name: _plain(name) != stem)
        return [needed_by.name, *self._open, *direct]

    def _opened(self, name: str) -> tuple[Package, DebArchive]:
        if name not in self._open:
            package = self._packages.fetch(name)
            archive = self._stack.enter_context(
                open_deb(self._packages.path(package), scratch_dir=self._scratch_dir)
            )
            self._open[name] = (package, archive)
        return self._open[name]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.replace(".so.", "").lower())
