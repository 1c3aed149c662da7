"""When a link counts as good, and what its identity depends on."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from converter.errors import IntegrityError, SaltflatError
from converter.store.layout import Store, default_store
from converter.store.links import (
    ChainParameters,
    LinkRecord,
    PendingLink,
    begin_link,
    disk_path,
    find_link,
    link_id,
    read_state,
)
from converter.store.locks import locked
from converter.vmdk.content_id import content_id, long_content_id

PARAMETERS = ChainParameters()
LAYER = ("sha256:" + "1" * 64,)


def _draft() -> LinkRecord:
    return LinkRecord(link_id("", LAYER, PARAMETERS), "", LAYER, PARAMETERS)


def _begin(store: Store, draft: LinkRecord) -> PendingLink:
    pending = begin_link(store, draft, on_wait=lambda: None)
    assert isinstance(pending, PendingLink)
    return pending


def test_identity_depends_on_everything_that_changes_a_byte() -> None:
    first = link_id("", LAYER, replace(PARAMETERS, writer_version=1))
    assert first == "d31f3a1bbfbc5c674b22c37c79602d384a54f9de3e681c75efeef2c8d32ee583"  # for ever
    base = link_id("", LAYER, PARAMETERS)
    others = {
        link_id(base, LAYER, PARAMETERS),
        link_id("", (*LAYER, *LAYER), PARAMETERS),
        link_id("", LAYER, replace(PARAMETERS, capacity_bytes=1 << 30)),
        link_id("", LAYER, replace(PARAMETERS, grain_bytes=4096)),
        link_id("", LAYER, replace(PARAMETERS, journal=False)),
    }
    assert len(others | {base, first}) == 7


def test_parameters_of_the_first_records_are_those_of_the_first_writer() -> None:
    document = {"capacity_bytes": 1 << 30, "grain_bytes": 65536, "journal": True}
    assert ChainParameters.parse(document).writer_version == 1
    assert ChainParameters.parse({**document, "writer_version": 2}).writer_version == 2


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("12345678", 0x12345678),
        ("00000000", 0xABCDEF01),
        ("ffffffff", 0xABCDEF01),
        ("fffffffe", 0xABCDEF01),
    ],
)
def test_content_ids_avoid_reserved_values(head: str, expected: int) -> None:
    identity = (head + "abcdef01").ljust(64, "7")
    assert content_id(identity) == expected
    assert long_content_id(identity).endswith(f"{expected:08x}")
    assert len(long_content_id(identity)) == 32


def test_a_link_is_good_only_with_its_record(tmp_path: Path) -> None:
    store, draft = Store(tmp_path), _draft()
    pending = _begin(store, draft)
    pending.file.write(b"disk")
    assert find_link(store, draft.link_id) is None
    record = pending.commit(grains=1, state=b"state")
    assert find_link(store, draft.link_id) == record
    assert read_state(store, record) == b"state"
    assert begin_link(store, draft, on_wait=lambda: None) == record
    (store.links / f"{draft.link_id}.json").unlink()
    assert find_link(store, draft.link_id) is None  # disk and state alone mean nothing


def test_discarded_links_leave_nothing_and_empty_ones_a_record(tmp_path: Path) -> None:
    store, draft = Store(tmp_path), _draft()
    _begin(store, draft).discard()
    assert list(store.links.iterdir()) == []
    _begin(store, draft).commit_empty()
    record = find_link(store, draft.link_id)
    assert record is not None
    assert record.empty
    assert not disk_path(store, draft.link_id).exists()


def test_a_dead_writers_temp_goes_when_the_link_is_made_again(tmp_path: Path) -> None:
    store, draft = Store(tmp_path), _draft()
    stale = store.links / f".tmp-1-0-{draft.link_id}.vmdk"
    stale.write_bytes(b"half")
    other = store.links / ".tmp-1-0-another.vmdk"
    other.write_bytes(b"perhaps alive")
    _begin(store, draft).discard()
    assert not stale.exists()
    assert other.exists()


def test_disks_and_states_that_changed_are_noticed(tmp_path: Path) -> None:
    store, draft = Store(tmp_path), _draft()
    pending = _begin(store, draft)
    pending.file.write(b"disk")
    record = pending.commit(grains=1, state=b"state")
    state = store.links / f"{draft.link_id}.state"
    state.chmod(0o644)
    state.write_bytes(b"other")
    with pytest.raises(IntegrityError, match="not what was written"):
        read_state(store, record)
    disk = disk_path(store, draft.link_id)
    disk.chmod(0o644)
    disk.write_bytes(b"longer disk")
    with pytest.raises(IntegrityError, match="11 bytes"):
        find_link(store, draft.link_id)
    disk.unlink()
    assert find_link(store, draft.link_id) is None


def test_a_lock_dies_with_its_holder_and_a_waiter_says_so(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl,sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX);"
            "print('held', flush=True); sys.stdin.read()",
            os.fspath(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        waited: list[bool] = []
        with (
            pytest.raises(SaltflatError, match="has held"),
            locked(path, timeout_seconds=0, on_wait=lambda: waited.append(True)),
        ):
            pass
        assert waited == [True]
        holder.kill()
        holder.wait(10)
        with locked(path, timeout_seconds=0):
            pass


def test_default_store_follows_xdg(tmp_path: Path) -> None:
    assert default_store({"XDG_DATA_HOME": "/data"}) == Path("/data/saltflat")
    assert default_store({"XDG_DATA_HOME": "relative"}).is_absolute()
