"""The tiny kernel: the distribution's kernel source, built here with kernel.config and no modules.

Owns the build and its cache. It takes some minutes once: the result is kept under a hash of all
that can change a byte of it. No root; nothing is left under a final name when it is interrupted.
The kernel is the same wherever it is built by the same compiler: no path, time, user or host is in
it (Linux, Documentation/kbuild/reproducible-builds.rst).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from converter.atomic import TEMP_PREFIX, atomic_directory, write_atomic
from converter.errors import IntegrityError, SaltflatError
from converter.events import Monitor, StepAdvanced, StepFinished, StepStarted
from tinykernel.deb import open_deb
from tinykernel.kernel import Kernel
from tinykernel.kernel.bzimage import kernel_version
from tinykernel.kernel.fragment import check_resolved, read_fragment
from tinykernel.kernel.needs import check_needs
from tinykernel.kernel.toolchain import require_toolchain, versions
from tinykernel.packages import Package, PackageSet, fetch_behind

FLAVOUR = "tiny"
FRAGMENT = Path(__file__).parents[1] / "kernel.config"
SOURCE_METAPACKAGE = "linux-source"
CACHE_FOLDER = "kernels"

_KERNEL_FILE = "vmlinuz"
_CONFIG_FILE = "config"
_LOCK_FILE = "lock"
_SUMS_FILE = "sums.json"  # name -> sha256, written last

_MAKE_ARGUMENTS = ("ARCH=x86_64", "KCFLAGS=", "KAFLAGS=", "LOCALVERSION=")
# The code is small (kernel.config says why), but not where it runs all the time, with each call,
# fault and packet, and where an initramfs is unpacked. The files of these folders, none below.
QUICK_FOLDERS = (
    *("arch/x86/entry", "arch/x86/mm", "fs", "fs/ext4", "kernel", "kernel/locking", "kernel/sched"),
    *("lib", "lib/zstd", "mm", "net/core"),
)
_QUICK = "\nccflags-y += -O2\n"  # behind what all files are compiled with, so it counts
_IMAGE = "arch/x86/boot/bzImage"
_FIXED = {
    "LC_ALL": "C",
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER": "saltflat",
    "KBUILD_BUILD_HOST": "saltflat",
    "KBUILD_BUILD_VERSION": "1",
}
# What make says of each file that it compiles: "  CC      init/main.o".
_COMPILES = re.compile(r"\s+(?:CC|AS)\s+(\S+)\.o\s*")
# How much source the build goes through, for the bar alone: measured with 6.1.192.
_SOURCE_BYTES = 49_000_000
_UNPACK_TIMEOUT_SECONDS = 1800
_CONFIGURE_TIMEOUT_SECONDS = 600
_LAST_LINES = 15


@dataclass(frozen=True, slots=True)
class TinyKernel:
    """The kernel that is built here. `cache_dir` keeps finished ones; None: beside the packages."""

    cache_dir: Path | None = None
    jobs: int = 0  # how many compilers at once; 0: as many as there are processors

    @property
    def flavour(self) -> str:
        """The name that boot.json gives it."""
        return FLAVOUR

    def identity(self) -> object:
        """Return the versions of the programs that write the kernel's bytes."""
        require_toolchain()
        return {"flavour": FLAVOUR, "built_by": versions()}

    def make(self, packages: PackageSet, *, scratch_dir: Path, monitor: Monitor) -> Kernel:
        """Build the kernel, or find it built."""
        require_toolchain()
        source = fetch_behind(packages, SOURCE_METAPACKAGE, r"linux-source-\d\S*")
        cache = (self.cache_dir or scratch_dir) / CACHE_FOLDER
        cache.mkdir(parents=True, exist_ok=True)
        folder = cache / build_key(source.sha256)
        with (cache / _LOCK_FILE).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            image = _kept(folder)
            if image is None:
                _remove_leftovers(cache)
                with unpacked_source(packages, source, scratch_dir=cache, monitor=monitor) as tree:
                    configure(tree)
                    _compile(tree, self.jobs or os.cpu_count() or 1, monitor)
                    image = (tree / _IMAGE).read_bytes()
                    config = (tree / ".config").read_bytes()
                _keep(folder, {_KERNEL_FILE: image, _CONFIG_FILE: config})
        version = kernel_version(image, "that was built")
        return Kernel(
            FLAVOUR,
            source.name,
            version,
            image,
            modules=(),
            packages=(source,),
            config=FRAGMENT.read_bytes(),
            built_by=tuple(versions()),
        )


def build_key(source_sha256: str) -> str:
    """Return the name under which the kernel of this source package is kept."""
    wanted = read_fragment(FRAGMENT.read_text("utf-8"))
    document = [source_sha256, versions(), list(wanted.values()), _MAKE_ARGUMENTS, _FIXED]
    document += [QUICK_FOLDERS, _QUICK]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:32]


