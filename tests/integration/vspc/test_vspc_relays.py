"""Machines behind the concentrator: simulated hosts below, real clients above, both at once.

No ESXi took part; see docs/vspc.md.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.host import AccessError, Stdio
from agent.host import client as clients
from agent.wire import STDERR, STDOUT
from tests.integration.relay_guest import Program
from tests.integration.relay_runs import Attached, logged
from tests.integration.vspc.relayed import Site, boot, saltflat
from tests.integration.vspc.simulated_esxi import (
    Client,
    Concentrator,
    Host,
    Lab,
    Vm,
    connect,
    migrate,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def site(tmp_path: Path, certificate: tuple[Path, Path]) -> Site:
    return Site(tmp_path, certificate)


def served(lab: Lab, server: Concentrator, vm: Vm) -> Host:
    host = Host(lab, server.address, vm)
    lab.until(lambda: host.served)
    return host


def test_a_machine_is_relayed_to_local_and_remote_clients(lab: Lab, site: Site) -> None:
    vm = Vm(1, name="db-1")
    choose = random.Random(1)
    out, err, stdin = (choose.randbytes(size) for size in (900_000, 50_000, 300_000))
    key = site.add(vm)
    with site.serving() as server:
        program = Program(out=out, err=err, code=7)
        guest, host = boot(lab, server, vm, key, program)
        first = Attached(site.local(vm), None)
        second = Attached(site.remote(server, vm), stdin)
        lab.until(lambda: guest.done and first.result and second.result)
        for attached in (first, second):
            attached.join(10)
            assert attached.result.code == 7
            assert attached.out == out
            assert attached.err == err
        assert program.stdin == stdin
        assert vm.violations == []
        assert clients.wait(site.remote(server, vm, certificate=False, token="secret")).code == 7
        host.close()
    folder = site.relays / "machines" / "db-1"
    assert logged(folder, STDOUT) == out
    assert logged(folder, STDERR) == err


def test_a_vmotion_in_the_middle_of_an_attachment_over_tls(lab: Lab, site: Site) -> None:
    """Both directions at full tilt while the VM goes over three hosts."""
    vm = Vm(1, name="db-1")
    choose = random.Random(2)
    out, stdin = choose.randbytes(4_000_000), choose.randbytes(1_500_000)
    key = site.add(vm)
    with site.serving() as server:
        program = Program(out=out, code=3)
        guest, host = boot(lab, server, vm, key, program)
        attached = Attached(site.remote(server, vm), stdin)
        for number in range(3):
            said, taken = program.sent[STDOUT], len(program.stdin)
            lab.until(
                lambda said=said, taken=taken: (
                    program.sent[STDOUT] > said + 400_000 and len(program.stdin) > taken + 100_000
                )
            )
            assert attached.result is None
            host = migrate(
                lab,
                server.address,
                host,
                sequence=number.to_bytes(4, "big"),
                close_first=number == 1,
                before_options=number == 2,
            )
            guest.host = host
        lab.until(lambda: guest.done and attached.result is not None)
        attached.join(10)
        assert attached.result.code == 3
        assert attached.out == out
        assert program.stdin == stdin
        assert vm.violations == []
        assert server.log().count("it is at 127.0.0.1 now") == 3
        assert guest.endpoint.counters.resent == 0  # a vMotion loses nothing


def test_an_execution_is_begun_and_goes_on_in_a_vmotion(
    lab: Lab, site: Site, tmp_path: Path
) -> None:
    """One is under way when the VM moves, another one is asked for before it has arrived."""
    vm = Vm(1, name="db-1")
    data = random.Random(4).randbytes(60_000)  # less than a pipe holds
    key = site.add(vm)
    with site.serving() as server, ThreadPoolExecutor(2) as pool:
        program = Program(ends=False)
        guest, host = boot(lab, server, vm, key, program)
        address = site.remote(server, vm)

        def execute(name: str) -> tuple[int, bytes]:
            reader, writer = os.pipe()
            with open(writer, "wb") as stdin:
                stdin.write(data)
            with open(reader, "rb") as stdin, (tmp_path / name).open("w+b") as out:
                stdio = Stdio(stdin.fileno(), out.fileno(), out.fileno())
                status = clients.execute(address, clients.Execution([name], stdin=True), stdio)
                out.seek(0)
                return status.code, out.read()

        lab.until(lambda: program.said_started)
        first = pool.submit(execute, "5")
        lab.until(lambda: any(message["type"] == "exec" for message in program.controls))
        second = pool.submit(execute, "6")
        guest.host = migrate(lab, server.address, host, sequence=b"move")
        lab.until(lambda: first.done() and second.done())
        assert first.result() == (5, b"5\n" + data)
        assert second.result() == (6, b"6\n" + data)
        assert server.log().count("it is at 127.0.0.1 now") == 1


def test_every_session_outlives_the_process(lab: Lab, site: Site) -> None:
    """Killed in the middle of three machines' transfers, twice; another process goes on."""
    vms = [Vm(number, name=f"vm-{number}") for number in (1, 2, 3)]
    keys = [site.add(vm) for vm in vms]
    choose = random.Random(3)
    programs = [Program(out=choose.randbytes(1_500_000), code=int(vm.name[-1])) for vm in vms]
    stdins = [choose.randbytes(400_000) for _ in vms]
    attached: list[Attached] = []
    guests = []
    for life in range(3):
        with site.serving() as server:
            if not life:
                for vm, key, program, stdin in zip(vms, keys, programs, stdins, strict=True):
                    guests.append(boot(lab, server, vm, key, program)[0])
                    attached.append(Attached(site.local(vm), stdin))
            else:
                for guest in guests:
                    guest.endpoint.transport_lost()
                    guest.host = Host(lab, server.address, guest.vm)
            if life < 2:
                until = [program.sent[STDOUT] + 300_000 for program in programs]
                lab.until(
                    lambda until=until: all(
                        program.sent[STDOUT] > size
                        for program, size in zip(programs, until, strict=True)
                    )
                )
                server.process.kill()
                server.process.wait()
            else:
                lab.until(lambda: all(guest.done for guest in guests))
                lab.until(lambda: all(one.result is not None for one in attached))
    for one, program, stdin in zip(attached, programs, stdins, strict=True):
        one.join(10)
        assert one.result.code == program.code
        assert one.out == program.out
        assert program.stdin == stdin


