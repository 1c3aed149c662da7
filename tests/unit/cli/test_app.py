"""Ends of a command: messages, exit codes, where each goes. The command runs as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from converter.cli.options import platform_name, size

MAIN = "from converter.cli import main; main()"


def _saltflat(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]  # options pass through
        [sys.executable, "-c", MAIN, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_version() -> None:
    done = _saltflat("--version")
    assert (done.returncode, done.stdout) == (0, "saltflat 0.1.0\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nosuchverb"], 2, "No such command"),
        (["convert"], 2, "Missing argument"),
        (["convert", "--capacity", "big", "x"], 2, "is not a size"),
        (["convert", "--platform", "arm64", "x"], 2, "For example: linux/amd64"),
        (["convert", "UPPER/Case"], 2, "Error:"),
        (["convert", "oci:/nonexistent"], 3, "Error:"),
        (["convert", "oci:/nonexistent", "-o", "/etc"], 2, "not empty"),  # said before the source
        (["convert", "oci:/nonexistent", "-o", "/etc/passwd"], 2, "is a file"),
        (["convert", "./bundle"], 2, "is a bundle"),
        (["inspect", "/nonexistent"], 3, "is not a bundle"),
        (["store", "verify", "--store", "/nonexistent"], 3, "There is no store"),
        (["run"], 125, "Missing argument"),
        (["run", "/nonexistent"], 125, "is not a bundle"),
        (["run", "-e", "=x", "/nonexistent"], 125, "Error:"),
        (["run", "-l", "=x", "/nonexistent"], 125, "--label has no name"),
    ],
)
def test_errors_have_their_code_and_go_to_stderr(
    arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    done = _saltflat(*arguments, env={**os.environ, "SALTFLAT_STORE": str(tmp_path)})
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "kind", "code"),
    [
        (["--format", "json", "oci:/nonexistent"], "not-found", 3),
        (["--capacity", "big", "oci:x", "--format=json"], "usage", 2),
        (["--capcity", "1G", "oci:x", "--format", "json"], "usage", 2),
    ],
)
def test_errors_as_json(arguments: list[str], kind: str, code: int, tmp_path: Path) -> None:
    done = _saltflat("convert", "--store", str(tmp_path), *arguments)
    document = json.loads(done.stderr)
    assert done.returncode == code
    assert document["schema"] == 1
    assert document["error"]["kind"] == kind
    assert document["error"]["exit_code"] == code
    assert document["error"]["hint"] or kind != "usage"


def test_debug_shows_a_traceback(tmp_path: Path) -> None:
    done = _saltflat("--debug", "convert", "--store", str(tmp_path), "oci:/nonexistent")
    assert "Traceback" in done.stderr


def test_a_store_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = _saltflat("convert", "--store", str(tmp_path / "file" / "store"), "oci:/nonexistent")
    assert done.returncode == 1
    assert "cannot be used" in done.stderr


def test_a_closed_stdout_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "doctor"],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_streams_that_were_closed_are_empty_ones(tmp_path: Path) -> None:
    def start(closed: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", MAIN, *arguments]
        environment = {**os.environ, "SALTFLAT_STORE": str(tmp_path)}
        return subprocess.run(
            command, capture_output=True, timeout=60, check=False, env=environment
        )

    empty = start("<&-", "convert", "docker-archive:-")
    assert (empty.returncode, b"is empty" in empty.stderr) == (5, True), empty.stderr
    unread = start("<&- >&-", "store", "ls")
    assert (unread.returncode, unread.stderr) == (0, b"")
    assert start("<&- 2>&-", "convert", "oci:/nonexistent").returncode == 3


def test_doctor_names_what_is_missing(tmp_path: Path) -> None:
    done = _saltflat("doctor", "--store", str(tmp_path), "--format", "json")
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["boot image"]["verdict"] == "missing"
    assert findings["boot image"]["remedy"] == "saltflat boot build"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("512m", 512 << 20), ("16G", 16 << 30), ("7", 7), ("1KiB", 1024), ("2tb", 2 << 40)],
)
def test_sizes(text: str, expected: int) -> None:
    assert size(text) == expected


def test_platforms() -> None:
    assert str(platform_name("linux/x86_64")) == "linux/amd64"
