"""Reading ELF: what hand-made files hold comes back, damaged ones raise IntegrityError only."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converter.errors import IntegrityError
from tinykernel.elf import DynamicNeeds, dynamic_needs, section, without_unwind_tables


def test_needed_libraries_in_order(elf_needing) -> None:
    data = elf_needing(["libm.so.6", "libc.so.6"], "/lib64/ld-linux-x86-64.so.2")
    assert dynamic_needs(data, name="x") == DynamicNeeds(
        "/lib64/ld-linux-x86-64.so.2", ("libm.so.6", "libc.so.6")
    )


def test_a_library_has_no_interpreter(elf_needing) -> None:
    assert dynamic_needs(elf_needing(["libc.so.6"]), name="x").interpreter is None


def test_static_program_needs_nothing(elf_needing) -> None:
    assert dynamic_needs(elf_needing([]), name="x") == DynamicNeeds(None, ())


def test_the_running_interpreter_needs_libc() -> None:
    program = Path(sys.executable).resolve()
    needs = dynamic_needs(program.read_bytes(), name=program.name)
    assert "libc.so.6" in needs.libraries
    assert needs.interpreter is not None


def test_section_content(elf_with_section) -> None:
    data = elf_with_section(".modinfo", b"depends=a,b\0license=GPL\0")
    assert section(data, ".modinfo", name="x") == b"depends=a,b\0license=GPL\0"


def test_missing_section_is_named(elf_with_section) -> None:
    with pytest.raises(IntegrityError, match=r"thing has no section \.modinfo"):
        section(elf_with_section(".text", b""), ".modinfo", name="thing")


def test_unwind_tables_become_zeros_in_their_place(elf_with_section) -> None:
    data = elf_with_section(".eh_frame", b"unwind this")
    blank = without_unwind_tables(data, name="x")
    assert blank == data.replace(b"unwind this", bytes(11))
    kept = elf_with_section(".text", b"unwind this")
    assert without_unwind_tables(kept, name="x") == kept


def test_a_program_runs_without_its_unwind_tables(tmp_path: Path) -> None:
    blank = without_unwind_tables(Path("/bin/true").read_bytes(), name="true")
    assert section(blank, ".eh_frame", name="true").strip(b"\0") == b""
    program = tmp_path / "true"
    program.write_bytes(blank)
    program.chmod(0o755)
    subprocess.run([program], check=True, timeout=60)


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"#!/bin/sh\n" * 20, b"\x7fELF\x01\x01" * 20])
def test_what_is_no_elf64_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="not a sound ELF file"):
        dynamic_needs(data, name="x")


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_damage_raises_integrity_error_or_nothing(elf_needing, elf_with_section, data) -> None:
    if data.draw(st.booleans()):
        whole = bytearray(elf_needing(["libc.so.6"], "/lib/ld"))
    else:
        whole = bytearray(elf_with_section(".modinfo", b"depends=\0"))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for read in (
        dynamic_needs,
        without_unwind_tables,
        lambda d, name: section(d, ".modinfo", name=name),
    ):
        with suppress(IntegrityError):
            read(damaged, name="x")
