"""The agent's rtnetlink against a real kernel, in a namespace of its own; ip(8) reads it back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.tether import netlink

ROOT = Path(__file__).resolve().parents[3]
SURVEY = ROOT / "tests/guests/netlink_survey.py"

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def survey(tool) -> dict[str, Any]:
    command = [tool("unshare"), "--net", sys.executable, SURVEY]
    tool("ip")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode()
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def link(seen: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in seen["addr"] if one["ifname"] == name]
    return found


def addresses(seen: dict[str, Any], name: str) -> list[str]:
    infos = link(seen, name)["addr_info"]
    return [f"{one['local']}/{one['prefixlen']}" for one in infos if one["scope"] == "global"]


def routes(seen: dict[str, Any], name: str, kind: str = "route") -> set[tuple[str, str, int]]:
    return {
        (one["dst"], one["gateway"], one.get("metric", 0))
        for one in seen[kind]
        if one.get("dev") == name and "gateway" in one
    }


def test_names_follow_the_document(survey):
    names = {one["address"]: one["ifname"] for one in survey["static"]["addr"]}
    assert names.pop("02:42:00:00:00:0c") == "eth0"
    assert names.pop("02:42:00:00:00:0a") == "eth1"
    assert names.pop("00:00:00:00:00:00") == "lo"
    assert sorted(names.values()) == ["eth2", "eth3", "eth4", "eth5"]
    assert "UP" in link(survey["static"], "eth0")["flags"]
    assert "UP" not in link(survey["static"], names["02:42:00:00:00:0b"])["flags"]
    assert link(survey["static"], "eth0")["mtu"] == 1400


def test_addresses_and_routes(survey):
    seen = survey["static"]
    assert addresses(seen, "eth0") == ["10.1.0.5/16", "192.0.2.7/31", "2001:db8::5/64"]
    broadcast = {one["local"]: one.get("broadcast") for one in link(seen, "eth0")["addr_info"]}
    assert broadcast["10.1.0.5"] == "10.1.255.255"
    assert broadcast["192.0.2.7"] is None
    assert routes(seen, "eth0") == {
        ("default", "10.1.0.1", 0),
        ("198.51.100.0/24", "10.1.0.9", 0),
        ("203.0.113.0/24", "10.77.0.1", 0),  # a gateway that no address leads to
    }
    assert ("default", "2001:db8::1") in {route[:2] for route in routes(seen, "eth0", "route6")}
    tentative = [one for one in link(seen, "eth0")["addr_info"] if one["local"] == "2001:db8::5"]
    assert not tentative[0].get("tentative")  # it can be used at once


def test_what_we_read_is_what_ip_reads(survey):
    ours = {text for _, text, _ in survey["ours"]}
    theirs = {
        f"{one['local']}/{one['prefixlen']}"
        for entry in survey["static"]["addr"]
        for one in entry["addr_info"]
    }
    assert ours == theirs
    assert survey["heard"]
    assert survey["drained"]


def test_what_runs(survey):
    assert {is_running for _, is_running, *_ in survey["running"]} == {True, False}
    for name, is_running, state, *flags in survey["running"]:
        # A state that nobody has changed yet counts as up where there is a carrier.
        assert is_running == ("LOWER_UP" in flags and state in ("UP", "UNKNOWN")), name


def test_leases_take_each_other_s_place(survey):
    first, renewed, other, alone, none = survey["leases"]
    assert [one["refused"] for one in survey["leases"]] == ["", "", "", "Invalid argument", ""]
    assert addresses(first, "eth1") == ["10.2.0.50/24"]
    assert routes(first, "eth1") == {("default", "10.2.0.1", 100)}
    assert link(first, "eth1")["mtu"] == 1300
    assert link(first, "eth1")["addr_info"][0]["valid_life_time"] in range(620, 631)
    assert addresses(renewed, "eth1") == ["10.2.0.50/24"]
    assert routes(renewed, "eth1") == {("default", "10.2.0.2", 100)}
    assert link(renewed, "eth1")["mtu"] == 1500
    assert link(renewed, "eth1")["addr_info"][0]["valid_life_time"] in range(720, 731)
    assert addresses(other, "eth1") == ["10.3.0.50/24"]
    assert routes(other, "eth1") == {("default", "10.3.0.1", 100)}
    assert addresses(alone, "eth1") == ["10.4.0.50/32"]
    assert routes(alone, "eth1") == {("default", "10.4.0.1", 100)}
    wires = [one for one in alone["route"] if one["dev"] == "eth1" and "gateway" not in one]
    assert {(one["dst"], one["scope"], one["metric"]) for one in wires} == {
        ("10.4.0.1", "link", 100),
        ("192.0.2.0/24", "link", 100),
    }
    assert addresses(none, "eth1") == []
    assert [one for one in none["route"] if one["dev"] == "eth1"] == []
    assert routes(none, "eth0") == routes(survey["static"], "eth0")


def test_an_interface_without_ipv6_has_none(survey):
    assert [one["family"] for one in link(survey["static"], "eth1")["addr_info"]] == []


def test_the_kernel_s_own_words(survey):
    assert survey["refused"] == [
        "No such device",
        "Cannot assign requested address",
        "Network is unreachable",
    ]


def test_messages_that_are_cut_short_end_there():
    whole = netlink.attribute(3, b"eth0\0")
    assert netlink.read_attributes(whole, 0) == {3: b"eth0\0"}
    assert len(whole) % 4 == 0
    for end in range(len(b"eth0\0") + 4):
        assert netlink.read_attributes(whole[:end], 0) == {}
    assert list(netlink.split_messages(b"\x10")) == []
    assert list(netlink.split_messages(b"\x04\0\0\0" + bytes(12))) == []
