"""Build the tiny kernel for real, and boot every kernel from every disk that it has a driver for.

The build is kept with the tests' other slow products, so that scripts/test has a tiny kernel from
then on. Then, each time, the boot image and its media are built anew in another environment, kernel
and all: other paths, home, user, language, time zone, permissions, hash seed and number of
compilers. Every file must be the same to the byte. Ten minutes of a processor for each build.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.tether.host_config import HostConfig
from converter import events
from converter.machine.model import RunConfig
from tests.guests import disk, hardware
from tests.guests.host import BOOT_SECONDS, booted, served
from tests.images.cache import ROOT, cache_folder
from tests.images.prepared import boot_image
from tinykernel.media.build import build_media
from tinykernel.media.record import Kind
from tinykernel.packages import open_package_set
from tinykernel.record import BootImage, load_boot_image

COUNT = 1
# The cloud kernel has no AHCI and no LSI Logic.
FLAVOURS = {
    "stock": ("pvscsi", "virtio-blk", "virtio-scsi", "nvme"),
    "generic": tuple(hardware.DISKS),
    "tiny": tuple(hardware.DISKS),
}
_BUILD_SECONDS = 7200
_JOBS = 3

# Everything with which a host may differ from another one and that a program can see.
_ELSEWHERE = {
    "LC_ALL": "tr_TR.UTF-8",
    "LANG": "de_DE.UTF-8",
    "LANGUAGE": "de",
    "TZ": "Pacific/Chatham",
    "USER": "somebody",
    "LOGNAME": "somebody",
    "SOURCE_DATE_EPOCH": "1",
    "KBUILD_BUILD_HOST": "elsewhere",
    "CFLAGS": "-O0 -g",
    "KCFLAGS": "-DELSEWHERE",
    "MAKEFLAGS": "-k",
    "PYTHONHASHSEED": "4711",
    "ZSTD_CLEVEL": "1",
    "MTOOLS_SKIP_CHECK": "1",
    "COLUMNS": "40",
}
_BUILD = """\
import os, sys
from pathlib import Path
from converter import events
from tinykernel.build import build_boot_image
from tinykernel.kernel.choice import choose_kernel
from tinykernel.kernel.tiny import TinyKernel
from tinykernel.media.build import build_media
from tinykernel.media.record import Kind
from tinykernel.packages import open_package_set

flavour, jobs, target, cache = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
os.umask(0o077)
kernel = TinyKernel(jobs=jobs) if flavour == "tiny" else choose_kernel(flavour)
image = build_boot_image(target, cache_dir=cache, monitor=events.ignore, kernel=kernel)
with open_package_set(cache, monitor=events.ignore) as packages:
    build_media(image, list(Kind), packages, monitor=events.ignore)
print(image.folder)
"""


def run(count: int, _seed: int) -> list[str]:
    """Return what went wrong in `count` rounds."""
    failures: list[str] = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        work = Path(name)
        link = disk.build(work)
        for number in range(count):
            failures += _boots(work, link, number)
            failures += _again(work / f"again-{number}")
    return failures


def built_elsewhere(work: Path, flavour: str, packages: Path) -> Path:
    """Build a boot image and all its media in another environment; return the image's folder.

    `packages` is the cache that has them. Raises CalledProcessError.
    """
    cache, home, scratch = work / "deep/in/cache", work / "home", work / "scratch"
    for folder in (cache, home, scratch):
        folder.mkdir(parents=True)
    # The packages alone: what was built of them before must not be found.
    shutil.copytree(packages / "packages", cache / "packages", copy_function=os.link)
    command = [sys.executable, "-c", _BUILD, flavour, str(_JOBS)]
    command += map(os.fspath, (work / "images", cache))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.fspath(ROOT), **_ELSEWHERE}
    done = subprocess.run(
        command,
        cwd=scratch,
        env={**environment, "HOME": os.fspath(home), "TMPDIR": os.fspath(scratch)},
        stdout=subprocess.PIPE,
        timeout=_BUILD_SECONDS,
        check=True,
        text=True,
    )
    return Path(done.stdout.strip())


def differences(one: Path, other: Path) -> Iterator[str]:
    """Yield how two folders of boot images differ."""
    names = {
        path.relative_to(folder)
        for folder in (one, other)
        for path in folder.rglob("*")
        if path.is_file()
    }
    if one.name != other.name:
        yield f"one image is called {one.name}, the other {other.name}"
    for name in sorted(names):
        if not (one / name).exists() or not (other / name).exists():
            yield f"{name} is in one of two builds"
        elif (one / name).read_bytes() != (other / name).read_bytes():
            yield f"{name} has other bytes in another build"


def _again(work: Path) -> Iterator[str]:
    packages = cache_folder() / "packages"
    prepared = boot_image("tiny")
    folder = work / "here" / prepared.id
    shutil.copytree(prepared.folder, folder)
    with open_package_set(packages, monitor=events.ignore) as package_set:
        image = load_boot_image(folder)
        build_media(image, list(Kind), package_set, monitor=events.ignore)
    try:
        other = built_elsewhere(work / "there", "tiny", packages)
    except subprocess.CalledProcessError as error:
        yield f"it cannot be built elsewhere: {error}"
        return
    yield from differences(folder, other)


def _boots(work: Path, link: Path, number: int) -> Iterator[str]:
    for flavour, kinds in FLAVOURS.items():
        image = boot_image(flavour)
        for kind in kinds:
            folder = work / f"{flavour}-{kind}-{number}"
            folder.mkdir()
            try:
                _boot(folder, link, image, kind)
            except (AssertionError, OSError) as error:
                yield f"{flavour} from {kind}: {error}"


def _boot(folder: Path, link: Path, image: BootImage, kind: str) -> None:
    run = RunConfig(args=("echo", "up"), host_config=HostConfig(privileged=True))
    change = functools.partial(hardware.with_disk, kind=kind)
    with (
        booted(folder, link, run, boot=image, change=change) as machine,
        served(machine) as host,
    ):
        main = host.processes[0]
        host.wait(lambda: main.code is not None, BOOT_SECONDS)
        assert main.stdout == b"up\n", (main.messages, machine.console())
