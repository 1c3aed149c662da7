"""guestinfo over RPCI: packets byte for byte as open-vm-tools makes them, and what a guest does.

The hypervisor is a fake behind a Unix socket, written from the protocol's published description;
no VMware product took part. QEMU has no RPCI to try it with.
"""

from __future__ import annotations

import itertools
import json
import re
import socket
import struct
import threading

import pytest

from agent.tether import (
    c_linux,
    datamap,
    modules,
    rpci,
    sources,
    supervisor,
    vmware,
    vmx_socket,
)
from agent.tether.errors import StartError
from agent.tether.guestinfo import (
    CONFIG,
    NETWORK,
    OVF_ENVIRONMENT,
    STATUS,
    GuestInfo,
    Hypervisor,
    open_hypervisor,
)
from agent.tether.renewals import Renewals
from tests.unit.tether.loop_host import GIVE_UP_SECONDS, Host, exited, guest_line, spawn

# Length of the rest; INT64, TYPE: low half 1 (DATA), high half 0; STRING, PAYLOAD: length, bytes.
PACKET = bytes.fromhex(
    "00000022 00000001 00000001 00000001 00000000 00000002 00000002 00000006 6c6f67206869"
)
NONE = b"0 No value found"


class Vmx:
    """Answers on as many connections as are made; `calls` has what it was asked."""

    def __init__(self, answer=None):
        self.variables = {}
        self.calls = []
        self.connections = 0
        self.sockets = []
        self.answer = answer or self.usual
        self.closes_after = None  # so many calls on a connection
        self.piece = 65536

    def connect(self):
        ours, theirs = socket.socketpair()
        self.connections += 1
        self.sockets.append(theirs)
        threading.Thread(target=self.serve, args=(theirs,), daemon=True).start()
        return ours

    def serve(self, connected):
        served = 0
        while served != self.closes_after:
            head = connected.recv(4, socket.MSG_WAITALL)
            if len(head) < 4:
                break
            rest = connected.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL)
            numbers = struct.unpack(">7I", rest[:28])
            assert numbers[:6] == (1, 1, 1, 0, 2, 2)
            assert numbers[6] == len(rest) - 28
            self.calls.append(rest[28:])
            reply = self.answer(rest[28:])
            for start in range(0, len(reply), self.piece):
                connected.sendall(reply[start : start + self.piece])
            served += 1
        connected.close()

    def usual(self, call):
        verb, _, rest = call.partition(b" ")
        name, _, value = rest.partition(b" ")
        if verb == b"info-set":
            self.variables[name.decode()] = value
            return packet(b"1 ")
        found = self.variables.get(name.decode())
        return packet(NONE if found is None else b"1 " + found)


def packet(payload, *, before=b"", after=b""):
    kind = struct.pack(">4I", 1, 1, 1, 0)
    content = before + kind + struct.pack(">3I", 2, 2, len(payload)) + payload + after
    return struct.pack(">I", len(content)) + content


def channel_to(vmx):
    return rpci.Rpci((rpci.SocketWay(vmx.connect),))


@pytest.fixture
def hypervisor():
    return Vmx()


@pytest.fixture
def guestinfo(hypervisor):
    made = channel_to(hypervisor)
    yield GuestInfo(made)
    made.close()


def test_a_packet_is_what_open_vm_tools_makes():
    assert datamap.encode_packet(b"log hi") == PACKET
    assert datamap.decode_packet(PACKET[4:]) == b"log hi"


def test_fields_come_in_any_order_and_others_are_passed_over():
    fast_close = struct.pack(">4I", 1, 3, 1, 0)
    other = struct.pack(">3I", 2, 9, 2) + b"no"
    for before, after in ((fast_close + other, b""), (b"", other + fast_close)):
        assert datamap.decode_packet(packet(b"1 x", before=before, after=after)[4:]) == b"1 x"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        packet(b"1 x")[4:20],  # no payload
        packet(b"1 x")[4:-1],
        packet(b"1 x")[4:] + b"\0",
        struct.pack(">3I", 3, 1, 1),  # a list
        struct.pack(">3I", 2, 2, 1 << 31) + b"1 x",
    ],
)
def test_what_is_no_packet(content):
    with pytest.raises(ValueError, match=r"packet|field"):
        datamap.decode_packet(content)


