"""Which machine an image is for. Owns the spelling of platforms and which one satisfies another.

Names are those of Go (GOOS, GOARCH), as the OCI image index has them; other spellings are taken as
containerd takes them.
"""

from __future__ import annotations

import re
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
_IMPLIED_VARIANT = {("amd64", "v1"): "", ("arm64", "v8"): "", ("arm", ""): "v7"}


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
        if architecture in {"arm", "arm64"} and variant.isdecimal():
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
        """Return the platforms whose images run here, best first: itself, then lower variants."""
        found = [self]
        number = self.variant.removeprefix("v")
        if number.isdecimal() and len(number) == 1 and self.architecture in {"arm", "amd64"}:
            lowest = 5 if self.architecture == "arm" else 1
            found += [
                type(self).normalised(self.os, self.architecture, f"v{lower}")
                for lower in range(int(number) - 1, lowest - 1, -1)
            ]
        return tuple(found)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


DEFAULT_PLATFORM = Platform("linux", "amd64")
