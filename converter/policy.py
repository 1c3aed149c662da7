"""What may be converted: the rules that a person sets, and what they say to an image. Pure.

Owns the rules' names and the refusals; the file that sets them is converter.policy_file's. Each
check comes as early as what it needs is known: that of the reference before anybody is asked, those
of manifest and configuration before a layer is fetched, that of the disks as they grow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from converter.errors import PolicyError
from converter.image.model import Image
from converter.image.reference import (
    BundleReference,
    DockerArchiveReference,
    LayoutArchiveReference,
    LayoutReference,
    RegistryReference,
    SourceReference,
)

REGISTRIES = "registries"
DIGEST = "digest"
MAX_COMPRESSED_SIZE = "max-compressed-size"
MAX_DISK_SIZE = "max-disk-size"
MAX_LAYERS = "max-layers"
USER = "user"

# What `registries` calls the sources that are none.
LOCAL_SOURCES = {
    "oci": LayoutReference,
    "oci-archive": LayoutArchiveReference,
    "docker-archive": DockerArchiveReference,
    "bundle": BundleReference,
}
_NUMBER = re.compile(r"[0-9]{1,10}")
_ROOT = "root"


class UserRule(Enum):
    """Whom an image's process may be.

    NOT_ROOT refuses root by name and by number, and an image that names nobody. NUMERIC takes a
    number alone, as runAsNonRoot of Kubernetes does: who a name is, the image's own files say.
    """

    NOT_ROOT = "not-root"
    NUMERIC = "numeric"


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules, each None (or False) where nothing is asked for; `origin` names their file.

    `registries` has HOST, HOST/NAME and keys of LOCAL_SOURCES. Sizes are bytes: of an image's
    layers as they are transported, and of its chain's disks.
    """

    origin: str = ""
    registries: tuple[str, ...] | None = None
    digest: bool = False
    max_compressed_bytes: int | None = None
    max_disk_bytes: int | None = None
    max_layers: int | None = None
    user: UserRule | None = None

    def check_reference(self, reference: SourceReference) -> None:
        """Check what is asked for, before anybody is asked. Raises PolicyError."""
        if self.registries is not None and not _is_listed(reference, self.registries):
            raise self._refusal(
                REGISTRIES,
                f"{reference} is from none of the places that are allowed",
                expected=f"one of: {', '.join(self.registries) or 'nothing is allowed'}",
            )
        named = isinstance(reference, RegistryReference) and reference.digest is not None
        if self.digest and not named:
            raise self._refusal(
                DIGEST,
                f"{reference} does not say which bytes it means",
                expected="HOST/NAME@DIGEST",
            )

    def check_image(self, image: Image) -> None:
        """Check what an image's manifest and configuration say of it. Raises PolicyError."""
        name = image.reference
        if self.max_layers is not None and len(image.layers) > self.max_layers:
            raise self._refusal(
                MAX_LAYERS,
                f"{name} has {len(image.layers)} layers",
                expected=f"at most {self.max_layers}",
            )
        size_bytes = sum(layer.descriptor.size_bytes for layer in image.layers)
        if self.max_compressed_bytes is not None and size_bytes > self.max_compressed_bytes:
            raise self._refusal(
                MAX_COMPRESSED_SIZE,
                f"the layers of {name} have {size_bytes} bytes to fetch",
                expected=f"at most {self.max_compressed_bytes}",
            )
        if self.user is not None:
            user = str(image.config.execution.get("User") or "").partition(":")[0]
            expected = _wanted_user(self.user, user)
            if expected is not None:
                said = f"{user[:80]!a}" if user else "nobody, and so root"
                raise self._refusal(USER, f"{name} names as its user {said}", expected=expected)

    def check_disks(self, reference: str, size_bytes: int) -> None:
        """Check what the disks of an image's chain have in all, or so far. Raises PolicyError."""
        if self.max_disk_bytes is not None and size_bytes > self.max_disk_bytes:
            raise self._refusal(
                MAX_DISK_SIZE,
                f"the disks of {reference} have more than {self.max_disk_bytes} bytes",
                expected="fewer, as the policy has it",
            )

    def _refusal(self, rule: str, problem: str, *, expected: str) -> PolicyError:
        where = f" of {self.origin}" if self.origin else ""
        return PolicyError(
            f"The rule {rule}{where} refuses this: {problem}.",
            expected=expected,
            hint="Choose another image, or change the policy.",
            cause=rule,
        )


ANYTHING = Policy()  # the policy of who has none


def _is_listed(reference: SourceReference, allowed: tuple[str, ...]) -> bool:
    if not isinstance(reference, RegistryReference):
        return any(isinstance(reference, LOCAL_SOURCES.get(each, ())) for each in allowed)
    place = f"{reference.host}/{reference.repository}"
    return any(f"{place}/".startswith(f"{each}/") for each in allowed)


def _wanted_user(rule: UserRule, user: str) -> str | None:
    """Return what the rule wants instead of `user`, or None if it is content."""
    if rule is UserRule.NUMERIC:
        number = _NUMBER.fullmatch(user)
        return None if number and int(user) else "a number other than 0: a name may be anybody"
    if user in ("", _ROOT) or _is_zero(user):
        return "a user other than root"
    return None


def _is_zero(user: str) -> bool:
    # Wider than what engines take for a number: whatever some of them may read as 0 is root.
    try:
        return int(user) == 0
    except ValueError:
        return False
