"""The guest's end of the protocol in real machines: execs, copies, rings, and the order at the end.

Many cases share a machine: a boot costs seconds. The host is tests/guests/host.py, the disk is
mke2fs's; the tar streams are read and written by Python's own tarfile.
"""

from __future__ import annotations

import hashlib
import io
import random
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from converter.machine.model import Channel, RunConfig
from tests.guests.host import BOOT_SECONDS, GuestHost, Record, booted, ended, served

pytestmark = [pytest.mark.integration, pytest.mark.vm]

SHELL = ("/bin/sh", "-c")
DOCKER_CAPABILITIES = "00000000a80425fb"


@pytest.fixture(scope="module")
def guest(link: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestHost]:
    """Boot a guest whose main process waits for a line, and end it in an orderly way.

    It leaves one behind that would hold its output open, and the machine up, for ever.
    """
    script = "read line; (trap '' HUP TERM; exec sleep 1000) & head -c 300000 /dev/zero; exit 3"
    run = RunConfig(args=(*SHELL, script), stdin=True, env=("A=main", "B=main"), workdir="/srv")
    with booted(tmp_path_factory.mktemp("vm"), link, run) as machine, served(machine) as host:
        host.wait(lambda: "started" in host.processes[0].messages, BOOT_SECONDS)
        yield host
        host.write(0, b"enough\n")
        host.wait(lambda: host.processes[0].code is not None)
        assert host.processes[0].code == 3
        assert host.processes[0].stdout == bytes(300_000)
        ended(machine, host)
        assert "the host is not there" not in machine.console()


class Numbers:
    """Process numbers, none twice."""

    last = 0

    @classmethod
    def next(cls) -> int:
        cls.last += 1
        return cls.last


def execute(
    guest: GuestHost, *args: str, stdin: bytes | None = None, seconds: float = 60, **fields: object
) -> Record:
    number = Numbers.next()
    record = guest.start(number, args=list(args), stdin=stdin is not None, **fields)
    if stdin is not None:
        guest.write(number, stdin, end=True)
    guest.wait(lambda: record.closed, seconds)
    return record


def shell(guest: GuestHost, script: str, **fields: object) -> Record:
    return execute(guest, *SHELL, script, **fields)


def test_an_exec_is_in_the_main_process_s_world(guest):
    script = """
    echo "$A $B $HOME"; pwd; id; cat /proc/self/cgroup
    grep -E 'CapBnd|SigBlk|SigIgn' /proc/self/status; cat /proc/self/oom_score_adj
    ls /proc/self/fd | wc -l; echo err >&2; exit 7
    """
    record = shell(guest, script, env=["B=exec"], user="app", workdir="/tmp")
    lines = record.stdout.decode().splitlines()
    assert record.code == 7
    assert record.stderr == b"err\n"
    assert record.order[0] == "started"
    assert record.order[-1] == "exited"
    assert lines[:3] == [
        "main exec /home/app",
        "/tmp",
        "uid=1000(app) gid=1000(app) groups=29(audio),1000(app)",
    ]
    assert lines[3] == "0::/"
    assert f"CapBnd:\t{DOCKER_CAPABILITIES}" in lines
    assert "SigBlk:\t0000000000000000" in lines
    assert "SigIgn:\t0000000000000000" in lines
    assert lines[-2:] == ["0", "4"]  # stdio, and the folder that ls reads


def test_what_an_exec_does_not_say_is_as_for_the_main_process(guest):
    record = shell(guest, "echo $A; pwd; id -u")
    assert record.stdout == b"main\n/srv\n0\n"


@pytest.mark.parametrize(
    ("fields", "code", "kind"),
    [
        pytest.param({"args": ["nope"]}, 127, "command", id="missing"),
        pytest.param({"args": ["/opt/data"]}, 126, "command", id="not executable"),
        pytest.param({"args": ["id"], "user": "ghost"}, 125, "user", id="no such user"),
        pytest.param({"args": ["id"], "workdir": "/none"}, 125, "workdir", id="no such folder"),
        pytest.param({"args": []}, 125, "config", id="no command"),
        pytest.param({"args": ["id"], "tty": 1}, 125, "config", id="malformed"),
    ],
)
def test_an_exec_that_cannot_start(guest, fields, code, kind):
    record = guest.start(Numbers.next(), **fields)
    guest.wait(lambda: record.closed)
    assert (record.code, record.messages["failed"]["kind"]) == (code, kind)
    assert "started" not in record.messages


