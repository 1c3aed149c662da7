"""Who comes in, who is sent away and how, and that one VM's fault is nobody else's."""

from __future__ import annotations

import pytest

from agent.host.vspc.allow import AllowList, Verdict, read_rule
from agent.host.vspc.c_vspc import IDENTIFY_SECONDS, UNIDENTIFIED_BYTES, Code
from agent.host.vspc.errors import RuleError
from agent.host.vspc.identity import Claims, read_uuid
from tests.unit.vspc.fakes import KNOWN, UUID, House

OTHER = UUID.replace("5", "6")


def allowed(*rules: str) -> AllowList:
    return AllowList(tuple(map(read_rule, rules)))


# --- rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ("net:10.0.0.0/8", Verdict.YES),
        ("net:10.1.0.0/16", Verdict.NO),
        ("net:fd00::/8", Verdict.NO),
        ("net:10.0.0.0/8,uri:salt*", Verdict.YES),
        ("net:10.0.0.0/8,uri:SALT*", Verdict.NO),
        ("net:10.0.0.0/8,name:web-?", Verdict.NOT_YET),
        ("net:11.0.0.0/8,name:web-?", Verdict.NO),
        (f"uuid:{UUID.upper()}", Verdict.YES),
        (f"uuid:{OTHER}", Verdict.NO),
    ],
)
def test_rules(rule: str, verdict: Verdict) -> None:
    claims = Claims("10.0.0.1", uuid=UUID, uri="saltflat")
    assert allowed(rule).judge(claims) is verdict
    assert AllowList(everybody=True).judge(claims) is Verdict.YES
    assert AllowList().judge(claims) is Verdict.NO


