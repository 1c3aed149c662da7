"""A booted guest behind a line with faults and a relay process: everything real, and killable.

Owns putting the three together. What a client sees of it is the library's own business.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.host import client as clients
from agent.host.relay import write_key
from agent.host.transport import private_directory
from tests.guests.host import Booted
from tests.guests.line import DamagedLine, Faults, damaged_line
from tests.integration.relay_runs import RelayProcess


class RelayedGuest:
    """What `relayed` yields."""

    def __init__(self, relay: RelayProcess, line: DamagedLine) -> None:
        self.relay = relay
        self.line = line
        self.kills = 0
        self._counters: Counter[str] = Counter()  # of relays that were killed

    @property
    def address(self) -> clients.UnixAddress:
        """Where clients connect."""
        return self.relay.address

    def describe(self) -> dict[str, Any]:
        """Return how things stand, with the counters of all relays that there were."""
        told = clients.describe(self.address)
        total = self._counters + Counter(told["counters"])
        return {**told, "counters": total}

    def kill(self) -> None:
        """Kill the relay with SIGKILL, and start another one on the same folder."""
        self._counters += Counter(clients.describe(self.address)["counters"])
        self.kills += 1
        self.relay.kill()
        self.relay.start()

    def kill_while(
        self, progress: Callable[[], int | None], kills: deque[int], *, until: int, seconds: float
    ) -> None:
        """Kill it when `progress` has come to the next of `kills`, which are taken away.

        Returns when it has come to `until` or is None, which is the end, or after so many
        `seconds`.
        """
        waiting = threading.Event()
        deadline = time.monotonic() + seconds
        while (now := progress()) is not None and now < until and time.monotonic() < deadline:
            if kills and now >= kills[0]:
                while kills and now >= kills[0]:
                    kills.popleft()
                self.kill()
            waiting.wait(0.01)


@contextlib.contextmanager
def relayed(
    machine: Booted,
    *,
    faults: Faults | None = None,
    seed: int = 1,
    options: dict[str, Any] | None = None,
    folder: Path | None = None,
) -> Iterator[RelayedGuest]:
    """Start a relay with the machine's key, and connect its line. `options`: see relay_process."""
    with private_directory() as place:
        folder = folder or place / "relay"
        if not (folder / "key").exists():
            write_key(folder, machine.key)
        target = place / "to"
        relay = RelayProcess(folder, target, json.dumps({"stay": True, **(options or {})}))
        try:
            with damaged_line(machine.path, target, faults=faults, seed=seed) as line:
                yield RelayedGuest(relay, line)
        finally:
            relay.kill()
