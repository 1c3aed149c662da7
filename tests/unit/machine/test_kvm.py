"""What is remembered of a KVM probe, and when it counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converter import events
from converter.machine import kvm
from converter.machine.qemu_command import Accelerator
from tinykernel.record import BootImage

VERSION = (7, 2)


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bool]:
    """A host with a /dev/kvm; each probe boot takes the next answer, and none left is a failure."""
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(kvm, "_DEVICE", device)
    answers: list[bool] = []
    monkeypatch.setattr(kvm, "probe_boot", lambda *_args, **_options: (answers.pop(0), ""))
    return answers


def choose(boot: BootImage, record: Path, version: tuple[int, int] = VERSION) -> str:
    chosen = kvm.choose_accelerator(
        boot, qemu_version=version, record=record, monitor=events.ignore
    )
    assert chosen == Accelerator(chosen.name, version)
    return chosen.name


def test_without_a_device_nothing_is_probed(
    boot: BootImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kvm, "_DEVICE", tmp_path / "no-kvm")
    assert choose(boot, tmp_path / "record") == "tcg"
    assert not (tmp_path / "record").exists()


@pytest.mark.parametrize("works", [True, False])
def test_one_probe_serves_until_the_host_reboots(
    boot: BootImage,
    tmp_path: Path,
    probes: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    works: bool,
) -> None:
    name = "kvm" if works else "tcg"
    record = tmp_path / "cache/kvm.json"
    probes[:] = [works]
    assert choose(boot, record) == name
    assert choose(boot, record) == name

    rebooted = tmp_path / "boot_id"
    rebooted.write_text("another boot\n")
    monkeypatch.setattr(kvm, "_HOST_BOOT_ID", rebooted)
    probes[:] = [not works]
    assert choose(boot, record) != name


def test_another_qemu_is_probed_anew(boot: BootImage, tmp_path: Path, probes: list[bool]) -> None:
    probes[:] = [True, False]
    assert choose(boot, tmp_path / "record") == "kvm"
    assert choose(boot, tmp_path / "record", (10, 0)) == "tcg"


@pytest.mark.parametrize("content", ["", "null", "[]", '{"works": "yes"}', "[" * 5000, "{}" * 9999])
def test_a_damaged_record_counts_for_nothing(
    boot: BootImage, tmp_path: Path, probes: list[bool], content: str
) -> None:
    record = tmp_path / "record"
    record.write_text(content)
    probes[:] = [True]
    assert choose(boot, record) == "kvm"
    assert json.loads(record.read_text())["works"] is True


def test_a_record_that_cannot_be_kept_is_a_warning(
    boot: BootImage, tmp_path: Path, probes: list[bool]
) -> None:
    (tmp_path / "file").touch()
    seen: list[events.Event] = []
    probes[:] = [True]
    chosen = kvm.choose_accelerator(
        boot, qemu_version=VERSION, record=tmp_path / "file/record", monitor=seen.append
    )
    assert chosen.name == "kvm"
    assert [event.warning for event in seen if isinstance(event, events.Note)] == [True]
