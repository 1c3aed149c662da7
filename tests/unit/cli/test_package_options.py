"""Options of packages: which types have no use for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from converter.errors import UsageError
from converter.export.options import PackageOptions


def options(**given: Any) -> PackageOptions:
    usual = {"given": (), "is_delta": False, "variables": (), "network": "VM Network"}
    usual["medium_name"] = "iso"
    return PackageOptions(**{**usual, "key": None, "certificate": None, **given})


def test_options_of_packages_are_for_packages() -> None:
    options().check("stream", is_package=False)
    options(given=("--delta",), is_delta=True).check("ova", is_package=True)
    with pytest.raises(UsageError, match="--delta says nothing of what --type stream makes"):
        options(given=("--delta",), is_delta=True).check("stream", is_package=False)


def test_what_no_package_can_have() -> None:
    assert options(variables=("A", "B=c")).settings("telnet://10.1.0.5:2377").signer is None
    with pytest.raises(UsageError, match="desktop products"):
        options().settings("pipe:web")
    with pytest.raises(UsageError, match="cannot be a property"):
        options(variables=("a b",)).settings("")
    with pytest.raises(UsageError, match="--network-name is empty"):
        options(network=" ").settings("")


def test_a_certificate_alone_signs_nothing() -> None:
    with pytest.raises(UsageError, match="--cert is for a signature"):
        options(certificate=Path("cert.pem")).check("ova", is_package=True)
