"""runc in a virtual machine of its own, so that it and our guest stand on the same kernel.

Owns a disk with runc, umoci's root file system of the image and one config.json per row, and the
machine that runs them all: Debian's kernel, busybox as init, nothing of ours. Its answers are read
off the disk afterwards. docker's own command maps runc's refusals to exit codes; so does this.
A row with a terminal has it from tests/cases/terminal.c, which does what containerd's shim does.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cases.observe import Sight, observe
from tests.cases.rows import Row
from tests.images import cases

MEMORY_MIB = 512
_DISK_BYTES = 192 << 20
_SECONDS = 1200
_TERMINAL = Path(__file__).with_name("terminal.c")
_INIT = """\
#!/bin/busybox sh
export PATH=/bin:/sbin
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/init
echo $$ > /sys/fs/cgroup/init/cgroup.procs
ifconfig lo up
umask 022
for row in /rows/*; do
    name=${row##*/}
    rm -rf /bundle/files
    cp -a $row/files /bundle/files
    cp $row/config.json /bundle/config.json
    log="--log /out/$name.log --log-format json"
    if [ -e $row/dialogue ]; then
        terminal /run/socket$name /run/pid $row/dialogue \\
            runc $log run --detach --pid-file /run/pid --console-socket /run/socket$name \\
            --bundle /bundle row$name > /out/$name.out 2> /out/$name.err < /dev/null
        echo $? > /out/$name.code
        runc delete --force row$name
        continue
    fi
    runc $log run --bundle /bundle row$name \\
        > /out/$name.out 2> /out/$name.err < /dev/null
    echo $? > /out/$name.code
done
sync
poweroff -f
"""


def ask(rows: Sequence[Row], *, kernel: Path, work: Path) -> dict[str, Sight]:
    """Return what the probe sees under runc, by row."""
    disk = _make_disk(rows, work)
    subprocess.run(
        [
            *("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2"),
            *("-m", str(MEMORY_MIB), "-display", "none", "-nodefaults", "-no-reboot"),
            *("-kernel", str(kernel), "-append"),
            "console=ttyS0 root=/dev/nvme0n1 rootwait rw init=/init quiet panic=-1 no_timer_check",
            *("-drive", f"file={disk},if=none,id=disk,format=raw"),
            *("-device", "nvme,drive=disk,serial=1"),
            *("-chardev", f"file,id=console,path={work / 'console'}"),
            *("-device", "isa-serial,chardev=console"),
        ],
        check=True,
        timeout=_SECONDS,
    )
    subprocess.run(
        ["debugfs", "-R", f"rdump /out {work}", disk], check=True, capture_output=True, timeout=60
    )
    if not (work / "out" / f"{len(rows) - 1:03}.code").exists():
        raise RuntimeError(
            f"runc's machine did not come to its end:\n{(work / 'console').read_text()[-4000:]}"
        )
    return {row.id: _answer(row, work / "out", index) for index, row in enumerate(rows)}


def exit_code(code: int, message: str | None) -> int:
    """Return docker run's exit code for runc's.

    Its refusals are told apart by their text: docker/cli, cli/command/container/run.go,
    toStatusError.
    """
    if message is None:
        return code
    if "executable file not found" in message or "no such file or directory" in message:
        return 127
    if "permission denied" in message or "is a directory" in message:
        return 126
    return 125


def _answer(row: Row, out: Path, index: int) -> Sight:
    name = f"{index:03}"
    log = [json.loads(line) for line in (out / f"{name}.log").read_text().splitlines()]
    refusals = [line["msg"] for line in log if line["level"] == "error"]
    code = int((out / f"{name}.code").read_text())
    if refusals:
        return {"code": exit_code(code, refusals[-1])}
    output = (out / f"{name}.out").read_bytes()
    return observe(
        output,
        code=code,
        keep_machine_limits=row.keeps_machine_limits,
        by_terminal=row.has_terminal,
    )


def _make_disk(rows: Sequence[Row], work: Path) -> Path:
    root = work / "root"
    for name in ("bin", "dev", "etc", "lib64", "out", "proc", "run", "rows", "sbin", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    busybox, runc = shutil.which("busybox"), shutil.which("runc", path="/usr/sbin:/sbin:/usr/bin")
    if busybox is None or runc is None:
        raise FileNotFoundError(
            "this needs busybox-static and runc: . scripts/setup.sh; install_packages cases"
        )
    shutil.copy(busybox, root / "bin/busybox")
    shutil.copy(runc, root / "sbin/runc")
    _copy_libraries(Path(runc), root)
    _compile(_TERMINAL, root / "sbin/terminal")
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    subprocess.run(
        ["umoci", "unpack", "--image", f"{cases.layout()}:latest", root / "bundle"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    for index, row in enumerate(rows):
        folder = root / "rows" / f"{index:03}"
        (folder / "files").mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(row.configuration()))
        if row.has_terminal:
            (folder / "dialogue").write_text("".join(map(_dialogue_line, row.dialogue)))
        for name, text in row.run_files().items():
            (folder / "files" / name).write_text(text)
    disk = work / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(_DISK_BYTES)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", root, disk], check=True, timeout=60)
    return disk


def _dialogue_line(step: Mapping[str, Any]) -> str:
    """Return a step as terminal.c reads it."""
    after, typed = (step.get(name, "").encode().hex() or "-" for name in ("after", "type"))
    rows, columns = step.get("size", (0, 0))
    return f"{after} {typed} {rows} {columns}\n"


def _compile(source: Path, program: Path) -> None:
    command = ["gcc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]
    subprocess.run([*command, str(program), str(source)], check=True, timeout=60)


def _copy_libraries(program: Path, root: Path) -> None:
    listing = subprocess.run(
        ["ldd", program], check=True, capture_output=True, text=True, timeout=10
    ).stdout
    for word in listing.split():
        if word.startswith("/"):
            target = root / word.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, target)