def test_a_terminal_of_its_own(guest):
    script = "stty size; tty; echo $TERM; cat; stty size"
    number = Numbers.next()
    record = guest.start(
        number, args=[*SHELL, script], tty=True, stdin=True, rows=33, cols=101, user="app"
    )
    guest.wait(lambda: b"xterm" in record.stdout)
    guest.endpoint.control({"type": "resize", "process": number, "rows": 10, "cols": 20})
    guest.write(number, b"line\n", end=True)
    guest.wait(lambda: record.closed)
    assert record.stdout.split(b"\r\n") == [
        *(b"33 101", b"/dev/pts/0", b"xterm", b"line", b"line", b"10 20", b""),
    ]
    assert record.stderr == b""


def test_a_signal_reaches_one_process(guest):
    one, two = Numbers.next(), Numbers.next()
    records = [guest.start(number, args=["sleep", "1000"]) for number in (one, two)]
    guest.wait(lambda: all("started" in record.messages for record in records))
    for number, sent in ((one, signal.SIGTERM), (two, signal.SIGKILL)):
        guest.endpoint.control({"type": "signal", "process": number, "signal": int(sent)})
    guest.wait(lambda: all(record.closed for record in records))
    assert [record.code for record in records] == [143, 137]


def test_a_hundred_at_once(guest):
    numbers = [Numbers.next() for _ in range(100)]
    records = [
        guest.start(number, args=[*SHELL, f"read x; echo $x {number}; exit {number % 100}"])
        if number % 2
        else guest.start(
            number, args=[*SHELL, f"read x; echo $x {number}; exit {number % 100}"], stdin=True
        )
        for number in numbers
    ]
    for number in numbers:
        if number % 2 == 0:
            guest.write(number, b"in\n", end=True)
    guest.wait(lambda: all(record.closed for record in records), 120)
    for number, record in zip(numbers, records, strict=True):
        assert record.code == number % 100
        assert record.stdout == (b"%d\n" if number % 2 else b"in %d\n") % number


def test_what_an_exec_leaves_behind_does_not_hold_its_end_up(guest):
    """Two hold its output, one of them goes on writing: what was written before has come."""
    script = "sleep 1000 & (sleep 0.1; while :; do echo late; done) & "
    record = shell(guest, script + "head -c 300000 /dev/zero; echo done; exit 6")
    assert record.code == 6
    assert record.stdout.replace(b"late\n", b"").startswith(bytes(300_000) + b"done\n")


def test_stdin_of_megabytes_comes_back(guest):
    data = random.Random(1).randbytes(2 << 20)
    record = execute(guest, "cat", stdin=data, seconds=120)
    assert hashlib.sha256(record.stdout).digest() == hashlib.sha256(data).digest()


def test_control_is_answered_while_output_is_held_back(guest):
    number = Numbers.next()
    guest.held.add(number)
    script = "trap 'echo caught >&2; exit 9' TERM; (yes | head -c 3000000; echo all >&2) & wait"
    record = guest.start(number, args=[*SHELL, script])
    guest.wait(lambda: len(record.stdout) >= 131072)  # the whole credit
    other = shell(guest, "echo here")
    assert other.stdout == b"here\n"
    guest.endpoint.control({"type": "signal", "process": number, "signal": int(signal.SIGTERM)})
    guest.wait(lambda: b"caught" in record.stderr)
    assert b"all" not in record.stderr  # its writer was stopped meanwhile
    guest.release(number)
    guest.wait(lambda: record.closed)
    assert record.code == 9


def archive(members: dict[str, tarfile.TarInfo | bytes], **options: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **options) as tar:
        for name, what in members.items():
            if isinstance(what, bytes):
                info = tarfile.TarInfo(name)
                info.size, info.mode, info.uid, info.gid, info.mtime = len(what), 0o640, 7, 8, 99
                tar.addfile(info, io.BytesIO(what))
            else:
                what.name = name
                tar.addfile(what)
    return file.getvalue()


