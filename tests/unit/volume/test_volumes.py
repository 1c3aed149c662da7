"""The folder of volumes: names, records, who uses what, and what a kill leaves."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from converter.errors import IntegrityError, NotFoundError, UsageError
from converter.vmdk.reader import read_link
from converter.volume import disk
from converter.volume.mount import VolumeMount, read_mount
from converter.volume.record import Volume, decode
from converter.volume.request import VolumeRequest
from converter.volume.volumes import DEFAULT_SIZE_BYTES, Volumes

ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64
DATA = VolumeRequest(name="data", target="/data")
DATA_RO = VolumeRequest(name="data", target="/data", read_only=True)
UNNAMED = VolumeRequest(target="/unnamed")


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    for machine in (ONE, TWO, THREE):
        (tmp_path / "state/machines" / machine).mkdir(parents=True)
    return Volumes(tmp_path / "state")


def attach(
    volumes: Volumes, machine: str, name: str, requests: list[VolumeRequest]
) -> tuple[VolumeMount, ...]:
    mounts = volumes.prepare(requests)
    volumes.attach(machine, name, mounts)
    return mounts


def machine_is_gone(volumes: Volumes, machine: str) -> None:
    (volumes.root.parent / "machines" / machine).rmdir()


def test_a_volume_is_what_was_asked_for(volumes: Volumes) -> None:
    made = volumes.create("data", size_bytes=(1 << 30) - 5, labels={"a": "b"})
    assert volumes.get("data") == made
    assert (made.size_bytes, made.labels, made.anonymous) == (1 << 30, {"a": "b"}, False)
    assert made.serial == made.uuid.hex
    with read_link(volumes.disk("data")) as link:
        assert link.capacity_bytes == 1 << 30
    assert stat.S_IMODE(volumes.root.stat().st_mode) == 0o700
    assert stat.S_IMODE((volumes.root / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE(volumes.disk("data").stat().st_mode) == 0o600


def test_no_two_volumes_have_one_identity(volumes: Volumes) -> None:
    made = [volumes.create() for _ in range(5)]
    assert len({volume.uuid for volume in made}) == 5
    assert all(len(volume.name) == 64 and volume.anonymous for volume in made)
    assert {volume.size_bytes for volume in made} == {DEFAULT_SIZE_BYTES}
    assert volumes.names() == sorted(volume.name for volume in made)


def test_one_that_is_there_is_returned(volumes: Volumes) -> None:
    made = volumes.create("data", size_bytes=1 << 30)
    assert volumes.create("data") == made
    assert volumes.create("data", size_bytes=1 << 30) == made
    with pytest.raises(UsageError, match="is there already"):
        volumes.create("data", size_bytes=2 << 30)


@pytest.mark.parametrize("name", ["", ".", "..", "a", ".hidden", "a/b", "a b", "-x", "ü1", "a\n"])
def test_names_that_none_may_have(volumes: Volumes, name: str) -> None:
    for attempt in (volumes.get, volumes.remove):
        with pytest.raises(UsageError):
            attempt(name)
    if name:
        with pytest.raises(UsageError):
            volumes.create(name)


@pytest.mark.parametrize("size", [0, (64 << 20) - (1 << 20), (2000 << 30) + 1])
def test_sizes_that_none_may_have(volumes: Volumes, size: int) -> None:
    with pytest.raises(UsageError, match="not possible"):
        volumes.create("data", size_bytes=size)
    assert volumes.names() == []


def test_removal(volumes: Volumes) -> None:
    volumes.create("data")
    volumes.remove("data")
    assert volumes.names() == []
    with pytest.raises(NotFoundError, match="no volume data"):
        volumes.remove("data")
    volumes.remove("data", force=True)
    assert list(volumes.root.iterdir()) == [volumes.root / ".lock"]


def test_a_volume_is_kept_for_a_machine_that_does_not_run(volumes: Volumes) -> None:
    attach(volumes, ONE, "web", [DATA])
    for force in (False, True):
        with pytest.raises(UsageError, match=r"in use by web \(111111111111\)"):
            volumes.remove("data", force=force)
    assert volumes.prune(named=True) == []
    volumes.detach(ONE, remove_anonymous=True)
    assert volumes.users("data") == ()
    volumes.detach(ONE, remove_anonymous=True)  # again, as after a kill
    volumes.remove("data")


def test_a_note_without_its_machine_is_void(volumes: Volumes) -> None:
    attach(volumes, ONE, "web", [DATA])
    machine_is_gone(volumes, ONE)
    assert volumes.users("data") == ()
    volumes.remove("data")


def test_anonymous_volumes_go_with_their_machine_on_request(volumes: Volumes) -> None:
    mounted = attach(volumes, ONE, "web", [DATA, UNNAMED])
    assert [one.anonymous for one in mounted] == [False, True]
    volumes.detach(ONE, remove_anonymous=False)
    assert len(volumes.names()) == 2
    assert volumes.prune() == [mounted[1].name]
    attach(volumes, TWO, "db", [DATA, UNNAMED])
    volumes.detach(TWO, remove_anonymous=True)
    assert volumes.names() == ["data"]
    assert volumes.prune() == []
    assert volumes.prune(named=True) == ["data"]


def test_an_anonymous_volume_that_somebody_else_has_by_its_name_stays(volumes: Volumes) -> None:
    (mine,) = attach(volumes, ONE, "web", [UNNAMED])
    attach(volumes, TWO, "backup", [VolumeRequest(name=mine.name, target="/from")])
    volumes.detach(ONE, remove_anonymous=True)
    assert volumes.names() == [mine.name]


def test_without_a_machine_no_unnamed_volume_is_made(volumes: Volumes) -> None:
    volumes.create("data", size_bytes=1 << 30)
    wrong = VolumeRequest(name="data", target="/data", size_bytes=2 << 30)
    with pytest.raises(UsageError, match="is there already"):
        volumes.prepare([UNNAMED, VolumeRequest(name="new", target="/new"), wrong])
    volumes.prepare([UNNAMED, UNNAMED])
    assert volumes.names() == ["data", "new"]


def test_nothing_is_left_of_an_attempt_that_fails(volumes: Volumes) -> None:
    mounts = volumes.prepare([DATA, UNNAMED])
    (volumes.root / "data/volume.json").write_bytes(b"")
    for order in (mounts, mounts[::-1]):
        with pytest.raises(IntegrityError):
            volumes.attach(ONE, "web", order)
        assert volumes.names() == ["data"]
        assert volumes.users("data") == ()


def test_one_machine_writes_or_several_read(volumes: Volumes) -> None:
    writer = attach(volumes, ONE, "writer", [DATA])
    reader = attach(volumes, TWO, "reader", [DATA_RO])
    other = attach(volumes, THREE, "other", [DATA_RO])
    with volumes.lend(ONE, "writer", writer) as lent:
        assert [(one.disk, one.read_only) for one in lent] == [(volumes.disk("data"), False)]
        for machine, mounted in ((TWO, reader), (ONE, writer)):
            with (
                pytest.raises(UsageError, match=r"the machine writer .* runs and writes to it"),
                volumes.lend(machine, "x", mounted),
            ):
                pass
    with volumes.lend(TWO, "reader", reader), volumes.lend(THREE, "other", other):
        running = {user.name: user.running for user in volumes.users("data")}
        assert running == {"writer": False, "reader": True, "other": True}
        with (
            pytest.raises(UsageError, match="runs and reads it"),
            volumes.lend(ONE, "writer", writer),
        ):
            pass
    with volumes.lend(ONE, "writer", writer):
        pass


def test_a_volume_at_two_places_is_one_disk(volumes: Volumes) -> None:
    both = attach(volumes, ONE, "web", [DATA_RO, VolumeRequest(name="data", target="/rw"), UNNAMED])
    with volumes.lend(ONE, "web", both) as lent:
        assert [(one.volume.name, one.read_only) for one in lent] == [
            ("data", False),
            (both[2].name, False),
        ]


def test_the_mark_lasts_as_long_as_a_process_that_inherited_it(volumes: Volumes) -> None:
    mounted = attach(volumes, ONE, "web", [DATA])
    with volumes.lend(ONE, "web", mounted) as lent:
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[one.descriptor for one in lent],
        )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert [user.running for user in volumes.users("data")] == [True]
        child.kill()
        child.wait(10)
    assert [user.running for user in volumes.users("data")] == [False]


def test_a_running_machine_without_a_folder_still_counts(volumes: Volumes) -> None:
    mounted = attach(volumes, ONE, "web", [DATA])
    machine_is_gone(volumes, ONE)
    with volumes.lend(ONE, "web", mounted), pytest.raises(UsageError, match="in use by web"):
        volumes.remove("data")


def test_a_note_that_was_lost_is_made_again(volumes: Volumes) -> None:
    mounted = attach(volumes, ONE, "web", [DATA])
    (volumes.root / "data/users" / ONE).unlink()
    with volumes.lend(ONE, "web", mounted):
        assert [user.name for user in volumes.users("data")] == ["web"]


def test_a_damaged_note_is_the_most_careful_user(volumes: Volumes) -> None:
    attach(volumes, ONE, "web", [DATA_RO])
    (volumes.root / "data/users" / ONE).write_bytes(b"[")
    (user,) = volumes.users("data")
    assert (user.name, user.read_only) == (ONE[:12], False)


def test_a_volume_that_is_gone_is_named(volumes: Volumes) -> None:
    gone = VolumeMount(name="gone", target="/x", read_only=False, copy=True, anonymous=False)
    with pytest.raises(NotFoundError, match="no volume gone"), volumes.lend(ONE, "web", [gone]):
        pass


CREATE = """
import os, signal, sys
from pathlib import Path
from converter.volume import volumes
from converter.volume.volumes import Volumes

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

