"""What a worker does: an order carried out, wherever that is. Prints nothing and knows no plan."""

from __future__ import annotations

from converter.batch.events import Outcome
from converter.batch.orders import Order
from converter.events import Monitor


def perform(order: Order, monitor: Monitor) -> Outcome:
    """Carry out `order`; `monitor` hears how it goes and may raise to end it.

    Raises the errors of converter.errors, and OSError. What is done stays done: the same order may
    come again, here or elsewhere, after any end.
    """
    raise NotImplementedError  # replaced by the next commit
