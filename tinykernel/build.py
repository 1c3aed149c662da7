"""Build the boot image. Owns the order of the steps, the image's identity and its final name.

Works as any user: nothing is mounted or installed. The id is a hash of everything that can change a
byte: the packages, the agent's sources, the kernel's own inputs, this builder, its compiler and
compressor.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import agent
from agent.wire import PROTOCOL_VERSION
from converter import __version__
from converter.atomic import TEMP_PREFIX, place_directory, temp_directory, write_atomic
from converter.errors import IntegrityError, NotFoundError, UnavailableError
from converter.events import Monitor, Note, StepFinished, StepStarted
from tinykernel import initramfs
from tinykernel.agent_sources import agent_sources
from tinykernel.contents import OURS, describe, encode_contents
from tinykernel.cpio import in_order
from tinykernel.kernel import Kernel, KernelSource
from tinykernel.kernel.stock import STOCK
from tinykernel.packages import ARCHITECTURE, PackageSet, open_package_set
from tinykernel.packing import codecs, pack
from tinykernel.record import (
    CONTENTS_FILE,
    INITRD_FILE,
    KERNEL_FILE,
    RECORD_FILE,
    SBOM_FILE,
    BootImage,
    PackageRecord,
    encode_record,
    load_boot_image,
)
from tinykernel.sbom.spdx import Materials, encode_sbom
from tinykernel.userland import Userland, UserlandPackages, gather_userland

_SMALL = frozenset({"tiny"})


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Everything but the packages that can change a byte of the image."""

    agent: dict[str, bytes]
    kernel: object  # of KernelSource.identity
    compiled_by: str | None
    debug: bool

    def identity(self, packages: Iterable[PackageRecord]) -> str:
        """Return the id of the image that these inputs and `packages` make."""
        builder = Path(__file__).parent
        # Its own sources instead of a version number: nobody can forget to raise them.
        patterns = ("*.py", "kernel/*.py", "sbom/*.py", "*.config")
        sources = sorted(path for pattern in patterns for path in builder.glob(pattern))
        document = {
            "version": __version__,  # which the bill of materials tells
            "packages": sorted([package.name, package.sha256] for package in packages),
            "agent": {path: _sha256(data) for path, data in sorted(self.agent.items())},
            "kernel": self.kernel,
            "builder": {str(p.relative_to(builder)): _sha256(p.read_bytes()) for p in sources},
            "compiled_by": self.compiled_by,
            "debug": self.debug,
            "codecs": codecs(),
        }
        return _sha256(json.dumps(document, sort_keys=True).encode())


def build_boot_image(
    target_root: Path,
    *,
    cache_dir: Path,
    monitor: Monitor,
    refresh: bool = False,
    agent_folder: Path | None = None,
    kernel: KernelSource = STOCK,
    debug: bool = False,
) -> BootImage:
    """Make `target_root/<id>/` with the kernel, the initramfs and boot.json, or find it made.

    Packages come from the host's own Debian sources and are kept in `cache_dir`: a second build
    needs no network, `refresh` fetches what is newest. `agent_folder` is the `agent` package to
    put in, this installation's own when None. A `debug` image has a shell (agent.tether.debug).
    Raises UnavailableError when a package cannot be fetched, NotFoundError when a program is
    missing, IntegrityError when a package or the kernel is not what we expect.
    """
    agent_folder = agent_folder or Path(agent.__path__[0])
    target_root.mkdir(parents=True, exist_ok=True)
    cache_dir.mkdir(parents=True, exist_ok=True)

    def build(packages: PackageSet) -> BootImage:
        sources = UserlandPackages.fetch(packages, debug=debug)
        compiled_by = sources.compiled_by()
        inputs = _Inputs(agent_sources(agent_folder), kernel.identity(), compiled_by, debug)
        monitor(StepStarted(_STEP))
        image = _find_current(target_root, packages, inputs, kernel.flavour)
        if image is not None:
            monitor(StepFinished(_STEP, "cached"))
            return image
        userland = gather_userland(
            packages,
            sources,
            inputs.agent,
            compiled=inputs.compiled_by is not None,
            scratch_dir=cache_dir,
        )
        made = kernel.make(packages, scratch_dir=cache_dir, monitor=monitor)
        return _assemble(
            target_root,
            packages,
            made,
            userland,
            inputs=inputs,
            python=sources.version,
            monitor=monitor,
        )

    with open_package_set(cache_dir, monitor=monitor, refresh=refresh) as packages:
        try:
            return build(packages)
        except UnavailableError:
            if not packages.was_kept:
                raise
    # The archive has moved on and no longer has what the kept lists name.
    monitor(Note("a package of the kept set is gone; fetching all anew"))
    with open_package_set(cache_dir, monitor=monitor, refresh=True) as packages:
        return build(packages)


