"""What runs in the guest beside the kernel: Python, its libraries, our agent, a DHCP client.

Owns which packages they come from and which of their files are taken. It places nothing itself:
`initramfs` says where things are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tinykernel import c_elf, closure, elf, initramfs
from tinykernel.bytecode import can_compile_for, compiler_version
from tinykernel.cpio import ArchiveEntry, regular
from tinykernel.deb import DebArchive, open_deb
from tinykernel.libraries import Binary, LibrarySearch
from tinykernel.packages import Package, PackageSet, fetch_behind

PYTHON_METAPACKAGE = "python3-minimal"
BUSYBOX_PACKAGE = "busybox"  # not the static one: the C library is there, for Python
DEBUG_PACKAGE = "busybox-static"  # works on when tether has deleted the initramfs's libraries


@dataclass(frozen=True, slots=True)
class UserlandPackages:
    """The release's own Python, whatever its version is called, and busybox.

    `debug_shell` is there for a debug image alone.
    """

    version: str  # of Python: "3.11"
    interpreter: Package
    standard_library: tuple[Package, ...]
    busybox: Package
    debug_shell: Package | None

    @classmethod
    def fetch(cls, packages: PackageSet, *, debug: bool) -> UserlandPackages:
        """Fetch what every build starts from."""
        interpreter = fetch_behind(packages, PYTHON_METAPACKAGE, r"python3\.\d+-minimal")
        version = interpreter.name.removeprefix("python").removesuffix("-minimal")
        standard_library = tuple(
            packages.fetch(f"libpython{version}-{part}") for part in ("minimal", "stdlib")
        )
        return cls(
            version,
            interpreter,
            standard_library,
            busybox=packages.fetch(BUSYBOX_PACKAGE),
            debug_shell=packages.fetch(DEBUG_PACKAGE) if debug else None,
        )

    def compiled_by(self) -> str | None:
        """Return which CPython makes the bytecode; None: no one here can, sources go in."""
        return compiler_version() if can_compile_for(self.version) else None


@dataclass(frozen=True, slots=True)
class Userland:
    """Entries for the initramfs, and the packages that bytes of them came from.

    `origins` has by path the name of that package.
    """

    entries: tuple[ArchiveEntry, ...]
    origins: dict[str, str]
    packages: tuple[Package, ...]


def gather_userland(
    packages: PackageSet,
    sources: UserlandPackages,
    agent: dict[str, bytes],
    *,
    compiled: bool,
    scratch_dir: Path,
) -> Userland:
    """Read out of the packages what the agent's sources `agent` need; bytecode if `compiled`.

    Raises UnavailableError when a library's package cannot be fetched, IntegrityError when a
    package is not what we expect.
    """
    used = {package.name: package for package in (sources.interpreter, sources.busybox)}
    entry = initramfs.entry_module(debug=sources.debug_shell is not None)
    entries = list(initramfs.skeleton(sources.version, debug=sources.debug_shell is not None))
    with ExitStack() as stack:

        def opened(package: Package) -> DebArchive:
            path = packages.path(package)
            return stack.enter_context(open_deb(path, scratch_dir=scratch_dir))

        interpreter_path = f"usr/bin/python{sources.version}"
        interpreter = opened(sources.interpreter).read(interpreter_path)
        entries.append(regular(interpreter_path, interpreter, 0o755))
        origins = {interpreter_path: sources.interpreter.name}
        binaries = [Binary(interpreter_path, interpreter, sources.interpreter)]
        busybox = opened(sources.busybox).read("usr/bin/busybox")

        origin: dict[str, tuple[Package, DebArchive]] = {}
        root = f"usr/lib/python{sources.version}"
        for package in sources.standard_library:
            archive = opened(package)
            for path in archive:
                if path.startswith(f"{root}/"):
                    origin[path.removeprefix(f"{root}/")] = (package, archive)

        def standard_module(file: closure.ModuleFile) -> bytes:
            return origin[file.path][1].read(f"{root}/{file.path}")

        standard, ours = _python_closure(agent, entry, sources.version, origin, standard_module)
        for file, data in standard:
            package = origin[file.path][0]
            used[package.name] = package
            suffix = "c" if compiled and file.is_source else ""
            origins[f"{root}/{file.path}{suffix}"] = package.name
            if not file.is_source:
                binaries.append(Binary(file.path, data, package))
        entries += initramfs.python_modules(root, standard, compiled=compiled)
        entries += initramfs.python_modules(initramfs.AGENT_ROOT, ours, compiled=compiled)

        if sources.debug_shell is not None:
            shell = opened(sources.debug_shell).read("usr/bin/busybox")
            entries.append(regular(initramfs.DEBUG_SHELL, shell, 0o755))
            origins[initramfs.DEBUG_SHELL] = sources.debug_shell.name
            used[sources.debug_shell.name] = sources.debug_shell

        search = stack.enter_context(LibrarySearch(packages, scratch_dir=scratch_dir))
        libraries = search.closure(binaries)
        of_busybox = search.closure([Binary("busybox", busybox, sources.busybox)])
        entries += initramfs.dhcp_client(busybox, of_busybox)
        origins[f"{initramfs.DHCP_ROOT}/{initramfs.DHCP_PROGRAM}"] = sources.busybox.name
        for path, data in {**libraries, **of_busybox}.items():
            entries.append(regular(path, data, 0o755))
        used.update(search.used)
        origins.update(search.origins)
    return Userland(tuple(_without_unwind_tables(entries)), origins, tuple(used.values()))


def _without_unwind_tables(entries: Sequence[ArchiveEntry]) -> Iterator[ArchiveEntry]:
    """Yield the entries, their unwind tables blank unless there is a library that would read them.

    Without libgcc_s nothing can be thrown, and 0.7 MB need not be unpacked at each start.
    """
    unwinds = any(entry.path.rpartition("/")[2].startswith("libgcc_s.so") for entry in entries)
    for entry in entries:
        if unwinds or not entry.data.startswith(c_elf.ELFMAG):
            yield entry
        else:
            data = elf.without_unwind_tables(entry.data, name=entry.path)
            yield replace(entry, data=data)


_Modules = list[tuple[closure.ModuleFile, bytes]]


def _python_closure(
    agent: dict[str, bytes],
    entry: str,
    python: str,
    standard_paths: Iterable[str],
    read_standard: Callable[[closure.ModuleFile], bytes],
) -> tuple[_Modules, _Modules]:
    """Return the standard library's modules and our own that `entry` needs, with their bytes."""
    suffix = f".cpython-{python.replace('.', '')}-x86_64-linux-gnu.so"
    ours = closure.Library(
        closure.index_modules(agent, extension_suffix=suffix),
        lambda file: agent[file.path],
        late_imports=True,
    )
    standard = closure.Library(
        closure.index_modules(standard_paths, extension_suffix=suffix),
        read_standard,
        late_imports=False,
    )
    roots = (*closure.STARTUP, entry)
    of_standard, of_ours = closure.import_closure(roots, [standard, ours])
    return (
        [(file, standard.read(file)) for file in of_standard],
        [(file, ours.read(file)) for file in of_ours],
    )
