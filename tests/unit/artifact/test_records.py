"""Records of links and chains: round trips, and every field that lies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.artifact.records import dump_chain, dump_link, parse_chain, parse_link
from converter.errors import IntegrityError, SaltflatError
from tests.unit.artifact.samples import chain, link

WORDS = st.text("a0:/\n\x1b", max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner),
    max_leaves=5,
)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("parent", ["", "a" * 64])
def test_a_link_comes_back(parent: str, empty: bool) -> None:
    record = link(parent, "layer", empty=empty)
    assert parse_link(dump_link(record), what="it") == record


def test_a_chain_comes_back() -> None:
    record = chain("one", "two", "three", capacity_bytes=1 << 30, journal=False)
    assert parse_chain(dump_chain(record), what="it") == record
    assert record.top == record.links[2].link_id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("link_id", "0" * 64),
        ("link_id", "x"),
        ("parent", "b" * 64),
        ("parent", "../x"),
        ("diff_ids", []),
        ("diff_ids", ["sha256:1"]),
        ("diff_ids", "sha256"),
        ("empty", True),
        ("empty", 0),
        ("size_bytes", -1),
        ("size_bytes", 1 << 50),
        ("size_bytes", 1.0),
        ("sha256", ""),
        ("sha256", "A" * 64),
        ("state_size_bytes", 1 << 40),
        ("state_sha256", None),
        ("grains", True),
        ("grains", 1 << 40),
        ("producer", "a\nb"),
        ("producer", "x" * 1000),
        ("schema", 0),
        ("schema", "1"),
        ("parameters", {}),
    ],
)
def test_a_field_that_lies(field: str, value: object) -> None:
    document = json.loads(dump_link(link("a" * 64, "layer")))
    document[field] = value
    with pytest.raises(IntegrityError):
        parse_link(json.dumps(document).encode(), what="it")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("capacity_bytes", 0),
        ("capacity_bytes", 1 << 60),
        ("capacity_bytes", (1 << 30) + 512),
        ("grain_bytes", 0),
        ("grain_bytes", 512),
        ("grain_bytes", 1 << 20),
        ("journal", "yes"),
        ("writer_version", -1),
    ],
)
def test_a_parameter_that_cannot_be(field: str, value: object) -> None:
    document = json.loads(dump_link(link("", "layer")))
    document["parameters"][field] = value
    with pytest.raises(IntegrityError):
        parse_link(json.dumps(document).encode(), what="it")


def test_newer_schemas_are_refused_and_not_misread() -> None:
    document = json.loads(dump_link(link("", "layer")))
    for newer in ({**document, "schema": 2}, {"schema": 2}):
        with pytest.raises(SaltflatError, match="schema 2") as caught:
            parse_link(json.dumps(newer).encode(), what="it")
        assert caught.value.exit_code == 1


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(dump_chain(chain("one", "two"))), **changes}).encode()


def test_links_that_make_no_chain() -> None:
    document = json.loads(dump_chain(chain("one", "two", "three")))
    one, two, three = document["links"]
    other = json.loads(dump_chain(chain("one", "two", capacity_bytes=1 << 30)))["links"]
    for links in ([], [two], [one, three], [two, one], [one, one], [one, other[1]]):
        with pytest.raises(IntegrityError):
            parse_chain(changed(links=links), what="it")
    with pytest.raises(IntegrityError):
        parse_chain(changed(links=[one] * 400), what="it")


def test_links_without_a_disk_stand_between_others() -> None:
    one, two = (json.loads(dump_link(record)) for record in chain("one", "two").links)
    below = json.loads(dump_link(link("", "nothing", empty=True)))
    between = json.loads(dump_link(link(one["link_id"], "nothing", empty=True)))
    record = parse_chain(changed(links=[below, one, between, two]), what="it")
    assert [disk.link_id for disk in record.disks] == [one["link_id"], two["link_id"]]
    assert record.top == two["link_id"]
    for links in ([below], [one, below, two], [between, one, two], [one, two, between]):
        with pytest.raises(IntegrityError):
            parse_chain(changed(links=links), what="it")


@pytest.mark.parametrize(
    "changes",
    [{"reference": ""}, {"reference": "a\x1b[2J"}, {"platform": "linux"}, {"platform": 1}],
)
def test_what_else_a_chain_says(changes: dict[str, object]) -> None:
    with pytest.raises(IntegrityError):
        parse_chain(changed(**changes), what="it")


@given(st.dictionaries(st.sampled_from([*json.loads(dump_link(link("", "x")))]), JSON))
def test_whatever_stands_in_a_record_it_is_a_link_or_an_error(changes: dict[str, object]) -> None:
    document = {**json.loads(dump_link(link("", "x"))), **changes}
    try:
        found = parse_link(json.dumps(document).encode(), what="it")
    except SaltflatError:
        return
    assert parse_link(dump_link(found), what="it") == found


@given(st.binary(max_size=200))
def test_bytes_that_are_no_record(raw: bytes) -> None:
    with pytest.raises(IntegrityError):
        parse_chain(raw, what="it")