_STEP = "build boot image"


def _assemble(
    target_root: Path,
    packages: PackageSet,
    kernel: Kernel,
    userland: Userland,
    *,
    inputs: _Inputs,
    python: str,
    monitor: Monitor,
) -> BootImage:
    """Put the parts together and give them their final name."""
    modules = list(initramfs.kernel_modules(kernel.modules))
    # As they are in the archive, with the folders that nobody named.
    entries = in_order([*userland.entries, *modules])
    origins = {entry.path: OURS for entry in entries if entry.is_regular} | userland.origins
    if kernel.package:
        of_kernel = (entry.path for entry in modules if entry.path.endswith(".ko"))
        origins.update(dict.fromkeys(of_kernel, kernel.package))
    parts = {package.name: package for package in (*kernel.packages, *userland.packages)}
    used = tuple(package for _name, package in sorted(parts.items()))
    records = tuple(
        PackageRecord(package.name, package.version, package.sha256) for package in used
    )
    identity = inputs.identity(records)
    folder = target_root / identity
    initrd = pack(entries, small=kernel.flavour in _SMALL)
    contents = encode_contents([describe(entry, origins.get(entry.path)) for entry in entries])
    sbom = encode_sbom(
        Materials(
            identity=identity,
            files={KERNEL_FILE: kernel.image, INITRD_FILE: initrd},
            kernel_file=KERNEL_FILE,
            initramfs_file=INITRD_FILE,
            entries=entries,
            origins=origins,
            packages=[packages.facts(package) for package in used],
            kernel_package=kernel.package,
            kernel_flavour=kernel.flavour,
            debug=inputs.debug,
            compiled_by=inputs.compiled_by,
            kernel_config=kernel.config,
            kernel_tools=kernel.built_by,
        )
    )
    image = BootImage(
        folder=folder,
        id=identity,
        arch=ARCHITECTURE,
        kernel_flavour=kernel.flavour,
        kernel_package=kernel.package,
        kernel_version=kernel.version,
        kernel_sha256=_sha256(kernel.image),
        initrd_sha256=_sha256(initrd),
        packages=records,
        python=python,
        compiled_by=inputs.compiled_by,
        protocol=PROTOCOL_VERSION,
        modules=tuple(module.name for module in kernel.modules),
        contents_sha256=_sha256(contents),
        sbom_sha256=_sha256(sbom),
        debug=inputs.debug,
    )
    files = {
        KERNEL_FILE: kernel.image,
        INITRD_FILE: initrd,
        CONTENTS_FILE: contents,
        SBOM_FILE: sbom,
        RECORD_FILE: encode_record(image),
    }
    _place(folder, files)
    size = sum(len(data) for data in files.values())
    monitor(StepFinished(_STEP, f"kernel {image.kernel_version}, {size / 1e6:.1f} MB"))
    return load_boot_image(folder)


def _find_current(
    target_root: Path, packages: PackageSet, inputs: _Inputs, flavour: str
) -> BootImage | None:
    """Return the image that a build would make now, without reading a package."""
    for folder in sorted(target_root.iterdir()):
        if folder.name.startswith(TEMP_PREFIX):
            continue
        with suppress(NotFoundError, IntegrityError):
            image = load_boot_image(folder)
            alike = image.kernel_flavour == flavour and image.debug == inputs.debug
            present = alike and all(
                packages.holds(package.name, package.sha256) for package in image.packages
            )
            if present and inputs.identity(image.packages) == image.id == folder.name:
                return image
    return None


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
            return
        place_directory(temp, folder)  # what is there is damaged
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
