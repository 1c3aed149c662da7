"""Batches made by hand: a small one with everything in it, and larger ones than there should be."""

from __future__ import annotations

from converter.batch.events import (
    BatchEvent,
    BatchFinished,
    BatchPlanned,
    ImageFinished,
    ImageState,
    LinkMade,
    Outcome,
    Said,
    TaskAdvanced,
    TaskFinished,
    TaskLost,
    TaskStarted,
)
from converter.batch.failure import Failure
from converter.batch.plan import Plan, PlannedOutput, TaskKind, Whereabouts
from converter.batch.planning import FoundLink, WantedImage, WantedLayer, make_plan
from converter.batch.report.history import BatchRecord, History
from converter.store.links import ChainParameters

HOSTILE = '</title><script>alert("1")</script>&amp;\u202e\x1b[31m\n'
MIB = 1 << 20


def layer(name: str, size_bytes: int = MIB) -> WantedLayer:
    """Return a layer that is the same for the same name."""
    digits = name.encode().hex().ljust(64, "0")[:64]
    return WantedLayer(f"sha256:{digits}", size_bytes, f"sha256:{digits[::-1]}")


def image(reference: str, *layers: WantedLayer, push: bool = False) -> WantedImage:
    """Return an image that is to be converted, with an output or none."""
    outputs = (PlannedOutput(TaskKind.PUSH, "registry.example/chains"),) if push else ()
    digest = "sha256:" + reference.encode().hex().ljust(64, "0")[:64]
    return WantedImage(reference, digest, "linux/amd64", layers, ChainParameters(), outputs=outputs)


def small_plan() -> Plan:
    """Return three images on one base, which the store has, and one alone."""
    base = layer("base", 30 * MIB)
    wanted = [
        image("shop/web:1", base, layer("lib", 8 * MIB), layer("web")),
        image("shop/api:1", base, layer("lib", 8 * MIB), layer("api"), push=True),
        image("shop/job:1", base, layer("job")),
        image(HOSTILE, layer("alone")),
    ]
    known = make_plan(wanted[:1]).images[0].links[0]
    return make_plan(
        wanted,
        lambda key: FoundLink(Whereabouts.STORE if key == known else Whereabouts.MISSING),
    )


def small_events() -> list[BatchEvent]:
    """Return what happens when the last image's layer is broken, and a worker dies once."""
    plan = small_plan()
    failure = Failure("integrity", 5, HOSTILE, expected="bytes", hint="push it again", cause="x")
    events: list[BatchEvent] = [BatchPlanned(plan, 2), Said("a minor matter"), Said(HOSTILE, True)]
    clock = {"worker 1": 0.25, "worker 10": 0.5}
    for number, task in enumerate(plan.tasks):
        worker = ("worker 1", "worker 10")[number % 2]
        begin = clock[worker]
        seconds = 1 + task.cost_bytes / (8 * MIB)
        events.append(TaskStarted(task, worker, begin))
        if task.kind is TaskKind.FETCH:
            size = plan.blobs[task.blob].size_bytes
            events.append(TaskAdvanced(task, size // 2, size))
        if number == 1:
            events.append(TaskLost(task, worker, begin, begin + 0.5, "it was killed"))
            begin += 0.5
            events.append(TaskStarted(task, worker, begin, attempt=2))
        clock[worker] = begin + seconds
        if task.images == (3,):
            if task.kind is TaskKind.CONVERT:
                end = TaskFinished(task, worker, begin, clock[worker], failure=failure)
                events.append(end)
            elif task.kind is TaskKind.FETCH:
                events.append(
                    TaskFinished(task, worker, begin, clock[worker], Outcome("1 MB", MIB))
                )
            continue
        made = tuple(LinkMade(key, 3 * MIB, "ab" * 32, is_new=True) for key in task.links)
        fetched = plan.blobs[task.blob].size_bytes if task.blob else 0
        sent = 5 * MIB if task.kind is TaskKind.PUSH else 0
        outcome = Outcome("done", fetched, 3 * MIB * len(made), sent, made)
        events.append(TaskFinished(task, worker, begin, clock[worker], outcome))
    end = max(clock.values())
    for number, each in enumerate(plan.images):
        failed = number == 3
        events.append(
            ImageFinished(
                number,
                each.reference,
                each.digest,
                each.platform,
                ImageState.FAILED if failed else ImageState.DONE,
                end,
                failure if failed else None,
                "link 1" if failed else "",
            )
        )
    fetched = plan.figures.fetch_bytes
    events.append(BatchFinished(end, 3, 0, 1, 0, fetched, 12 * MIB, 5 * MIB, 4, 0, 1, 5))
    return events


def record_of(events: list[BatchEvent]) -> BatchRecord:
    """Return what these events add up to."""
    history = History()
    for event in events:
        history.take(event)
    record = history.record()
    assert record is not None
    return record


def many(images: int, bases: int, workers: int, *, failures: int = 0) -> BatchRecord:
    """Return a batch of images that stand on bases, the lower numbers on the more popular ones."""
    wanted = []
    for number in range(images):
        base = min(number % bases, number % 7) if number % 3 else number % bases
        stack = layer(f"stack {base} {number % 4}", 6 * MIB)
        below = (layer(f"base {base}", 30 * MIB), stack)
        wanted.append(image(f"registry.example/app-{number}:1", *below, layer(f"top {number}")))
    plan = make_plan(wanted)
    failure = Failure("unavailable", 8, f"it does not answer {HOSTILE * 200}")
    events: list[BatchEvent] = [BatchPlanned(plan, workers)]
    for number, task in enumerate(plan.tasks):
        begin = number // workers * 1.5
        outcome = Outcome(links=tuple(LinkMade(key, 1, "", is_new=True) for key in task.links))
        events.append(TaskFinished(task, f"worker {number % workers}", begin, begin + 1.4, outcome))
    for number, each in enumerate(plan.images):
        failed = number < failures
        events.append(
            ImageFinished(
                number,
                each.reference,
                each.digest,
                each.platform,
                ImageState.FAILED if failed else ImageState.DONE,
                number / 10,
                failure if failed else None,
            )
        )
    done = images - failures
    end = len(plan.tasks) // workers * 1.5 + 1.5
    code = 8 if failures else 0
    events.append(BatchFinished(end, done, 0, failures, 0, 1, 1, 0, 1, 0, 0, code))
    return record_of(events)