@contextmanager
def unpacked_source(
    packages: PackageSet, source: Package, *, scratch_dir: Path, monitor: Monitor
) -> Iterator[Path]:
    """Unpack the kernel's source below `scratch_dir` (1.5 GB) for as long as the block runs."""
    step = f"unpack {source.name}"
    monitor(StepStarted(step))
    with tempfile.TemporaryDirectory(
        prefix=f"{TEMP_PREFIX}{os.getpid()}-", dir=scratch_dir
    ) as name:
        folder = Path(name)
        tarball = folder / "source.tar.xz"
        with open_deb(packages.path(source), scratch_dir=scratch_dir) as archive:
            found = [path for path in archive if re.fullmatch(r"usr/src/[^/]+\.tar\.xz", path)]
            if len(found) != 1:
                raise IntegrityError(
                    f"package {source.name} has {len(found)} source archives", expected="one"
                )
            with tarball.open("wb") as file:
                archive.copy(found[0], file)
        tree = folder / "linux"
        tree.mkdir()
        command = ["tar", "-xJf", str(tarball), "-C", str(tree), "--strip-components=1"]
        _run([*command, "--no-same-owner"], tree, _UNPACK_TIMEOUT_SECONDS)
        tarball.unlink()
        monitor(StepFinished(step))
        yield tree


def configure(tree: Path) -> None:
    """Prepare the source tree, once: `.config` is tinyconfig with our fragment on top.

    Raises IntegrityError when the source knows no such option any more or will not have it so.
    """
    wanted = read_fragment(FRAGMENT.read_text("utf-8"))
    make = ["make", "-s", *_MAKE_ARGUMENTS]
    for makefile in (tree / folder / "Makefile" for folder in QUICK_FOLDERS):
        if not makefile.exists():
            raise IntegrityError(
                f"{makefile.relative_to(tree)} is not in the kernel's source",
                expected="the folders that this saltflat knows: a newer one may know this kernel",
            )
        with makefile.open("a", encoding="utf-8") as file:
            file.write(_QUICK)
    _run([*make, "tinyconfig"], tree, _CONFIGURE_TIMEOUT_SECONDS)
    with (tree / ".config").open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in wanted.values())
    _run([*make, "olddefconfig"], tree, _CONFIGURE_TIMEOUT_SECONDS)
    resolved = (tree / ".config").read_bytes()
    check_resolved(wanted, resolved.decode("utf-8"))
    check_needs(resolved, "kernel.config")


def _compile(tree: Path, jobs: int, monitor: Monitor) -> None:
    """Build the kernel image, telling how far it is by the source that was compiled."""
    step = "build the tiny kernel"
    monitor(StepStarted(step, _SOURCE_BYTES))
    command = ["make", f"-j{jobs}", *_MAKE_ARGUMENTS, "bzImage"]
    done = 0
    last: deque[str] = deque(maxlen=_LAST_LINES)
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that all its compilers can be ended at once
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            last.append(line.rstrip())
            match = _COMPILES.fullmatch(line.rstrip("\n"))
            if match is not None:
                done = min(done + _source_size(tree / match[1]), _SOURCE_BYTES)
                monitor(StepAdvanced(step, done))
        process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()
    if process.returncode != 0:
        raise _failed(command, process.returncode, "\n".join(last))
    monitor(StepFinished(step))


def _source_size(stem: Path) -> int:
    for suffix in (".c", ".S"):
        with suppress(OSError):
            return stem.with_name(stem.name + suffix).stat().st_size
    return 0


def _environment() -> dict[str, str]:
    """Return what make may know of us: nothing of the user's that changes a build."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, **_FIXED}


def _run(command: list[str], folder: Path, timeout_seconds: int) -> None:
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_seconds,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise SaltflatError(f"{command[0]} did not finish in {timeout_seconds} s") from error
    if result.returncode != 0:
        raise _failed(command, result.returncode, result.stdout)


def _failed(command: list[str], code: int, output: str) -> SaltflatError:
    last = "\n    ".join(output.splitlines()[-_LAST_LINES:])
    return SaltflatError(
        f"{' '.join(command)} ended with {code}",
        hint=f"It said last:\n    {last}\nThe distribution's kernel needs no build: --kernel stock",
    )


def _kept(folder: Path) -> bytes | None:
    """Return the kernel in `folder` if it is there and whole."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        sums = json.loads((folder / _SUMS_FILE).read_bytes())
        image = (folder / _KERNEL_FILE).read_bytes()
        if hashlib.sha256(image).hexdigest() == sums[_KERNEL_FILE]:
            return image
    return None


def _keep(folder: Path, files: dict[str, bytes]) -> None:
    """Give the finished kernel its name, whole or not at all."""
    # What is there is damaged, or else it would have been found.
    with atomic_directory(folder) as temp:
        for name, data in files.items():
            write_atomic(temp / name, data)
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        write_atomic(temp / _SUMS_FILE, json.dumps(sums, indent=1, sort_keys=True).encode())


def _remove_leftovers(folder: Path) -> None:
    """Remove the trees of builds that were killed: each has 2 GB. Whoever builds has the lock."""
    for leftover in folder.glob(f"{TEMP_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
