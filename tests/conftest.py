"""What every test may count on: no network but loopback, no user's files, tools that are there.

A missing program or privilege skips a test on a laptop and fails it where CI=true.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that tests import `tests.images`, and soaks import their frame

# How long an example takes says nothing of the code on a machine that has other things to do.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def _lacking(reason: str) -> None:
    """Skip the running test, or fail it in CI, where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI=true: nothing is skipped)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def lacking() -> Callable[[str], None]:
    """Return the function by which a test says that this machine lacks what it needs."""
    return _lacking


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Return a function from a program's name to its path; a missing one ends the test."""

    def find(name: str) -> str:
        # Ordinary users' PATH leaves out the administrator's folders, where e2fsck lives.
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        found = shutil.which(name, path=path)
        if found is None:
            _lacking(f"no program {name} here")
            raise AssertionError("unreachable: _lacking() does not return")
        return found

    return find


@pytest.fixture(autouse=True)
def _root_where_marked(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("root") and os.geteuid() != 0:
        _lacking("needs uid 0")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's store, credentials and settings out of every test."""
    for name in [name for name in os.environ if name.startswith(("SALTFLAT_", "GOVC_"))]:
        if name != "SALTFLAT_TEST_CACHE":
            monkeypatch.delenv(name)
    home = tmp_path_factory.getbasetemp() / "xdg"
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1,::1")


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections and name look-ups that leave the machine (of this process alone)."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    look_up = socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: object) -> None:
        _check(self, address)
        connect(self, address)  # type: ignore[arg-type]  # whatever the family takes

    def guarded_connect_ex(self: socket.socket, address: object) -> int:
        _check(self, address)
        return connect_ex(self, address)  # type: ignore[arg-type]  # whatever the family takes

    def guarded_look_up(host: object, *rest: object, **options: object) -> object:
        if not _is_loopback(host):
            raise AssertionError(f"a test asked for the address of {host!r}")
        return look_up(host, *rest, **options)  # type: ignore[call-overload]  # passed on as it came

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


def _check(sock: socket.socket, address: object) -> None:
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        host = address[0] if isinstance(address, tuple) else address
        assert _is_loopback(host), f"a test connects to {address!r}"


def _is_loopback(host: object) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    return name is None or (
        isinstance(name, str)
        # .invalid never resolves (RFC 2606): tests of unreachable registries may ask for it.
        and (name in ("", "localhost", "::1") or name.startswith("127."))
    )
