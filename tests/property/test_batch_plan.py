"""Plans of any images: everything once, behind what it needs, for whom it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from converter.batch.plan import Plan, TaskKind, Whereabouts
from converter.batch.planning import FoundLink, WantedImage, WantedLayer, make_plan
from converter.batch.ready import Ready
from converter.store.links import ChainParameters

PLACES = list(Whereabouts)
# Few layers, so that images share beginnings, layers on other bases, and the same one twice.
CHAINS = st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=6)


def planned(chains: list[list[int]], salt: int) -> Plan:
    """Return a plan where what is there already follows from each link's identity and `salt`."""

    def find(identity: str) -> FoundLink:
        drawn = (int(identity[:8], 16) >> salt) % 5
        where = PLACES[drawn] if drawn < len(PLACES) else Whereabouts.MISSING
        return FoundLink(where, empty=where is Whereabouts.STORE and identity[9] in "0123")

    images = [
        WantedImage(
            f"image {number}",
            "",
            "linux/amd64",
            tuple(WantedLayer(f"blob {n}", 10 + n, f"diff {n}", is_here=n == 3) for n in chain),
            ChainParameters(),
            max_links=3,
        )
        for number, chain in enumerate(chains)
    ]
    return make_plan(images, find)


@given(CHAINS, st.integers(0, 24))
def test_all_that_is_missing_is_done_once_and_in_order(chains: list[list[int]], salt: int) -> None:
    plan = planned(chains, salt)
    made = [key for task in plan.tasks for key in task.links]
    absent = {k for k, link in plan.links.items() if link.where is not Whereabouts.STORE}
    assert sorted(made) == sorted(absent)
    fetched = [task.blob for task in plan.tasks if task.kind is TaskKind.FETCH]
    assert len(fetched) == len(set(fetched)) == plan.figures.fetch_blobs
    done: set[str] = set()
    ready = Ready(plan.tasks)
    there = {key for key, link in plan.links.items() if link.where is Whereabouts.STORE}
    while (task := ready.take()) is not None:
        assert done.issuperset(task.needs)
        for key in task.links:
            link = plan.links[key]
            assert not link.parent or link.parent in there
            if link.where is Whereabouts.MISSING:
                assert all(plan.blobs[b].is_here or f"fetch:{b}" in done for b in link.blobs)
            there.add(key)
        if task.kind is TaskKind.RECORD:
            assert there.issuperset(plan.images[task.images[0]].links)
        assert all(
            not task.links or set(task.links) <= set(plan.images[n].links) for n in task.images
        )
        done.add(task.id)
        ready.done(task)
    assert done == {task.id for task in plan.tasks}
