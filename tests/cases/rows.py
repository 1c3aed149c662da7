"""The rows of the case table, and the OCI configuration that each one's documentation asks for.

Owns the reading of tests/data/docker_cases. A row's `spec` edits Docker's default configuration;
nothing here knows our own converter or agent, so that it can be held against them.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cases.observe import CAPABILITIES

DATA = Path(__file__).resolve().parents[1] / "data"
CASES = DATA / "docker_cases"
DEFAULT_SPEC = DATA / "docker-default-spec.json"
SEEN = CASES / "seen.jsonl"
BASE = "defaults"  # the first case: what the others are told as differences from
ALONE = "*"  # in what is seen: there is nothing but this, it is no difference
HOST_NAME = "0123456789ab"
HOSTS = (
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    f"127.0.1.1\t{HOST_NAME}\n"
)
FILES = {
    "hostname": f"{HOST_NAME}\n",
    "hosts": HOSTS,
    "resolv.conf": "# This machine has no name server.\n",
}
_SETS = ("bounding", "permitted", "effective")
_STEP = re.compile(r"([A-Za-z]+)(?:\[(.*)\])?\Z")
# By what a list's elements are known.
_KEYS = {"mounts": "destination", "rlimits": "type", "namespaces": "type"}


@dataclass(frozen=True)
class Row:
    """One `docker run`. `spec` is None where the documentation itself says what is seen."""

    part: str  # of the table: its file's name
    id: str
    doc: str
    flags: tuple[str, ...] = ()
    command: tuple[str, ...] = ("probe",)
    image: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] | None = None
    expect: Mapping[str, Any] | None = None
    ignore: tuple[str, ...] = ()
    caller: Mapping[str, str] = field(default_factory=dict)  # the environment of the caller
    files: Mapping[str, str] = field(default_factory=dict)  # beside the caller
    size: tuple[int, int] | None = None  # of the caller's terminal: rows, columns
    dialogue: tuple[Mapping[str, Any], ...] = ()  # what the user does, each once something was seen
    makes: tuple[str, ...] = ()  # on the disk, by which its lives or checks know each other

    @property
    def keeps_machine_limits(self) -> bool:
        """Whether the flags say what is else the machine's."""
        return any("sigpending" in flag for flag in self.flags)

    @property
    def has_terminal(self) -> bool:
        """Whether the flags ask for a terminal."""
        return "-t" in self.flags

    @property
    def has_life(self) -> bool:
        """Whether there is more to it than one process and its output.

        A terminal and its user, or further starts, or checks: the agent's loop does these.
        """
        flags = any(flag.startswith(("--restart", "--health")) for flag in self.flags)
        return self.has_terminal or bool(self.dialogue) or flags or "Healthcheck" in self.image

    def configuration(self) -> dict[str, Any]:
        """Return the config.json that runc is to run."""
        assert self.spec is not None
        document: dict[str, Any] = json.loads(DEFAULT_SPEC.read_text())["spec"]
        if "process.args" not in self.spec:
            document["process"]["args"] = list(self.command)
        for path, value in self.spec.items():
            if path != "files":
                _edit(document, path, copy.deepcopy(value))
        if document["process"]["user"]["uid"] != 0:  # moby, oci.SetCapabilities: as execve(2) does
            for name in ("permitted", "effective"):
                document["process"]["capabilities"][name] = []
        document["mounts"] = _sorted(document["mounts"])
        return document

    def run_files(self) -> dict[str, str]:
        """Return what the run puts over files of the image's /etc, by name."""
        return {**FILES, **((self.spec or {}).get("files") or {})}


def load() -> list[Row]:
    """Return all rows, the base first; ids are unique."""
    rows = []
    for path in sorted(CASES.glob("*.toml")):
        for entry in tomllib.loads(path.read_text())["case"]:
            for name in ("flags", "command", "ignore", "size", "dialogue", "makes"):
                if name in entry:
                    entry[name] = tuple(entry[name])
            rows.append(Row(part=path.stem, **entry))
    rows.sort(key=lambda row: row.id != BASE)  # stable
    assert rows[0].id == BASE
    assert len({row.id for row in rows}) == len(rows)
    assert all((row.spec is None) != (row.expect is None) for row in rows)
    return rows


def load_seen() -> dict[str, dict[str, Any]]:
    """Return what runc has shown, by row."""
    lines = [json.loads(line) for line in SEEN.read_text().splitlines()]
    return {line["id"]: line["sees"] for line in lines}


def _sorted(mounts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the run's mounts behind Docker's own, those nearer to the root first.

    moby, daemon/oci_linux.go, WithMounts, and daemon/volumes_unix.go, setupMounts.
    """
    places = {
        mount["destination"] for mount in json.loads(DEFAULT_SPEC.read_text())["spec"]["mounts"]
    }
    places -= {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
    own = [mount for mount in mounts if mount["destination"] in places]
    others = [mount for mount in mounts if mount["destination"] not in places]
    return own + sorted(others, key=lambda mount: mount["destination"].count("/"))


def _edit(document: dict[str, Any], path: str, value: Any) -> None:
    if path.lstrip("+-") == "capabilities":
        sets = document["process"]["capabilities"]
        wanted = [f"CAP_{name}" for name in CAPABILITIES] if value == "all" else value
        for name in _SETS:
            sets[name] = _changed(sets[name], path[0], wanted)
        return
    *above, last = re.split(r"\.(?![^\[]*\])", path.lstrip("+-"))
    place: Any = document
    for step in above:
        place = _enter(place, step)
    match = _STEP.match(last)
    assert match, path
    name, key = match[1], match[2]
    if key is None:
        place[name] = _changed(place.get(name), path[0], value)
    elif isinstance(place.get(name), list):
        element = {_KEYS[name]: key, **value}
        place[name] = [item for item in place[name] if item[_KEYS[name]] != key] + [element]
    else:
        place[name][key] = value


def _enter(place: Any, step: str) -> Any:
    match = _STEP.match(step)
    assert match, step
    inner = place[match[1]]
    if match[2] is None:
        return inner
    (found,) = [item for item in inner if item[_KEYS[match[1]]] == match[2]]
    return found


def _changed(old: Any, sign: str, value: Any) -> Any:
    if sign == "+":
        return [*old, *value]
    if sign == "-":
        assert all(any(_named(item) == name for item in old) for name in value), value
        return [item for item in old if _named(item) not in value]
    return value


def _named(item: Any) -> Any:
    return item if isinstance(item, str) else item.get("destination") or item.get("type")
