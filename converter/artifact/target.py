"""Where a chain is pushed to. Owns the difference between a tag that was named and none."""

from __future__ import annotations

from dataclasses import dataclass

from converter.errors import UsageError
from converter.image.reference import RegistryReference, parse_source


@dataclass(frozen=True, slots=True)
class Target:
    """A repository, and the tag that the user named; without one, only the digest names it."""

    reference: RegistryReference
    tag: str | None

    @property
    def repository(self) -> str:
        """The repository's name in its registry."""
        return self.reference.repository


def parse_target(text: str) -> Target:
    """Read HOST/REPO[:TAG]. Raises UsageError."""
    reference = parse_source(text)
    if not isinstance(reference, RegistryReference):
        raise UsageError(
            f"{text} is not a place in a registry.", expected="HOST/REPO or HOST/REPO:TAG"
        )
    if reference.digest is not None:
        raise UsageError(
            f"{text} names a digest, which follows from what is pushed.",
            expected="HOST/REPO or HOST/REPO:TAG",
        )
    # Docker's default tag would be that of the image: a chain is not to take its place unasked.
    named = ":" in text.removeprefix("docker://").rpartition("/")[2]
    return Target(reference, reference.tag if named else None)
