"""Fetch Debian packages without root. Owns a private apt state and the cached package set.

The host's own sources, keys, pinning and proxy settings decide what is fetched and trusted; apt
verifies it. Nothing of the host's apt state is written, and its hooks do not run. A package set is
kept per state of the sources: once complete, it serves without a network until refreshed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from converter.atomic import write_atomic
from converter.errors import IntegrityError, NotFoundError, UnavailableError
from converter.events import Monitor, Note, StepFinished, StepStarted
from tinykernel import deb
from tinykernel.facts import PackageFacts, kept_facts

ARCHITECTURE = "amd64"

_SET_SCHEMA = 1
_UPDATE_TIMEOUT_SECONDS = 300
_DOWNLOAD_TIMEOUT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Package:
    """One fetched package: its file is `<folder>/<file>` of the set that gave it."""

    name: str
    version: str
    sha256: str
    file: str


class PackageSet:
    """Packages of one archive state, fetched on demand and kept. Made by `open_package_set`."""

    def __init__(self, folder: Path, monitor: Monitor) -> None:
        self.folder = folder
        self._monitor = monitor
        self._record = folder / "set.json"
        self._packages = self._load()
        self._prepared = False
        self._apt_said = ""
        self.was_kept = bool(self._packages)

    def fetch(self, name: str) -> Package:
        """Return package `name`, from the set or by apt from the sources' lists.

        Raises UnavailableError when apt cannot find or get it.
        """
        known = self._packages.get(name)
        if known is not None:
            return known
        self._prepare()
        package = self._download(name)
        self._packages[name] = package
        record = {
            "schema": _SET_SCHEMA,
            "packages": [asdict(self._packages[key]) for key in sorted(self._packages)],
        }
        write_atomic(self._record, json.dumps(record, indent=1).encode())
        return package

    def holds(self, name: str, sha256: str) -> bool:
        """Say whether the set has exactly this package, without fetching it."""
        return name in self._packages and self._packages[name].sha256 == sha256

    def path(self, package: Package) -> Path:
        """Return where the package's file is."""
        return self.folder / package.file

    def facts(self, package: Package) -> PackageFacts:
        """Return what the package says of itself. Raises IntegrityError."""
        return kept_facts(self.path(package), package.sha256, folder=self.folder)

    def requires(self, package: Package) -> list[tuple[str, ...]]:
        """Return the Pre-Depends and Depends of `package`: clauses of alternatives."""
        fields = (deb.control_field(self.path(package), field) for field in _RELATIONS)
        return [clause for field in fields for clause in deb.dependencies(field)]

    def _load(self) -> dict[str, Package]:
        """Return the recorded packages whose files are still what the record says."""
        try:
            record = json.loads(self._record.read_bytes())
            if record["schema"] != _SET_SCHEMA:
                return {}
            packages = [Package(**entry) for entry in record["packages"]]
            whole = all(_sha256(self.path(package)) == package.sha256 for package in packages)
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        # All or nothing: a set that is half old and half new could mix two archive states.
        return {package.name: package for package in packages} if whole else {}

    def _prepare(self) -> None:
        """Make apt's folders and settings and fetch the lists, once; lists of this set are kept."""
        if self._prepared:
            return
        self._prepared = True
        for part in ("state/lists/partial", "cache/archives/partial", "download"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        write_atomic(self.folder / "apt.conf", self._configuration().encode())
        if self._has_lists():
            return
        step = "fetch package lists"
        self._monitor(StepStarted(step))
        # Its exit status is not the answer: one broken third-party source must not stop us when
        # the packages are there, and an unreachable archive is only a warning to apt.
        self._apt_said = self._apt(["update"], timeout=_UPDATE_TIMEOUT_SECONDS).stderr
        self._monitor(StepFinished(step))

    def _download(self, name: str) -> Package:
        step = f"fetch {name}"
        self._monitor(StepStarted(step))
        folder = self.folder / "download"
        for leftover in folder.iterdir():
            leftover.unlink()
        result = self._apt(["download", name], cwd=folder, timeout=_DOWNLOAD_TIMEOUT_SECONDS)
        files = list(folder.glob("*.deb"))
        if result.returncode != 0 or len(files) != 1:
            # Without lists it is they that matter; that a name is not in them is no news.
            said = (result.stderr, self._apt_said)
            reason = _complaint(*said) if self._has_lists() else _complaint(*reversed(said))
            raise UnavailableError(
                f"Package {name} cannot be fetched: {reason}",
                expected="Debian 12 or 13 package sources that the host can reach",
                hint="check the network and `apt-get update`, then build again",
            )
        found = files[0]
        version = deb.control_field(found, "Version")
        package = Package(name, version, _sha256(found), found.name)
        with found.open("rb") as file:
            os.fsync(file.fileno())
        found.rename(self.path(package))
        self._monitor(StepFinished(step, version))
        return package

    def _has_lists(self) -> bool:
        return any((self.folder / "state/lists").glob("*_Packages*"))

    def _configuration(self) -> str:
        """Return an apt.conf(5) that keeps the host's way to the archive and nothing else of it."""
        # Only Acquire settings: proxies and certificates. The rest may hold hooks that run
        # commands (APT::Update::Post-Invoke) and would clean the host's own cache.
        host = self._apt_config_dump().splitlines()
        skipped = ("Acquire::IndexTargets", "Acquire::Languages", "Acquire::cdrom")
        lines = [
            line for line in host if line.startswith("Acquire::") and not line.startswith(skipped)
        ]
        folder = self.folder
        lines += [
            'Dir::Etc::main "/dev/null";',
            'Dir::Etc::parts "/nonexistent";',
            f'Dir::State "{folder}/state";',
            f'Dir::State::status "{folder}/status";',  # empty: what the host installed is no matter
            f'Dir::Cache "{folder}/cache";',
            f'APT::Architecture "{ARCHITECTURE}";',
            f'APT::Architectures {{ "{ARCHITECTURE}"; }};',
            # apt's download user could not enter a private folder; what it gets is verified.
            'APT::Sandbox::User "root";',
            'Acquire::Languages "none";',
            'Acquire::Retries "3";',
        ]
        return "\n".join(lines) + "\n"

    def _apt_config_dump(self) -> str:
        try:
            return subprocess.run(
                ["apt-config", "dump"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_UPDATE_TIMEOUT_SECONDS,
                check=True,
                text=True,
                errors="replace",
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise NotFoundError(
                f"apt cannot be run: {error}", hint="build the boot image on Debian or Ubuntu"
            ) from error

    def _apt(
        self, arguments: list[str], *, timeout: int, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"}
        command = ["apt-get", "--quiet=2", *arguments]
        try:
            return subprocess.run(
                command,
                cwd=cwd or self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                check=False,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(
                f"apt-get {arguments[0]} did not finish in {timeout} s",
                hint="check the network, then build again",
            ) from error
        except OSError as error:
            raise NotFoundError(
                f"apt-get cannot be run: {error}", hint="build the boot image on Debian or Ubuntu"
            ) from error


_RELATIONS = ("Pre-Depends", "Depends")


def fetch_behind(packages: PackageSet, metapackage: str, pattern: str) -> Package:
    """Fetch the package matching `pattern` that `metapackage` depends on, whatever its version.

    Raises UnavailableError as `fetch` does, IntegrityError when there is none.
    """
    for clause in packages.requires(packages.fetch(metapackage)):
        for name in clause:
            if re.fullmatch(pattern, name):
                return packages.fetch(name)
    raise IntegrityError(
        f"package {metapackage} depends on nothing like {pattern}", expected="Debian 12 or 13"
    )


@contextmanager
def open_package_set(
    cache_dir: Path, *, monitor: Monitor, refresh: bool = False
) -> Iterator[PackageSet]:
    """Open the package set of the host's present sources under `cache_dir`, for one process.

    `refresh` starts a new set, with the archive's newest packages, which takes the old one's place
    if the block succeeds. Waits for another process that has the set open.
    """
    folder = cache_dir.absolute() / "packages" / _sources_key()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        _lock(lock.fileno(), monitor)
        if not refresh:
            yield PackageSet(folder, monitor)
            return
        fresh = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        yield PackageSet(fresh, monitor)
        shutil.rmtree(folder)
        fresh.rename(folder)


def _lock(descriptor: int, monitor: Monitor) -> None:
    """Take the lock, and say so when that takes a while: a build of the tiny kernel has it long."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        monitor(Note("another process builds a boot image from these packages, waiting"))
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _sources_key() -> str:
    """Name the state of the host's sources: other sources, other set."""
    etc = Path("/etc/apt")
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    digest = hashlib.sha256(ARCHITECTURE.encode())
    for file in files:
        if file.suffix in (".list", ".sources") and file.is_file():
            try:
                digest.update(b"\0" + os.fsencode(file) + b"\0" + file.read_bytes())
            except PermissionError:  # sources with credentials may be root's alone
                digest.update(b"\0" + os.fsencode(file))
    return digest.hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _complaint(*outputs: str) -> str:
    """Return apt's own complaint: its last one, or what it says of the first file that failed."""
    for output in outputs:
        lines = [line for line in output.splitlines() if line.startswith(("E:", "W:", "Err:"))]
        if lines:
            return next((line for line in lines if "Failed to fetch" in line), lines[-1])
    return "apt gave no reason"
