"""WWW-Authenticate, as registries send it and as the grammar allows."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.registry.auth.challenge import Challenge, parse_challenges

HUB = {
    "realm": "https://auth.docker.io/token",
    "service": "registry.docker.io",
    "scope": "repository:library/debian:pull",
}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
            'scope="repository:library/debian:pull"',
            [("bearer", HUB)],
        ),
        (
            'Bearer scope="repository:a:pull,push",realm="https://a/t"',
            [("bearer", {"scope": "repository:a:pull,push", "realm": "https://a/t"})],
        ),
        ('Basic realm="a, b = c"', [("basic", {"realm": "a, b = c"})]),
        (
            'Basic realm="x", charset=UTF-8 , Bearer realm="y"',
            [("basic", {"realm": "x", "charset": "UTF-8"}), ("bearer", {"realm": "y"})],
        ),
        ('Bearer realm="x", Basic', [("bearer", {"realm": "x"}), ("basic", {})]),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        (
            'Negotiate abc==, NTLM, Basic realm="x"',
            [("negotiate", {}), ("ntlm", {}), ("basic", {"realm": "x"})],
        ),
        (r'Basic realm="say \"hi\" \\o/"', [("basic", {"realm": r'say "hi" \o/'})]),
        ('BEARER Realm = "x"\t,\tSCOPE="y"', [("bearer", {"realm": "x", "scope": "y"})]),
        (', ,Bearer realm="x",,', [("bearer", {"realm": "x"})]),
        ('Bearer realm="x", realm="y"', [("bearer", {"realm": "x"})]),
        ('Bearer realm=""', [("bearer", {"realm": ""})]),
    ],
)
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges(header) == tuple(Challenge(*each) for each in expected)


@pytest.mark.parametrize(
    "header", ['Bearer realm="x', "=", 'realm="x"', 'Bearer realm="x"y="z"', "Bearer (", "é"]
)
def test_malformed(header: str) -> None:
    with pytest.raises(ValueError, match=r"^malformed at character \d+$"):
        parse_challenges(header)


@given(st.text(alphabet='aZ=, "\\\t/(', max_size=40) | st.text(max_size=10))
def test_anything_is_parsed_or_malformed(header: str) -> None:
    with suppress(ValueError):
        for challenge in parse_challenges(header):
            assert challenge.scheme


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_every_value_can_be_quoted(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    header = f'Basic a="{quoted}", Bearer b="{quoted}"'
    assert parse_challenges(header) == (
        Challenge("basic", {"a": value}),
        Challenge("bearer", {"b": value}),
    )
