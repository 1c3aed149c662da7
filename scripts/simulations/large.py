"""100,000 images on 50 workers, in several ways: what it takes, and what is in the way. Pure.

Owns which ways are compared; docs/simulation.md has what came of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from scripts.simulations.cluster import Exchange, Outcome, Placement, Simulation
from scripts.simulations.costs import Costs, Site
from scripts.simulations.population import NO_PARENT, Forest


@dataclass(frozen=True, slots=True)
class Way:
    """How a batch could be carried out; `alone` converts each image by itself, with all layers."""

    name: str
    exchange: Exchange
    placement: Placement
    slots: int
    alone: bool = False


WAYS = (
    Way("each image by itself", Exchange.NONE, Placement.ANY, 1, alone=True),
    Way("links anywhere", Exchange.LINKS, Placement.ANY, 1),
    Way("by chain", Exchange.LINKS, Placement.CHAIN, 1),
    Way("by chain, fetching ahead", Exchange.LINKS, Placement.CHAIN, 3),
    Way("the same, states alone", Exchange.STATES, Placement.CHAIN, 3),
)


def compare(forest: Forest, costs: Costs, site: Site) -> Iterator[tuple[Way, Outcome]]:
    """Yield what comes of each way."""
    for way in WAYS:
        own = Site(**{**asdict(site), "slots": way.slots})
        links = unshared(forest) if way.alone else forest
        yield way, Simulation(links, costs, own, way.exchange, way.placement).run()


def unshared(forest: Forest) -> Forest:
    """Return a forest in which each image is one link of all its layers, and nothing is shared.

    Its links' own costs, a hundredth of the whole, are those of one.
    """
    found = Forest()
    for top in forest.tops:
        blobs = [forest.blobs[link] for link in forest.chain(top)]
        blob = found.add_blob(
            sum(forest.blob_bytes[blob] for blob in blobs),
            sum(forest.raw_bytes[blob] for blob in blobs),
            sum(forest.files[blob] for blob in blobs),
        )
        found.tops.append(found.add_link(NO_PARENT, blob))
    return found


def bottleneck(outcome: Outcome) -> str:
    """Return what was busiest, or that nothing was busy."""
    name = max(outcome.shares, key=outcome.shares.__getitem__)
    return f"{name} ({outcome.shares[name]:.0%} busy)"
