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
    "no terminal without -t",
    "a terminal for a user",
    "all three are the terminal",
    "the size is there from the start",
    "another size is a SIGWINCH",
    "what is typed is echoed and read by lines",
    "^C is SIGINT",
    "on-failure until it succeeds",
    "on-failure and a success",
    "on-failure has had its times",
    "always, whatever the code, until it is stopped",
    "a check that takes too long has failed",
    "one success is enough to be healthy again",
    "failures in the start period do not count",
    "after a success failures count in the start period, too",
    "a check has the process's user, folder and environment",
    "a restart begins with starting",
    "a check that the process's end kills is no failure",
)
FAULTS = (
    Fault(
        "a wrong group",
        "accounts",
        "gid = entry.gid if entry else 0",
        "gid = 0",
        shown_by="a user by name has its groups",
    ),
    Fault(
        "a lost group",
        "accounts",
        "if entry.name in group.members]",
        "if entry.name in group.members[1:]]",
        shown_by="a user by name has its groups",
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
    Fault(
        "disks that open",
        "device_rules",
        "        *deny,\n    ]",
        "        *allow,\n    ]",
        shown_by="devices that may be made and not opened",
    ),
    Fault(
        "new privileges",
        "child",
        "syscalls.forbid_new_privileges()",
        "pass",
        shown_by="no-new-privileges",
    ),
    Fault(
        "a root that stays open",
        "child",
        "world.close_root()",
        "pass",
        shown_by="--read-only",
    ),
    Fault(
        "the image's variable wins",
        "resolve",
        "for entry in [*run.environment, *inherited]:",
        "for entry in [*run.environment, *image.environment]:",
        shown_by="-e wins over Env",
    ),
    Fault(
        "the wrong code",
        "child",
        "why, CANNOT_INVOKE)",
        "why, NOT_FOUND)",
        shown_by="a command that is no program",
    ),
    Fault("TERM without a terminal", "resolve", "    if run.tty:\n", "    if True:\n"),
    Fault(
        "no controlling terminal",
        "child",
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)",
        "pass",
        shown_by="all three are the terminal",
    ),
    Fault(
        "root's terminal",
        "child",
        "os.fchown(slave, identity.uid,",
        "os.fchown(slave, 0,",
        shown_by="a terminal for a user",
    ),
    Fault(
        "no console",
        "child",
        "world.bind_console(os.ttyname(slave))",
        "pass",
        shown_by="a terminal for a user",
    ),
    Fault(
        "a size that comes too late",
        "child",
        "terminal.set_size(slave, run.rows, run.columns)",
        "pass",
        shown_by="the size is there from the start",
    ),
    Fault(
        "a size that is passed on the wrong way round",
        "relayed",
        "terminal.set_size(process.stdout, rows, columns)",
        "terminal.set_size(process.stdout, columns, rows)",
        shown_by="another size is a SIGWINCH",
    ),
    Fault(
        "stderr beside the terminal",
        "child",
        "for descriptor in (0, 1, 2):\n        os.dup2(slave",
        "for descriptor in (0, 1):\n        os.dup2(slave",
        shown_by="all three are the terminal",
    ),
    Fault(
        "a restart after a success",
        "restart",
        "return code != 0 and (",
        "return (",
        shown_by="on-failure and a success",
    ),
    Fault(
        "an always that success ends",
        "restart",
        "return name == ALWAYS",
        "return name == ALWAYS and code != 0",
        shown_by="always, whatever the code, until it is stopped",
    ),
    Fault(
        "a restart too few",
        "restart",
        "self.count < retries",
        "self.count + 1 < retries",
        shown_by="on-failure has had its times",
    ),
    Fault(
        "a wait that does not grow",
        "restart",
        "2 * self._delay or FIRST_DELAY_SECONDS",
        "FIRST_DELAY_SECONDS",
        shown_by="on-failure has had its times",
    ),
    Fault(
        "a stop that is not the last end",
        "life",
        "self._restarts.stop()\n"
        "        if not self._forget_restart():\n            self._end_in_order",
        "if not self._forget_restart():\n            self._end_in_order",
        shown_by="always, whatever the code, until it is stopped",
    ),
    Fault(
        "a restart that begins as ill",
        "health",
        "self.status = STARTING\n        self.failing_streak = 0\n        self._started",
        "self.status = UNHEALTHY\n        self.failing_streak = 0\n        self._started",
        shown_by="a restart begins with starting",
    ),
    Fault(
        "failures in a start period",
        "health",
        "began - self._started >=",
        "0 <=",
        shown_by="failures in the start period do not count",
    ),
    Fault(
        "a failure too many",
        "health",
        "self.failing_streak >= self._retries",
        "self.failing_streak > self._retries",
        shown_by="one success is enough to be healthy again",
    ),
    Fault(
        "a check's lost output",
        "probes",
        "self._kept += data[:room]",
        "pass",
        shown_by="one success is enough to be healthy again",
    ),
    Fault(
        "a check without a time",
        "probes",
        "            self._kill_at = now + self._timeout",
        "            self._kill_at = now  # + self._timeout",
        shown_by="a check has the process's user, folder and environment",
    ),
    Fault(
        "a streak that stays",
        "health",
        "self.status = HEALTHY\n            self.failing_streak = 0",
        "self.status = HEALTHY",
        shown_by="one success is enough to be healthy again",
    ),
    Fault(
        "a check that the end kills",
        "probes",
        "if code and self._is_ending():",
        "if False:",
        shown_by="a check that the process's end kills is no failure",
    ),
)

CONTROL = Fault("nothing is wrong", "child", "os.umask(0o022)", "os.umask(0o0022)")


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


def test_every_row_is_as_docker_has_it_and_no_fault_escapes(
    tool: Callable[[str], str], boot_store: Path, tmp_path: Path
) -> None:
    """Run all rows, and some of them by agents that are wrong in one place each; in one guest.

    A fault is caught when a row, which is right without it, shows something else with it. By an
    agent in which nothing is wrong all are run, and none does.
    """
    for name in PROGRAMS:
        tool(name)
    table, recorded = rows.load(), rows.load_seen()
    assert len(table) >= 200
    assert len(recorded) >= 130
    faults = (*FAULTS, CONTROL)
    asked = guest.ask(table, work=tmp_path, faults=faults, faulty_rows=FAULTY_ROWS)
    wrong = [text for row in table for text in differences(row, asked.rows[row.id], recorded)]
    assert not wrong, "\n".join(wrong)
    by_id = {row.id: row for row in table}
    caught = {
        fault.name: [
            text
            for name, sight in asked.faulty[fault.name].items()
            for text in differences(by_id[name], sight, recorded)
        ]
        for fault in faults
    }
    assert set(asked.faulty[CONTROL.name]) == set(FAULTY_ROWS)
    assert caught.pop(CONTROL.name) == []
    assert [name for name, found in caught.items() if not found] == []


def test_recorded_rows_are_the_rows() -> None:
    """Demand that no row was changed or added without asking runc again."""
    asked = [row.id for row in rows.load() if row.spec is not None]
    assert sorted(asked) == sorted(rows.load_seen())
