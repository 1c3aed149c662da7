"""A plan as errands for workers: which tasks are errands, and what is told of each.

Where all workers share the batch's store, an errand is a task. Where each has a store of its own,
two things differ: a blob of one task alone is fetched where that task runs, so its fetch is no
errand, but goes along with that one; and a blob of several tasks is lent by whoever fetches it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from converter import __version__
from converter.batch.cluster.errand import Errand
from converter.batch.executor import OrderOf
from converter.batch.orders import CacheOrder, ConvertOrder, FetchOrder, Order, OutputOrder
from converter.batch.plan import Plan, Task, TaskKind
from converter.batch.wishes import BundleWish, ExportWish


class Graph:
    """The errands of `plan`, under a `name` that no other batch has.

    `mark` is what workers see in the store that they share; where it is "" they have stores of
    their own, and the cache `meeting`.
    """

    def __init__(
        self, plan: Plan, order_of: OrderOf, name: str, *, mark: str, meeting: CacheOrder | None
    ) -> None:
        self.topic = f"saltflat-{name}"
        self.along: dict[str, list[Task]] = {}  # fetches that are no errands, by task
        self._plan = plan
        self._order_of = order_of
        self._mark = mark
        self._meeting = None if mark else meeting
        wanting = Counter(need for task in plan.tasks for need in task.needs)
        self._alone: dict[str, Task] = {}
        self._lent: dict[str, Task] = {}
        for task in plan.tasks if self._meeting else ():
            if task.kind is TaskKind.FETCH:
                (self._lent if wanting[task.id] > 1 else self._alone)[task.id] = task

    @property
    def shares_store(self) -> bool:
        """Whether all workers have one store."""
        return bool(self._mark)

    def key(self, task: Task) -> str:
        """Return Dask's name of a task; what is before the first hyphen is its group there."""
        return f"{task.kind.value}-{self.topic}-{task.id}"

    def tasks(self) -> Iterator[Task]:
        """Yield each task that is an errand, behind those that it needs, which are errands too."""
        for task in self._plan.tasks:
            if task.id in self._alone:
                continue
            self.along[task.id] = [self._alone[need] for need in task.needs if need in self._alone]
            yield replace(task, needs=tuple(need for need in task.needs if need not in self._alone))

    def errand(self, task: Task) -> Errand:
        """Return what the worker that does `task` is told."""
        order = _placed(self._order_of(task))
        errand = Errand(task.id, self.topic, order, __version__, self._mark, self._meeting)
        if self._meeting is None:
            return errand
        if task.id in self._lent:
            assert isinstance(order, FetchOrder), "a fetch has the order of one"
            return replace(errand, lent=(order.blob,))
        if isinstance(order, ConvertOrder):
            blobs = {self._lent[need].blob for need in task.needs if need in self._lent}
            layers = (layer.descriptor for layer in order.image.layers)
            found = {str(layer.digest): layer for layer in layers}
            borrowed = tuple(found[blob] for blob in sorted(blobs))
            return replace(errand, borrowed=borrowed, links=task.links)
        return errand


def _placed(order: Order) -> Order:
    """Return an order whose output, if it is a file, has a place that needs no working folder."""
    if not isinstance(order, OutputOrder) or not isinstance(order.output, BundleWish | ExportWish):
        return order
    place = os.fspath(Path(order.output.place).absolute())
    return replace(order, output=replace(order.output, place=place))
