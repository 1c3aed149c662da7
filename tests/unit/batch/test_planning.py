"""Plans: what is shared is there once, everything stands behind what it needs, ranks lead on."""

from __future__ import annotations

from converter.batch.failure import Failure
from converter.batch.plan import PlannedOutput, Task, TaskKind, Whereabouts
from converter.batch.planning import FoundLink, WantedImage, WantedLayer, make_plan
from converter.batch.ready import Ready
from converter.store.links import ChainParameters, link_id

PARAMETERS = ChainParameters()
EXPORT = PlannedOutput(TaskKind.EXPORT, "out.ova")


def layer(name: str, size_bytes: int = 1000, *, is_here: bool = False) -> WantedLayer:
    return WantedLayer(f"blob-{name}", size_bytes, f"diff-{name}", is_here)


def image(*names: str, outputs: tuple[PlannedOutput, ...] = (), max_links: int = 24) -> WantedImage:
    layers = tuple(map(layer, names))
    return WantedImage(
        "-".join(names), "digest", "linux/amd64", layers, PARAMETERS, max_links, outputs
    )


def key(*names: str) -> str:
    """Return the identity of a link of one layer on those before it."""
    identity = ""
    for name in names:
        identity = link_id(identity, (f"diff-{name}",), PARAMETERS)
    return identity


def conversions(tasks: tuple[Task, ...]) -> list[tuple[str, ...]]:
    return [task.links for task in tasks if task.kind is TaskKind.CONVERT]


def test_a_chain_is_cut_where_it_forks_and_where_an_image_ends() -> None:
    plan = make_plan([image("a", "b", "c", "d"), image("a", "b", "c", "e", "f"), image("a")])
    assert conversions(plan.tasks) == [
        (key("a"),),
        (key("a", "b"), key("a", "b", "c")),
        (key("a", "b", "c", "d"),),
        (key("a", "b", "c", "e"), key("a", "b", "c", "e", "f")),
    ]
    places = {task.id: number for number, task in enumerate(plan.tasks)}
    for task in plan.tasks:
        assert all(places[need] < places[task.id] for need in task.needs)
    fetches = [task for task in plan.tasks if task.kind is TaskKind.FETCH]
    assert sorted(task.blob for task in fetches) == [f"blob-{name}" for name in "abcdef"]
    assert fetches[0].images == (0, 1, 2)
    assert plan.figures.links == plan.figures.convert_links == 6
    assert plan.figures.shared_bytes == 4000  # a twice, b and c once


def test_one_layer_on_two_bases_is_one_fetch_and_two_links() -> None:
    plan = make_plan([image("a", "x"), image("b", "x")])
    assert (plan.figures.fetch_blobs, plan.figures.convert_links) == (3, 4)
    users = {task.blob: task.images for task in plan.tasks if task.kind is TaskKind.FETCH}
    assert users == {"blob-a": (0,), "blob-b": (1,), "blob-x": (0, 1)}


def test_what_is_there_is_not_planned() -> None:
    found = {key("a"): Whereabouts.STORE, key("a", "b"): Whereabouts.CACHE}
    plan = make_plan(
        [image("a", "b", "c", outputs=(EXPORT,))],
        lambda identity: FoundLink(found.get(identity, Whereabouts.MISSING)),
    )
    assert conversions(plan.tasks) == [(key("a", "b"), key("a", "b", "c"))]
    assert plan.figures.fetch_bytes == 1000  # of c alone: b's link comes from the cache
    assert [task.kind.value for task in plan.tasks] == ["fetch", "convert", "record", "export"]


def test_a_link_whose_lower_one_was_deleted_waits_for_it() -> None:
    found = {key("a", "b"): Whereabouts.STORE}
    plan = make_plan(
        [image("a", "b", "c"), image("a", "b")],
        lambda identity: FoundLink(found.get(identity, Whereabouts.MISSING)),
    )
    lower, upper = (task for task in plan.tasks if task.kind is TaskKind.CONVERT)
    assert (lower.links, upper.links) == ((key("a"),), (key("a", "b", "c"),))
    assert lower.id in upper.needs
    records = [task for task in plan.tasks if task.kind is TaskKind.RECORD]
    assert [lower.id in task.needs for task in records] == [True, True]


def test_layers_that_are_known_to_change_nothing_have_no_link_below_others() -> None:
    found = {key("a", "empty"): FoundLink(Whereabouts.STORE, empty=True)}
    plan = make_plan(
        [image("a", "empty", "b"), image("a", "b")],
        lambda identity: found.get(identity, FoundLink(Whereabouts.MISSING)),
    )
    assert plan.images[0].links == (key("a"), key("a", "empty"), key("a", "b"))
    assert plan.images[1].links == (key("a"), key("a", "b"))
    assert plan.figures.convert_links == 2


def test_many_layers_share_links_by_the_borders_of_groups() -> None:
    plan = make_plan([image(*"abcdefgh", max_links=2)])
    assert [len(plan.links[each].diff_ids) for each in plan.images[0].links] == [1, 7]


def test_the_longest_way_is_first() -> None:
    heavy = WantedImage("heavy", "", "", (layer("h", 9000), layer("i", 9000)), PARAMETERS)
    plan = make_plan([image("a"), heavy])
    ready = Ready(plan.tasks)
    order = []
    while (task := ready.take()) is not None:
        order.append(task)
        ready.done(task)
    assert [task.id for task in order if task.kind is TaskKind.FETCH] == [
        "fetch:blob-h",
        "fetch:blob-i",
        "fetch:blob-a",
    ]
    assert {task.id for task in order} == {task.id for task in plan.tasks}


def test_an_image_that_cannot_be_had_has_no_tasks() -> None:
    failure = Failure("not-found", 3, "it is not there")
    gone = WantedImage("gone", "", "linux/amd64", (), PARAMETERS, failure=failure)
    plan = make_plan([gone, image("a")])
    assert plan.images[0].failure == failure
    assert {number for task in plan.tasks for number in task.images} == {1}
