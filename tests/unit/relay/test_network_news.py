"""What a guest says of its network: kept where it is what it should be, and bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.host.relay.network_news import network_news

GOOD = {
    "type": "network",
    "interfaces": [
        {
            "name": "eth0",
            "mac": "02:42:00:00:00:01",
            "addresses": ["10.0.2.15/24", "fec0::2:0:0:0:15/64"],
            "gateways": ["10.0.2.2"],
            "dhcp": {"server": "10.0.2.2", "seconds": 86400},
        }
    ],
    "name_servers": ["10.0.2.3"],
    "search_domains": ["corp.example"],
    "warnings": ["eth1: its link is down"],
}


def test_what_is_right_stays():
    news = network_news(GOOD)
    assert news["interfaces"][0]["addresses"] == ["10.0.2.15/24", "fec0:0:0:2::15/64"]
    assert {**news, "interfaces": 0} == {
        key: value for key, value in {**GOOD, "interfaces": 0}.items() if key != "type"
    }


def test_what_is_wrong_goes():
    news = network_news(
        {
            "interfaces": [
                "eth0",
                {"name": "e\x1b[31m"},
                {"name": "eth1", "mac": "x", "addresses": ["10.0.2.15", 7, "x/24"], "dhcp": 1},
                {"name": "eth2", "dhcp": {"server": [], "seconds": -1}},
            ],
            "name_servers": "10.0.2.3",
            "search_domains": ["a b", None],
            "warnings": ["w\x1b]0;title\x07" + "x" * 500, 5],
        }
    )
    assert news["interfaces"] == [
        {"name": "eth1", "mac": "", "addresses": [], "gateways": [], "dhcp": None},
        {
            "name": "eth2",
            "mac": "",
            "addresses": [],
            "gateways": [],
            "dhcp": {"server": "", "seconds": None},
        },
    ]
    assert (news["name_servers"], news["search_domains"]) == ([], [])
    assert news["warnings"] == ["w]0;title" + "x" * 191]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=10,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, JSON)))
def test_anything_is_taken(message):
    news = network_news(message)
    assert set(news) == {"interfaces", "name_servers", "search_domains", "warnings"}


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD["interfaces"][0], JSON)))
def test_any_interface_is_taken(interface):
    network_news({"interfaces": [{**interface, "name": "eth0"}]})
