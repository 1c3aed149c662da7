"""Platforms: one spelling for each, and which one satisfies another."""

from __future__ import annotations

import pytest

from converter.errors import UsageError
from converter.image.platform import Platform


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v8.0", "linux/arm64"),
        ("linux/arm64/9.0", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("macos/arm64", "darwin/arm64"),
        ("linux/riscv64", "linux/riscv64"),
    ],
)
def test_one_spelling(text: str, expected: str) -> None:
    assert str(Platform.parse(text)) == expected
    assert Platform.parse(expected) == Platform.parse(text)


@pytest.mark.parametrize("text", ["", "linux", "a/b/c/d", "linux/", "/amd64", "linux/amd 64"])
def test_no_platform(text: str) -> None:
    with pytest.raises(UsageError, match="is not a platform"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", ["linux/amd64"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"]),
        ("linux/arm", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm/v8", ["linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm/v5", ["linux/arm/v5"]),
        ("linux/arm64", ["linux/arm64"]),
        ("linux/arm64/v8.2", ["linux/arm64/v8.2", "linux/arm64/v8.1", "linux/arm64"]),
        (
            "linux/arm64/v9",
            ["linux/arm64/v9", *(f"linux/arm64/v8.{n}" for n in range(5, 0, -1)), "linux/arm64"],
        ),
        (
            "linux/arm64/9.1",
            [
                "linux/arm64/v9.1",
                "linux/arm64/v9",
                *(f"linux/arm64/v8.{n}" for n in range(6, 0, -1)),
                "linux/arm64",
            ],
        ),
        ("linux/arm64/v7", ["linux/arm64/v7"]),
        ("linux/amd64/v2.1", ["linux/amd64/v2.1"]),
        ("linux/386", ["linux/386"]),
        ("linux/ppc64le/power9", ["linux/ppc64le/power9"]),
    ],
)
def test_lower_variants_do(text: str, expected: list[str]) -> None:
    assert [str(platform) for platform in Platform.parse(text).accepted()] == expected
