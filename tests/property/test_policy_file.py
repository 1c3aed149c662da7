"""Whatever is in a policy's file, it is a policy or one error that names the file."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from converter.errors import UsageError
from converter.policy import Policy
from converter.policy_file import parse_policy

PIECES = [
    *("schema: 1\n", "registries:", "user:", "max-layers:", "max-disk-size:", "digest:"),
    *("\n", "\n  ", "\n- ", " ", "- ", ": ", "? ", "[", "]", "{", "}", ",", "|", ">", "'", '"'),
    *("#", "&a ", "*a", "<<", "---\n", "...\n", "%YAML 1.1\n", "\t", "~", "=", "\\", "\u2028"),
    *("!!int ", "!!float ", "!!bool ", "!!null ", "!!timestamp ", "!!binary ", "!!set ", "!!omap "),
    *(
        "!!pairs ",
        "!!map ",
        "!!seq ",
        "!!str ",
        "!!merge ",
        "!x ",
        "0x",
        "0b",
        "1:30",
        "1e999",
        "_",
    ),
    *("12", "2026-13-45", "2001-12-14t21:59:43.10-05:99", "required", "docker.io", "oci", "\ud7ff"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example("!!int ''")
@example("!!timestamp x")
@example("!!bool maybe")
@example("!!float .")
@example("user: !!binary '='")
def test_pieces_of_yaml(text: str) -> None:
    _judge(f"schema: 1\n{text}".encode())
    _judge(text.encode())


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    _judge(raw)


def _judge(raw: bytes) -> None:
    fault = None
    try:
        assert isinstance(parse_policy(raw, origin="rules.yaml"), Policy)
    except UsageError as error:
        fault = error.what
    assert fault is None or (fault.startswith("rules.yaml, line ") and fault.isprintable())
