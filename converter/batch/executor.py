"""The seam between a plan and who carries it out: processes of this host, or a cluster.

Owns the interface alone. `converter.batch.local` and `converter.batch.cluster` have it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from converter.batch.events import WatchTasks
from converter.batch.orders import Order
from converter.batch.plan import Plan, Task

OrderOf = Callable[[Task], Order]


class Executor(Protocol):
    """Carries plans out, each task behind those that it needs, and each once.

    A worker calls `converter.batch.work.perform(order, monitor)`, wherever it is.
    """

    @property
    def workers(self) -> int:
        """How many tasks are done side by side, at most."""

    @property
    def shares_store(self) -> bool:
        """Whether workers have the batch's own store, so that what is there counts as made."""

    def run(self, plan: Plan, order_of: OrderOf, watch: WatchTasks, *, keep_going: bool) -> None:
        """Do all tasks of `plan`; return when all have ended that can.

        `watch` is called from one thread at a time. A task that fails is told as TaskFinished with
        its failure, and nothing that needs it is begun; without `keep_going` nothing is begun any
        more at all, and what runs is finished. A task whose worker died is told as TaskLost and
        begun anew, a bounded number of times. After KeyboardInterrupt, or any other exception, no
        task runs any more and no process of ours is left; what was finished stays.
        """
