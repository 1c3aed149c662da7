"""Decide whether KVM really works here. Owns the probe boot and what is remembered of it.

/dev/kvm may be there and still hang a guest (nested virtualization), so nothing but a boot counts:
our own boot image is started with `tether.probe`, which says one line and powers off.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from converter.atomic import write_atomic
from converter.events import Monitor, Note
from converter.machine.process import QemuProcess
from converter.machine.qemu_command import KERNEL_COMMAND_LINE, Accelerator, base_arguments
from tinykernel.record import BootImage

PROBE_ARGUMENT = "tether.probe"
PROBE_ANSWER = "saltflat-probe-ok"

_DEVICE = Path("/dev/kvm")
_HOST_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIMEOUT_SECONDS = 15
_SCHEMA = 1
_RECORD_LIMIT_BYTES = 4096


def probe_boot(
    boot: BootImage, accelerator: Accelerator, *, timeout_seconds: float
) -> tuple[bool, str]:
    """Boot to tether's probe and off again; return whether it answered, and the console's text."""
    folder = Path(tempfile.mkdtemp(prefix="saltflat-probe-"))
    arguments = base_arguments(accelerator, boot.kernel.absolute(), boot.initrd.absolute())
    arguments += ["-append", f"{KERNEL_COMMAND_LINE} {PROBE_ARGUMENT}", "-m", "256"]
    with QemuProcess(arguments, folder, temporary=True) as machine:
        ended = machine.wait(timeout_seconds) == 0
        text = machine.console() or machine.log()
    return ended and PROBE_ANSWER in text, text


def choose_accelerator(
    boot: BootImage, *, qemu_version: tuple[int, int], record: Path, monitor: Monitor
) -> Accelerator:
    """Return KVM when a guest really boots with it, else TCG.

    The answer is kept in the file `record` until the host reboots or QEMU or the boot image
    changes. A `record` that cannot be written only costs the next run its probe.
    """
    tcg = Accelerator("tcg", qemu_version)
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return tcg
    kvm = Accelerator("kvm", qemu_version)
    key = {
        "schema": _SCHEMA,
        "host_boot": _HOST_BOOT_ID.read_text().strip(),
        "qemu": list(qemu_version),
        "boot_image": boot.id,
    }
    works = _remembered(record, key)
    if works is None:
        works, _ = probe_boot(boot, kvm, timeout_seconds=_TIMEOUT_SECONDS)
        _remember(record, {**key, "works": works}, monitor)
        if not works:
            monitor(Note("KVM is present but boots no guest here; emulating (slow)", warning=True))
    return kvm if works else tcg


def _remembered(record: Path, key: dict[str, object]) -> bool | None:
    try:
        with record.open("rb") as file:
            document = json.loads(file.read(_RECORD_LIMIT_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("works"), bool):
        return None
    works: bool = document.pop("works")
    return works if document == key else None


def _remember(record: Path, document: dict[str, object], monitor: Monitor) -> None:
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(record, json.dumps(document, sort_keys=True).encode())
    except OSError as error:
        monitor(Note(f"the result of the KVM probe cannot be kept: {error}", warning=True))
