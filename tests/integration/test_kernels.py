"""Boot images with each kernel: they start, find every disk, and can do what docs/kernels.md says.

The tiny kernel takes ten minutes of a processor to build, which is not for every run of the tests:
what is here of it runs where `scripts/soak tinykernel` has built it once. Its configuration is
resolved everywhere.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.tether.host_config import HostConfig
from converter import events
from converter.errors import IntegrityError
from converter.machine.model import RunConfig
from tests.guests import disk, hardware
from tests.guests.host import BOOT_SECONDS, booted, served
from tests.images.cache import ROOT, cache_folder, cached, fingerprint
from tests.images.prepared import boot_image, tiny_is_built
from tinykernel.kernel import tiny
from tinykernel.kernel.fragment import check_resolved, read_fragment
from tinykernel.kernel.toolchain import missing_packages
from tinykernel.packages import fetch_behind, open_package_set
from tinykernel.record import BootImage

pytestmark = pytest.mark.integration

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "kernels.md"
TINY_LIMIT_BYTES = 9_000_000
SMALLEST_MIB = 96
TINY_USES_MIB = 40
_MEMORY = "cat /proc/meminfo"


@pytest.fixture(scope="module")
def link(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    for program in ("mke2fs", "qemu-img", "busybox", "gcc"):
        tool(program)
    return disk.build(tmp_path_factory.mktemp("disk"), programs={"probe": hardware.make_probe})


def said(
    work: Path, link: Path, boot: BootImage, *args: str, kind: str = "pvscsi", memory_mib: int = 256
) -> str:
    """Run a privileged process in a machine and return what it wrote."""
    run = RunConfig(args=args, host_config=HostConfig(privileged=True))
    change = functools.partial(hardware.with_disk, kind=kind)
    with (
        booted(work, link, run, boot=boot, change=change, memory_mib=memory_mib) as machine,
        served(machine) as host,
    ):
        main = host.processes[0]
        try:
            host.wait(lambda: main.code is not None, BOOT_SECONDS)
        except TimeoutError:
            pytest.fail(machine.console())
        assert main.code == 0, (main.messages, machine.console())
        return main.stdout.decode()


def documented(flavour: str) -> dict[str, bool]:
    """Return item -> whether the page says that this kernel can do it."""
    table = DOCUMENT.read_text("utf-8").partition("<!-- probe -->")[2].strip().splitlines()
    names = [cell.strip() for cell in table[0].strip("|").split("|")]
    column = names.index(flavour)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    return {row[0]: row[column] == "yes" for row in rows if len(row) == len(names)}


@pytest.mark.vm
@pytest.mark.parametrize("flavour", ["stock", "tiny"])
def test_it_can_do_what_the_page_says(flavour: str, link: Path, tmp_path: Path) -> None:
    if flavour == "tiny" and not tiny_is_built():
        pytest.skip("no tiny kernel is built; scripts/soak tinykernel builds one")

    image = boot_image(flavour)
    found = hardware.read_probe(said(tmp_path, link, image, "/bin/probe"))

    for item in found:
        # A module is loaded where there is such a device, and this machine has few.
        kind, _, name = item.partition(" ")
        if kind == "driver" and {name, f"qemu_{name}"} & {*image.modules}:
            found[item] = True
    assert found == documented(flavour)


@pytest.mark.vm
@pytest.mark.parametrize(
    ("flavour", "kind"),
    [
        *(("stock", kind) for kind in ("virtio-blk", "virtio-scsi", "nvme")),
        *(("generic", kind) for kind in ("ahci", "nvme")),
    ],
)
def test_the_distributions_kernels_find_the_disk(
    flavour: str, kind: str, link: Path, tmp_path: Path
) -> None:
    assert said(tmp_path, link, boot_image(flavour), "echo", "up", kind=kind) == "up\n"


@pytest.mark.vm
@pytest.mark.parametrize("kind", list(hardware.DISKS))
def test_the_tiny_kernel_finds_the_disk(
    kind: str, tiny_image: BootImage, link: Path, tmp_path: Path
) -> None:
    assert said(tmp_path, link, tiny_image, "echo", "up", kind=kind) == "up\n"


@pytest.mark.vm
def test_the_tiny_kernel_runs_in_little_memory(
    tiny_image: BootImage, link: Path, tmp_path: Path
) -> None:
    text = said(tmp_path, link, tiny_image, "sh", "-c", _MEMORY, memory_mib=SMALLEST_MIB)
    found = re.search(r"MemAvailable: +(\d+) kB", text)
    assert found is not None
    assert SMALLEST_MIB - int(found[1]) / 1024 <= TINY_USES_MIB


def test_the_tiny_image_is_small(tiny_image: BootImage) -> None:
    size = tiny_image.kernel.stat().st_size + tiny_image.initrd.stat().st_size
    assert size <= TINY_LIMIT_BYTES
    assert tiny_image.modules == ()
    assert tiny_image.kernel_package.startswith("linux-source-")


def test_the_source_has_everything_that_is_wanted(lacking: Callable[[str], None]) -> None:
    """Resolve the configuration as a build does, which is the part of it that a change breaks.

    That unpacks the kernel's source, and is done again only for another source or other code.
    """
    missing = missing_packages()
    if missing:
        lacking(f"packages are missing: {', '.join(missing)}")
    with open_package_set(cache_folder() / "packages", monitor=events.ignore) as packages:
        source = fetch_behind(packages, tiny.SOURCE_METAPACKAGE, r"linux-source-\d\S*")

        def resolve(folder: Path) -> None:
            scratch = folder / "scratch"
            scratch.mkdir(parents=True)
            with tiny.unpacked_source(
                packages, source, scratch_dir=scratch, monitor=events.ignore
            ) as tree:
                tiny.configure(tree)
                (tree / ".config").rename(folder / "config")
            scratch.rmdir()  # it is empty again

        key = fingerprint([ROOT / "tinykernel", tiny.FRAGMENT], repr(source))
        resolved = (cached(cache_folder(), "resolved", key, resolve) / "config").read_text("utf-8")
    assert "CONFIG_MODULES=y" not in resolved
    # And the check bites: what depends on modules cannot be had without them.
    with pytest.raises(IntegrityError, match="CONFIG_BPF_JIT=y"):
        check_resolved(read_fragment("CONFIG_BPF_JIT=y"), resolved)
