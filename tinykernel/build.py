"""Build the boot image. Owns the order of the steps, the image's identity and its final name.

Works as any user: nothing is mounted, installed or extracted. The id is a hash of everything that
can change a byte: the packages, the agent's sources, this builder, its compiler and compressor.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import zstandard

import agent
from agent.wire import PROTOCOL_VERSION
from converter.atomic import TEMP_PREFIX, sync_directory, temp_directory, write_atomic
from converter.errors import IntegrityError, NotFoundError, UnavailableError
from converter.events import Monitor, Note, StepFinished, StepStarted
from tinykernel import closure, initramfs, modules
from tinykernel.bytecode import can_compile_for, compiler_version
from tinykernel.cpio import ArchiveEntry, regular, write_newc
from tinykernel.deb import DebArchive, open_deb
from tinykernel.libraries import Binary, LibrarySearch
from tinykernel.packages import ARCHITECTURE, Package, PackageSet, open_package_set
from tinykernel.record import (
    INITRD_FILE,
    KERNEL_FILE,
    RECORD_FILE,
    BootImage,
    PackageRecord,
    encode_record,
    load_boot_image,
)

KERNEL_METAPACKAGE = "linux-image-cloud-amd64"
PYTHON_METAPACKAGE = "python3-minimal"
BUSYBOX_PACKAGE = "busybox"  # not the static one: the C library is there, for Python

# Measured: level 3 gives 5.5 MB in 0.1 s, 12 gives 5.0 MB in 0.8 s, 19 gives 4.4 MB in 7 s; the
# guest unpacks all of them in the same time.
_ZSTD_LEVEL = 12


@dataclass(frozen=True, slots=True)
class _Sources:
    """The packages that every build starts from."""

    kernel: Package
    python: str  # "3.11"
    interpreter: Package
    standard_library: tuple[Package, ...]
    busybox: Package


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Everything but the packages that can change a byte of the image."""

    agent: dict[str, bytes]  # path relative to AGENT_ROOT -> source
    compiled_by: str | None

    @classmethod
    def of(cls, python: str, agent_folder: Path) -> _Inputs:
        """Read the agent's sources; only what the guest may hold."""
        files = [agent_folder / "__init__.py", agent_folder / "values.py"]
        for part in ("wire", "tether"):
            files += sorted((agent_folder / part).rglob("*.py"))
        sources = {f"agent/{path.relative_to(agent_folder)}": path.read_bytes() for path in files}
        return cls(sources, compiler_version() if can_compile_for(python) else None)

    def identity(self, packages: Iterable[PackageRecord]) -> str:
        """Return the id of the image that these inputs and `packages` make."""
        builder = Path(__file__).parent
        document = {
            "packages": sorted([package.name, package.sha256] for package in packages),
            "agent": {path: _sha256(data) for path, data in sorted(self.agent.items())},
            # Its own sources instead of a version number: nobody can forget to raise them.
            "builder": {p.name: _sha256(p.read_bytes()) for p in sorted(builder.glob("*.py"))},
            "compiled_by": self.compiled_by,
            "zstd": [list(zstandard.ZSTD_VERSION), _ZSTD_LEVEL],
        }
        return _sha256(json.dumps(document, sort_keys=True).encode())


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the packages gave: the kernel, and everything that goes into the initramfs."""

    kernel: bytes
    kernel_version: str
    entries: list[ArchiveEntry]
    modules: tuple[str, ...]
    packages: tuple[Package, ...]


def build_boot_image(
    target_root: Path,
    *,
    cache_dir: Path,
    monitor: Monitor,
    refresh: bool = False,
    agent_folder: Path | None = None,
) -> BootImage:
    """Make `target_root/<id>/` with the kernel, the initramfs and boot.json, or find it made.

    Packages come from the host's own Debian sources and are kept in `cache_dir`: a second build
    needs no network, `refresh` fetches what is newest. `agent_folder` is the `agent` package to
    put in, this installation's own when None. Raises UnavailableError when a package cannot be
    fetched, NotFoundError when apt or dpkg-deb is missing, IntegrityError when a package is not
    what we expect.
    """
    agent_folder = agent_folder or Path(agent.__path__[0])
    target_root.mkdir(parents=True, exist_ok=True)
    cache_dir.mkdir(parents=True, exist_ok=True)
    with open_package_set(cache_dir, monitor=monitor, refresh=refresh) as packages:
        try:
            return _build(target_root, packages, agent_folder, cache_dir, monitor)
        except UnavailableError:
            if not packages.was_kept:
                raise
    # The archive has moved on and no longer has what the kept lists name.
    monitor(Note("a package of the kept set is gone; fetching all anew"))
    with open_package_set(cache_dir, monitor=monitor, refresh=True) as packages:
        return _build(target_root, packages, agent_folder, cache_dir, monitor)


def _build(
    target_root: Path,
    packages: PackageSet,
    agent_folder: Path,
    scratch_dir: Path,
    monitor: Monitor,
) -> BootImage:
    step = "build boot image"
    sources = _fetch_sources(packages)
    inputs = _Inputs.of(sources.python, agent_folder)
    monitor(StepStarted(step))
    current = _find_current(target_root, packages, inputs)
    if current is not None:
        monitor(StepFinished(step, "cached"))
        return current
    parts = _gather(packages, sources, inputs, scratch_dir=scratch_dir)
    used = tuple(PackageRecord(p.name, p.version, p.sha256) for p in parts.packages)
    identity = inputs.identity(used)
    folder = target_root / identity
    initrd = _compressed(parts.entries)
    image = BootImage(
        folder=folder,
        id=identity,
        arch=ARCHITECTURE,
        kernel_package=sources.kernel.name,
        kernel_version=parts.kernel_version,
        kernel_sha256=_sha256(parts.kernel),
        initrd_sha256=_sha256(initrd),
        packages=used,
        python=sources.python,
        compiled_by=inputs.compiled_by,
        protocol=PROTOCOL_VERSION,
        modules=parts.modules,
    )
    files = {KERNEL_FILE: parts.kernel, INITRD_FILE: initrd, RECORD_FILE: encode_record(image)}
    _place(folder, files)
    size = sum(len(data) for data in files.values())
    monitor(StepFinished(step, f"kernel {image.kernel_version}, {size / 1e6:.1f} MB"))
    return load_boot_image(folder)


def _fetch_sources(packages: PackageSet) -> _Sources:
    """Fetch the kernel and the release's own Python, whatever their versions are called."""
    kernel = _required(packages, KERNEL_METAPACKAGE, r"linux-image-\d\S*")
    interpreter = _required(packages, PYTHON_METAPACKAGE, r"python3\.\d+-minimal")
    python = interpreter.name.removeprefix("python").removesuffix("-minimal")
    standard_library = tuple(
        packages.fetch(f"libpython{python}-{part}") for part in ("minimal", "stdlib")
    )
    busybox = packages.fetch(BUSYBOX_PACKAGE)
    return _Sources(kernel, python, interpreter, standard_library, busybox)