def test_variables_come_and_go(hypervisor, guestinfo):
    hypervisor.piece = 3
    assert guestinfo.get("guestinfo.a") is None
    guestinfo.set("guestinfo.a", b'{"b": 1}')
    assert guestinfo.get("guestinfo.a") == b'{"b": 1}'
    assert hypervisor.calls == [
        b"info-get guestinfo.a",
        b'info-set guestinfo.a {"b": 1}',
        b"info-get guestinfo.a",
    ]
    assert hypervisor.connections == 1


def test_a_connection_that_was_closed_is_made_again(hypervisor, guestinfo):
    hypervisor.closes_after = 1
    for number in range(3):
        guestinfo.set("guestinfo.a", b"%d" % number)
    assert guestinfo.get("guestinfo.a") == b"2"
    assert hypervisor.connections == 4


@pytest.mark.parametrize(
    "reply",
    [
        packet(b"0 Permission denied"),
        packet(b""),
        packet(b"hello"),
        struct.pack(">I", 1 << 30),
        struct.pack(">I", 4) + bytes(4),
        b"",  # nothing at all
    ],
)
def test_a_hypervisor_that_answers_otherwise(reply, monkeypatch):
    monkeypatch.setattr(rpci, "CALL_SECONDS", 0.2)
    channel = channel_to(Vmx(lambda _call: reply))
    guestinfo = GuestInfo(channel)
    for call in (lambda: guestinfo.get("guestinfo.a"), lambda: guestinfo.set("guestinfo.a", b"x")):
        with pytest.raises(rpci.RpciError):
            call()
    guestinfo.report({"type": "exited"})  # never fails
    assert guestinfo.source().look_again() is None
    with pytest.raises(StartError, match="guestinfo"):
        guestinfo.source().read()
    channel.close()


def test_too_long_a_request_is_not_sent(hypervisor, guestinfo):
    with pytest.raises(rpci.RpciError, match="too long"):
        guestinfo.set("guestinfo.a", bytes(65536))
    assert hypervisor.connections == 0


@pytest.mark.skipif(
    vmware.is_here(modules.read_pci_ids()), reason="VMware itself answers in this machine"
)
def test_without_a_hypervisor(monkeypatch):
    """This host has neither a VMCI device nor a backdoor, as a machine of somebody else's."""
    monkeypatch.setattr(vmx_socket, "CALL_SECONDS", 0.2)
    hypervisor = Hypervisor()
    with pytest.raises(rpci.RpciError, match=r"does not answer: .*; .*there is no backdoor"):
        hypervisor.guestinfo.get("guestinfo.a")
    with pytest.raises(OSError, match=r"."):
        hypervisor.open_line()


class Way:
    """A way to a hypervisor that goes or does not."""

    def __init__(self, name):
        self.name = name
        self.calls = 0
        self.fault = None

    def exchange(self, _request):
        self.calls += 1
        if self.fault is not None:
            raise self.fault
        return b"1 " + self.name

    def close(self):
        pass


def test_the_second_way_is_taken_and_the_first_not_tried_for_ever_longer():
    first, second, now = Way(b"socket"), Way(b"backdoor"), [100.0]
    calls = rpci.Rpci((first, second), clock=lambda: now[0])
    assert calls.call(b"x") == b"socket"
    first.fault = OSError(19, "no such device")
    tried = []
    for _ in range(700):
        before = first.calls
        assert calls.call(b"x") == b"backdoor"
        if first.calls > before:
            tried.append(now[0])
        now[0] += 1.0
    pauses = [after - before for before, after in itertools.pairwise(tried)]
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256]
    first.fault = None
    now[0] += 300
    assert calls.call(b"x") == b"socket"
    first.fault = ConnectionResetError()
    second.fault = OSError(19, "no backdoor")
    with pytest.raises(rpci.RpciError, match="no backdoor"):
        calls.call(b"x")
    first.fault = None  # both have failed a moment ago
    assert calls.call(b"x") == b"socket"


@pytest.mark.parametrize(
    ("ids", "vendor", "answer"),
    [
        ([c_linux.PCI_VMWARE_VMCI], None, True),
        ([], "VMware, Inc.\n", True),
        ([c_linux.PCI_VMWARE_PVSCSI], "QEMU\n", False),
        ([], None, False),
    ],
)
def test_whose_machine_it_is(ids, vendor, answer, tmp_path):
    """QEMU's own machines have devices of VMware's, too."""
    file = tmp_path / "sys_vendor"
    if vendor is not None:
        file.write_text(vendor)
    assert vmware.is_here(ids, str(file)) == answer