def info(kind: bytes, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo()
    made.type = kind
    for name, value in {"mode": 0o755, **fields}.items():
        setattr(made, name, value)
    return made


def copy(guest: GuestHost, kind: str, path: str, data: bytes | None = None, **fields) -> Record:
    number = Numbers.next()
    record = guest.start(number, kind, path=path, **fields)
    if data is not None:
        guest.write(number, data, end=True)
    guest.wait(lambda: record.closed)
    return record


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_tree_goes_in_and_comes_out(guest, form):
    assert shell(guest, "mkdir /home/in").code == 0
    long = "long" * 40
    big = random.Random(2).randbytes(300_001)
    xattr = {"SCHILY.xattr.user.note": "kept"} if form == tarfile.PAX_FORMAT else {}
    sent = {
        "d": info(tarfile.DIRTYPE, mode=0o2750, uid=1000, gid=1000, mtime=12345, pax_headers=xattr),
        "d/big": big,
        f"d/{long}/{long}": b"deep",
        "d/hard": info(tarfile.LNKTYPE, linkname="d/big"),
        "d/link": info(tarfile.SYMTYPE, linkname="/etc/" + long, uid=5, gid=6, mtime=7),
        "d/fifo": info(tarfile.FIFOTYPE, mode=0o600, mtime=8),
    }
    record = copy(guest, "copy-in", "/home/in", archive(sent, format=form))
    assert (record.code, record.stderr) == (0, b"")
    record = copy(guest, "copy-out", "/home/in/d")
    assert (record.code, record.stderr) == (0, b"")
    with tarfile.open(fileobj=io.BytesIO(record.stdout)) as tar:
        found = {member.name: member for member in tar}
        assert set(found) == {*sent, f"d/{long}"}
        for name in ("d/big", "d/hard"):
            file = tar.extractfile(name)
            assert file is not None
            assert file.read() == big
    folder, file = found["d"], found[f"d/{long}/{long}"]
    assert (folder.mode, folder.uid, folder.gid, folder.mtime) == (0o2750, 1000, 1000, 12345)
    assert folder.pax_headers.get("SCHILY.xattr.user.note") == xattr.get("SCHILY.xattr.user.note")
    assert (file.mode, file.uid, file.gid, file.mtime) == (0o640, 7, 8, 99)
    assert found["d/link"].linkname == "/etc/" + long
    assert (found["d/link"].uid, found["d/link"].mtime) == (5, 7)
    assert {found["d/big"].type, found["d/hard"].type} == {tarfile.REGTYPE, tarfile.LNKTYPE}
    assert shell(guest, "rm -r /home/in").code == 0


def names(record: Record) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(record.stdout)) as tar:
        return sorted(tar.getnames())


def test_what_a_path_means(guest):
    script = "mkdir -p /home/p/sub; echo x > /home/p/sub/f; ln -s sub /home/p/link"
    assert shell(guest, script).code == 0
    assert names(copy(guest, "copy-out", "/home/p/sub")) == ["sub", "sub/f"]
    assert names(copy(guest, "copy-out", "/home/p/sub/.")) == [".", "./f"]
    assert names(copy(guest, "copy-out", "/home/p/link")) == ["link"]
    assert names(copy(guest, "copy-out", "/home/p/link", follow=True)) == ["link", "link/f"]
    assert names(copy(guest, "copy-out", "/home/p/link/.")) == [".", "./f"]
    top = names(copy(guest, "copy-out", "/"))
    assert {"./etc/passwd", "./bin/busybox", "./proc", "./dev"} <= set(top)
    assert not [name for name in top if name.startswith(("./proc/", "./sys/", "./dev/"))]


