"""The fixture of all tests of what is sans-IO in the concentrator."""

from __future__ import annotations

import pytest

from tests.unit.vspc.fakes import House


@pytest.fixture
def house() -> House:
    return House()
