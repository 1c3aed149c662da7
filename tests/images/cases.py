"""The image of the case table: busybox, a few accounts, and a probe that says what it sees.

The probe is a shell script, so that it is text here and the same program under runc and in our
guest. It reads /proc rather than what its shell believes: a shell changes its own environment.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.images.cache import cache_folder, cached, fingerprint
from tests.images.layout import LayoutWriter
from tests.images.tarball import TarBuilder

APPLETS = (
    *("cat", "chroot", "dd", "echo", "false", "head", "hostname", "id", "kill", "ln", "ls"),
    *("mkdir", "mknod", "mount", "ps", "rm", "setpriv", "sh", "sleep", "stat", "touch", "true"),
    *("umount", "unshare", "nsenter", "cut", "grep", "tail", "tr", "sync", "wc", "env", "find"),
    *("readlink", "stty", "tty"),
)
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment, which is no account
daemon:x:1:1::/usr/sbin:/bin/false
app:x:1000:1000::/home/app:/bin/sh
lone:x:1001:1001::/:/bin/sh
nohome:x:1002:1002:::/bin/sh
2000:x:3000:3000::/home/number:/bin/sh
"""
GROUP = """\
root:x:0:
daemon:x:1:
audio:x:29:app
video:x:44:app,lone
staff:x:50:
app:x:1000:
"""
# What the probe shows of /proc, in this order.
SECTIONS = {
    "argv": "/proc/$$/cmdline",
    "env": "/proc/$$/environ",
    "status": "/proc/self/status",  # of cat: the shell itself ignores SIGQUIT
    "limits": "/proc/$$/limits",
    "oom_score_adj": "/proc/$$/oom_score_adj",
    "stat": "/proc/$$/stat",
    "mounts": "/proc/$$/mountinfo",
    "cgroup": "/proc/self/cgroup",
    "hostname": "/proc/sys/kernel/hostname",
    "file:/etc/hostname": "/etc/hostname",
    "file:/etc/hosts": "/etc/hosts",
    "file:/etc/resolv.conf": "/etc/resolv.conf",
    "sysctl:port_start": "/proc/sys/net/ipv4/ip_unprivileged_port_start",
    "sysctl:ping_groups": "/proc/sys/net/ipv4/ping_group_range",
    "sysctl:shmmax": "/proc/sys/kernel/shmmax",
    "sysctl:forward": "/proc/sys/net/ipv4/ip_forward",
    "sysctl:queues": "/proc/sys/fs/mqueue/queues_max",
}
# Docker's masked and read-only paths, and places that one may or may not write to.
HIDDEN = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys"),
    *("/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list"),
    *("/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"),
)
WRITABLE = (
    *("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/proc/sysrq-trigger"),
    *("/proc/sys/kernel/hostname", "/proc/irq/default_smp_affinity"),
)
FOLDERS = ("/", "/dev", "/dev/shm", "/tmp", "/sys", "/sys/fs/cgroup", "/proc/bus")
PROBE = """\
#!/bin/sh
# Prints sections, each after a NUL; then one for each argument, which it runs as a command.
mark() {{ printf '\\0==%s\\n' "$1"; }}
empty() {{ set -- "$1"/*; [ ! -e "$1" ]; }}
state() {{
    if [ ! -e "$1" ]; then echo "$1 hidden"
    elif [ -d "$1" ]; then if empty "$1"; then echo "$1 hidden"; else echo "$1 visible"; fi
    elif [ -c "$1" ]; then echo "$1 hidden"
    else echo "$1 visible"; fi
}}
# Opening is enough, and nothing is written. [ -w ] would only look at mode bits.
access() {{ if true 2>/dev/null >> "$2"; then echo "$1 yes"; else echo "$1 no"; fi; }}
cat {files} 2>/dev/null
mark cwd; pwd
mark hidden; for path in {hidden}; do state "$path"; done
mark writable
for path in {writable}; do access "$path" "$path"; done
for path in {folders}; do access "$path" "$path/.probe"; done
rm -f {made}
mark dev; stat -c '%N|%F %a %u %g %t:%T' /dev/* /dev/pts/*
for line; do mark tried; sh -c "$line" 2>&1 </dev/null; echo "[$?]"; done
"""
CONFIG = {"Cmd": ["probe"]}


def layout() -> Path:
    """Return the OCI layout of the image, tag `latest`."""
    return cached(cache_folder(), "cases", fingerprint([Path(__file__)]), build)


def build(folder: Path) -> None:
    """Write the layout into `folder`."""
    writer = LayoutWriter(folder)
    writer.layer(_files, comment="busybox, accounts, probe")
    writer.finish(config=CONFIG)


def _files(tar: TarBuilder) -> None:
    program = shutil.which("busybox")
    if program is None:
        raise FileNotFoundError("no busybox here: install busybox-static")
    for name in ("bin", "etc", "home", "opt", "opt/folder", "opt/probe", "run", "usr", "usr/local"):
        tar.directory(name)
    tar.directory("home/app", uid=1000, gid=1000)
    tar.directory("home/closed", mode=0o700)
    tar.directory("tmp", mode=0o1777)
    tar.directory("usr/local/bin")
    tar.file("bin/busybox", Path(program).read_bytes(), mode=0o755)
    for applet in APPLETS:
        tar.symlink(f"bin/{applet}", "busybox")
    tar.file("etc/passwd", PASSWD.encode())
    tar.file("etc/group", GROUP.encode())
    tar.symlink("etc/resolv.conf", "../run/resolve/stub.conf")
    tar.file("etc/hosts", b"203.0.113.1 image\n")
    tar.file("opt/data", b"no program\n")
    tar.file("opt/script", b"#!/no/interpreter\n", mode=0o755)
    tar.file("opt/closed", b"#!/bin/sh\n", mode=0o700)
    files = []
    for index, (name, path) in enumerate(SECTIONS.items()):
        marker = f"opt/probe/{index:02}"
        tar.file(marker, f"\0=={name}\n".encode())
        files += [f"/{marker}", path]
    text = PROBE.format(
        files=" ".join(files),
        hidden=" ".join(HIDDEN),
        writable=" ".join(WRITABLE),
        folders=" ".join(FOLDERS),
        made=" ".join(f"{folder}/.probe" for folder in FOLDERS),
    )
    tar.file("bin/probe", text.encode(), mode=0o755)
    tar.file("usr/local/bin/other", text.encode(), mode=0o755)
