"""A Dask scheduler and workers as processes of their own, as people start them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from distributed import Client, Worker

from converter.batch.cluster.stores import STORE_VARIABLE
from tests.images.cache import ROOT

_START_SECONDS = 60
_END_SECONDS = 20
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class DaskCluster:
    """A scheduler's address, and workers by name, each with a nanny that replaces it."""

    address: str
    names: tuple[str, ...]
    client: Client

    def workers(self) -> dict[str, int]:
        """Return each worker's process by its name, once they are all there."""
        self.client.wait_for_workers(len(self.names), timeout=_START_SECONDS)
        return dict(self.client.run(_who).values())

    def give_stores(self, stores: Mapping[str, Path]) -> None:
        """Let workers have stores of their own, by name; others have the batch's."""
        self.client.run(_have_store, {name: str(store) for name, store in stores.items()})


@contextmanager
def dask_cluster(folder: Path, names: Sequence[str]) -> Iterator[DaskCluster]:
    """Run a scheduler and a worker of each name in `folder` until the block ends."""
    folder.mkdir()
    file = folder / "scheduler.json"
    with ExitStack() as opened:
        scheduler = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        opened.enter_context(
            _process(folder, "scheduler", [*scheduler, "--scheduler-file", str(file)])
        )
        deadline = time.monotonic() + _START_SECONDS
        while not file.exists():
            if time.monotonic() > deadline:
                raise RuntimeError((folder / "scheduler.log").read_text())
            time.sleep(_LOOK_SECONDS)
        for name in names:
            worker = ["worker", "--scheduler-file", str(file), "--name", name, "--no-dashboard"]
            worker += ["--nthreads", "1", "--local-directory", str(folder / name)]
            opened.enter_context(_process(folder, name, worker))
        client = opened.enter_context(Client(scheduler_file=str(file), set_as_default=False))
        yield DaskCluster(str(client.scheduler_info()["address"]), tuple(names), client)


@contextmanager
def _process(folder: Path, name: str, arguments: Sequence[str]) -> Iterator[None]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _who(dask_worker: Worker) -> tuple[str, int]:
    return str(dask_worker.name), os.getpid()


def _have_store(stores: Mapping[str, str], dask_worker: Worker) -> None:
    os.environ[STORE_VARIABLE] = stores.get(str(dask_worker.name), "")