def test_the_document_is_read_and_replaced(hypervisor, guestinfo):
    hypervisor.variables[CONFIG] = b'{"schema": 1}'
    source = sources.choose_source("tether.config=guestinfo", modules.ModuleLoader({}), guestinfo)
    assert source.read() == b'{"schema": 1}'
    source.forget()
    assert hypervisor.variables[CONFIG] == b"-"
    with pytest.raises(StartError, match="is not set"):
        source.read()
    assert source.look_again() is None


@pytest.mark.parametrize("value", [None, b"", b" ", b"-", b"-\0"])
def test_no_document(value, hypervisor, guestinfo):
    if value is not None:
        hypervisor.variables[CONFIG] = value
    with pytest.raises(StartError, match="is not set"):
        guestinfo.source().read()
    assert guestinfo.source().look_again() is None


def test_an_ovf_environment_with_our_properties_is_a_document(hypervisor, guestinfo):
    ours = b'<E><P k="saltflat.config" v="{}"/></E>'
    hypervisor.variables[OVF_ENVIRONMENT] = b'<E><P k="theirs"/></E>'
    with pytest.raises(StartError, match="is not set"):
        guestinfo.source().read()
    hypervisor.variables[OVF_ENVIRONMENT] = ours
    source = guestinfo.source()
    assert source.read() == ours
    source.forget()
    assert hypervisor.variables == {OVF_ENVIRONMENT: b"-"}
    # What comes later, with another key, comes as the variable of our own.
    hypervisor.variables[OVF_ENVIRONMENT] = ours
    assert source.look_again() is None
    hypervisor.variables[CONFIG] = b"{}"
    assert source.look_again() == b"{}"
    assert hypervisor.variables == {OVF_ENVIRONMENT: ours, CONFIG: b"-"}
    hypervisor.variables[CONFIG] = b"{}"
    assert guestinfo.source().read() == b"{}"  # it goes before


def test_guestinfo_is_for_vmware_machines():
    with pytest.raises(StartError, match="no VMware machine"):
        sources.choose_source("tether.config=guestinfo", modules.ModuleLoader({}))


def test_another_key_by_guestinfo(hypervisor, guestinfo):
    renewals = Renewals(guestinfo.source(), 3)
    assert renewals.look() is None
    for epoch, taken in ((3, None), (4, bytes(32))):
        hypervisor.variables[CONFIG] = json.dumps(
            {"schema": 1, "epoch": epoch, "key": bytes(32).hex()}
        ).encode()
        assert renewals.look() == taken
        assert hypervisor.variables[CONFIG] == b"-"


def told(hypervisor):
    return json.loads(hypervisor.variables[STATUS])


def test_the_end_is_told_though_no_host_ever_came(lines, hypervisor, guestinfo):
    with supervisor.Supervisor(
        guest_line(lines[0]), linger_seconds=0.1, report=guestinfo.report
    ) as guest:
        guest.supervise(spawn("exit 7"), stop_signal=15, oom_kills=lambda: 0)
    assert told(hypervisor) == {"schema": 1, **exited(7)}


def test_addresses_are_told(hypervisor, guestinfo):
    message = {"type": "network", "interfaces": [{"name": "eth0", "addresses": ["10.0.2.15/24"]}]}
    guestinfo.report_network(message)
    assert json.loads(hypervisor.variables[NETWORK]) == {"schema": 1, **message}


def test_a_failure_is_told_to_both(lines, hypervisor, guestinfo):
    host = Host(lines[1])
    host.start()
    with supervisor.Supervisor(guest_line(lines[0]), report=guestinfo.report) as guest:
        guest.report_failure(StartError("command", "no such program " + "x" * 10**6, code=127))
    lines[0].close()
    host.join(GIVE_UP_SECONDS)
    assert told(hypervisor) == {"schema": 1, **host.controls[-1]}
    assert re.match("no such program x", told(hypervisor)["message"])
    assert told(hypervisor)["code"] == 127


def test_the_drivers_are_loaded():
    loaded = []

    class Loader:
        def load(self, name):
            loaded.append(name)

    open_hypervisor(Loader(), [c_linux.PCI_VMWARE_VMCI])
    assert loaded == list(modules.VSOCK_DRIVERS[c_linux.PCI_VMWARE_VMCI])
