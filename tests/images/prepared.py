"""What tests share and is slow to make: images, a boot image, a Debian 13. Each is cached.

`python -m tests.images.prepared` makes them all before a test's timeout can count them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from converter.errors import NotFoundError
from converter.events import Event, StepFinished
from tests.images import corner, counts, demo
from tests.images.cache import ROOT, cache_folder, cached, fingerprint
from tests.images.gotools import go_program, go_tools
from tests.images.workload import SLICE, work_images, work_layers
from tinykernel.build import build_boot_image
from tinykernel.kernel import tiny
from tinykernel.kernel.choice import choose_kernel
from tinykernel.kernel.tiny import TinyKernel
from tinykernel.media.record import Kind
from tinykernel.record import BootImage, load_boot_image

SALTFLAT = (sys.executable, "-c", "from converter.cli import main; main()")
_TRIXIE_PACKAGES = (
    "python3,python3-click,python3-lz4,python3-requests,python3-rich,python3-zstandard"
)


def corner_layout() -> Path:
    """Return the OCI layout of the corner image, tags `latest` and `prefix-1` ... `prefix-5`."""
    return cached(cache_folder(), "corner", corner.key(), corner.build)


def demo_layout() -> Path:
    """Return the OCI layout of the demo image, tags `1`, `latest`, `prefix-1` ... `prefix-4`."""
    return cached(cache_folder(), "demo", demo.key(), demo.build)


def counts_layout() -> Path:
    """Return the OCI layout of the counts image: as many of everything as there may be."""
    return cached(cache_folder(), "counts", counts.key(), counts.build)


def work_slice() -> Path:
    """Make the layers of a slice of the batch workload; return the folder where each is kept."""
    work_layers(work_images(SLICE))
    return cache_folder()


def boot_store() -> Path:
    """Return a store that holds the boot image of this checkout and nothing else."""
    key = fingerprint([ROOT / "agent", ROOT / "tinykernel"], sys.version)
    return cached(cache_folder(), "boot", key, _boot_build)


def boot_media_store() -> Path:
    """Return a store with the boot image of this checkout and every kind of medium of it."""

    def build(store: Path) -> None:
        shutil.copytree(boot_store(), store)
        _boot_build(store, *(f"--media={kind.value}" for kind in Kind))

    sources = [ROOT / "agent", ROOT / "tinykernel", ROOT / "converter/vmdk"]
    return cached(cache_folder(), "media", fingerprint(sources, sys.version), build)


def boot_debug_store() -> Path:
    """Return a store with the boot image of this checkout, its default, and a debug image."""

    def build(store: Path) -> None:
        shutil.copytree(boot_store(), store)
        _boot_build(store, "--debug")

    key = fingerprint([ROOT / "agent", ROOT / "tinykernel"], sys.version)
    return cached(cache_folder(), "debug", key, build)


def _boot_build(store: Path, *options: str) -> None:
    subprocess.run(
        [*SALTFLAT, "boot", "build", "--store", store, *options],
        check=True,
        stdout=sys.stderr,
        timeout=900,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def usual_boot_image() -> BootImage:
    """Return the boot image in `boot_store`."""
    (record,) = (boot_store() / "boot").glob("*/boot.json")
    return load_boot_image(record.parent)


def boot_image(flavour: str) -> BootImage:
    """Return this checkout's boot image with the kernel `flavour`; the tiny one takes minutes once.

    Packages and kernels are kept beside, for the next state of the checkout.
    """

    def build(folder: Path) -> None:
        source = TinyKernel(_tiny_kernels()) if flavour == "tiny" else choose_kernel(flavour)
        packages = cache_folder() / "packages"
        build_boot_image(folder, cache_dir=packages, monitor=_tell, kernel=source)

    key = fingerprint([ROOT / "agent", ROOT / "tinykernel", tiny.FRAGMENT], sys.version)
    folder = cached(cache_folder(), f"boot-{flavour}", key, build)
    (record,) = folder.glob("*/boot.json")
    return load_boot_image(record.parent)


def tiny_is_built() -> bool:
    """Say whether `boot_image("tiny")` is quick: the kernel is there, of this kernel.config."""
    try:
        return any((_tiny_kernels() / tiny.CACHE_FOLDER).glob("*/vmlinuz"))
    except NotFoundError:
        return False


def _tiny_kernels() -> Path:
    """Return where the tiny kernel of this kernel.config and these compilers is kept."""
    return cache_folder() / f"tiny-{tiny.build_key('')[:16]}"


def _tell(event: Event) -> None:
    if isinstance(event, StepFinished):
        sys.stderr.write(f"{event.step}: {event.summary}\n")


def trixie_root() -> Path:
    """Return a Debian 13 root folder with Python and the project's dependencies, but no isal."""

    def build(root: Path) -> None:
        command = ["mmdebstrap", "--quiet", "--variant=essential", "--format=directory"]
        command += [f"--include={_TRIXIE_PACKAGES}", "trixie", os.fspath(root)]
        subprocess.run(command, check=True, timeout=900)

    return cached(cache_folder(), "trixie", fingerprint([], _TRIXIE_PACKAGES), build)