def _required(packages: PackageSet, metapackage: str, pattern: str) -> Package:
    """Fetch the package matching `pattern` that `metapackage` depends on."""
    for clause in packages.requires(packages.fetch(metapackage)):
        for name in clause:
            if re.fullmatch(pattern, name):
                return packages.fetch(name)
    raise IntegrityError(
        f"package {metapackage} depends on nothing like {pattern}", expected="Debian 12 or 13"
    )


def _find_current(target_root: Path, packages: PackageSet, inputs: _Inputs) -> BootImage | None:
    """Return the image that a build would make now, without reading a package."""
    for folder in sorted(target_root.iterdir()):
        if folder.name.startswith(TEMP_PREFIX):
            continue
        with suppress(NotFoundError, IntegrityError):
            image = load_boot_image(folder)
            present = all(
                packages.holds(package.name, package.sha256) for package in image.packages
            )
            if present and inputs.identity(image.packages) == image.id == folder.name:
                return image
    return None


def _gather(
    packages: PackageSet, sources: _Sources, inputs: _Inputs, *, scratch_dir: Path
) -> _Parts:
    """Read everything that goes into the image out of the packages."""
    programs = (sources.kernel, sources.interpreter, sources.busybox)
    used = {package.name: package for package in programs}
    entries = list(initramfs.skeleton(sources.python))
    with ExitStack() as stack:

        def opened(package: Package) -> DebArchive:
            path = packages.path(package)
            return stack.enter_context(open_deb(path, scratch_dir=scratch_dir))

        kernel = opened(sources.kernel)
        kernel_path = _only(kernel, r"boot/vmlinuz-(.+)")
        kernel_version = kernel_path.removeprefix("boot/vmlinuz-")
        _check_config(kernel.read(f"boot/config-{kernel_version}"))
        builtin = kernel.read(_only(kernel, r"usr/lib/modules/[^/]+/modules\.builtin"))
        drivers = modules.choose_modules(
            modules.DRIVERS, paths=kernel, builtin=builtin.decode().split("\n"), read=kernel.read
        )
        entries += initramfs.kernel_modules(drivers)

        interpreter_path = f"usr/bin/python{sources.python}"
        interpreter = opened(sources.interpreter).read(interpreter_path)
        entries.append(regular(interpreter_path, interpreter, 0o755))
        binaries = [Binary(interpreter_path, interpreter, sources.interpreter)]
        busybox = opened(sources.busybox).read("usr/bin/busybox")

        origin: dict[str, tuple[Package, DebArchive]] = {}
        root = f"usr/lib/python{sources.python}"
        for package in sources.standard_library:
            archive = opened(package)
            for path in archive:
                if path.startswith(f"{root}/"):
                    origin[path.removeprefix(f"{root}/")] = (package, archive)

        def standard_module(file: closure.ModuleFile) -> bytes:
            return origin[file.path][1].read(f"{root}/{file.path}")

        standard, ours = _python_closure(inputs, sources.python, origin, standard_module)
        for file, data in standard:
            package = origin[file.path][0]
            used[package.name] = package
            if not file.is_source:
                binaries.append(Binary(file.path, data, package))
        compiled = inputs.compiled_by is not None
        entries += initramfs.python_modules(root, standard, compiled=compiled)
        entries += initramfs.python_modules(initramfs.AGENT_ROOT, ours, compiled=compiled)

        search = stack.enter_context(LibrarySearch(packages, scratch_dir=scratch_dir))
        libraries = search.closure(binaries)
        of_busybox = search.closure([Binary("busybox", busybox, sources.busybox)])
        entries += initramfs.dhcp_client(busybox, of_busybox)
        for path, data in {**libraries, **of_busybox}.items():
            entries.append(regular(path, data, 0o755))
        used.update(search.used)
        return _Parts(
            kernel=kernel.read(kernel_path),
            kernel_version=kernel_version,
            entries=entries,
            modules=tuple(driver.name for driver in drivers),
            packages=tuple(used[name] for name in sorted(used)),
        )


