"""From images whose layers are known to a plan. Pure: what is there already is asked for.

Links form a tree of prefixes. A task converts a run of links without a fork, so a chain's state
stays in one worker's memory for as long as only one way leads on; a fork, and every image's top,
ends a run. Nothing that could go side by side comes one after the other by that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from converter.batch.failure import Failure
from converter.batch.plan import (
    Figures,
    Plan,
    PlannedBlob,
    PlannedImage,
    PlannedLink,
    PlannedOutput,
    Task,
    TaskKind,
    Whereabouts,
)
from converter.groups import DEFAULT_MAX_LINKS, group_layers
from converter.store.links import ChainParameters, link_id

# What a byte of a layer's blob costs, against converting it: measured on a Debian system of 236 MB.
_FETCH_COST = 0.5
_EXPORT_COST = 3.0  # deflating takes longest of all
_PUSH_COST = 2.0
UNPACKED_PER_BYTE = 2.6  # what a link has for a byte of a compressed layer, of the same system
_OUTPUT_COSTS = {
    TaskKind.BUNDLE: 0.0,
    TaskKind.EXPORT: _EXPORT_COST,
    TaskKind.PUSH: _PUSH_COST,
    TaskKind.IMPORT: _EXPORT_COST,
}


@dataclass(frozen=True, slots=True)
class WantedLayer:
    """A layer: its blob's digest and size, the digest of its tar; `is_here`: nothing to fetch."""

    blob: str
    size_bytes: int
    diff_id: str
    is_here: bool = False


@dataclass(frozen=True, slots=True)
class WantedImage:
    """An image that the batch is to convert, its `layers` base first; see PlannedImage."""

    reference: str
    digest: str
    platform: str
    layers: tuple[WantedLayer, ...]
    parameters: ChainParameters
    max_links: int = DEFAULT_MAX_LINKS
    outputs: tuple[PlannedOutput, ...] = ()
    line: int = 0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class FoundLink:
    """What is known of a link before it is made; an `empty` one stands for layers without one."""

    where: Whereabouts
    empty: bool = False


NOT_FOUND = FoundLink(Whereabouts.MISSING)
FindLink = Callable[[str], FoundLink]


def find_nothing(_identity: str) -> FoundLink:
    """Be the store that is empty."""
    return NOT_FOUND


def make_plan(wanted: Sequence[WantedImage], find: FindLink = find_nothing) -> Plan:
    """Return what has to be done for the images `wanted`.

    `find` says of a link's identity where it is; it is asked once for each, lower ones first.
    Raises UsageError for an image that has too many layers.
    """
    drawing = _Drawing(find)
    images = tuple(map(drawing.add, wanted))
    tasks = _ranked(_tasks(images, drawing))
    return Plan(
        images,
        drawing.blobs,
        drawing.links,
        tasks,
        figures=_figures(wanted, drawing),
    )


class _Drawing:
    """Blobs and links so far, each once."""

    def __init__(self, find: FindLink) -> None:
        self.blobs: dict[str, PlannedBlob] = {}
        self.links: dict[str, PlannedLink] = {}
        self._find = find
        self._empty: dict[str, bool] = {}

    def add(self, image: WantedImage) -> PlannedImage:
        keys = [] if image.failure else self._chain(image)
        return PlannedImage(
            image.reference,
            image.digest,
            image.platform,
            tuple(keys),
            image.outputs,
            image.line,
            image.failure,
        )

    def _chain(self, image: WantedImage) -> list[str]:
        keys: list[str] = []
        top = ""
        groups: list[tuple[WantedLayer, ...]] = group_layers(image.layers, image.max_links)
        for group in groups or [()]:
            key = self._link(top, group, image.parameters, depth=len(keys), below=keys)
            if not self._empty[key]:
                top = key
            keys.append(key)
        if groups and not top:  # layers that change nothing: the file system alone is a link
            keys.append(self._link("", (), image.parameters, depth=len(keys), below=keys))
        return keys

    def _link(
        self,
        top: str,
        group: tuple[WantedLayer, ...],
        parameters: ChainParameters,
        *,
        depth: int,
        below: list[str],
    ) -> str:
        diff_ids = tuple(layer.diff_id for layer in group)
        key = link_id(top, diff_ids, parameters)
        if key not in self.links:
            found = self._find(key)
            self._empty[key] = found.empty
            self.links[key] = PlannedLink(
                key,
                below[-1] if below else "",
                diff_ids,
                tuple(layer.blob for layer in group),
                found.where,
                depth,
            )
        for layer in group:
            known = self.blobs.get(layer.blob)
            if known is None or (layer.is_here and not known.is_here):
                self.blobs[layer.blob] = PlannedBlob(layer.blob, layer.size_bytes, layer.is_here)
        return key


