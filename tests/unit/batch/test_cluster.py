"""Batches on Dask: what workers are told, and what becomes of tasks that fail.

The scheduler and the worker are real, in threads of this process.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster

from converter.batch.batch import Batch
from converter.batch.cluster import stores
from converter.batch.cluster.connect import connected
from converter.batch.cluster.executor import dask_executor
from converter.batch.cluster.graph import Graph
from converter.batch.events import (
    TaskEvent,
    TaskFinished,
    TaskLost,
    TaskStarted,
)
from converter.batch.lookup import LookedUp
from converter.batch.orders import CacheOrder, OutputOrder
from converter.batch.plan import TaskKind
from converter.batch.wishes import BundleWish, OutputWish, Treatment
from converter.errors import SaltflatError, UsageError
from converter.image.platform import Platform
from converter.image.source import Origin, SourceOptions
from converter.library import open_image
from converter.pipeline import ConvertOptions
from converter.registry.pace import Pace
from converter.store.layout import Store
from converter.store.locks import using
from tests.images.raw_layout import RawLayer, write_layout
from tests.images.tarball import TarBuilder

PLATFORM = Platform("linux", "amd64")
CACHE = CacheOrder("localhost:1/cache", "both", verify=False, origin=Origin())


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        # What a busy machine takes for its first import of Dask is no fault of the cluster's.
        dask.config.set({"distributed.comm.timeouts.connect": "120s"}),
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def looked_up(
    folder: Path, source: str, *names: str, outputs: tuple[OutputWish, ...] = ()
) -> LookedUp:
    """Return an image of a layer for each name, as if it were at `source`; "" is where it is."""
    here = write_layout(folder / "-".join(names), [_layer(folder, name) for name in names])
    with open_image(here) as (image, _source):
        pass
    impatient = SourceOptions(plain_http=True, retries=0, pace=Pace(0, 0, 0))
    treatment = Treatment(ConvertOptions(), Origin(access=impatient), (PLATFORM,), outputs=outputs)
    return LookedUp(1, source or here, PLATFORM, treatment, image)


def _layer(folder: Path, name: str) -> RawLayer:
    path = folder / f"{name}.tar"
    with path.open("wb") as file:
        tar = TarBuilder(file)
        tar.file(name, name.encode())
        tar.close()
    return RawLayer(path.read_bytes())


def test_workers_that_share_a_store_are_told_the_tasks(store: Store, tmp_path: Path) -> None:
    images = [looked_up(tmp_path, f"localhost:1/{name}:1", name, "x") for name in "ab"]
    batch = Batch(images, store)
    graph = Graph(batch.plan, batch.order_of, "name", mark="mark", meeting=CACHE)
    assert tuple(graph.tasks()) == batch.plan.tasks
    for task in batch.plan.tasks:
        errand = graph.errand(task)
        assert errand.order == batch.order_of(task)
        assert (errand.mark, errand.meeting, errand.lent, errand.borrowed) == ("mark", None, (), ())


def test_workers_with_own_stores_lend_what_several_need(store: Store, tmp_path: Path) -> None:
    images = [looked_up(tmp_path, f"localhost:1/{name}:1", name, "x") for name in "ab"]
    batch = Batch(images, store, cache=CACHE, shares_store=False)
    graph = Graph(batch.plan, batch.order_of, "name", mark="", meeting=CACHE)
    errands = {task.id: graph.errand(task) for task in graph.tasks()}
    tasks = {task.id: task for task in batch.plan.tasks}
    x = images[0].image.layers[1].descriptor if images[0].image else None
    (lending,) = (errand for errand in errands.values() if errand.lent)
    assert tasks[lending.task].kind is TaskKind.FETCH
    assert lending.lent == (x,)
    makers = [errands[name] for name, task in tasks.items() if task.kind is TaskKind.CONVERT]
    for maker in makers:
        assert maker.borrowed == (x,)
        assert maker.links == tasks[maker.task].links
        (along,) = graph.along[maker.task]
        assert along.kind is TaskKind.FETCH
        assert along.id in tasks.keys() - errands.keys()
    assert len(makers) == 2


def test_a_file_s_place_does_not_depend_on_a_worker_s_folder(store: Store, tmp_path: Path) -> None:
    image = looked_up(tmp_path, "", "a", outputs=(BundleWish(place="bundles/a"),))
    batch = Batch([image], store)
    graph = Graph(batch.plan, batch.order_of, "name", mark="mark", meeting=None)
    *_, last = graph.tasks()
    errand = graph.errand(last)
    assert isinstance(errand.order, OutputOrder)
    assert errand.order.output.place == str(Path.cwd() / "bundles" / "a")


def run(
    client: Client, store: Store, images: list[LookedUp], *, keep_going: bool
) -> list[TaskEvent]:
    events: list[TaskEvent] = []
    batch = Batch(images, store)
    with using(store), dask_executor(client, store, None) as executor:
        assert executor.shares_store
        executor.run(batch.plan, batch.order_of, events.append, keep_going=keep_going)
    return events


def test_what_needs_a_failed_task_is_not_begun(
    client: Client, store: Store, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    bad = looked_up(tmp_path, f"{nobody}/bad:1", "bad")
    good = looked_up(tmp_path, "", "good")
    events = run(client, store, [bad, good], keep_going=True)
    ends = {event.task.id: event for event in events if isinstance(event, TaskFinished)}
    (failed,) = (end for end in ends.values() if end.failure)
    assert failed.task.kind is TaskKind.FETCH
    assert failed.failure is not None
    assert failed.failure.kind == "unavailable"
    begun = {event.task.id for event in events if isinstance(event, TaskStarted)}
    assert begun == ends.keys()
    assert {ends[name].task.images for name in ends.keys() - {failed.task.id}} == {(1,)}
    (lost,) = (event for event in events if isinstance(event, TaskLost))
    assert lost.task == failed.task  # Dask has tried it twice
    assert lost.reason.startswith("gave up: ")
    assert nobody.partition(":")[0] in lost.reason


def test_a_batch_that_is_not_to_go_on_ends_with_what_runs(
    client: Client, store: Store, tmp_path: Path
) -> None:
    bad = looked_up(tmp_path, "", "bad")
    goods = [looked_up(tmp_path, "", f"good-{number}") for number in range(20)]
    for path in (tmp_path / "bad" / "blobs").rglob("*"):
        if path.is_file():
            path.write_bytes(b"other bytes")
    events = run(client, store, [bad, *goods], keep_going=False)
    ends = [event for event in events if isinstance(event, TaskFinished)]
    assert [end.failure.kind for end in ends if end.failure] == ["integrity"]
    begun = [event.task.id for event in events if isinstance(event, TaskStarted)]
    assert {end.task.id for end in ends} == set(begun)
    (failure,) = (number for number, event in enumerate(events) if event in ends and event.failure)
    assert not any(isinstance(event, TaskStarted) for event in events[failure:])


def test_an_interrupted_batch_leaves_nothing_at_work(
    client: Client, store: Store, tmp_path: Path
) -> None:
    images = [looked_up(tmp_path, "", f"image-{number}") for number in range(10)]
    batch = Batch(images, store)

    def interrupt(_event: TaskEvent) -> None:
        raise KeyboardInterrupt

    with using(store), dask_executor(client, store, None) as executor:
        with pytest.raises(KeyboardInterrupt):
            executor.run(batch.plan, batch.order_of, interrupt, keep_going=True)
        assert not any(client.processing().values())
    assert not list(store.locks.glob("batch-*"))


def test_workers_that_neither_share_nor_meet_are_refused(
    client: Client, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stores.STORE_VARIABLE, str(tmp_path / "other"))
    with using(store):
        for cache in (None, replace(CACHE, mode="read"), replace(CACHE, verify=True)):
            with pytest.raises(UsageError, match="Not all workers"):
                dask_executor(client, store, cache).__enter__()
        with dask_executor(client, store, CACHE) as executor:
            assert not executor.shares_store


class _Elsewhere:
    """What can be sent and not be loaded, as all that is ours where it is not installed."""

    def __reduce__(self) -> tuple[object, ...]:
        return import_module, ("saltflat_of_another_environment",)

    def __call__(self, _store: Path, _mark: str) -> None:
        raise AssertionError("nobody can load it")


def test_a_worker_without_this_program_is_told_of(
    client: Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "look", _Elsewhere())
    with using(store), pytest.raises(SaltflatError, match="A worker cannot load saltflat") as error:
        dask_executor(client, store, None).__enter__()
    assert "saltflat_of_another_environment" in error.value.what
    assert not list(store.locks.glob("batch-*"))


def test_who_is_impatient_does_not_disturb_the_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    place = {"protocol": "tcp://", "dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(
            n_workers=1, processes=False, silence_logs=logging.CRITICAL, **place
        ) as cluster,
        connected(cluster.scheduler_address, workers=1) as client,
    ):
        close = client.close

        def interrupted_close() -> None:
            os.kill(os.getpid(), signal.SIGINT)
            close()

        monkeypatch.setattr(client, "close", interrupted_close)
    assert signal.getsignal(signal.SIGINT) is before
    assert client.status == "closed"


def test_an_address_that_is_none_is_said_so() -> None:
    with pytest.raises(UsageError, match="not a scheduler's address"):
        connected("nowhere", workers=1).__enter__()
