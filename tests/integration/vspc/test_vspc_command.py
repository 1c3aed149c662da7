"""`saltflat vspc serve` as a command: rules, log, ends, and what it refuses to begin with."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.vspc.rooms import Room
from tests.integration.vspc.simulated_esxi import (
    MAIN,
    WONT_PROXY,
    Client,
    Host,
    Lab,
    Vm,
    concentrator,
    connect,
)

pytestmark = pytest.mark.integration


def test_rules_and_the_log(lab: Lab, tmp_path: Path) -> None:
    with concentrator(tmp_path, allow="--allow net:127.0.0.0/8,uri:ours") as server:
        served = connect(lab, server, Vm(1, uri="ours", name="good\nname"))
        refused = Host(lab, server.address, Vm(2, uri="theirs"))
        lab.until(lambda: refused.closed)
        assert refused.heard(WONT_PROXY) == b""
        assert not server.socket_of(refused.vm).exists()
        assert server.stop() == 0
        lab.until(lambda: served.closed)
        lines = server.log().splitlines()
    assert sum("is not encrypted" in line for line in lines) == 1
    assert any(served.vm.uuid in line and "good\ufffdname" in line for line in lines)
    assert any("theirs is not allowed" in line for line in lines)
    assert "Ended by SIGTERM" in lines
    assert list(server.sockets.glob("*.sock")) == []


def test_a_stranger_s_network_is_refused_at_the_door(lab: Lab, tmp_path: Path) -> None:
    with concentrator(tmp_path, allow="--allow net:192.0.2.0/24") as server:
        host = Host(lab, server.address, Vm())
        lab.until(lambda: host.closed)
        assert host.options == []  # without a word
        assert "127.0.0.1 is not allowed by any rule" in server.log()


def test_after_a_kill(lab: Lab, tmp_path: Path) -> None:
    with concentrator(tmp_path) as server:
        connect(lab, server, Vm())
        server.process.kill()
        server.process.wait()
        assert server.socket_of(Vm()).exists()
    with concentrator(tmp_path) as server:
        assert not server.socket_of(Vm()).exists()
        host = connect(lab, server, Vm())
        client = Client(lab, server.socket_of(Vm()))
        host.write(b"x")
        lab.until(lambda: client.received == b"x")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--sockets D --allow-all", 2, "--listen"),
        ("--listen telnet://127.0.0.1:0 --allow-all", 2, "is not said"),
        ("--listen telnet://127.0.0.1:0 --allow-all --sockets D --clients :0", 2, "what it needs"),
        (
            "--listen telnet://127.0.0.1:0 --allow-all --relays D --clients x --certificate F "
            "--client-rules F",
            2,
            "no address to let clients in",
        ),
        ("--listen telnet://127.0.0.1:0 --allow-all --relays W", 1, "Others may enter"),
        ("--listen telnet://127.0.0.1:0 --allow-all --relays D --patience x=1", 2, "'x=1' is not"),
        ("--listen telnet://127.0.0.1:0 --sockets D", 2, "No VM is allowed"),
        ("--listen telnet://127.0.0.1:0 --sockets D --allow-all --allow uri:x", 2, "exclude"),
        ("--listen ssh://127.0.0.1:0 --sockets D --allow-all", 2, "is no address"),
        ("--listen telnet://127.0.0.1:99999 --sockets D --allow-all", 2, "is no address"),
        ("--listen telnet://192.0.2.1:9 --sockets D --allow-all", 2, "cannot be listened on"),
        ("--listen telnets://127.0.0.1:0 --sockets D --allow-all", 2, "no certificate"),
        ("--listen telnet://127.0.0.1:0 --sockets D --allow host:x", 2, "is no condition"),
        (f"--listen telnet://127.0.0.1:0 --sockets {'x' * 80} --allow-all", 1, "too long"),
        ("--listen telnet://127.0.0.1:0 --sockets F/x --allow-all", 1, "cannot be used"),
        ("--listen telnet://127.0.0.1:0 --sockets W --allow-all", 1, "Others may write"),
        (
            "--listen telnets://127.0.0.1:0 --sockets D --allow-all --certificate F",
            2,
            "certificate",
        ),
    ],
)
def test_what_cannot_be_served(arguments: str, code: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "F").write_text("no directory, no certificate")
    (tmp_path / "W").mkdir()
    (tmp_path / "W").chmod(0o777)
    command = [sys.executable, "-c", MAIN, "vspc", "serve", *arguments.split()]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_directory_has_one_process(tmp_path: Path) -> None:
    with concentrator(tmp_path) as server:
        command = [sys.executable, "-c", MAIN, "vspc", "serve", "--allow-all"]
        command += ["--listen", "telnet://127.0.0.1:0", "--sockets", os.fspath(server.sockets)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 7
        assert "Another process serves" in done.stderr


def test_a_certificate_that_is_not_trusted_is_the_host_s_matter(
    rooms: dict[str, Room], lab: Lab
) -> None:
    room = rooms["telnets"]
    with pytest.raises(ssl.SSLCertVerificationError):
        Host(lab, room.server.address, Vm(900), context=ssl.create_default_context())
    assert room.server.process.poll() is None
