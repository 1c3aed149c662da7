"""Chains in registries that ask who one is, and over lines that break."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Saltflat
from tests.integration.elsewhere import link_digests
from tests.integration.fault_proxy import Exchange, Fault, Kind, fault_proxy
from tests.integration.registry_server import (
    PASSWORD,
    USER,
    RegistryServer,
    htpasswd,
    make_certificate,
    registry_server,
)
from tests.integration.watching_proxy import Reply, watching_proxy

pytestmark = pytest.mark.integration

Tool = Callable[[str], str]
LOGIN = ("--username", USER, "--password-stdin")


@pytest.fixture
def guarded(tool: Tool, tmp_path: Path) -> Iterator[RegistryServer]:
    """Yield an empty registry over plain http that wants a password."""
    auth = htpasswd(tmp_path / "users")
    with registry_server(tool("docker-registry"), tmp_path / "guarded", auth=auth) as server:
        yield server


def test_tls_and_a_password(
    saltflat: Saltflat, tool: Tool, corner_layout: Path, tmp_path: Path
) -> None:
    certificate = make_certificate(tool("openssl"), tmp_path / "tls")
    auth = htpasswd(tmp_path / "users")
    program = tool("docker-registry")
    with registry_server(
        program, tmp_path / "registry", certificate=certificate, auth=auth
    ) as server:
        image, target = f"oci:{corner_layout}:prefix-2", f"{server.host}/team/app:chain"
        access = ("--ca-file", str(certificate.authority))
        store = tmp_path / "a"
        push = ("push", "--store", store, *access, image, target)
        done = saltflat(*push)
        assert done.returncode == 4, done.stderr
        done = saltflat(*push, *LOGIN, stdin=b"wrong\n")
        assert done.returncode == 4, done.stderr
        assert b"wrong" not in done.stderr
        saltflat.good(*push, *LOGIN, stdin=f"{PASSWORD}\n".encode())
        pull = ("pull", "--store", tmp_path / "b", *access, target)
        assert saltflat(*pull).returncode == 4
        saltflat.good(*pull, *LOGIN, stdin=f"{PASSWORD}\n".encode())
        assert link_digests(tmp_path / "a") == link_digests(tmp_path / "b")


def test_a_password_is_for_one_registry(
    saltflat: Saltflat, guarded: RegistryServer, corner_layout: Path, tmp_path: Path
) -> None:
    """A cache elsewhere asks for it too, and does not get it."""
    with watching_proxy(guarded.host) as proxy:
        proxy.meddle = lambda _asked: Reply(401, b"{}", 'Basic realm="give it to me"')
        done = saltflat(
            *("push", "--store", tmp_path / "a", "--plain-http", *LOGIN),
            *("--cache-repo", f"{proxy.host}/links"),
            *(f"oci:{corner_layout}:prefix-2", f"{guarded.host}/team/app:chain"),
            stdin=f"{PASSWORD}\n".encode(),
        )
        assert done.returncode == 0, done.stderr
        assert b"Warning: cache" in done.stderr
        assert {asked.authorization for asked in proxy.asked} == {None}


def test_a_cache_beside_a_layout_gets_the_password(
    saltflat: Saltflat, guarded: RegistryServer, corner_layout: Path, tmp_path: Path
) -> None:
    arguments = ("--plain-http", "--cache-repo", f"{guarded.host}/links", *LOGIN)
    for store, layers in (("a", 2), ("b", 0)):
        done = saltflat(
            *("convert", "--store", tmp_path / store, *arguments),
            f"oci:{corner_layout}:prefix-2",
            stdin=f"{PASSWORD}\n".encode(),
        )
        assert done.returncode == 0
        lines = done.stderr.decode().splitlines()
        assert sum(line.startswith("layer") for line in lines) == layers


@pytest.mark.parametrize("kind", [Kind.CUT, Kind.RESET, Kind.RANGE_IGNORED, Kind.STATUS_503])
def test_a_pull_survives_a_line_that_breaks(
    saltflat: Saltflat, tool: Tool, corner_layout: Path, tmp_path: Path, kind: Kind
) -> None:
    with registry_server(tool("docker-registry"), tmp_path / "registry") as server:
        image, target = f"oci:{corner_layout}:prefix-2", "test/app:chain"
        push = ("push", "--store", tmp_path / "a", "--plain-http", "--format", "json")
        out = saltflat.good(*push, image, f"{server.host}/{target}")
        blob = json.loads(out)["links"][0]["blob"]
        seen: list[Exchange] = []

        def break_once(exchange: Exchange) -> Fault | None:
            if blob not in exchange.path:
                return None
            seen.append(exchange)
            # A cut, and then a second one of the kind, behind it.
            return {1: Fault(Kind.CUT, 100_000), 2: Fault(kind, 50_000)}.get(len(seen))

        with fault_proxy(server.host) as proxy:
            proxy.plan = break_once
            pull = ("pull", "--store", tmp_path / "b", "--plain-http", f"{proxy.host}/{target}")
            saltflat.good(*pull)
        assert len(seen) >= 2
        assert seen[1].start == 100_000
    assert link_digests(tmp_path / "a") == link_digests(tmp_path / "b")
