"""Which machine an image is for. Owns the spelling of platforms and which one satisfies another.

Names are those of Go (GOOS, GOARCH), as the OCI image index has them; other spellings are taken as
containerd takes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from converter.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9_.-]+")
_ARCHITECTURE_ALIASES = {
    "i386": ("386", ""),
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
# The variant that is meant when none is written, so that both spellings compare equal.
_IMPLIED_VARIANT = {
    ("amd64", "v1"): "",
    ("arm64", "v8"): "",
    ("arm64", "v8.0"): "",
    ("arm64", "v9.0"): "v9",
    ("arm", ""): "v7",
}
_VARIANT = re.compile(r"v([0-9])(?:\.([0-9]))?")
_LOWEST_VARIANT = {"arm": 5, "amd64": 1}


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """An operating system, an architecture, and the architecture's variant or ""."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def normalised(cls, os: str, architecture: str, variant: str = "") -> Self:
        """Return the platform in its one spelling: x86_64 is amd64, arm without variant is v7."""
        os, architecture, variant = os.lower(), architecture.lower(), variant.lower()
        if os == "macos":
            os = "darwin"
        architecture, forced = _ARCHITECTURE_ALIASES.get(architecture, (architecture, None))
        if forced is not None:
            variant = forced
        if architecture in {"arm", "arm64"} and variant[:1].isdecimal():
            variant = f"v{variant}"
        variant = _IMPLIED_VARIANT.get((architecture, variant), variant)
        return cls(os, architecture, variant)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `os/arch[/variant]` as a person writes it. Raises UsageError."""
        parts = text.split("/")
        if len(parts) not in {2, 3} or not all(NAME.fullmatch(part) for part in parts):
            raise UsageError(
                f"{text!r} is not a platform.",
                expected="os/architecture or os/architecture/variant",
                hint="For example: linux/amd64, linux/arm64, linux/arm/v7.",
            )
        return cls.normalised(*parts)

    def accepted(self) -> tuple[Self, ...]:
        """Return the platforms whose images run here, best first: itself, then lower variants.

        As containerd's platforms package has it, but for what it adds of other architectures (386
        on amd64, arm on arm64): who names an architecture gets no other.
        """
        return (
            self,
            *(
                type(self).normalised(self.os, self.architecture, variant)
                for variant in _lower_variants(self.architecture, self.variant)
            ),
        )

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def _lower_variants(architecture: str, variant: str) -> Iterator[str]:
    """Yield the variants whose code `variant` runs too, the highest first."""
    match = _VARIANT.fullmatch(variant)
    if match is None:
        return
    major, minor = int(match[1]), int(match[2] or 0)
    if architecture in _LOWEST_VARIANT and match[2] is None:
        for lower in range(major - 1, _LOWEST_VARIANT[architecture] - 1, -1):
            yield f"v{lower}"
    elif architecture == "arm64" and major in {8, 9}:
        for lower in range(minor - 1, -1, -1):
            yield f"v{major}.{lower}" if lower else f"v{major}"
        if major == 9:  # the Arm architecture: v9.n has what v8.(n+5) has
            for lower in range(min(minor + 5, 9), -1, -1):
                yield f"v8.{lower}" if lower else "v8"


DEFAULT_PLATFORM = Platform("linux", "amd64")