victim = Volumes(Path(sys.argv[1]))
if sys.argv[2] == "writing":
    volumes.write_atomic = die
    victim.create("data")
elif sys.argv[2] == "renaming":
    volumes.sync_directory = lambda folder: die() if folder.name != "volumes" else None
    victim.create("data")
else:
    volumes.shutil.rmtree = die
    victim.remove("data")
"""


@pytest.mark.parametrize("moment", ["writing", "renaming", "removing"])
def test_a_kill_leaves_a_whole_volume_or_none(volumes: Volumes, moment: str) -> None:
    if moment == "removing":
        volumes.create("data")
    done = subprocess.run(
        [sys.executable, "-c", CREATE, volumes.root.parent, moment], timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert volumes.names() == []
    assert len(list(volumes.root.glob(".tmp-*"))) == 1
    volumes.create("data")
    assert list((volumes.root / "data/users").iterdir()) == []
    assert {path.name for path in volumes.root.iterdir()} == {".lock", "data"}


RECORD = Volume(
    name="data",
    uuid=uuid.UUID(int=5),
    size_bytes=1 << 30,
    created_ns=1,
    labels={"a": "b"},
    anonymous=True,
)


def test_a_record_is_read_as_it_was_written() -> None:
    assert decode(RECORD.encode(), "data") == RECORD


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": 2}, "schema 2"),
        ({"schema": True}, "schema True"),
        ({"name": "other"}, "another volume"),
        ({"uuid": "5"}, "'uuid'"),
        ({"size": -1}, "'size'"),
        ({"size": "1"}, "'size'"),
        ({"created_ns": None}, "'created_ns'"),
        ({"labels": {"a": 1}}, "'labels'"),
        ({"anonymous": 0}, "'anonymous'"),
    ],
)
def test_damaged_records(changes: dict[str, object], says: str) -> None:
    raw = json.dumps({**json.loads(RECORD.encode()), **changes}).encode()
    with pytest.raises(IntegrityError, match=says):
        decode(raw, "data")


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b"[" * 100000])
def test_what_is_no_record(raw: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode(raw, "data")


def test_a_volume_without_a_record_is_seen_and_can_be_removed(volumes: Volumes) -> None:
    volumes.create("data")
    (volumes.root / "data/volume.json").unlink()
    assert volumes.names() == ["data"]
    with pytest.raises(IntegrityError, match="no record"):
        volumes.get("data")
    assert volumes.prune(named=True) == []
    volumes.remove("data")
    assert volumes.names() == []


def test_a_machine_s_entry() -> None:
    entry = VolumeMount(name="data", target="/data", read_only=True, copy=False, anonymous=False)
    assert read_mount(entry.to_json()) == entry
    for changes in ({"name": ".."}, {"target": "x"}, {"copy": 1}, {"name": None}):
        with pytest.raises(ValueError, match="no volume of a machine"):
            read_mount({**entry.to_json(), **changes})
    with pytest.raises(ValueError, match="no volume of a machine"):
        read_mount([])


def test_the_same_identity_gives_the_same_disk(tmp_path: Path) -> None:
    made = []
    for number in range(2):
        path = tmp_path / f"{number}.vmdk"
        with path.open("xb", buffering=0) as file:
            disk.write_volume(file, size_bytes=64 << 20, uuid=uuid.UUID(int=7), label="x" * 20)
        made.append(path.read_bytes())
    assert made[0] == made[1]


def test_an_empty_volume_takes_next_to_no_room(volumes: Volumes) -> None:
    volumes.create("data", size_bytes=10 << 30)
    assert volumes.disk("data").stat().st_blocks * 512 < 300_000
