"""The boot image, really built from the distribution's packages and really booted.

Packages are kept in $SALTFLAT_TEST_CACHE when that is set, so that they are fetched once.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
import zstandard

from converter import errors, events
from converter.events import StepFinished
from converter.machine.kvm import probe_boot
from converter.machine.process import qemu_version
from converter.machine.qemu_command import Accelerator
from tests.integration.conftest import Saltflat
from tinykernel import build, packages
from tinykernel.closure import OPTIONAL
from tinykernel.record import BootImage, load_boot_image

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
BOOT_LIMIT_SECONDS = 90
# What a build is allowed to grow to before somebody has to say why.
KERNEL_LIMIT_BYTES = 16 << 20
INITRD_LIMIT_BYTES = 13 << 19


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, boot_store: Path) -> Path:
    """A copy of the packages that the boot image is made of; `test_unprivileged` fetches them."""
    folder = tmp_path_factory.mktemp("cache") / "packages"
    shutil.copytree(boot_store / "cache/packages", folder)
    return folder


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the agent, so that nobody changes it between two builds."""
    folder = tmp_path_factory.mktemp("sources") / "agent"
    shutil.copytree(ROOT / "agent", folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, agent: Path, cache: Path) -> BootImage:
    return built(tmp_path_factory.mktemp("images"), agent, cache)


def built(
    target: Path, agent: Path, cache: Path, monitor: events.Monitor = events.ignore
) -> BootImage:
    return build.build_boot_image(target, cache_dir=cache, monitor=monitor, agent_folder=agent)


def initramfs(image: BootImage) -> dict[str, bytes]:
    """Return path -> content of the files in the initramfs, unpacked by busybox."""
    folder = image.folder.parent / f"unpacked-{image.id[:8]}"
    if not folder.exists():
        folder.mkdir()
        archive = zstandard.decompress(image.initrd.read_bytes())
        subprocess.run(
            ["busybox", "cpio", "-id"], input=archive, cwd=folder, check=True, capture_output=True
        )
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.vm
def test_it_boots_to_tether_and_off_again(image: BootImage) -> None:
    tcg = Accelerator("tcg", qemu_version())
    answered, console = probe_boot(image, tcg, timeout_seconds=BOOT_LIMIT_SECONDS)
    assert answered, console
    assert "Traceback" not in console
    assert "Could not find platform" not in console


@pytest.mark.vm
def test_a_probe_without_an_answer_is_no(image: BootImage) -> None:
    # One second is not enough to boot under emulation: the shape of a hypervisor that hangs.
    tcg = Accelerator("tcg", qemu_version())
    began = time.monotonic()
    answered, _ = probe_boot(image, tcg, timeout_seconds=1)
    assert not answered
    assert time.monotonic() - began < 10


def test_a_finished_build_is_found_without_reading_a_package(
    image: BootImage, agent: Path, cache: Path
) -> None:
    seen: list[events.Event] = []
    before = (image.folder / "boot.json").stat()

    again = built(image.folder.parent, agent, cache, seen.append)

    assert again == image
    assert seen[-1] == StepFinished("build boot image", "cached")
    assert (image.folder / "boot.json").stat().st_mtime_ns == before.st_mtime_ns


def test_a_damaged_build_is_made_anew_and_needs_no_network(
    image: BootImage, agent: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages.PackageSet, "_apt", _no_apt)
    folder = tmp_path / image.id
    shutil.copytree(image.folder, folder)
    (folder / "initrd").write_bytes(b"damaged")

    again = built(tmp_path, agent, cache)

    assert again.id == image.id
    assert load_boot_image(folder).initrd_sha256 == image.initrd_sha256


def test_a_change_of_the_agent_is_another_image(
    image: BootImage, agent: Path, cache: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "agent"
    shutil.copytree(agent, changed)
    with (changed / "tether/__main__.py").open("a") as file:
        file.write("\n# changed\n")

    other = built(tmp_path / "images", changed, cache)

    assert other.id != image.id
    # Comments are no bytecode, and the image holds bytecode; only the hash of the source differs.
    assert other.kernel_sha256 == image.kernel_sha256


def test_a_build_that_is_killed_leaves_no_final_name(cache: Path, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from converter import events\n"
        "from tinykernel import build\n"
        "build.build_boot_image(pathlib.Path(sys.argv[1]), cache_dir=pathlib.Path(sys.argv[2]),"
        " monitor=lambda event: print(event, flush=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), str(cache)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            if "build boot image" in line:
                break
        time.sleep(2)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".tmp-")] == []


