"""tether in a real machine: what the process finds there, and what is left when it has gone.

Through the boot image, QEMU and the host's relay; the disk is mke2fs's, so that only the guest is
under test. What needs no machine is in tests/unit/tether.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import termios
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.host import ExitStatus
from converter.machine.model import Channel, GuestConfig, MachineSpec, RunConfig
from tests.guests.machines import run_to_end
from tinykernel.record import load_boot_image

pytestmark = [pytest.mark.integration, pytest.mark.vm]

ROOT_UUID = "6f1c9a3e-1111-4222-8333-0123456789ab"
CAPACITY_BYTES = 64 << 20
APPLETS = [
    *("cat", "cut", "date", "df", "grep", "head", "hostname", "id", "ifconfig", "ls", "mkdir"),
    *("mknod", "mount", "pwd", "readlink", "setsid", "sh", "stat", "stty", "tail", "test", "tr"),
    *("tty", "umount", "wc"),
]
# What each line prints is asserted below under the word before the colon.
SURVEY = r"""
say() { echo "$1: $2"; }
denied() { name=$1; shift; "$@" >/dev/null 2>&1 && say "$name" done || say "$name" denied; }
say id "$(id)"
say home "$HOME"
say path "$PATH"
say hostname "$(hostname) $HOSTNAME $(cat /etc/hostname)"
say pwd "$(pwd)"
say umask "$(umask)"
say files "$(ulimit -Sn) $(ulimit -Hn)"
say pid "$$"
say caps "$(grep CapBnd /proc/self/status | tr -d '\t')"
say ignored "$(grep SigIgn /proc/self/status | tr -d '\t')"
say oom_score_adj "$(cat /proc/1/oom_score_adj)"
say cgroup "$(cat /proc/self/cgroup)"
say stdin "$(readlink /proc/1/fd/0)"
say root "$(ls / | tr '\n' ' ')"
say shm "$(stat -c '%a' /dev/shm) $(df -m /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2)"
say kcore "$(head -c 1 /proc/kcore | wc -c)"
say lo "$(ifconfig lo | grep -c 127.0.0.1)"
echo through > /dev/stdout
echo unclean > /left-behind
denied mount mount -t tmpfs none /tmp
denied devtmpfs mount -t devtmpfs none /tmp
denied umount umount /
denied sysrq sh -c 'echo h > /proc/sysrq-trigger'
denied sysctl sh -c 'echo x > /proc/sys/kernel/hostname'
denied sysfs mkdir /sys/fs/cgroup/x
denied fw_cfg test -e /sys/firmware/qemu_fw_cfg
denied line sh -c 'mknod /tmp/line c 4 64 && echo x > /tmp/line'
setsid sh -c 'while :; do date >> /log; done' &
exit 9
"""
DOCKER_CAPABILITIES = "00000000a80425fb"


@dataclass(frozen=True)
class Outcome:
    status: ExitStatus
    stdout: bytes
    stderr: bytes
    spec: MachineSpec
    folder: Path


@pytest.fixture(scope="module")
def disk(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disk")
    root = folder / "root"
    for name in ("bin", "etc", "home/app", "opt", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(tool("busybox"), root / "bin/busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\naudio:x:29:app\n")
    (root / "etc/resolv.conf").symlink_to("../run/resolve/stub.conf")
    (root / "opt/data").write_text("no program")
    (root / "opt/script").write_text("#!/no/interpreter\n")
    (root / "opt/script").chmod(0o755)
    raw, link = folder / "disk.raw", folder / "disk.vmdk"
    with raw.open("wb") as file:
        file.truncate(CAPACITY_BYTES)
    for command in (
        [tool("mke2fs"), "-q", "-F", "-t", "ext4", "-U", ROOT_UUID, "-d", root, raw],
        [tool("qemu-img"), "convert", "-O", "vmdk", raw, link],
    ):
        subprocess.run(command, check=True, timeout=60)
    return link


@pytest.fixture
def relay(disk: Path, boot_store: Path, tmp_path: Path) -> Callable[..., Outcome]:
    (boot,) = (boot_store / "boot").glob("*/boot.json")

    def run(
        config: RunConfig,
        *,
        channel: Channel = Channel.VIRTIO_SERIAL,
        image: dict[str, object] | None = None,
        memory_mib: int = 256,
        stdin: int | None = None,
        capacity_bytes: int = CAPACITY_BYTES,
    ) -> Outcome:
        spec = MachineSpec(
            chain=(disk,),
            capacity_bytes=capacity_bytes,
            boot=load_boot_image(boot.parent),
            guest=GuestConfig(
                root_uuid=ROOT_UUID,
                hostname="0123456789ab",
                image=image or {},
                run=config,
            ),
            memory_mib=memory_mib,
            channel=channel,
        )
        ended = run_to_end(spec, tmp_path, stdin=stdin)
        return Outcome(ended.status, ended.stdout, ended.stderr, spec, ended.folder)

    return run


def shell(script: str, **config: object) -> RunConfig:
    return RunConfig(args=("/bin/sh", "-c", script), **config)


def check_file_system(outcome: Outcome, base: Path) -> None:
    """Demand that what the guest left behind is clean, journal and all."""
    raw = outcome.folder.parent / "after.raw"
    image = {
        "driver": "vmdk",
        "file": {"driver": "file", "filename": os.fspath(outcome.folder / "scratch.vmdk")},
        "backing": {
            "driver": "vmdk",
            "file": {"driver": "file", "filename": os.fspath(base)},
            "backing": None,
        },
    }
    subprocess.run(
        ["qemu-img", "convert", "-O", "raw", "json:" + json.dumps(image), raw],
        check=True,
        timeout=60,
    )
    done = subprocess.run(
        ["e2fsck", "-fn", raw], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "recovering journal" not in done.stdout + done.stderr


def survey(outcome: Outcome) -> dict[str, str]:
    lines = outcome.stdout.decode().splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def test_root_s_world_and_a_clean_end(relay, disk):
    outcome = relay(shell(SURVEY), image={"WorkingDir": "/srv/new"}, channel=Channel.SERIAL)
    found = survey(outcome)
    assert outcome.status == ExitStatus(9), outcome.stderr
    assert found == {
        "id": "uid=0(root) gid=0(root) groups=0(root)",
        "home": "/root",
        "path": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "hostname": " ".join(["0123456789ab"] * 3),
        "pwd": "/srv/new",
        "umask": "0022",
        "files": "1024 1048576",
        "pid": "1",
        "caps": f"CapBnd:{DOCKER_CAPABILITIES}",
        "ignored": "SigIgn:" + "0" * 16,
        "oom_score_adj": "0",
        "cgroup": "0::/",
        "stdin": "/dev/null",
        "root": "bin dev etc home lost+found opt proc run srv sys tmp ",
        "shm": "1777 64",
        "kcore": "0",
        "lo": "1",
        "mount": "denied",
        "devtmpfs": "denied",
        "umount": "denied",
        "sysrq": "denied",
        "sysctl": "denied",
        "sysfs": "denied",
        "fw_cfg": "denied",
        "line": "denied",  # ttyS0 is the channel: a device node of it can be made, not opened
    }
    assert b"\nthrough\n" in outcome.stdout
    check_file_system(outcome, disk)


def test_user_s_world(relay, disk):
    outcome = relay(
        shell(SURVEY, user="app", workdir="/home"),
        image={"Env": ["PATH=/bin", "HOME="], "User": "root"},
    )
    found = survey(outcome)
    assert outcome.status == ExitStatus(9), outcome.stderr
    assert found["id"] == "uid=1000(app) gid=1000(app) groups=29(audio),1000(app)"
    assert (found["home"], found["path"], found["pwd"]) == ("/home/app", "/bin", "/home")
    assert b"\nthrough\n" in outcome.stdout  # its stdout is its own, also by path
    check_file_system(outcome, disk)


@pytest.mark.parametrize(
    ("config", "code", "kind", "message"),
    [
        pytest.param(RunConfig(args=("/opt/data",)), 126, "command", "permission", id="data"),
        pytest.param(RunConfig(args=("/opt/script",)), 127, "command", "No such", id="interpreter"),
    ],
)
def test_process_that_cannot_start(relay, disk, config, code, kind, message):
    """Other failures are test_guest_failures's, which has them on every line."""
    outcome = relay(config)
    assert outcome.status.code == code
    assert outcome.status.failure is not None
    assert outcome.status.failure.kind == kind
    assert message in outcome.status.failure.message
    check_file_system(outcome, disk)


def test_terminal_has_its_size_at_the_first_instruction(relay):
    host, guest = os.openpty()
    try:
        termios.tcsetwinsize(guest, (33, 101))
        script = (
            "stty size; tty; stat -c '%u %g %a' /dev/pts/0 /dev/console; echo $TERM; echo e >&2"
        )
        outcome = relay(
            shell(script, tty=True, stdin=True, user="app", rows=33, cols=101), stdin=guest
        )
    finally:
        os.close(host)
        os.close(guest)
    assert outcome.status == ExitStatus(0)
    assert outcome.stdout.split(b"\r\n") == [
        *(b"33 101", b"/dev/pts/0", b"1000 5 620", b"1000 5 620", b"xterm", b"e", b""),
    ]
    assert outcome.stderr == b""


def test_want_of_memory_is_told_though_the_shell_survives(relay):
    outcome = relay(shell("tail /dev/zero; exit 3"), memory_mib=128)
    assert outcome.status == ExitStatus(3, oom=True)


def test_file_system_grows_with_its_disk(relay, disk):
    outcome = relay(shell("df -m / | tail -n 1"), capacity_bytes=1 << 30)
    assert 900 < int(outcome.stdout.split()[1]) <= 1024
    check_file_system(outcome, disk)
