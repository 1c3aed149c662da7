"""The model of one machine: times that can be worked out by hand, and fits of made-up costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from converter.batch.events import (
    BatchEvent,
    BatchFinished,
    ImageFinished,
    TaskFinished,
    TaskStarted,
)
from converter.batch.plan import Plan, TaskKind
from converter.batch.planning import make_plan
from converter.batch.report.history import History
from converter.batch.report.page import encode_html
from scripts.simulations.costs import Costs, read_costs, write_costs
from scripts.simulations.fit import fit
from scripts.simulations.local import Content, Machine, simulate
from tests.unit.batch.report.samples import image, layer

SIZE = 1000
PLAIN = Costs(
    begin_seconds=0.0,
    worker_seconds=0.25,
    task_seconds=0.0,
    link_seconds=0.0,
    spared_byte_seconds=0.0,
    content_byte_seconds=1e-3,
    file_seconds=0.0,
    file_below_seconds=1.0,
    content_processors=2.0,
    other_processors=1.0,
    fetch_seconds=0.5,
    fetch_byte_seconds=1e-3,
    fetch_processors=1.0,
    record_seconds=0.125,
)


def run(plan: Plan, costs: Costs, machine: Machine) -> tuple[list[BatchEvent], BatchFinished]:
    """Return all events of a simulated batch, whose layers have 1,000 bytes in a file each."""
    contents = dict.fromkeys(plan.blobs, Content(SIZE, 1, 4096))
    events = list(simulate(plan, contents, costs, machine))
    last = events[-1]
    assert isinstance(last, BatchFinished)
    return events, last


def test_one_image_takes_what_its_parts_take() -> None:
    plan = make_plan([image("app", layer("a", SIZE))])
    _, last = run(plan, PLAIN, Machine(2.0, jobs=1, fetches=1))
    # Asked and fetched, a process started and the layer converted, the record written.
    assert last.at_seconds == pytest.approx(0.5 + 1.0 + 0.25 + 1.0 + 0.125)
    assert (last.done, last.fetched_bytes, last.links_made) == (1, SIZE, 1)


def test_nothing_is_converted_before_a_process_can_be_started() -> None:
    plan = make_plan([image("app", layer("a", SIZE))])
    for begin, converts in ((1.0, 1.5), (4.0, 4.0)):
        costs = replace(PLAIN, begin_seconds=begin)
        events, last = run(plan, costs, Machine(2.0, jobs=1, fetches=1))
        starts = [event.at_seconds for event in events if isinstance(event, TaskStarted)]
        assert starts == pytest.approx([0.0, converts, converts + 1.25])
        assert last.at_seconds == pytest.approx(converts + 1.25 + 0.125)


def test_what_compression_took_away_costs_time_and_is_regained_in_part() -> None:
    costs = replace(PLAIN, spared_byte_seconds=2e-3, regained_bytes=0.25, state_bytes=7)
    assert costs.content_seconds(400, SIZE, 1) == pytest.approx(1.0 + 600 * 2e-3)
    assert costs.transport_bytes(400, SIZE, 1) == 400 - 150 + 7
    # A blob that is longer than its content has spared nothing.
    assert costs.content_seconds(1200, SIZE, 1) == pytest.approx(1.0)
    assert costs.transport_bytes(1200, SIZE, 1) == 1200 + 7


def test_links_that_go_to_a_cache_take_longer_and_are_counted() -> None:
    plan = make_plan([image("app", layer("a", SIZE))])
    costs = replace(PLAIN, push_seconds=0.5, push_byte_seconds=2e-3, state_bytes=7)
    _, without = run(plan, costs, Machine(2.0, jobs=1, fetches=1))
    _, last = run(plan, costs, Machine(2.0, jobs=1, fetches=1, offers=True))
    assert last.at_seconds - without.at_seconds == pytest.approx(0.5 + 2.0)
    assert (without.sent_bytes, last.sent_bytes) == (0, SIZE + 7)


def test_two_conversions_at_once_share_the_processors() -> None:
    plan = make_plan([image("one", layer("a", SIZE)), image("two", layer("b", SIZE))])
    ends = {}
    for processors in (2.0, 4.0):
        _, last = run(plan, PLAIN, Machine(processors, jobs=2, fetches=2))
        ends[processors] = last.at_seconds
    # Each would keep two processors busy for 1.25 s.
    assert ends[4.0] == pytest.approx(0.5 + 1.0 + 1.25 + 0.125)
    assert ends[2.0] == pytest.approx(0.5 + 1.0 + 2 * 1.25 + 0.125)


def test_a_run_loads_what_is_below_it_once() -> None:
    chain = ("a", "b", "c", "d")
    plan = make_plan(
        [
            image("low", *(layer(name, SIZE) for name in chain[:2])),
            image("high", *(layer(name, SIZE) for name in chain)),
        ]
    )
    events, _ = run(plan, PLAIN, Machine(4.0, jobs=1, fetches=4))
    conversions = [
        event.at_seconds - event.started_seconds
        for event in events
        if isinstance(event, TaskFinished) and event.task.kind is TaskKind.CONVERT
    ]
    # The first has nothing below and starts the process; the second has two files below.
    assert conversions == pytest.approx([0.25 + 2.0, 2.0 + 2.0])


def test_a_simulated_batch_can_be_reported_like_any() -> None:
    plan = make_plan(
        [image(f"app-{n}", layer("base", SIZE), layer(f"{n}", SIZE)) for n in range(5)]
    )
    events, last = run(plan, PLAIN, Machine(2.0, jobs=2, fetches=2))
    assert sum(isinstance(event, ImageFinished) for event in events) == last.done == 5
    history = History()
    for event in events:
        history.take(event)
    record = history.record()
    assert record is not None
    assert len(record.made) == 6
    assert encode_html(record) == encode_html(record)


def test_fits_find_what_measurements_are_made_of() -> None:
    costs = (0.25, 3.0, 1e-9, 0.0)
    rows = [
        ((1, links, size, files), 0.25 + 3.0 * links + 1e-9 * size)
        for links, size, files in [
            (1, 10**9, 5),
            (2, 0, 9),
            (5, 10**8, 2),
            (1, 10**7, 70),
            (3, 1, 1),
        ]
    ]
    assert fit(rows) == pytest.approx(costs, rel=1e-6, abs=1e-12)
    # What would have to be negative costs nothing, and the others are fitted without it.
    falling = [((1, size), 2.0 - size / 100) for size in range(10)]
    fixed, each = fit(falling)
    assert each == 0.0
    assert fixed == pytest.approx(1.95, rel=0.02)
    with pytest.raises(ValueError, match="do not tell"):
        fit([((1, 2), 1.0), ((2, 4), 2.0)])


def test_costs_are_kept_and_others_refused(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    write_costs(path, replace(Costs(), link_seconds=0.125))
    assert read_costs(path) == replace(Costs(), link_seconds=0.125)
    for text in ("[]", '{"schema": 2}', '{"schema": 1, "link_seconds": 1}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="costs"):
            read_costs(path)
