"""A guest's part that speaks through the backdoor alone, as a program for `backdoor` to trace.

It makes the calls in its first argument, a JSON list, and prints the replies; then it answers the
hypervisor's requests until that says halt, on a clock that jumps from one deadline to the next.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from agent.tether.appearance import Appearance
from agent.tether.backdoor import open_backdoor, read_host_time
from agent.tether.poller import Poller
from agent.tether.requests import GuestRequests
from agent.tether.rpci import BackdoorWay, Rpci, RpciError
from agent.tether.tclo import Tclo
from agent.tether.tclo_lines import BackdoorLine

NETWORK = {
    "interfaces": [
        {
            "mac": "02:42:00:00:00:0a",
            "addresses": ["10.0.2.15/24"],
            "gateways": ["10.0.2.2"],
            "dhcp": None,
        }
    ],
    "name_servers": ["10.0.2.3"],
    "search_domains": [],
}


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    found = open_backdoor()
    say(None if found is None else read_host_time(found))
    if found is None:
        return
    rpci = Rpci((BackdoorWay(lambda: found),))
    for text in json.loads(sys.argv[1]):
        try:
            reply: Any = rpci.call(text.encode()).decode()
        except RpciError as error:
            reply = [str(error)]
        say(reply)
    if len(sys.argv) > 2:
        attend(found, rpci)
    rpci.close()


def attend(found: Any, rpci: Rpci) -> None:
    """Answer requests until there is one to halt."""
    done: list[str] = []

    def note(what: str) -> bool:
        done.append(what)
        return True

    def call(request: bytes) -> None:
        rpci.call(request)

    appearance = Appearance(call, host_name="guest")
    appearance.take_system("Linux 6.1 Test", "other6xlinux-64")
    appearance.take_network(NETWORK)
    tclo = Tclo(
        call,
        appearance,
        stop=lambda: note("stop"),
        restart=lambda: note("restart"),
        resumed=lambda: done.append("resumed"),
    )
    now = [100.0]
    lines: list[BackdoorLine] = []

    def open_line() -> BackdoorLine:
        lines.append(BackdoorLine(found))
        return lines[-1]

    guest = GuestRequests(open_line, tclo, appearance, clock=lambda: now[0])
    poller = Poller()
    guest.attach(poller, lambda _message: True)
    waits = []
    while "stop" not in done:
        due = guest.due()
        assert due is not None
        waits.append(due - now[0])
        now[0] = due
        guest.tick(now[0])
    say({"done": done, "shortest": min(waits), "lines": len(lines)})
    lines[-1].close()
    poller.close()


if __name__ == "__main__":
    main()
