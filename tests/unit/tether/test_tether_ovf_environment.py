"""OVF environments: what the properties change in the document, and XML that is none of ours.

The XML is in the form that vCenter writes (`oe:` attributes, VMware's adapter section).
"""

from __future__ import annotations

import contextlib
import json
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tether import config
from agent.tether.errors import StartError
from tests.unit.tether.test_tether_config import DOCUMENT, KEY

ADAPTERS = (
    '<ve:Adapter ve:mac="00:50:56:9A:00:01" ve:network="front" ve:unitNumber="7"/>'
    '<ve:Adapter ve:mac="00:50:56:9a:00:02" ve:network="back" ve:unitNumber="8"/>'
)


def environment(properties, *, adapters=ADAPTERS, more=""):
    listed = "".join(
        f"<Property oe:key={quoteattr(key)} oe:value={quoteattr(value)}/>"
        for key, value in properties.items()
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Environment
     xmlns="http://schemas.dmtf.org/ovf/environment/1"
     xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
     xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"
     xmlns:ve="http://www.vmware.com/schema/ovfenv"
     oe:id=""
     ve:vCenterId="vm-320">
   <PlatformSection>
      <Kind>VMware ESXi</Kind><Version>8.0.3</Version>
   </PlatformSection>
   <PropertySection>{listed}</PropertySection>
   <ve:EthernetAdapterSection>{adapters}</ve:EthernetAdapterSection>{more}
</Environment>
""".encode()


def load(properties, document=DOCUMENT, **rest):
    return config.load_document(
        environment({"saltflat.config": json.dumps(document), **properties}, **rest)
    )


def test_without_properties_it_is_the_document():
    assert load({}) == {**DOCUMENT, "network": None}
    unset = {
        "saltflat.key": "",
        "saltflat.hostname": "",
        "saltflat.run": "",
        "saltflat.network": "",
    }
    assert load(unset) == load({})


def test_properties_change_the_document():
    other = "ab" * 32
    found = load({"saltflat.key": other, "saltflat.hostname": "db1", "other.thing": "x"})
    assert (found["key"], found["hostname"]) == (other, "db1")
    assert config.parse_connection(found).key == bytes.fromhex(other)


def test_a_run_is_changed_member_by_member_and_variables_come_last_in_order():
    found = load(
        {
            "env.B": "of <a> & \"b\" 'c' \u00e4",
            "env.EMPTY": "",
            "saltflat.run": json.dumps({"args": ["y", "z"], "env": ["B=last"]}),
        }
    )
    run = config.parse_job(found).run
    assert run.arguments == ("y", "z")
    assert run.rows == DOCUMENT["run"]["rows"]
    assert run.environment == ("B", "B=of <a> & \"b\" 'c' \u00e4", "EMPTY=", "B=last")


def test_without_a_key_nobody_else_knows_it():
    document = {name: value for name, value in DOCUMENT.items() if name != "key"}
    keys = {config.parse_connection(load({}, document)).key for _ in range(2)}
    assert len(keys) == 2
    assert bytes.fromhex(KEY) not in keys


def test_interfaces_are_the_adapters_in_order():
    network = {"interfaces": [{"dhcp": True}, {"slaac": True}, {"mac": "02:00:00:00:00:01"}]}
    found = load({"saltflat.network": json.dumps(network)})
    assert [one["mac"] for one in found["network"]["interfaces"]] == [
        *("00:50:56:9a:00:01", "00:50:56:9a:00:02", "02:00:00:00:00:01")
    ]
    with pytest.raises(StartError, match=r"interfaces\[0\]\.mac: expected an adapter"):
        load({"saltflat.network": json.dumps(network)}, adapters="")


def test_another_machines_properties_are_not_ours():
    entity = (
        '<Entity oe:id="db"><PropertySection><Property oe:key="saltflat.hostname" oe:value="db"/>'
        "</PropertySection></Entity>"
    )
    assert load({}, more=entity)["hostname"] == DOCUMENT["hostname"]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (environment({}), "saltflat.config: expected a property"),
        (environment({"saltflat.config": "[]"}), "expected a JSON object"),
        (environment({"saltflat.config": '{"schema": 2}'}), "schema 2 is newer"),
        (
            environment({"saltflat.config": '{"schema": 1}', "saltflat.run": "{"}),
            "saltflat.run: exp",
        ),
        (
            environment({"saltflat.config": '{"schema": 1}', "saltflat.run": "[]"}),
            "saltflat.run: exp",
        ),
        (b"<Environment>", "expected an OVF environment in XML"),
        (b'<?xml version="1.0" encoding="no such"?><a/>', "expected an OVF environment in XML"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "without a document type"),
        (b"<" * (config.MAX_DOCUMENT_BYTES + 1), "at most"),
    ],
)
def test_what_is_none(raw, says):
    with pytest.raises(StartError, match=says) as caught:
        config.load_document(raw)
    assert caught.value.kind == "config"


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(
    st.dictionaries(st.one_of(TEXT, st.just("saltflat.run"), st.just("env.A")), TEXT, max_size=4),
    st.integers(0, 2000),
    st.binary(max_size=3),
)
def test_any_environment_is_read_or_refused(properties, at, noise):
    raw = environment({"saltflat.config": json.dumps(DOCUMENT), **properties})
    at = min(at, len(raw))
    with contextlib.suppress(StartError):
        found = config.load_document(raw[:at] + noise + raw[at + len(noise) :])
        config.parse_connection(found)
        config.parse_job(found)
