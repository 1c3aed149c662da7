"""The values that a conversion is asked with. Imports nothing that converts but its arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field

from converter.ext4.geometry import Geometry
from converter.groups import DEFAULT_MAX_LINKS
from converter.image.fetch import PARALLEL_FETCHES
from converter.layer.limits import DEFAULT_LIMITS, Limits
from converter.policy import ANYTHING, Policy
from converter.store.links import ChainParameters


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """How a chain is made.

    What determines its bytes, its most links, what a layer may have, how many layers are
    fetched at a time, and which images may be converted at all.
    """

    parameters: ChainParameters = field(default_factory=ChainParameters)
    max_links: int = DEFAULT_MAX_LINKS
    limits: Limits = DEFAULT_LIMITS
    parallel_fetches: int = PARALLEL_FETCHES
    policy: Policy = ANYTHING

    def check(self) -> None:
        """Raise UsageError for a capacity that no file system of ours can have."""
        Geometry(self.parameters.capacity_bytes, self.parameters.journal)