_Modules = list[tuple[closure.ModuleFile, bytes]]


def _python_closure(
    inputs: _Inputs,
    python: str,
    standard_paths: Iterable[str],
    read_standard: Callable[[closure.ModuleFile], bytes],
) -> tuple[_Modules, _Modules]:
    """Return the standard library's modules and our own that tether needs, with their bytes."""
    suffix = f".cpython-{python.replace('.', '')}-x86_64-linux-gnu.so"
    ours = closure.Library(
        closure.index_modules(inputs.agent, extension_suffix=suffix),
        lambda file: inputs.agent[file.path],
        late_imports=True,
    )
    standard = closure.Library(
        closure.index_modules(standard_paths, extension_suffix=suffix),
        read_standard,
        late_imports=False,
    )
    roots = (*closure.STARTUP, initramfs.ENTRY_MODULE)
    of_standard, of_ours = closure.import_closure(roots, [standard, ours])
    return (
        [(file, standard.read(file)) for file in of_standard],
        [(file, ours.read(file)) for file in of_ours],
    )


def _only(archive: DebArchive, pattern: str) -> str:
    found = [path for path in archive if re.fullmatch(pattern, path)]
    if len(found) != 1:
        raise IntegrityError(
            f"the kernel package has {len(found)} files like /{pattern}", expected="one"
        )
    return found[0]


def _check_config(config: bytes) -> None:
    """Raise IntegrityError unless the kernel can unpack and run our initramfs."""
    for option in (b"CONFIG_RD_ZSTD=y", b"CONFIG_DEVTMPFS=y", b"CONFIG_SERIAL_8250_CONSOLE=y"):
        if option not in config.split(b"\n"):
            raise IntegrityError(
                f"the kernel was built without {option.decode()}", expected="Debian's cloud kernel"
            )


def _compressed(entries: Iterable[ArchiveEntry]) -> bytes:
    # One thread and a fixed level: the frame depends on nothing but content and library version.
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, threads=0, write_checksum=False)
    return compressor.compress(b"".join(write_newc(entries)))


def _place(folder: Path, files: dict[str, bytes]) -> None:
    """Give the complete set of `files` the name `folder`, whole or not at all.

    Another process that has just made the same image has made the same bytes: they stay.
    """
    temp = temp_directory(folder)
    try:
        for name, data in files.items():
            write_atomic(temp / name, data)
        with suppress(NotFoundError, IntegrityError):
            load_boot_image(folder)
            shutil.rmtree(temp)
            return
        if folder.exists():
            shutil.rmtree(folder)  # damaged
        temp.rename(folder)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
    sync_directory(folder.parent)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
