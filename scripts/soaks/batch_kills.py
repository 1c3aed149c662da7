"""Batches on a Dask cluster, a worker of which is killed at a random moment.

A scheduler, two workers and a registry run on this host. In every other batch the workers share the
batch's store; in the others each has its own, and they meet at a cache in the registry. Before more
than one kill comes a batch of those that nobody disturbs: each blob leaves its own repository once,
each link is made once. What is demanded of each batch:

- it completes, with the bytes of a batch on this host that nobody disturbed;
- no task is begun again but those that the killed worker had, and no other one finds its link made;
- `saltflat store verify` finds nothing in any store, and whoever takes all links from the cache has
  those same bytes.

A batch that was over before the kill does not count. The table goes to stderr.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree

from scripts.soaks._batch_run import BatchRun, JsonEvent, run_batch
from scripts.soaks._dask_cluster import DaskCluster, dask_cluster
from scripts.soaks.batch import batch_file, link_digests, verified
from tests.images.workload import work_images, work_layers
from tests.integration.direct_push import push_workload
from tests.integration.registry_server import RegistryServer, registry_server

COUNT = 20
IMAGES = 8
_WORKERS = ("one", "two")
_ROW = "{:>4} | {:6} | {:>6} | {:6} | {:>4} | {:>5} | {:>4} | {:>6} | {}"


def run(count: int, seed: int, images: int = IMAGES) -> list[str]:
    """Kill a worker in `count` batches of `images`; return what was wrong."""
    choose = random.Random(seed)
    failures: list[str] = []
    wanted = work_images(images)
    with (
        tempfile.TemporaryDirectory(prefix="saltflat-batch-kills-") as name,
        registry_server("docker-registry", Path(name) / "registry", access_log=True) as registry,
        dask_cluster(Path(name) / "dask", _WORKERS) as cluster,
    ):
        folder = Path(name)
        file = folder / "images.yaml"
        file.write_text(batch_file(push_workload(registry.host, wanted, work_layers(wanted))))
        here = run_batch(file, "--store", str(folder / "here"), "--plain-http", "--jobs", "2")
        if here.exit_code:
            return [f"a batch on this host ended with {here.exit_code}: {' '.join(here.said)}"]
        expected = link_digests([folder / "here"])
        if count > 1:
            quiet = _Trial(folder / "quiet", file, cluster, apart=True)
            failures += quiet.judge_peace(registry, expected)
            rmtree(quiet.folder)
        duration = here.seconds
        print(
            _ROW.format(
                *("kill", "stores", "after", "worker", "done", "under", "lost", "took"), "it did"
            ),
            file=sys.stderr,
        )
        killed = attempts = 0
        while killed < count:
            attempts += 1
            if attempts > 3 * count + 10:
                return [*failures, f"only {killed} of {attempts} batches had a kill"]
            apart = killed % 2 == 1
            trial = _Trial(folder / f"trial-{attempts}", file, cluster, apart=apart)
            cache = f"{registry.host}/cache-{attempts}"
            kill = _Kill(choose.choice(_WORKERS), choose.uniform(0, duration))
            batch = trial.run(kill, cache)
            duration = _duration(batch) or duration
            if kill.is_done:
                killed += 1
                print(_row(killed, trial, kill, batch), file=sys.stderr)
                where = f"seed {seed}, kill {killed} after {kill.delay_seconds:.2f} s"
                failures += [f"{where}: {wrong}" for wrong in trial.judge(kill, batch, expected)]
                failures += [f"{where}: {wrong}" for wrong in trial.judge_cache(cache, expected)]
            rmtree(trial.folder)
    return failures


@dataclass(slots=True)
class _Kill:
    """Which worker is killed, how long after the first task has begun; and what it had then."""

    worker: str
    delay_seconds: float
    is_done: bool = False
    finished: int = 0
    under_way: list[str] = field(default_factory=list)


class _Trial:
    """One batch in `folder`; the workers' stores are `apart` or all the same."""

    def __init__(self, folder: Path, file: Path, cluster: DaskCluster, *, apart: bool) -> None:
        self.folder = folder
        self.apart = apart
        self._file = file
        self._cluster = cluster
        self._store = folder / "store"
        folder.mkdir()

    def judge_peace(self, registry: RegistryServer, expected: Mapping[str, str]) -> list[str]:
        """Run the batch without a kill; say what was fetched or made twice, or is wrong."""
        self._cluster.workers()
        before = Counter(registry.fetched())
        cache = "cache-quiet"
        batch = self._run(f"{registry.host}/{cache}", lambda _event: None)
        fetched = Counter(registry.fetched(leave_out=cache)) - before
        made = Counter(batch.links_made())
        wrong = [
            f"{blob} was fetched {times} times" for blob, times in fetched.items() if times > 1
        ]
        wrong += [
            f"link {link} was made {times} times" for link, times in made.items() if times > 1
        ]
        if not fetched or {f"{link}.vmdk" for link in made} - expected.keys():
            wrong.append(f"{len(fetched)} blobs were fetched, {len(made)} links made")
        return wrong + self.judge(_Kill("", 0), batch, expected)

    def run(self, kill: _Kill, cache: str) -> BatchRun:
        """Run the batch, and `kill` a worker unless the batch ends before."""
        processes = self._cluster.workers()
        running: dict[str, tuple[str, str]] = {}
        lock = threading.Lock()

        def end_it() -> None:
            with lock:
                kill.under_way = [
                    what for worker, what in running.values() if worker == kill.worker
                ]
                kill.is_done = True
            os.kill(processes[kill.worker], signal.SIGKILL)

        timer = threading.Timer(kill.delay_seconds, end_it)

        def hear(event: JsonEvent) -> None:
            with lock:
                if event["event"] == "task-started":
                    if not timer.is_alive() and not kill.is_done:
                        timer.start()
                    running[event["task"]] = event["worker"], event["kind"]
                elif event["event"] == "task-finished":
                    running.pop(event["task"], None)
                    kill.finished += not kill.is_done
                elif event["event"] == "batch-finished":
                    timer.cancel()

        return self._run(cache, hear)

    def _run(self, cache: str, hear: Callable[[JsonEvent], None]) -> BatchRun:
        own = {name: self.folder / name for name in _WORKERS} if self.apart else {}
        self._cluster.give_stores(own)
        options = ["--store", str(self._store), "--plain-http"]
        options += ["--scheduler", self._cluster.address]
        options += ["--cache-repo", cache] if self.apart else []
        return run_batch(self._file, *options, hear=hear)

    def judge(self, kill: _Kill, batch: BatchRun, expected: Mapping[str, str]) -> list[str]:
        """Say what is wrong with a batch that went through a kill."""
        wrong = []
        if batch.exit_code:
            wrong.append(f"exit code {batch.exit_code}: {' '.join(batch.said)}")
        lost = {event["task"]: event["worker"] for event in batch.of("task-lost")}
        wrong += [
            f"{task} was begun again, and was {worker}'s"
            for task, worker in lost.items()
            if worker != kill.worker
        ]
        wrong += [
            f"{event['task']} found link {link['link_id']} made"
            for event in batch.of("task-finished")
            if event["task"] not in lost and event["outcome"]
            for link in event["outcome"]["links"]
            if not link["new"] or link["from_cache"]
        ]
        stores = [store for store in self.folder.iterdir() if (store / "links").is_dir()]
        found = link_digests(stores)
        wrong += [f"{name} is other than it should be" for name in _differing(found, expected)]
        if found.keys() != expected.keys():
            wrong.append(f"{len(found)} files of links, expected {len(expected)}")
        for store in stores:
            wrong += verified(store)
        return wrong

    def judge_cache(self, cache: str, expected: Mapping[str, str]) -> list[str]:
        """Say what is wrong with what a store gets from the cache alone."""
        if not self.apart:
            return []
        store = self.folder / "from-cache"
        options = ["--store", str(store), "--plain-http", "--jobs", "2", "--cache-repo", cache]
        taken = run_batch(self._file, *options, "--cache-mode", "read")
        wrong = [f"the cache has no link {link}" for link in taken.links_made()]
        if taken.exit_code or link_digests([store]) != expected:
            wrong.append(f"a batch from the cache: {taken.exit_code}, {' '.join(taken.said)}")
        return wrong


def _row(number: int, trial: _Trial, kill: _Kill, batch: BatchRun) -> str:
    return _ROW.format(
        number,
        "own" if trial.apart else "shared",
        f"{kill.delay_seconds:.2f}",
        kill.worker,
        kill.finished,
        len(batch.of("task-started")),
        len(batch.of("task-lost")),
        f"{batch.seconds:.2f}",
        ", ".join(kill.under_way) or "nothing",
    )


def _duration(batch: BatchRun) -> float:
    """Return how long a batch's tasks took in all, in seconds."""
    return float(max((event["at_seconds"] for event in batch.of("task-finished")), default=0))


def _differing(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    return sorted(name for name in found if found[name] != expected.get(name))
