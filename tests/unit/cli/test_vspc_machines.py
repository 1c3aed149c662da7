"""The verbs that say which machines a concentrator relays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from converter.cli.output import Output
from converter.cli.vspc import command
from converter.errors import SaltflatError

UUID = "501c62c0-f137-4aa0-8d3e-5c2b1e6f0a11"


@pytest.fixture
def relays(tmp_path: Path) -> Path:
    return tmp_path / "relays"


def vspc(relays: Path, *arguments: str) -> str:
    """Return what a verb prints; what it raises comes through."""
    output = Output()
    result = CliRunner().invoke(
        command, [*arguments, "--relays", os.fspath(relays)], obj=output, standalone_mode=False
    )
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_a_machine_and_what_its_guest_is_told(relays: Path, tmp_path: Path) -> None:
    document = tmp_path / "guest.json"
    vspc(relays, "add", "db-1", "--uuid", UUID.upper(), "--document", os.fspath(document))
    made = json.loads(document.read_text())
    assert document.stat().st_mode & 0o777 == 0o600
    assert (made["schema"], len(made["key"])) == (1, 64)
    listed = json.loads(vspc(relays, "ls", "--format", "json"))
    assert listed["machines"] == [{"name": "db-1", "uuid": UUID, "epoch": made["epoch"]}]
    stored = relays / "machines" / "db-1" / "key"
    assert stored.read_text().strip() == made["key"]
    assert stored.stat().st_mode & 0o777 == 0o600
    assert relays.stat().st_mode & 0o777 == 0o700


def test_another_key_is_another_epoch(relays: Path, tmp_path: Path) -> None:
    first = json.loads(vspc(relays, "add", "db-1", "--document", "-"))
    second = json.loads(vspc(relays, "rekey", "db-1", "--document", "-"))
    assert second["epoch"] > first["epoch"]
    assert second["key"] != first["key"]
    key = tmp_path / "key"
    key.write_text("AB" * 32 + "\n")
    vspc(relays, "rekey", "db-1", "--key-file", os.fspath(key))
    assert (relays / "machines" / "db-1" / "key").read_text() == "ab" * 32 + "\n"
    vspc(relays, "rm", "db-1")
    assert vspc(relays, "ls") == "\n"
    again = json.loads(vspc(relays, "add", "db-1", "--document", "-"))
    assert again["epoch"] > second["epoch"]  # though nothing is known of it any more


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("add db-1 --document -", 7, "already"),
        (f"add db-2 --uuid {UUID} --document -", 7, "db-1 has the UUID"),
        ("add db-2", 2, "Nobody would know"),
        ("add ../x --document -", 2, "no machine's name"),
        ("add db-2 --uuid 12 --document -", 2, "not a UUID"),
        ("add db-2 --uuid= --document -", 2, "not a UUID"),
        ("add db-2 --key-file F", 2, "has no key"),
        ("add db-2 --key-file K", 2, "a key of 2 bytes"),
        ("rekey db-2 --document -", 3, "no machine 'db-2'"),
        ("rekey db-2 --document NEW", 3, "no machine 'db-2'"),
        ("rm db-2", 3, "no machine 'db-2'"),
        ("rm ..", 3, "no machine"),
    ],
)
def test_what_is_refused(
    arguments: str, code: int, message: str, relays: Path, tmp_path: Path
) -> None:
    (tmp_path / "F").write_text("no key")
    (tmp_path / "K").write_text("abab")
    vspc(relays, "add", "db-1", "--uuid", UUID, "--document", "-")
    named = {name: os.fspath(tmp_path / name) for name in ("F", "K", "NEW")}
    with pytest.raises(SaltflatError, match=message) as caught:
        vspc(relays, *(named.get(word, word) for word in arguments.split()))
    assert caught.value.exit_code == code
    assert vspc(relays, "ls") == f"db-1\t{UUID}\n"
    assert not (tmp_path / "NEW").exists()


def test_a_document_is_never_written_over(relays: Path, tmp_path: Path) -> None:
    document = tmp_path / "guest.json"
    document.write_text("mine")
    with pytest.raises(FileExistsError):
        vspc(relays, "add", "db-1", "--document", os.fspath(document))
    assert document.read_text() == "mine"
    assert vspc(relays, "ls") == "\n"


def test_a_directory_that_others_may_enter_is_refused(relays: Path) -> None:
    relays.mkdir(mode=0o755)
    with pytest.raises(SaltflatError, match="Others may enter"):
        vspc(relays, "ls")


def test_what_a_killed_process_left_is_in_nobody_s_way(relays: Path) -> None:
    """Between any two steps of `add`: a folder without its name, a link to nothing."""
    vspc(relays, "ls")
    (relays / "machines" / ".part-db-1").mkdir()
    (relays / "uuids" / UUID).symlink_to("../machines/db-1")
    assert vspc(relays, "ls") == "\n"
    vspc(relays, "add", "db-1", "--uuid", UUID, "--document", "-")
    assert vspc(relays, "ls") == f"db-1\t{UUID}\n"
    assert not (relays / "machines" / ".part-db-1").exists()
