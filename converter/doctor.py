"""What this host has and lacks, with the command that mends it. Looks only; changes nothing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from converter.errors import SaltflatError
from converter.finding import Finding, Verdict
from converter.store.bootimages import default_boot_image
from converter.store.layout import Store
from tinykernel.kernel.toolchain import missing_packages

# The releases that the tests have run on; others may work and are reported as untested.
TESTED_RELEASES = {("debian", "12"): "Debian 12", ("debian", "13"): "Debian 13 (convert)"}
_OS_RELEASE = Path("/etc/os-release")
_KVM = Path("/dev/kvm")


def examine(store_root: Path) -> Iterator[Finding]:
    """Yield what was found, the basics first."""
    yield _release()
    yield Finding("python", Verdict.OK, sys.version.split()[0])
    yield _program("qemu-system-x86_64", "run", "apt-get install qemu-system-x86")
    yield _kvm()
    yield _program("apt-get", "boot build", "")
    yield _program("dpkg-deb", "boot build", "apt-get install dpkg")
    yield _toolchain()
    yield _inflate()
    yield _vsphere()
    yield from _store(store_root)


def _release() -> Finding:
    try:
        lines = _OS_RELEASE.read_text("utf-8").splitlines()
    except OSError:
        return Finding("system", Verdict.WORSE, "unknown; tested are " + _tested())
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    identity = (fields.get("ID", "").strip('"'), fields.get("VERSION_ID", "").strip('"'))
    name = fields.get("PRETTY_NAME", "unknown").strip('"')
    if identity in TESTED_RELEASES:
        return Finding("system", Verdict.OK, name)
    return Finding("system", Verdict.WORSE, f"{name}: untested; tested are {_tested()}")


def _tested() -> str:
    return ", ".join(TESTED_RELEASES.values())


def _program(name: str, verb: str, remedy: str) -> Finding:
    path = shutil.which(name)
    if path:
        return Finding(name, Verdict.OK, path)
    return Finding(name, Verdict.MISSING, f"not on PATH; `saltflat {verb}` needs it", remedy)


def _toolchain() -> Finding:
    subject = "kernel toolchain"
    missing = missing_packages()
    if not missing:
        return Finding(subject, Verdict.OK, "`saltflat boot build --kernel tiny` can build here")
    remedy = f"apt-get install --no-install-recommends {' '.join(missing)}"
    detail = f"`boot build --kernel tiny` needs {', '.join(missing)}; other kernels need no build"
    return Finding(subject, Verdict.WORSE, detail, remedy)


def _kvm() -> Finding:
    if not _KVM.exists():
        return Finding("kvm", Verdict.WORSE, "no /dev/kvm: machines are emulated, which is slower")
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return Finding(
            "kvm",
            Verdict.WORSE,
            "/dev/kvm may not be opened: machines are emulated, which is slower",
            "adduser $USER kvm",
        )
    return Finding("kvm", Verdict.OK, "/dev/kvm opens; the first run finds out whether it works")


def _inflate() -> Finding:
    if importlib.util.find_spec("isal"):
        return Finding("isal", Verdict.OK, "gzip layers are read at full speed")
    return Finding(
        "isal",
        Verdict.WORSE,
        "not installed: gzip layers take about twice as long",
        f"{sys.executable} -m pip install isal",
    )


def _vsphere() -> Finding:
    if importlib.util.find_spec("pyVmomi"):
        return Finding("pyvmomi", Verdict.OK, "`saltflat vsphere` can speak to vCenter and ESXi")
    return Finding(
        "pyvmomi",
        Verdict.WORSE,
        "not installed; only `saltflat vsphere` needs it",
        f"{sys.executable} -m pip install pyvmomi",
    )


def _store(root: Path) -> Iterator[Finding]:
    try:
        store = Store(root)
        free = shutil.disk_usage(store.root).free
        yield Finding("store", Verdict.OK, f"{store.root}, {free / 1e9:.1f} GB free")
        image = default_boot_image(store)
    except SaltflatError as error:
        yield Finding("store", Verdict.MISSING, error.what, error.hint or "")
        return
    if image is None:
        detail = "none in the store; `saltflat run` needs one"
        yield Finding("boot image", Verdict.MISSING, detail, "saltflat boot build")
    else:
        yield Finding("boot image", Verdict.OK, f"{image.id[:12]}, Linux {image.kernel_version}")
