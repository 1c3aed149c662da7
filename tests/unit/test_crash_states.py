"""The model of a power cut, on histories whose outcomes one can count by hand."""

from __future__ import annotations

from scripts.soaks._crash_states import (
    ROOT,
    Chmod,
    DataOp,
    File,
    History,
    NameOp,
    SyncOp,
    Truncate,
    Write,
    crash_states,
)

OLD, TEMP = 1, 2
DATA = b"n" * 1024
Found = dict[str, bytes]


def _history(*operations: DataOp | NameOp | SyncOp) -> History:
    """Return a history of a folder with the file "x"; "t" is to become the new "x"."""
    history = History({ROOT: {"x": OLD}}, {OLD: File(b"old"), TEMP: File()})
    history.operations.extend(operations)
    return history


def _ends(history: History) -> list[Found]:
    return [
        {path: file.data for path, file in state.files.items()}
        for state in crash_states(history, limit=10_000, seed=1)
        if state.finished
    ]


def _all(history: History) -> list[Found]:
    return [
        {path: file.data for path, file in state.files.items()}
        for state in crash_states(history, limit=10_000, seed=1)
    ]


CREATE = NameOp(0, 0, ROOT, (("t", TEMP),))
WRITE = DataOp(1, 1, TEMP, Write(0, DATA))
SYNC = SyncOp(2, 2, TEMP)
RENAME = NameOp(3, 3, ROOT, (("t", None), ("x", TEMP)))
SYNC_NAMES = SyncOp(4, 4, ROOT)


def test_a_file_that_is_written_synced_and_renamed_is_old_or_new() -> None:
    history = _history(CREATE, WRITE, SYNC, RENAME, SYNC_NAMES)
    assert {found["x"] for found in _all(history)} == {b"old", DATA}
    assert _ends(history) == [{"x": DATA}]


def test_without_the_sync_of_the_folder_both_are_possible_at_the_end() -> None:
    ends = _ends(_history(CREATE, WRITE, SYNC, RENAME))
    assert sorted(found["x"] for found in ends) == [DATA, b"old", b"old"]
    assert {"x": b"old", "t": DATA} in ends
    assert {"x": b"old"} in ends  # nothing but fsync of the folder makes a name durable


def test_without_the_sync_of_the_file_its_name_may_stand_for_anything() -> None:
    found = {found["x"] for found in _ends(_history(CREATE, WRITE, RENAME, SYNC_NAMES))}
    assert {DATA, b"", bytes(1024)} <= found
    assert b"old" not in found


def test_a_write_is_torn_at_sectors() -> None:
    history = _history(CREATE, SyncOp(1, 1, ROOT), DataOp(2, 2, TEMP, Write(0, DATA)))
    lengths = {
        len(state.files["t"].data)
        for seed in range(20)
        for state in crash_states(history, limit=100, seed=seed)
        if state.finished
    }
    assert lengths == {0, 512, 1024}


def test_a_sync_counts_only_for_what_had_returned_when_it_was_called() -> None:
    late = DataOp(1, 3, TEMP, Write(0, DATA))  # returns after the sync was called
    ends = _ends(_history(CREATE, late, SyncOp(2, 4, TEMP), SyncOp(5, 5, ROOT)))
    assert {b"", DATA} <= {found["t"] for found in ends}


def test_names_of_one_folder_come_in_any_order() -> None:
    names = [NameOp(at, at, ROOT, ((f"{at}", TEMP),)) for at in range(3)]
    assert len(_ends(_history(*names))) == 2**3
    with_unlink = [*names[:1], NameOp(1, 1, ROOT, (("0", None),))]
    assert [sorted(found) for found in _ends(_history(*with_unlink))] == [["x"], ["0", "x"]]


def test_size_and_mode_wait_for_a_sync_too() -> None:
    changes = (DataOp(0, 0, OLD, Truncate(1)), DataOp(1, 1, OLD, Chmod(0o444)))
    found = {
        (state.files["x"].data, state.files["x"].mode)
        for state in crash_states(_history(*changes), limit=100, seed=1)
    }
    assert {(b"old", 0o600), (b"o", 0o444)} <= found
    synced = _history(*changes, SyncOp(2, 2, OLD))
    ends = [state for state in crash_states(synced, limit=100, seed=1) if state.finished]
    assert [(state.files["x"].data, state.files["x"].mode) for state in ends] == [(b"o", 0o444)]


def test_a_new_folder_needs_the_sync_of_the_one_above() -> None:
    history = _history(
        NameOp(0, 0, ROOT, (("d", 3),)),
        NameOp(1, 1, 3, (("f", TEMP),)),
        SyncOp(2, 2, 3),
    )
    history.folders[3] = {}
    assert sorted(sorted(found) for found in _ends(history)) == [["d/f", "x"], ["x"]]
