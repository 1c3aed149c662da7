"""Docker's rules for the values of run's options; what they do in a guest is the case table's."""

from __future__ import annotations

import json

import click
import pytest

from agent.tether.host_config import DEFAULTS, HostConfig, parse_host_config
from converter.cli import run
from converter.cli.run_options import OPTION_NAMES, RunOptions, read_options
from converter.errors import UsageError


def read(*flags: str) -> RunOptions:
    context = run.command.make_context("run", [*flags, "image"])
    return read_options(**{name: context.params[name] for name in OPTION_NAMES})


def test_nothing_said_is_all_defaults() -> None:
    options = read()
    assert options.host == DEFAULTS
    assert options.run_config([], terminal_size=None).to_json()["host_config"] is None


GIVEN = [
    (["--ulimit", "nofile=1024:2048", "--ulimit", "core=-1"],
     {"limits": (("nofile", 1024, 2048), ("core", -1, -1))}),
    (["--ulimit", "nofile=10:-1"], {"limits": (("nofile", 10, -1),)}),
    (["--cap-add", "cap_net_admin", "--cap-drop", "All"],
     {"add_capabilities": ("NET_ADMIN",), "drop_capabilities": ("ALL",)}),
    (["--tmpfs", "/run/", "--tmpfs", "/a:size=1m,mode=700"],
     {"tmpfs": (("/run", ""), ("/a", "size=1m,mode=700"))}),
    (["--shm-size", "0"], {}),
    (["--shm-size", "1g"], {"shm_bytes": 1 << 30}),
    (["--add-host", "a:[::1]", "--add-host", "b=10.0.0.1"],
     {"hosts": (("a", "::1"), ("b", "10.0.0.1"))}),
    (["--security-opt", "no-new-privileges:true"], {"no_new_privileges": True}),
    (["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"],
     {"open_hypervisor": True}),
    (["--pid=host", "--init", "--read-only", "--privileged"],
     {"machine_processes": True, "init": True, "read_only": True, "privileged": True}),
    (["--stop-timeout", "-1", "--stop-signal", "rtmin+3"],
     {"stop_seconds": -1, "stop_signal": "rtmin+3"}),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "expected"), GIVEN, ids=[" ".join(flags) for flags, _ in GIVEN])
def test_values(flags: list[str], expected: dict[str, object]) -> None:
    host = read(*flags).host
    assert host == HostConfig(**expected)  # type: ignore[arg-type]  # the table's own
    document = read(*flags).run_config(["x"], terminal_size=None).to_json()["host_config"]
    assert json.loads(json.dumps(document)) == document
    assert parse_host_config(document) == host


@pytest.mark.parametrize(
    "flags",
    [
        *(["--ulimit", value] for value in ("nofile", "nofile=", "nofile=a", "as=1", "cpu=-2")),
        *(["--ulimit", value] for value in ("nofile=2:1", "nofile=-1:5", "nofile=1:2:3")),
        ["--cap-add", "CAP_ALL"],
        ["--cap-drop", ""],
        *(["--tmpfs", value] for value in ("/", "run", "", "/run:exec=1", "/run:size=")),
        *(["--sysctl", value] for value in ("net.x", "kernel.domainname=x", "vm.swappiness=1")),
        *(["--add-host", value] for value in ("a", "a:", "a:host-gateway", ":1.2.3.4", "a b:::1")),
        ["--dns", "1.2.3"],
        ["--dns-search", "a b"],
        ["--security-opt", "seccomp=profile.json"],
        ["--security-opt", "no-new-privileges=perhaps"],
        ["--pid", "container:x"],
        ["--stop-signal", "SIGNOPE"],
    ],
    ids=" ".join,
)
def test_what_is_refused(flags: list[str]) -> None:
    with pytest.raises(UsageError, match=flags[0]):
        read(*flags)


@pytest.mark.parametrize("flags", [["--oom-score-adj", "1001"], ["--stop-timeout", "-2"]])
def test_numbers_have_bounds(flags: list[str]) -> None:
    with pytest.raises(click.UsageError):
        read(*flags)


def test_labels_may_have_no_value() -> None:
    assert read("-l", "a=b=c", "--label", "d").labels == (("a", "b=c"), ("d", ""))
