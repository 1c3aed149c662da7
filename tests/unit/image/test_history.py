"""What a history tells of layers, and that one which does not fit them tells nothing."""

from __future__ import annotations

import json

import pytest

from converter.image.history import created_by


@pytest.mark.parametrize(
    ("history", "told"),
    [
        ([{"created_by": "one"}, {"created_by": "ENV A=b", "empty_layer": True}, {}], ("one", "")),
        ([{"comment": "imported"}, {"created_by": 7}], ("imported", "")),
        ([{"created_by": "one"}], ("", "")),
        ([{"created_by": "one", "empty_layer": False}, "two", {}], ("one", "")),
        (None, ("", "")),
        ({"created_by": "one"}, ("", "")),
    ],
)
def test_each_layer_has_its_step(history: object, told: tuple[str, ...]) -> None:
    assert created_by(json.dumps({"history": history}).encode(), 2) == told


def test_there_may_be_no_history_at_all() -> None:
    assert created_by(b"{}", 1) == ("",)