def systemd_root() -> Path:
    """Return a Debian 12 root folder that boots with systemd, and has Python."""

    def build(root: Path) -> None:
        command = ["mmdebstrap", "--quiet", "--variant=essential", "--format=directory"]
        command += ["--include=systemd-sysv,python3", "bookworm", os.fspath(root)]
        subprocess.run(command, check=True, timeout=900)

    return cached(cache_folder(), "systemd", fingerprint([]), build)


def oldest_python_root() -> Path:
    """Return a folder with the unpacked Python of Debian 11 (3.9), the oldest on Debian's mirrors.

    Nothing in it is configured; `oldest_python` runs it, without root.
    """

    def build(root: Path) -> None:
        command = ["mmdebstrap", "--quiet", "--variant=extract", "--format=directory"]
        command += ["--include=python3", "bullseye", os.fspath(root)]
        subprocess.run(command, check=True, timeout=900)

    return cached(cache_folder(), "python-bullseye", fingerprint([]), build)


def oldest_python() -> tuple[list[str], dict[str, str]]:
    """Return the command of that Python, with its own libraries, and its environment."""
    root = oldest_python_root()
    (program,) = root.glob("usr/bin/python3.[0-9]")
    loader = next(iter(root.glob("**/x86_64-linux-gnu/ld-*.so*")))
    libraries = f"{root}/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu"
    command = [os.fspath(loader), "--library-path", libraries, os.fspath(program)]
    return command, {**os.environ, "PYTHONHOME": f"{root}/usr"}


def e2fsprogs_root(release: str) -> Path:
    """Return a folder with the unpacked e2fsprogs of a Debian release, libraries and manual pages.

    Nothing in it is configured; its programs run by `foreign_program`, without root.
    """

    def build(root: Path) -> None:
        command = ["mmdebstrap", "--quiet", "--variant=extract", "--format=directory"]
        command += ["--include=e2fsprogs", release, os.fspath(root)]
        subprocess.run(command, check=True, timeout=900)

    return cached(cache_folder(), f"e2fsprogs-{release}", fingerprint([]), build)


def e2fsprogs_oldest() -> Path:
    """Return Debian 11's e2fsprogs (1.46.2), the oldest that must find our disks clean."""
    return e2fsprogs_root("bullseye")


def e2fsprogs_newest() -> Path:
    """Return Debian 13's e2fsprogs (1.47.2)."""
    return e2fsprogs_root("trixie")


def open_vm_tools_root() -> Path:
    """Return a folder with the unpacked open-vm-tools of Debian 12 and all that they load.

    Nothing in it is configured; `vmtoolsd` runs there, without root.
    """

    def build(root: Path) -> None:
        command = ["mmdebstrap", "--quiet", "--variant=extract", "--format=directory"]
        command += ["--include=open-vm-tools", "bookworm", os.fspath(root)]
        subprocess.run(command, check=True, timeout=900)

    return cached(cache_folder(), "open-vm-tools", fingerprint([]), build)


def foreign_program(root: Path, name: str) -> list[str]:
    """Return the command that runs a program of the Debian in `root` with its own libraries."""
    (program,) = root.glob(f"**/sbin/{name}")
    loader = next(iter(root.glob("**/x86_64-linux-gnu/ld-linux-x86-64.so.2")))
    (usr,) = root.glob("usr/lib/x86_64-linux-gnu")
    libraries = f"{root}/lib/x86_64-linux-gnu:{usr}"
    return [os.fspath(loader), "--library-path", libraries, os.fspath(program)]


def main() -> int:
    """Make everything that this user can make; return 1 if something failed."""
    makers = [corner_layout, counts_layout, boot_store, boot_debug_store]
    if all(shutil.which(name) for name in ("xorriso", "mkfs.fat", "mcopy", "sfdisk")):
        makers += [boot_media_store]
    if go_program() is not None:
        makers += [go_tools]
    if shutil.which("mmdebstrap"):
        makers += [demo_layout, work_slice]
        makers += [e2fsprogs_oldest, e2fsprogs_newest, oldest_python_root, open_vm_tools_root]
        makers += [trixie_root, systemd_root] if os.geteuid() == 0 else []
    failed = 0
    for make in makers:
        started = time.monotonic()
        try:
            outcome = os.fspath(make())
        except (OSError, subprocess.SubprocessError) as error:
            outcome, failed = f"failed: {error}", 1
        seconds = time.monotonic() - started
        sys.stderr.write(f"{make.__name__}: {outcome} [{seconds:.1f} s]\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
