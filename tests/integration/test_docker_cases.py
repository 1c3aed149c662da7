"""The case table: each row is a `docker run`, and what its process sees must be what runc shows.

The rows are in tests/data/docker_cases. All run in one booted guest, each through run's own command
line, the guest's document, and the agent's own modules; `tests/cases/table_init.py` says what of
the product is not in that. `test_docker_run.py` runs some rows by the command itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cases import guest, rows
from tests.cases.differences import as_ours
from tests.cases.guest import Fault
from tests.cases.observe import Sight, apply, without
from tests.cases.rows import Row

pytestmark = [pytest.mark.integration, pytest.mark.vm, pytest.mark.timeout(1000)]

PROGRAMS = ("busybox", "mke2fs", "qemu-img", "qemu-system-x86_64")
MISSING = object()
# Enough rows for every fault, chosen before the faults: one of each kind.
FAULTY_ROWS = (
    rows.BASE,
    "a user by name has its groups",
    "--group-add for a user with groups",
    "-e wins over Env",
    "--cap-drop",
    "no-new-privileges",
    "--read-only",
    "SIGPIPE is not ignored",
    "devices that may be made and not opened",
    "a command that is no program",
    "--init leaves default dispositions to the process",
    "umask is 022 for users too",
)
FAULTS = (
    Fault("a wrong group", "accounts", "gid = entry.gid if entry else 0", "gid = 0"),
    Fault(
        "a lost group",
        "accounts",
        "if entry.name in group.members]",
        "if entry.name in group.members[1:]]",
    ),
    Fault("a mask that is missing", "world", '    "/proc/timer_list",\n', ""),
    Fault("a path that can be written to", "world", '    "/proc/sysrq-trigger",\n', ""),
    Fault(
        "a swallowed signal",
        "child",
        "if number not in (signal.SIGKILL, signal.SIGSTOP):",
        "if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE):",
    ),
    Fault(
        "signals that stay blocked",
        "child",
        "signal.pthread_sigmask(signal.SIG_SETMASK, [])",
        "signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGTERM])",
    ),
    Fault("another umask", "child", "os.umask(0o022)", "os.umask(0o027)"),
    Fault("the agent's oom_score_adj", "child", "str(job.run.host.oom_score_adj)", '"-1000"'),
    Fault(
        "a capability too many",
        "privileges",
        "return (DEFAULT_CAPABILITIES - dropped) | added",
        'return (DEFAULT_CAPABILITIES - dropped) | added | {"SYS_PTRACE"}',
    ),
    Fault(
        "a bounding set that is not reduced",
        "privileges",
        "syscalls.drop_bounding_capability(number)",
        "pass",
    ),
    Fault(
        "an open limit",
        "privileges",
        '    "nofile": (1024, 1048576),\n',
        '    "nofile": (1048576, 1048576),\n',
    ),
    Fault("disks that open", "device_rules", "        *deny,\n    ]", "        *allow,\n    ]"),
    Fault("new privileges", "child", "syscalls.forbid_new_privileges()", "pass"),
    Fault("a root that stays open", "child", "world.close_root()", "pass"),
    Fault(
        "the image's variable wins",
        "resolve",
        "for entry in [*run.environment, *inherited]:",
        "for entry in [*run.environment, *image.environment]:",
    ),
    Fault("the wrong code", "child", "why, CANNOT_INVOKE)", "why, NOT_FOUND)"),
)


def expected_of(row: Row, recorded: Mapping[str, Mapping[str, Any]]) -> Sight:
    """Return what the row has to show here: runc's answer, but for the known differences."""
    told = dict(recorded[row.id] if row.spec is not None else row.expect or {})
    alone = told.pop(rows.ALONE, None) is not None
    alone = alone or (row.spec is None and (row.has_life or set(told) == {"code"}))
    if row.id != rows.BASE and not alone:
        told = apply(told, recorded[rows.BASE])
    return as_ours(told)


def differences(row: Row, seen: Sight, recorded: Mapping[str, Mapping[str, Any]]) -> list[str]:
    expected = expected_of(row, recorded)
    if row.ignore:
        expected, seen = without(expected, row.ignore), without(seen, row.ignore)
    return [
        f"{row.id}: {name}: {seen.get(name, 'nothing')!r} where runc or the documentation has "
        f"{expected.get(name, 'nothing')!r}"
        for name in sorted({*expected, *seen})
        if expected.get(name, MISSING) != seen.get(name, MISSING)
    ]


@pytest.fixture
def work(tool: Callable[[str], str], boot_store: Path, tmp_path: Path) -> Path:
    for name in PROGRAMS:
        tool(name)
    return tmp_path


def test_every_row_is_as_docker_has_it(work: Path) -> None:
    table, recorded = rows.load(), rows.load_seen()
    assert len(table) >= 120
    assert len(recorded) >= 80
    answers = guest.ask(table, work=work)
    wrong = [text for row in table for text in differences(row, answers.rows[row.id], recorded)]
    assert not wrong, "\n".join(wrong)


def test_seeded_faults_are_caught(work: Path) -> None:
    """Run a part of the table by agents that are wrong in one place each, in one guest."""
    recorded = rows.load_seen()
    table = {row.id: row for row in rows.load() if row.id in FAULTY_ROWS}
    answers = guest.ask(list(table.values()), work=work, faults=FAULTS, faulty_rows=FAULTY_ROWS)
    sound = [
        text
        for name, row in table.items()
        for text in differences(row, answers.rows[name], recorded)
    ]
    assert not sound, "\n".join(sound)
    missed = []
    for fault in FAULTS:
        seen = answers.faulty[fault.name]
        assert set(seen) == set(table), f"{fault.name}: not all rows were run"
        if not any(differences(table[name], sight, recorded) for name, sight in seen.items()):
            missed.append(fault.name)
    assert not missed


def test_recorded_rows_are_the_rows() -> None:
    """Demand that no row was changed or added without asking runc again."""
    asked = [row.id for row in rows.load() if row.spec is not None]
    assert sorted(asked) == sorted(rows.load_seen())