@pytest.mark.parametrize(
    ("kind", "path", "data", "text"),
    [
        pytest.param("copy-out", "/none", None, "/none: No such file", id="no source"),
        pytest.param("copy-in", "/none", b"", "/none: No such file", id="no target"),
        pytest.param("copy-in", "/etc/passwd", b"", "Not a directory", id="target is a file"),
        pytest.param("copy-in", "/tmp", b"x" * 512, "no tar archive", id="no archive"),
        pytest.param(
            "copy-in", "/tmp", archive({"f": b"x" * 2000})[:1500], "cut short", id="cut short"
        ),
        pytest.param("copy-in", "/tmp", archive({"../f": b"x"}), "..", id="upwards"),
        pytest.param(
            "copy-in",
            "/tmp",
            archive({"l": info(tarfile.SYMTYPE, linkname="/etc"), "l/evil": b"x"}),
            "l/evil: ",
            id="through a link",
        ),
        pytest.param("copy-in", "/", archive({"etc": b"x"}), "folder", id="file over a folder"),
    ],
)
def test_a_copy_that_cannot_be(guest, kind, path, data, text):
    record = copy(guest, kind, path, data)
    assert record.code == 1
    assert text in record.stderr.decode()
    assert shell(guest, "test -e /etc/evil || test -e /f").code == 1


def test_the_agent_cannot_be_looked_into(guest):
    """A copy is a clone of the agent, key and all, in the image's own world."""
    number = Numbers.next()
    record = guest.start(number, "copy-in", path="/tmp")  # waits for its archive
    guest.wait(lambda: "started" in record.messages)
    script = """
    for p in /proc/[0-9]*; do
        case "$(tr '\\0' ' ' < $p/cmdline)" in /usr/bin/python*) echo $p
            for f in mem maps environ fd/0; do head -c 1 $p/$f; done
            ls $p/root/
        esac
    done
    """
    seen = shell(guest, script)
    assert seen.stdout.count(b"/proc/") == 1
    assert len(seen.stdout.splitlines()) == 1, seen.stdout
    assert seen.stderr.count(b"denied") == 5, seen.stderr
    guest.write(number, b"", end=True)
    guest.wait(lambda: record.closed)
    assert record.code == 0


def test_output_without_a_host_is_counted_and_the_end_is_kept(link, tmp_path):
    total, ring = 200_000_000, 1 << 20
    # What it writes to the disk afterwards tells that it has written all that; no host can.
    script = """
    dd if=/dev/zero bs=50000 count=4000; dd if=/dev/urandom of=/mark bs=1000000 count=8; sync
    echo last; echo end >&2; exit 42
    """
    rules = {"ring_bytes": ring, "linger_seconds": 600}
    with booted(tmp_path, link, RunConfig(args=(*SHELL, script)), output=rules) as machine:
        while (machine.folder / "scratch.vmdk").stat().st_blocks * 512 < 6_000_000:
            assert machine.machine.wait(0.2) is None
        with served(machine) as host:
            main = host.processes[0]
            host.wait(lambda: main.code is not None)
            assert main.code == 42
            assert main.order[-1] == "exited"
            assert len(main.stdout) + len(main.stderr) + main.gap_bytes - len(b"last\n") > total
            assert main.gap_bytes > total - 2 * ring
            assert main.gaps >= 1
            assert ring * 0.9 <= len(main.stdout) <= ring
            assert main.stdout.endswith(bytes(1000) + b"last\n")
            assert main.stderr.endswith(b"end\n")
            ended(machine, host)


def test_a_machine_that_nobody_comes_for_ends(link, tmp_path):
    rules = {"linger_seconds": 1}
    with booted(tmp_path, link, RunConfig(args=(*SHELL, "exit 5")), output=rules) as machine:
        assert machine.machine.wait(BOOT_SECONDS) == 0
        assert "the process ended with code 5; the host is not there" in machine.console()


def test_power_off_and_what_ran_beside(link, tmp_path):
    run = RunConfig(args=(*SHELL, "trap '' TERM; sleep 1000"))
    with (
        booted(tmp_path, link, run, channel=Channel.SERIAL) as machine,
        served(machine) as host,
    ):
        host.wait(lambda: "started" in host.processes[0].messages, BOOT_SECONDS)
        record = host.start(1, args=["sleep", "1000"])
        host.wait(lambda: "started" in record.messages)
        host.endpoint.control({"type": "power-off"})
        host.wait(lambda: host.processes[0].code is not None)
        assert (record.code, host.processes[0].code) == (137, 137)
        ended(machine, host)