def _tasks(images: Sequence[PlannedImage], drawing: _Drawing) -> list[Task]:
    """Return fetches and conversions, then each image's own tasks: all behind what they need."""
    tasks: list[Task] = []
    users = _users(images)
    runs = _runs(images, drawing.links)
    maker = {key: f"{TaskKind.CONVERT.value}:{run[-1]}" for run in runs for key in run}
    highest = dict(maker)  # of a link's chain; of one in the store too, that lacks what is below
    for key, link in drawing.links.items():
        if key not in highest and link.parent in highest:
            highest[key] = highest[link.parent]
    fetched: dict[str, Task] = {}
    for run in runs:
        lowest, top = drawing.links[run[0]], drawing.links[run[-1]]
        needs = [highest[lowest.parent]] if lowest.parent in highest else []
        blobs = [
            drawing.blobs[blob]
            for key in run
            if drawing.links[key].where is Whereabouts.MISSING
            for blob in drawing.links[key].blobs
        ]
        for blob in blobs:
            if not blob.is_here and blob.digest not in fetched:
                fetched[blob.digest] = _fetch(blob)
                tasks.append(fetched[blob.digest])
            if blob.digest in fetched:
                needs.append(fetched[blob.digest].id)
        span = f"link {top.depth + 1}"
        if len(run) > 1:
            span = f"links {lowest.depth + 1}-{top.depth + 1}"
        tasks.append(
            Task(
                maker[top.key],
                TaskKind.CONVERT,
                f"{images[users[top.key][0]].reference} {span}",
                tuple(dict.fromkeys(needs)),
                users[top.key],
                sum(blob.size_bytes for blob in blobs),
                links=run,
            )
        )
    wanting: dict[str, dict[int, None]] = {}
    for task in tasks:
        for need in task.needs:
            wanting.setdefault(need, {}).update(dict.fromkeys(task.images))
    tasks = [
        replace(task, images=tuple(sorted(wanting[task.id])))
        if task.kind is TaskKind.FETCH
        else task
        for task in tasks
    ]
    for number, image in enumerate(images):
        if image.failure is None:
            tasks += _own_tasks(number, image, maker, drawing)
    return tasks


def _fetch(blob: PlannedBlob) -> Task:
    return Task(
        f"{TaskKind.FETCH.value}:{blob.digest}",
        TaskKind.FETCH,
        f"blob {blob.digest.partition(':')[2][:12]}",
        (),
        (),
        round(blob.size_bytes * _FETCH_COST),
        blob=blob.digest,
    )


def _own_tasks(
    number: int, image: PlannedImage, maker: Mapping[str, str], drawing: _Drawing
) -> Iterable[Task]:
    needs = tuple(dict.fromkeys(maker[key] for key in image.links if key in maker))
    record = f"{TaskKind.RECORD.value}:{number}"
    yield Task(record, TaskKind.RECORD, image.reference, needs, (number,), 0)
    size_bytes = sum(
        drawing.blobs[blob].size_bytes for key in image.links for blob in drawing.links[key].blobs
    )
    for index, output in enumerate(image.outputs):
        kind = output.kind.value
        yield Task(
            f"{kind}:{number}.{index}",
            output.kind,
            f"{image.reference} {kind} {output.place}",
            (record,),
            (number,),
            round(size_bytes * _OUTPUT_COSTS[output.kind]),
            output=index,
        )


def _users(images: Sequence[PlannedImage]) -> dict[str, tuple[int, ...]]:
    """Return for each link the images that have it in their chain."""
    users: dict[str, list[int]] = {}
    for number, image in enumerate(images):
        for key in dict.fromkeys(image.links):
            users.setdefault(key, []).append(number)
    return {key: tuple(numbers) for key, numbers in users.items()}


def _runs(
    images: Sequence[PlannedImage], links: Mapping[str, PlannedLink]
) -> list[tuple[str, ...]]:
    """Return the links that the store lacks, as runs that each task takes, lower ones first."""
    absent = [key for key, link in links.items() if link.where is not Whereabouts.STORE]
    tops = {image.links[-1] for image in images if image.links}
    children: dict[str, int] = {}
    for link in links.values():
        children[link.parent] = children.get(link.parent, 0) + 1
    runs: list[list[str]] = []
    run_of: dict[str, int] = {}
    for key in absent:  # in the order in which they were added: parents before children
        parent = links[key].parent
        goes_on = parent in run_of and parent not in tops and children[parent] == 1
        if goes_on:
            run_of[key] = run_of[parent]
            runs[run_of[key]].append(key)
        else:
            run_of[key] = len(runs)
            runs.append([key])
    return [tuple(run) for run in runs]


def _ranked(tasks: list[Task]) -> tuple[Task, ...]:
    """Return the tasks with their ranks: the longest way that leads from each to an end."""
    ranks: dict[str, int] = {}
    beyond: dict[str, int] = {}
    for task in reversed(tasks):
        rank = task.cost_bytes + beyond.get(task.id, 0)
        ranks[task.id] = rank
        for need in task.needs:
            beyond[need] = max(beyond.get(need, 0), rank)
    return tuple(replace(task, rank_bytes=ranks[task.id]) for task in tasks)


def _figures(wanted: Sequence[WantedImage], drawing: _Drawing) -> Figures:
    links = list(drawing.links.values())
    missing = [link for link in links if link.where is Whereabouts.MISSING]
    fetch = {blob for link in missing for blob in link.blobs if not drawing.blobs[blob].is_here}
    fetch_bytes = sum(drawing.blobs[blob].size_bytes for blob in fetch)
    alone = sum(layer.size_bytes for image in wanted for layer in image.layers)
    once = sum(blob.size_bytes for blob in drawing.blobs.values())
    grows = sum(
        drawing.blobs[blob].size_bytes
        for link in links
        if link.where is not Whereabouts.STORE
        for blob in link.blobs
    )
    return Figures(
        images=len(wanted),
        blobs=len(drawing.blobs),
        fetch_blobs=len(fetch),
        fetch_bytes=fetch_bytes,
        shared_bytes=alone - once,
        links=len(links),
        convert_links=len(missing),
        cached_links=sum(link.where is Whereabouts.CACHE for link in links),
        disk_bytes=fetch_bytes + round(grows * UNPACKED_PER_BYTE),
    )
