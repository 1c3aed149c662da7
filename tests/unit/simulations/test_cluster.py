"""Small clusters, whose times can be worked out by hand, and what holds for any."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from scripts.simulations.cluster import Exchange, Placement, Simulation
from scripts.simulations.costs import Costs, Site
from scripts.simulations.large import WAYS, bottleneck, compare, unshared
from scripts.simulations.population import NO_PARENT, Forest, Shape, populate

# A second for a conversion and nothing else; a fetch takes as long as its network.
PLAIN = Costs(
    begin_seconds=0.0,
    task_seconds=0.0,
    link_seconds=1.0,
    content_byte_seconds=0.0,
    file_seconds=0.0,
    fetch_seconds=0.0,
    fetch_byte_seconds=1e-12,
    regained_bytes=0.0,
    state_bytes=0.0,
    push_seconds=0.0,
    push_byte_seconds=0.0,
    pull_seconds=0.0,
    pull_byte_seconds=1e-12,
)
SITE = Site(2, source_rate=100.0, cache_rate=100.0, worker_rate=100.0)
SHAPE = Shape(images=400, layers=1_600)


def forest(*chains: tuple[str, ...], size_bytes: int = 100) -> Forest:
    """Return images by the names of their layers."""
    found, blobs = Forest(), {}
    for chain in chains:
        link = NO_PARENT
        for name in chain:
            if name not in blobs:
                blobs[name] = found.add_blob(size_bytes, size_bytes, 0)
            link = found.add_link(link, blobs[name])
        found.tops.append(link)
    return found


@pytest.mark.parametrize(
    ("slots", "seconds"),
    [
        # Each of three links is fetched, made and pushed, one after the other.
        (1, 9.0),
        # All three are fetched at once, in 3 s; then one is pushed while the next one is made.
        (3, 7.0),
    ],
)
def test_one_chain(slots: int, seconds: float) -> None:
    chain = forest(("a", "b", "c"))
    site = replace(SITE, slots=slots)
    outcome = Simulation(chain, PLAIN, site, Exchange.LINKS, Placement.CHAIN).run()
    assert (outcome.seconds, outcome.pulled_bytes) == (pytest.approx(seconds), 0)
    assert (outcome.source_bytes, outcome.pushed_bytes) == (300, 300)


def test_sending_a_link_keeps_its_worker_busy_unless_nothing_is_exchanged() -> None:
    costs, one = replace(PLAIN, push_byte_seconds=0.02), forest(("a",))
    sent = Simulation(one, costs, SITE, Exchange.LINKS, Placement.ANY).run()
    assert (sent.seconds, sent.pushed_bytes) == (pytest.approx(1.0 + 1.0 + 2.0 + 1.0), 100)
    kept = Simulation(one, costs, SITE, Exchange.NONE, Placement.ANY).run()
    assert (kept.seconds, kept.pushed_bytes) == (pytest.approx(2.0), 0)


def test_who_makes_a_link_elsewhere_pulls_what_is_below() -> None:
    fork = forest(("a", "b"), ("a", "c"))
    links = Simulation(fork, PLAIN, SITE, Exchange.LINKS, Placement.ANY).run()
    assert (links.pulls, links.pulled_bytes, links.fetched_again) == (1, 100, 0)
    slow = replace(PLAIN, pull_seconds=20.0)
    late = Simulation(fork, slow, SITE, Exchange.LINKS, Placement.ANY).run()
    assert late.seconds > links.seconds + 15.0
    states = Simulation(fork, PLAIN, SITE, Exchange.STATES, Placement.ANY).run()
    assert (states.pulls, states.pulled_bytes) == (1, 1)


def test_a_blob_on_two_bases_is_fetched_by_each_worker_that_needs_it() -> None:
    two = forest(("a", "x"), ("b", "x"))
    outcome = Simulation(two, PLAIN, SITE, Exchange.LINKS, Placement.CHAIN).run()
    assert (outcome.links, outcome.fetched_again, outcome.source_bytes) == (4, 1, 400)
    one = Simulation(two, PLAIN, replace(SITE, workers=1), Exchange.LINKS, Placement.CHAIN).run()
    assert (one.fetched_again, one.source_bytes) == (0, 300)


def test_populations_are_what_was_asked_for_and_repeat() -> None:
    drawn = populate(SHAPE, 7)
    assert (len(drawn.tops), len(drawn.blob_bytes)) == (400, 1_600)
    assert sorted(set(drawn.blobs)) == list(range(1_600))
    assert len(drawn.parents) > 1_600  # the same layer on several
    assert all(parent < link for link, parent in enumerate(drawn.parents))
    assert max(drawn.depths) <= SHAPE.most_links
    again, other = populate(SHAPE, 7), populate(SHAPE, 8)
    assert (again.parents, again.blob_bytes, again.files) == (
        drawn.parents,
        drawn.blob_bytes,
        drawn.files,
    )
    assert other.blob_bytes != drawn.blob_bytes
    sizes = sorted(drawn.blob_bytes)
    assert sizes[800] == pytest.approx(SHAPE.median_bytes, rel=0.3)
    assert sizes[1440] == pytest.approx(SHAPE.high_bytes, rel=0.3)


def test_no_way_is_faster_than_its_bounds_and_sharing_saves_bytes() -> None:
    drawn = populate(SHAPE, 7)
    site = Site(5)
    outcomes = dict(compare(drawn, Costs(), site))
    assert list(outcomes) == list(WAYS)
    alone, anywhere, by_chain, ahead, states = outcomes.values()
    for outcome in outcomes.values():
        assert outcome.seconds >= max(outcome.bounds.values()) * (1 - 1e-9)
        assert all(0 <= share <= 1 + 1e-9 for share in outcome.shares.values())
        assert "busy" in bottleneck(outcome)
    chains = map(drawn.chain, drawn.tops)
    everything = sum(drawn.blob_bytes[drawn.blobs[link]] for chain in chains for link in chain)
    assert alone.source_bytes == everything
    once = sum(drawn.blob_bytes)
    for outcome in (anywhere, by_chain, ahead, states):
        assert once <= outcome.source_bytes < everything
        assert outcome.links == len(drawn.parents)
    assert by_chain.pulled_bytes < anywhere.pulled_bytes / 2
    assert states.pulled_bytes < by_chain.pulled_bytes / 100
    assert ahead.seconds < by_chain.seconds < anywhere.seconds


def test_images_by_themselves_share_nothing() -> None:
    apart = unshared(forest(("a", "b"), ("a", "c")))
    assert list(apart.blob_bytes) == [200, 200]
    assert Counter(apart.parents) == {NO_PARENT: 2}
