"""The concentrator as a process, between simulated hosts and clients, over TCP and TLS on loopback.

No ESXi took part: what these hosts do is what its documents and two public servers say.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.simulated_esxi import (
    ABORT,
    BEGIN,
    COMPLETE,
    GOAHEAD,
    MAIN,
    NOTNOW,
    PEER,
    PEER_OK,
    UNKNOWN_2,
    WONT_PROXY,
    Client,
    Concentrator,
    Host,
    Lab,
    Pollable,
    Vm,
    concentrator,
    connect,
    migrate,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def certificate(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    command = [tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    command += ["ec_paramgen_curve:prime256v1", "-noenc", "-subj", "/CN=test", "-days", "2"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", "cert.pem", "-keyout", "key.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=20)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Return a folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="vspc-") as folder:
        yield Path(folder)


class Room:
    """A concentrator, and how hosts reach it."""

    def __init__(self, server: Concentrator, context: ssl.SSLContext | None) -> None:
        self.server = server
        self.context = context
        self.lab = Lab()
        self.numbers = iter(range(1, 1000))
        self.slow = Raw(server, b"\x16\x03")  # a TLS record begins so, and a telnet client does not

    def vm(self) -> Vm:
        return Vm(next(self.numbers))

    def host(self, vm: Vm, **options: object) -> Host:
        return Host(self.lab, self.server.address, vm, context=self.context, **options)

    def connect(self, vm: Vm) -> Host:
        return connect(self.lab, self.server, vm, context=self.context)

    def client(self, vm: Vm) -> Client:
        return Client(self.lab, self.server.socket_of(vm))

    def migrate(self, source: Host, **options: object) -> Host:
        return migrate(self.lab, self.server.address, source, context=self.context, **options)


@pytest.fixture(scope="module")
def rooms(certificate: tuple[Path, Path]) -> Iterator[dict[str, Room]]:
    trust = ssl.create_default_context(cafile=os.fspath(certificate[0]))
    tls = ("--certificate", os.fspath(certificate[0]), "--key", os.fspath(certificate[1]))
    with (
        tempfile.TemporaryDirectory(prefix="vspc-") as one,
        tempfile.TemporaryDirectory(prefix="vspc-") as other,
        concentrator(Path(one)) as plain,
        concentrator(Path(other), *tls, scheme="telnets") as secure,
    ):
        made = {"telnet": Room(plain, None), "telnets": Room(secure, trust)}
        yield made
        for room in made.values():
            room.slow.close()


@pytest.fixture(params=["telnet", "telnets"])
def room(rooms: dict[str, Room], request: pytest.FixtureRequest) -> Iterator[Room]:
    found = rooms[request.param]
    assert found.server.process.poll() is None, found.server.log()
    with Lab() as found.lab:
        yield found


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_every_byte_goes_both_ways(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    data = bytes(range(256)) * 2000
    host.write(data)
    client.out += data
    room.lab.until(lambda: len(client.received) == len(data) == len(vm.received))
    assert client.received == vm.received == data


def test_a_vmotion_in_the_middle_of_a_transfer(room: Room) -> None:
    """Both directions at full tilt, from before BEGIN to after COMPLETE, three hosts on."""
    choose = random.Random(5)
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    said = down = b""
    for number in range(3):
        more = choose.randbytes(300_000)
        client.out += more
        down += more
        before, tail, after = (choose.randbytes(size) for size in (200_000, 70_000, 50_000))
        host.write(before)
        target = room.migrate(
            host, sequence=number.to_bytes(4, "big"), tail=tail, close_first=number == 1
        )
        target.write(after)
        said += before + tail + after
        host = target
    room.lab.until(lambda: (len(client.received), len(vm.received)) == (len(said), len(down)))
    assert sha256(client.received) == sha256(said)
    assert sha256(vm.received) == sha256(down)
    assert vm.violations == []


def test_peer_before_its_own_options(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    target = room.migrate(host, sequence=b"\xff\xff\xff\xff", tail=b"a", before_options=True)
    client.out += b"down"
    target.write(b"b")
    room.lab.until(lambda: client.received == b"ab" and vm.received == b"down")
    room.lab.until(lambda: target.served)


def test_two_vmotions_at_once(room: Room) -> None:
    vms = room.vm(), room.vm()
    sources = [room.connect(vm) for vm in vms]
    clients = [room.client(vm) for vm in vms]
    for source in sources:
        source.say(BEGIN, b"same")
    room.lab.until(lambda: all(source.heard(GOAHEAD) for source in sources))
    targets = []
    for source, client in zip(sources, clients, strict=True):
        client.out += source.vm.name.encode()
        target = room.host(source.vm)
        target.running = False
        target.say(PEER, source.heard(GOAHEAD))
        targets.append(target)
    room.lab.until(lambda: all(target.heard(PEER_OK) for target in targets))
    for source, target in zip(sources, targets, strict=True):
        source.close()
        target.running = True
        target.say(COMPLETE, b"same")
        target.write(b"from " + source.vm.name.encode())
    for vm, client in zip(vms, clients, strict=True):
        room.lab.until(lambda vm=vm: vm.received == vm.name.encode())
        room.lab.until(lambda c=client, vm=vm: c.received == b"from " + vm.name.encode())
        assert vm.violations == []


def test_not_now_and_again(room: Room) -> None:
    """A VM that takes nothing cannot be moved, and can be once it does."""
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    data = random.Random(1).randbytes(12 << 20).replace(b"\xff", b"")  # more than all buffers hold
    host.reads = False
    client.out += data
    room.lab.settle()
    assert client.out
    started = time.monotonic()
    host.say(BEGIN, b"one")
    room.lab.until(lambda: time.monotonic() - started > 4.2)
    host.reads = True
    room.lab.until(lambda: host.heard(NOTNOW) is not None)
    assert host.heard(NOTNOW) == b"one"
    assert host.heard(GOAHEAD) is None
    target = room.migrate(host, sequence=b"two")
    room.lab.until(lambda: len(vm.received) == len(data))
    assert sha256(vm.received) == sha256(data)
    assert vm.violations == []
    assert not target.closed


def test_an_abort(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    host.say(BEGIN, b"seq")
    room.lab.until(lambda: host.heard(GOAHEAD) is not None)
    target = room.host(vm)
    target.running = False
    target.say(PEER, host.heard(GOAHEAD))
    client.out += b"held"
    room.lab.until(lambda: target.heard(PEER_OK) is not None and not client.out)
    host.running = True
    host.say(ABORT, b"seq")
    host.write(b"on")
    room.lab.until(lambda: vm.received == b"held" and client.received == b"on" and target.closed)
    assert vm.violations == []


def test_a_target_that_is_refused(room: Room) -> None:
    """There is no word for it in the document: UNKNOWN-SUBOPTION-RCVD-2, then the end."""
    vm = room.vm()
    host = room.connect(vm)
    stranger = room.host(room.vm())
    stranger.say(PEER, b"\0\0\0\7\1\2\3\4")
    room.lab.until(lambda: stranger.closed)
    assert stranger.heard(UNKNOWN_2) == bytes([PEER])
    assert stranger.heard(PEER_OK) is None
    assert room.migrate(host, sequence=b"seq").closed is False


def test_a_vmotion_of_a_vm_that_nobody_knows(room: Room) -> None:
    silent = room.host(room.vm(), answers=False)
    silent.say(BEGIN, b"seq")
    room.lab.until(lambda: silent.heard(NOTNOW) == b"seq")
    silent.close()


def test_a_source_that_never_closes(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    host.say(BEGIN, b"seq")
    room.lab.until(lambda: host.heard(GOAHEAD) is not None)
    target = room.host(vm)
    target.running = False
    target.say(PEER, host.heard(GOAHEAD))
    room.lab.until(lambda: target.heard(PEER_OK) is not None)
    target.running = True
    target.say(COMPLETE, b"seq")
    target.write(b" new")
    host.write(b"tail")
    room.lab.until(lambda: client.received == b"tail new")
    room.lab.until(lambda: host.closed)


def test_a_power_cycle(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    host.write(b"old ")
    room.lab.until(lambda: client.received == b"old ")
    again = room.connect(vm)
    again.write(b"new")
    room.lab.until(lambda: client.received == b"old new" and host.closed)
    client.out += b"down"
    room.lab.until(lambda: vm.received == b"down")


def test_clients_come_and_go(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    path = room.server.socket_of(vm)
    assert path.stat().st_mode & 0o777 == 0o600
    host.write(b"before anybody listened")
    first = room.client(vm)
    room.lab.until(lambda: first.received == b"before anybody listened")
    second = room.client(vm)
    room.lab.until(lambda: second.closed)
    assert second.received == b""
    first.out += b"last words"
    room.lab.until(lambda: not first.out)
    first.close()  # with its words still on the way
    room.lab.until(lambda: vm.received == b"last words")
    third = room.client(vm)
    host.write(b"for the third")
    room.lab.until(lambda: third.received == b"for the third")
    third.socket.shutdown(socket.SHUT_WR)  # says no more, but listens
    host.write(b"!")
    room.lab.until(lambda: third.received == b"for the third!")


def test_socat_is_a_client(room: Room, tool: Callable[[str], str]) -> None:
    vm = room.vm()
    host = room.connect(vm)
    command = [tool("socat"), "-t", "20", "-", f"UNIX-CONNECT:{room.server.socket_of(vm)}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as socat:
        assert socat.stdin is not None
        assert socat.stdout is not None
        socat.stdin.write(b"hello\xff\0")
        socat.stdin.flush()
        room.lab.until(lambda: vm.received == b"hello\xff\0")
        host.write(b"\xff\0world")
        room.lab.until(lambda: not host.out)
        assert socat.stdout.read(7) == b"\xff\0world"
        socat.terminate()


# --- those who mean no good ----------------------------------------------------------------------


def test_a_client_that_reads_nothing_slows_down_its_own_vm_only(room: Room) -> None:
    stuck, free = room.vm(), room.vm()
    stuck_host, free_host = room.connect(stuck), room.connect(free)
    lazy, client = room.client(stuck), room.client(free)
    lazy.reads = False
    size = 24 << 20
    stuck_host.write(bytes(size))
    free_host.write(b"x" * 1000)
    room.lab.until(lambda: len(client.received) == 1000)
    assert stuck_host.out, "the VM was read though nobody takes what it says"
    lazy.reads = True
    room.lab.until(lambda: len(lazy.received) == size)


def test_floods_disturb_nobody(room: Room) -> None:
    """Random bytes, commands without end, a huge suboption."""
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    choose = random.Random(3)
    floods = [
        choose.randbytes(1 << 20),
        b"\xff\xfd\x01\xff\xfe\x01" * 100_000,
        b"\xff\xfa\xe8" + bytes(1 << 20),
        b"\xff\xfa\xe8\x28\xff\xf0" * 100_000,
        bytes(1 << 20),
        b"\xff" * (1 << 20),
    ]
    hostile = []
    for flood in floods:
        attacker = room.host(room.vm(), opening=False)
        attacker.reads = False
        attacker.out += flood
        hostile.append(attacker)
    for number in range(50):
        host.write(b"%d " % number)
        client.out += b"%d " % number
    expected = b"".join(b"%d " % number for number in range(50))
    room.lab.until(lambda: client.received == vm.received == expected)
    for attacker in hostile:
        attacker.reads = True
    room.lab.until(lambda: all(attacker.closed for attacker in hostile))

    assert room.server.process.poll() is None


class Raw(Pollable):
    """A TCP connection that says a few bytes and then nothing."""

    def __init__(self, server: Concentrator, data: bytes) -> None:
        super().__init__(socket.create_connection(server.address))
        self.socket.send(data)

    def take(self, data: bytes) -> None:
        pass


def test_who_says_nothing_is_sent_away(room: Room) -> None:
    """One that stops in the middle of TLS, or of telnet: it has 15 seconds, and blocks nobody."""
    slow = room.slow
    room.lab.add(slow)
    room.lab.until(lambda: slow.closed)
    vm = room.vm()
    assert room.connect(vm).served


def test_resets_disturb_nobody(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    others = [room.connect(room.vm()) for _ in range(20)]
    for other in others:
        other.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        other.close()
    client = room.client(vm)
    host.write(b"fine")
    room.lab.until(lambda: client.received == b"fine")


def test_a_vm_that_resets_while_nobody_reads_it(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    lazy = room.client(vm)
    lazy.reads = False
    host.write(bytes(24 << 20))
    room.lab.until(lambda: len(host.out) < 24 << 20)
    host.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    host.close()
    used = _processor_seconds(room.server.process.pid)
    again = room.host(vm)
    lazy.reads = True
    room.lab.until(lambda: again.served)
    room.lab.until(lambda: lazy.received.endswith(b"\0"))
    again.write(b"new")
    room.lab.until(lambda: lazy.received.endswith(b"new"))
    assert _processor_seconds(room.server.process.pid) - used < 5.0  # it does not spin


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- the command ---------------------------------------------------------------------------------


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
        host = Host(lab, server.address, Vm())
        lab.until(lambda: host.served)
        client = Client(lab, server.socket_of(Vm()))
        host.write(b"x")
        lab.until(lambda: client.received == b"x")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--listen telnet://127.0.0.1:0", 2, "--sockets"),
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