@pytest.mark.parametrize("address", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0"])
def test_addresses_of_both_families(address: str) -> None:
    rules = allowed("net:10.0.0.0/24", "net:fe80::/10")
    assert rules.judge(Claims(address)) is Verdict.YES


def test_one_rule_suffices() -> None:
    rules = allowed("name:a", "net:10.0.0.0/8,name:b")
    assert rules.judge(Claims("10.0.0.1")) is Verdict.NOT_YET
    assert rules.judge(Claims("10.0.0.1", name="b")) is Verdict.YES
    assert rules.judge(Claims("11.0.0.1", name="b")) is Verdict.NO


@pytest.mark.parametrize(
    "rule", ["", "name", "name:", "host:x", "net:10.0.0.1/8", "net:x", "uuid:12", "name:a,,name:b"]
)
def test_rules_that_are_none(rule: str) -> None:
    with pytest.raises(RuleError) as caught:
        read_rule(rule)
    assert caught.value.expected


@pytest.mark.parametrize(
    "text",
    [b"501c62c0f1374aa08d3e5c2b1e6f0a11", b"50 1C 62 c0 f1 37 4a a0-8d 3e 5c 2b 1e 6f 0a 11\0"],
)
def test_uuids_as_hosts_write_them(text: bytes) -> None:
    assert read_uuid(text) == UUID


# --- the door ------------------------------------------------------------------------------------


def test_a_vm_that_no_rule_allows() -> None:
    house = House(allowed("name:db"))
    vm = house.serve()  # is called web
    assert vm.heard(Code.WONT_PROXY) == b""
    assert vm.heard(Code.WILL_PROXY) is None
    assert vm.closed
    assert house.registry.lines == {}
    assert "(web)" in house.warnings()


def test_the_service_is_refused_at_once_when_it_decides() -> None:
    house = House(allowed("uri:saltflat"))
    vm = house.connect()
    house.say(vm, Code.DO_PROXY, b"Cother")
    assert vm.heard(Code.WONT_PROXY) == b""
    assert vm.closed


def test_the_service_is_agreed_to_when_all_is_known() -> None:
    house = House(allowed(f"uri:u,uuid:{UUID},name:web"))
    vm = house.connect()
    house.say(vm, Code.DO_PROXY, b"Su")
    house.say(vm, Code.VM_VC_UUID, UUID.encode())
    assert vm.heard(Code.WILL_PROXY) is None
    house.say(vm, Code.VM_NAME, b"web")
    assert vm.heard(Code.WILL_PROXY) == b""


def test_a_vm_without_a_uuid() -> None:
    house = House()
    vm = house.serve(uuid="")
    assert vm.closed
    assert "has no UUID" in house.warnings()


@pytest.mark.parametrize("says", [None, Code.KNOWN_SUBOPTIONS_1])
def test_a_connection_that_never_says_who_it_is(says: int | None) -> None:
    house = House()
    slow = house.connect(opening=False)
    if says is not None:
        house.say(slow, says, b"\0")
    house.scheduler.advance(IDENTIFY_SECONDS)
    assert slow.closed
    assert f"within {IDENTIFY_SECONDS} s" in house.warnings()


def test_a_connection_that_sends_too_much_before_it_says_who_it_is() -> None:
    house = House()
    flood = house.connect()
    while not flood.closed:
        house.data(flood, bytes(10000))
    assert len(flood.held) <= UNIDENTIFIED_BYTES + 10000
    assert "before it said what VM it is" in house.warnings()


def test_a_connection_that_leaves_before_it_is_served() -> None:
    house = House()
    vm = house.connect()
    house.end(vm)
    assert vm.closed
    house.scheduler.advance(2 * IDENTIFY_SECONDS)
    assert house.warnings() == ""


def test_a_vm_with_two_ports_here() -> None:
    house = House()
    first = house.serve("a", uri="one")
    second = house.serve("b", uri="two")
    assert second.closed
    assert not first.closed
    assert "has another port here" in house.warnings()
    house.end(first)
    assert not house.serve("b", uri="two").closed


# --- one VM's fault ------------------------------------------------------------------------------


def test_a_vm_that_breaks_the_protocol_loses_its_own_line_only() -> None:
    house = House()
    bad, good = house.serve("bad"), house.serve("good", OTHER)
    house.data(bad, b"x")
    house.feed(bad, b"y\xff\xfa\xe8\x28\xff\xfb\x00")
    assert bad.closed
    assert house.users[UUID].received == b"xy"
    assert house.users[UUID].told[-1] == "lost"
    house.data(good, b"fine")
    assert house.users[OTHER].received == b"fine"
    assert house.serve("again").heard(Code.WILL_PROXY) == b""


def test_a_begin_of_a_vm_that_nobody_knows() -> None:
    house = House()
    vm = house.connect()
    house.say(vm, Code.VMOTION_BEGIN, b"seq")
    assert vm.heard(Code.VMOTION_NOTNOW) == b"seq"


def test_a_target_that_nobody_knows() -> None:
    house = House()
    house.begin(house.serve())
    thief = house.connect()
    house.say(thief, Code.VMOTION_PEER, b"seqs999")
    assert thief.heard(Code.UNKNOWN_SUBOPTION_RCVD_2) == bytes([Code.VMOTION_PEER])
    assert thief.closed


def test_a_target_of_another_vm() -> None:
    house = House()
    cookie = house.begin(house.serve())
    thief = house.serve("thief", OTHER)
    house.say(thief, Code.VMOTION_PEER, cookie)
    assert thief.closed
    assert house.line.vmotion is not None
    assert house.line.vmotion.target is None


def test_a_target_of_two_vms() -> None:
    house = House()
    mine, other = house.begin(house.serve()), house.begin(house.serve("b", OTHER), b"two")
    target = house.connect("target")
    house.say(target, Code.VMOTION_PEER, mine)
    house.say(target, Code.VMOTION_PEER, other)
    assert target.closed
    assert house.registry.lines[OTHER].vmotion is not None
    assert house.registry.lines[OTHER].vmotion.target is None
    assert house.line.vmotion is not None
    assert house.line.vmotion.target is None


def test_a_source_is_not_its_own_target() -> None:
    house = House()
    source = house.serve()
    house.say(source, Code.VMOTION_PEER, house.begin(source))
    assert source.closed


def test_a_target_that_turns_out_to_be_another_vm() -> None:
    house = House()
    cookie = house.begin(house.serve())
    target = house.connect("target")
    house.say(target, Code.VMOTION_PEER, cookie)
    house.say(target, Code.VM_VC_UUID, OTHER.encode())
    assert target.closed
    assert house.line.vmotion is not None
    assert house.line.vmotion.target is None


# --- many VMs ------------------------------------------------------------------------------------


def uuid(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012x}"


def test_vms_that_are_away_make_way_for_others() -> None:
    house = House(max_lines=2)
    first = house.serve(uuid=uuid(1))
    house.end(first)
    house.serve(uuid=uuid(2))
    assert house.serve(uuid=uuid(3)).heard(Code.WILL_PROXY) == b""
    assert set(house.registry.lines) == {uuid(2), uuid(3)}
    assert house.users[uuid(1)].closed


def test_a_vm_too_many() -> None:
    house = House(max_lines=2)
    away = house.serve(uuid=uuid(1))
    house.users[uuid(1)].attached = True  # somebody still reads what it said last
    house.end(away)
    house.serve(uuid=uuid(2))
    third = house.serve(uuid=uuid(3))
    assert third.closed
    assert "which is the limit" in house.warnings()


def test_closing_lets_go_of_every_user() -> None:
    house = House()
    house.serve()
    house.registry.close()
    assert house.user.closed


def test_the_list_of_what_hosts_know_is_asked_for_by_nobody() -> None:
    # A VM that says its UUID unasked, and knows no question for it, is known all the same.
    house = House()
    vm = house.connect(opening=False)
    house.say(vm, Code.VM_VC_UUID, UUID.encode())
    house.say(vm, Code.DO_PROXY, b"Cu")
    house.say(vm, Code.KNOWN_SUBOPTIONS_1, KNOWN[:14])
    assert house.line.current is vm
