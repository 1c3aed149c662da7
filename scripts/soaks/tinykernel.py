"""Build the tiny kernel for real, and boot every kernel from every disk that it has a driver for.

The build is kept with the tests' other slow products, so that scripts/test has a tiny kernel from
then on. From the second time of `--count` on, the kernel is also built anew in another folder,
and must be the same to the byte: ten minutes of a processor each.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.tether.host_config import HostConfig
from converter import events
from converter.machine.model import RunConfig
from tests.guests import disk, hardware
from tests.guests.host import BOOT_SECONDS, booted, served
from tests.images.cache import cache_folder
from tests.images.prepared import boot_image
from tinykernel.kernel.tiny import TinyKernel
from tinykernel.packages import open_package_set
from tinykernel.record import BootImage

COUNT = 1
# The cloud kernel has no AHCI and no LSI Logic.
FLAVOURS = {
    "stock": ("pvscsi", "virtio-blk", "virtio-scsi", "nvme"),
    "generic": tuple(hardware.DISKS),
    "tiny": tuple(hardware.DISKS),
}


def run(count: int, _seed: int) -> list[str]:
    """Return what went wrong in `count` rounds."""
    failures: list[str] = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        work = Path(name)
        link = disk.build(work)
        for number in range(count):
            failures += _boots(work, link, number)
            if number:
                failures += _again(work / f"again-{number}")
    return failures


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


def _again(folder: Path) -> Iterator[str]:
    folder.mkdir()
    with open_package_set(cache_folder() / "packages", monitor=events.ignore) as packages:
        again = TinyKernel(folder).make(packages, scratch_dir=folder, monitor=events.ignore)
    if again.image != boot_image("tiny").kernel.read_bytes():
        yield "another build of the tiny kernel has other bytes"