def test_who_is_no_machine_is_refused_until_it_is_added(lab: Lab, site: Site) -> None:
    vm = Vm(1, name="db-1")
    with site.serving() as server:
        refused = Host(lab, server.address, vm)
        lab.until(lambda: refused.closed)
        assert "no machine was added that has its UUID" in server.log()
        with pytest.raises(AccessError, match="no such machine"):
            clients.describe(site.local(vm))
        guest, _host = boot(lab, server, vm, site.add(vm), Program(out=b"hello", code=4))
        attached = Attached(site.local(vm), b"")
        lab.until(lambda: guest.done and attached.result is not None)
        assert (attached.result.code, attached.out) == (4, b"hello")


def test_who_is_no_machine_has_a_socket_where_there_are_sockets(lab: Lab, site: Site) -> None:
    ours, other = Vm(1, name="ours"), Vm(2, name="other")
    site.add(ours)
    with site.serving(sockets=True) as server:
        served(lab, server, ours)
        host = connect(lab, server, other)
        client = Client(lab, server.socket_of(other))
        host.write(b"as before")
        lab.until(lambda: client.received == b"as before")
        assert not server.socket_of(ours).exists()


def test_a_name_alone_is_no_way_to_push_a_machine_out(lab: Lab, site: Site) -> None:
    """A machine without a UUID is who says so, until one has proved it."""
    machine, impostor = Vm(1, name="by-name"), Vm(2, name="by-name")
    key = site.add(machine, by_name=True)
    with site.serving() as server:
        idle = served(lab, server, impostor)  # says the name first, and knows no key
        program = Program(out=b"x" * 100_000, code=0)
        guest, host = boot(lab, server, machine, key, program)
        attached = Attached(site.local(machine), None)
        lab.until(lambda: attached.out == program.out)
        idle.write(b"noise of the other one")
        again = Host(lab, server.address, Vm(3, name="by-name"))
        lab.until(lambda: again.closed)
        assert "by-name is another VM of this name, which runs" in server.log()
        attached_again = Attached(site.local(machine), b"the end")
        lab.until(lambda: guest.done and attached.result and attached_again.result)
        assert program.stdin == b"the end"
        assert attached.out == program.out
        assert clients.describe(site.local(machine))["counters"]["forged"] == 0
        host.close()


def test_a_machine_that_is_removed_is_not_there_any_more(lab: Lab, site: Site) -> None:
    vm = Vm(1, name="db-1")
    key = site.add(vm)
    with site.serving() as server:
        guest, _host = boot(lab, server, vm, key, Program(out=b"x", ends=False))
        attached = Attached(site.local(vm), None, reconnect_seconds=1.0)
        lab.until(lambda: attached.out == b"x")
        saltflat("vspc", "rm", "db-1", *site.directory)
        lab.until(lambda: attached.result is not None)
        assert isinstance(attached.result, AccessError)
        assert saltflat("vspc", "ls", *site.directory).stdout.strip() == ""
        # And added again, while its VM is still connected.
        before = guest.endpoint.counters.forged
        site.add(vm)
        lab.until(lambda: guest.endpoint.counters.forged > before)
        assert clients.describe(site.local(vm))["condition"] == "no-hello"


def test_a_name_that_is_none_is_no_machine(site: Site) -> None:
    site.add(Vm(1, name="db-1"))
    with site.serving():
        for name in ("..", "db-1/../db-1", "a\0b", "\ud800", "x" * 60000, "", "uuids"):
            with pytest.raises(AccessError, match="no such machine"):
                clients.describe(clients.UnixAddress(site.relays / "relay.sock", name))
        assert clients.describe(site.local(Vm(1, name="db-1")))["condition"] == "never-connected"


def test_rules_count_from_the_moment_they_are_written(lab: Lab, site: Site) -> None:
    vm = Vm(1, name="db-1")
    site.add(vm)
    with site.serving() as server:
        by_token = site.remote(server, vm, certificate=False, token="secret")
        assert clients.describe(by_token)["condition"] == "never-connected"
        site.write_rules(token=["logs"])
        with pytest.raises(AccessError, match="not allowed"):
            clients.describe(by_token)
        site.rules.write_text("{")
        for address in (by_token, site.remote(server, vm)):
            with pytest.raises(AccessError, match="no such machine"):
                clients.describe(address)
        site.write_rules()
        assert clients.describe(by_token)["condition"] == "never-connected"
        assert "Nobody is let in over TLS" in server.log()
