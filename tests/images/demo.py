"""The demo image: a real Debian system in four layers, the way an image builder makes one.

A base, a package layer (what installing packages changed), a layer that deletes and changes files
of the lower ones, and an app with its own user, environment and working directory. Owns the recipe
and the difference of two archives; packages come from `mmdebstrap`, which needs no root where user
namespaces are allowed and asks sudo for itself where they are not.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.images.cache import ROOT, fingerprint, remove
from tests.images.layout import LayoutWriter
from tests.images.tarball import MTIME, NET_RAW_CAPABILITY, TarBuilder

SUITE = "bookworm"
BASE_PACKAGES = ("netbase",)
ADDED_PACKAGES = ("iputils-ping", "libcap2-bin", "procps", "tzdata", "less", "attr")
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_BUILD_TIMEOUT_SECONDS = 900

ENTRYPOINT = """#!/bin/sh
# Runs whatever it is given, so that `run IMAGE sh -c ...` works as people expect.
set -e
export STARTED_BY=entrypoint
exec "$@"
"""
GREET = r"""#!/usr/bin/perl
# Says what it is and where it runs; exits with the number after --exit, if there is one.
use strict; use warnings; use Cwd;
my ($code, @words) = (0);
while (defined(my $word = shift)) {
    if ($word eq "--exit") { $code = shift } else { push @words, $word }
}
my $user = getpwuid($<) // "nobody we know";
open(my $file, "<", "/proc/sys/kernel/hostname") or die "no hostname: $!";
chomp(my $host = <$file>);
printf "Hello, %s!\n", @words ? "@words" : "whoever you are";
printf "I am %s (uid %d, gid %d) in %s on %s\n", $user, $<, $(, getcwd(), $host;
printf "%s=%s\n", $_, $ENV{$_} // "" for qw(GREETING HOME PATH STARTED_BY);
exit $code;
"""
APP_CONFIG = {
    "User": "app",
    "Env": [
        "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
        "GREETING=salt on the horizon",
        "LANG=C.UTF-8",
    ],
    "WorkingDir": "/srv/app",
    "Entrypoint": ["/usr/local/bin/entrypoint"],
    "Cmd": ["greet", "world"],
    "Labels": {"org.opencontainers.image.title": "saltflat demo"},
}


def key() -> str:
    """Return the hash of everything the image depends on, save for newer Debian packages."""
    return fingerprint(ROOT / f"tests/images/{name}.py" for name in ("demo", "layout", "tarball"))


def build(folder: Path, more: tuple[str, ...] = ()) -> str:
    """Write the demo image as an OCI layout; return its manifest digest.

    `more` packages join the second layer, for who wants a large image. Raises CalledProcessError
    when mmdebstrap fails; its own messages go to stderr.
    """
    scratch = folder.with_name(f"{folder.name}.trees")
    remove(scratch)  # of a run that was killed
    scratch.mkdir(parents=True)
    try:
        base, full = scratch / "base.tar", scratch / "full.tar"
        added = ADDED_PACKAGES + more
        builds = [_bootstrap(base, BASE_PACKAGES), _bootstrap(full, BASE_PACKAGES + added)]
        for process in builds:
            if process.wait(_BUILD_TIMEOUT_SECONDS):
                raise subprocess.CalledProcessError(process.returncode, process.args)
        layout = LayoutWriter(folder)
        lower = _scan(base)
        upper = _scan(full)
        layout.layer(
            lambda tar: _copy_members(tar, base, frozenset(lower)), comment=f"debian {SUITE}"
        )
        layout.layer(
            lambda tar: _difference(tar, lower, upper, full),
            comment=f"apt-get install {' '.join(added)}",
        )
        layout.layer(lambda tar: _change(tar, full), comment="delete and change")
        layout.layer(lambda tar: _app(tar, full), comment="app")
        return layout.finish(config=APP_CONFIG, tags=("1", "latest"))
    finally:
        remove(scratch)


def _bootstrap(target: Path, packages: tuple[str, ...]) -> subprocess.Popen[bytes]:
    command = [
        *(() if _may_make_namespaces() else ("sudo", "--preserve-env=SOURCE_DATE_EPOCH")),
        "mmdebstrap",
        "--quiet",
        "--variant=essential",
        "--format=tar",
        f"--include={','.join(packages)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        SUITE,
        "-",
    ]
    with target.open("wb") as file:
        # SOURCE_DATE_EPOCH makes mmdebstrap's archive reproducible: file times are clamped to it.
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(MTIME), "LC_ALL": "C"}
        return subprocess.Popen(command, stdout=file, env=environment)


def _may_make_namespaces() -> bool:
    if os.geteuid() == 0:
        return True
    user = pwd.getpwuid(os.geteuid()).pw_name
    ranges = Path("/etc/subuid").read_text() if Path("/etc/subuid").exists() else ""
    listed = any(line.startswith(f"{user}:") for line in ranges.splitlines())
    return listed and shutil.which("newuidmap") is not None


@dataclass(frozen=True, slots=True)
class _Member:
    """What makes two archive members the same file; `content` is a digest."""

    kind: bytes
    mode: int
    owner: tuple[int, int]
    mtime: float
    target: str
    device: tuple[int, int]
    xattrs: tuple[tuple[str, str], ...]
    content: bytes


def _scan(path: Path) -> dict[str, _Member]:
    found = {}
    with tarfile.open(path) as archive:
        for info in archive:
            data = archive.extractfile(info) if info.isreg() else None
            found[_plain(info.name)] = _Member(
                kind=info.type,
                mode=info.mode,
                owner=(info.uid, info.gid),
                mtime=info.mtime,
                target=info.linkname,
                device=(info.devmajor, info.devminor),
                xattrs=tuple(sorted(p for p in info.pax_headers.items() if "xattr" in p[0])),
                content=_digest(data) if data else b"",
            )
    return found


def _digest(data: IO[bytes]) -> bytes:
    digest = hashlib.sha256()
    while chunk := data.read(1 << 20):
        digest.update(chunk)
    return digest.digest()


def _difference(
    tar: TarBuilder, lower: dict[str, _Member], upper: dict[str, _Member], source: Path
) -> None:
    """Append what a build step that turned `lower` into `upper` would have left as its layer."""
    gone = {name for name in lower if name not in upper}
    for name in sorted(gone):
        if name.rpartition("/")[0] not in gone:  # a deleted folder takes its children along
            tar.whiteout(name)
    _copy_members(
        tar, source, {name for name, member in upper.items() if lower.get(name) != member}
    )


def _copy_members(tar: TarBuilder, source: Path, wanted: set[str] | frozenset[str]) -> None:
    with tarfile.open(source) as archive:
        for info in archive:
            if _plain(info.name) in wanted:
                tar.copy(info, archive.extractfile(info) if info.isreg() else None)


def _change(tar: TarBuilder, source: Path) -> None:
    for name in ("usr/share/zoneinfo/Antarctica", "usr/share/zoneinfo/Arctic", "etc/issue.net"):
        tar.whiteout(name)
    tar.directory("usr/share/zoneinfo/Etc")
    tar.opaque("usr/share/zoneinfo/Etc")
    tar.symlink("usr/share/zoneinfo/Etc/UTC", "../UTC")
    tar.file("etc/issue", b"Debian, changed by the third layer\n")
    tar.file("etc/motd", b"replaced\n", mode=0o600, gid=4)
    # A chmod and chown costs a whole copy of the file, as in any image.
    tar.file("usr/bin/less", _content(source, "usr/bin/less"), mode=0o750, uid=0, gid=50)
    tar.file(
        "usr/bin/ping",
        _content(source, "usr/bin/ping"),
        mode=0o755,
        xattrs=NET_RAW_CAPABILITY,
    )
    # A folder becomes a link, a link becomes a folder, a file becomes a folder.
    tar.symlink("srv", "var/srv")
    tar.directory("var/srv", mode=0o755)
    tar.whiteout("var/lock")
    tar.directory("var/lock", mode=0o1777)
    tar.whiteout("etc/debian_version")
    tar.directory("etc/debian_version")
    tar.file("etc/debian_version/text", b"12\n")
    tar.file("etc/annotated", b"", xattrs={"user.note": "h\u00e9".encode()})


def _app(tar: TarBuilder, source: Path) -> None:
    accounts = _content(source, "etc/passwd") + b"app:x:10001:10001:Demo:/home/app:/bin/sh\n"
    tar.file("etc/passwd", accounts)
    groups = _content(source, "etc/group") + b"app:x:10001:\nsalt:x:10002:app\n"
    tar.file("etc/group", groups)
    tar.directory("home/app", mode=0o750, uid=10001, gid=10001)
    tar.directory("var/srv/app", uid=10001, gid=10001)
    tar.file("var/srv/app/data.txt", b"some data\n", uid=10001, gid=10002, mode=0o640)
    tar.file("usr/local/bin/entrypoint", ENTRYPOINT.encode(), mode=0o755)
    tar.file("usr/local/bin/greet", GREET.encode(), mode=0o755)


def _content(source: Path, name: str) -> bytes:
    with tarfile.open(source) as archive:
        for info in _named(archive, name):
            data = archive.extractfile(info)
            if data is not None:
                return data.read()
    raise FileNotFoundError(f"{name} in {source}")


def _named(archive: tarfile.TarFile, name: str) -> Iterator[tarfile.TarInfo]:
    return (info for info in archive if _plain(info.name) == name)


def _plain(name: str) -> str:
    return name.removeprefix("./").strip("/")
