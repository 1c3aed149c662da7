"""The tiny kernel's fragment, its cache, and what is said when it cannot be built."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from converter.errors import IntegrityError, NotFoundError, SaltflatError
from tinykernel.kernel import tiny, toolchain
from tinykernel.kernel.fragment import check_resolved, read_fragment
from tinykernel.kernel.needs import NEEDS


def test_the_fragment_has_each_option_once_and_all_that_we_need() -> None:
    wanted = read_fragment(tiny.FRAGMENT.read_text("utf-8"))
    assert wanted["CONFIG_MODULES"] == "# CONFIG_MODULES is not set"
    named = {name for name, line in wanted.items() if line.endswith("=y")}
    # devtmpfs and the rest are asked for by name; what tinyconfig has on its own is not.
    assert {name for name, _why in NEEDS} <= named


def test_prose_is_no_option() -> None:
    text = '# Why CONFIG_A=y is here.\nCONFIG_A=y\n# CONFIG_B is not set\n\nCONFIG_C="x y"\n'
    assert read_fragment(text) == {
        "CONFIG_A": "CONFIG_A=y",
        "CONFIG_B": "# CONFIG_B is not set",
        "CONFIG_C": 'CONFIG_C="x y"',
    }


def test_an_option_twice_is_refused() -> None:
    with pytest.raises(IntegrityError, match="CONFIG_A twice"):
        read_fragment("CONFIG_A=y\n# CONFIG_A is not set\n")


@pytest.mark.parametrize(
    ("wanted", "config", "complaint"),
    [
        ("CONFIG_A=y", "", r"CONFIG_A=y \(got nothing\)"),
        ("CONFIG_A=y", "CONFIG_A=m", r"CONFIG_A=y \(got CONFIG_A=m\)"),
        ("CONFIG_A=4", "CONFIG_A=8", r"CONFIG_A=4 \(got CONFIG_A=8\)"),
        ("# CONFIG_A is not set", "CONFIG_A=y", r"CONFIG_A is not set \(got CONFIG_A=y\)"),
    ],
)
def test_an_option_that_came_out_otherwise_is_named(
    wanted: str, config: str, complaint: str
) -> None:
    with pytest.raises(IntegrityError, match=complaint):
        check_resolved(read_fragment(wanted), config)


def test_an_unwanted_option_that_there_is_not_is_as_wanted() -> None:
    check_resolved(read_fragment("# CONFIG_A is not set\nCONFIG_B=y"), "CONFIG_B=y\n")


def test_what_is_missing_is_one_error_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in toolchain.TOOLS:
        found = shutil.which(tool.program)
        if found is not None and tool.program not in {"flex", "bison"}:
            (tmp_path / tool.program).symlink_to(os.path.realpath(found))
    if not (tmp_path / "gcc").exists():
        pytest.skip("gcc is not here at all")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFoundError, match="flex, bison") as caught:
        tiny.TinyKernel().identity()
    assert caught.value.hint is not None
    assert "apt-get install --no-install-recommends flex bison" in caught.value.hint


def test_a_kept_kernel_is_found_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "key"
    tiny._keep(folder, {"vmlinuz": b"kernel", "config": b"CONFIG_A=y\n"})
    assert tiny._kept(folder) == b"kernel"
    (folder / "vmlinuz").write_bytes(b"other")
    assert tiny._kept(folder) is None
    tiny._keep(folder, {"vmlinuz": b"kernel", "config": b"CONFIG_A=y\n"})
    assert tiny._kept(folder) == b"kernel"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_failure_while_keeping_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(tiny, "write_atomic", full_disk)
    with pytest.raises(OSError, match="No space left"):
        tiny._keep(tmp_path / "key", {"vmlinuz": b"kernel"})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_program_is_quoted_with_its_last_lines(tmp_path: Path) -> None:

    with pytest.raises(SaltflatError, match="ended with 3") as caught:
        tiny._run(["sh", "-c", "echo cannot; exit 3"], tmp_path, 60)
    assert caught.value.hint is not None
    assert "cannot" in caught.value.hint


def test_the_users_environment_does_not_reach_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSS_COMPILE", "other-")
    monkeypatch.setenv("MAKEFLAGS", "-k")
    seen = tiny._environment()
    assert set(seen) <= {"PATH", "HOME", "TMPDIR", *tiny._FIXED}