def test_what_is_inside(image: BootImage) -> None:
    files = initramfs(image)

    assert files["init"].startswith(f"#!/usr/bin/python{image.python} -ISB\n".encode())
    order = json.loads(files["usr/lib/modules/order.json"])
    assert sorted(order) == sorted(image.modules)
    for entry in order.values():
        assert entry["file"].removeprefix("/lib/") in {
            path.removeprefix("usr/lib/") for path in files
        }
        assert set(entry["depends"]) <= set(order)
    assert "vmw_pvscsi" in order
    # Only what tether needs of our own code, and none of the host's end.
    ours = {path for path in files if path.startswith("usr/lib/saltflat/")}
    assert any(path.startswith("usr/lib/saltflat/agent/tether/__main__.py") for path in ours)
    assert not any("/host/" in path for path in ours)
    assert not any("libssl" in path or "libcrypto" in path for path in files)


def test_every_module_that_tether_names_at_its_top_is_inside(image: BootImage, agent: Path) -> None:
    """Compare with an independent finder of imports: the running interpreter's own import."""
    if image.compiled_by is None:
        pytest.skip("another Python's standard library")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import agent.tether.__main__;"
        "from agent.tether import contact, guest;"
        "frozen = sys.modules['_frozen_importlib'].FrozenImporter;"
        "print([m.__name__ for m in sys.modules.values()"
        " if getattr(m, '__file__', None) and m.__spec__.loader is not frozen])"
    )
    result = subprocess.run(
        [sys.executable, "-ISB", "-c", program, str(agent.parent)],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    loaded = set(ast.literal_eval(result.stdout)) - OPTIONAL
    assert "agent.tether.__main__" in loaded
    assert "struct" in loaded
    stems = {path.rpartition(".cpython")[0] or path.rpartition(".")[0] for path in initramfs(image)}
    library = f"usr/lib/python{image.python}"
    missing = {
        name
        for name in loaded
        if not {
            f"{root}/{name.replace('.', '/')}{tail}"
            for root in (library, f"{library}/lib-dynload", "usr/lib/saltflat")
            for tail in ("", "/__init__")
        }
        & stems
    }
    # A standard library built elsewhere has as files what Debian's interpreter has built in.
    missing = {name for name in missing if not name.startswith("_") and name not in _BUILT_IN}
    assert missing == set()


_BUILT_IN = frozenset(
    {"array", "binascii", "cmath", "fcntl", "grp", "math", "pwd", "select", "unicodedata", "zlib"}
)


def test_the_dhcp_client_s_files_are_those_that_it_needs(image: BootImage) -> None:
    """The image deletes all others while it runs: the client must do with what is on its list."""
    files = initramfs(image)
    needed = files["usr/lib/saltflat/dhcp/needs"].decode().split("\n")
    assert {path.removeprefix("/") for path in needed} <= set(files)
    folder = image.folder.parent / f"unpacked-{image.id[:8]}"
    program = folder / "busybox"
    program.write_bytes(zlib.decompress(files["usr/lib/saltflat/dhcp/busybox.z"]))
    (loader,) = [path for path in needed if "/ld-linux" in path]
    libraries = os.pathsep.join({f"{folder}{Path(path).parent}" for path in needed})
    done = subprocess.run(
        [f"{folder}{loader}", "--library-path", libraries, "--list",
         str(program)],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )  # fmt: skip
    found = {
        line.split("=>")[-1].split()[0] for line in done.stdout.splitlines() if "vdso" not in line
    }
    assert found <= {f"{folder}{path}" for path in needed}, done.stdout


def test_sizes_stay_in_their_budget(image: BootImage) -> None:
    assert image.kernel.stat().st_size <= KERNEL_LIMIT_BYTES
    assert image.initrd.stat().st_size <= INITRD_LIMIT_BYTES


def _no_apt(*_arguments: object, **_options: object) -> None:
    raise AssertionError("apt was run")


def test_an_archive_out_of_reach_is_one_clear_error(saltflat: Saltflat, tmp_path: Path) -> None:
    settings = tmp_path / "apt.conf"
    settings.write_text(
        'Acquire::Retries::Delay "false";\n'
        + "".join(f'Acquire::{way}::Proxy "http://127.0.0.1:9";\n' for way in ("http", "https"))
    )
    there = Saltflat({**saltflat.environment, "APT_CONFIG": str(settings)})
    done = there("--progress", "none", "boot", "build", "--store", tmp_path / "store")
    assert done.returncode == errors.UnavailableError.exit_code
    said = done.stderr.decode()
    assert said.count("Error: ") == 1
    assert "Package python3-minimal cannot be fetched" in said
    assert "127.0.0.1:9" in said  # not that the package is in no list
    assert "check the network" in said
    assert "Traceback" not in said
    assert list((tmp_path / "store/boot").iterdir()) == []


def test_a_package_that_is_nowhere_is_one_clear_error(tmp_path: Path) -> None:
    with packages.open_package_set(tmp_path, monitor=events.ignore) as package_set:
        with pytest.raises(errors.UnavailableError, match="no-such-package-here") as caught:
            package_set.fetch("no-such-package-here")
        assert caught.value.hint
        assert not list(package_set.folder.glob("*.deb"))
