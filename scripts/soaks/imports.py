"""Imports that break off or are killed at random points: a whole template in the end, or nothing.

Before that the demo image is imported in every way, and what arrives is read and compared.

Every fourth round, uploads break off after a random number of bytes, one to three times; with three
the import fails, and no machine may be left; the disk goes as one, in chunks, or link by link. In
another fourth the import is killed at a random instant, and imported again as a person would: what
is told to be unfinished is replaced. In the third it is told to end (SIGINT or SIGTERM) at a random
instant: there is a whole template then, or nothing. In the last two import the same at once: one
makes it, the other waits for it. Each round has a simulated vCenter (vcsim) of its own,
which unlike a real one never ends a lease by itself.
"""

from __future__ import annotations

import random
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.images import prepared
from tests.images.gotools import go_tools
from tests.integration.vcsim import vcsim
from tests.integration.vsphere_imports import (
    Server,
    Source,
    cause,
    contents,
    is_same_disk,
    machines,
    make_source,
    source_of,
    top_link,
)

COUNT = 200  # so that 50 uploads break off
_WAYS = ((), ("--chunked",), ("--delta",))
_ATTEMPTS = 3  # of an import
_UNAVAILABLE, _INTERRUPTED = 8, 130
_FIRST_SHARE, _LAST_SHARE = 0.3, 1.1  # of an undisturbed import's time: when it is disturbed


def run(count: int, seed: int) -> list[str]:
    """Import `count` times; return what was wrong."""
    chooser = random.Random(seed)
    failures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = make_source(folder)
        tools = go_tools()
        failures += whole(tools, folder / "demo")
        undisturbed = _seconds(tools, source, folder / "state")
        for number in range(count):
            state = folder / f"state-{number}"
            kind = number % 4
            if kind == 0:
                cut, cuts = chooser.randrange(1, len(source.stream)), chooser.randint(1, _ATTEMPTS)
                way = chooser.choice(_WAYS)
                wrong = break_off(tools, source, state, *way, cut_bytes=cut, cuts=cuts)
                told = f"cut {cuts} times after {cut} bytes {' '.join(way)}"
            elif kind == 3:
                lag = undisturbed * chooser.uniform(0, _FIRST_SHARE)
                wrong, told = together(tools, source, state, lag), f"two, one {lag:.3f} s later"
            else:
                seconds = undisturbed * chooser.uniform(_FIRST_SHARE, _LAST_SHARE)
                end = kill if kind == 1 else interrupt
                wrong = end(tools, source, state, after_seconds=seconds)
                told = f"{end.__name__} after {seconds:.3f} s"
            failures += [f"round {number}, {told}: {what}" for what in wrong]
    return failures


def _seconds(tools: Path, source: Source, state: Path) -> float:
    """Return how long an import takes here and now."""
    with vcsim(tools) as address:
        started = time.perf_counter()
        Server(f"http://{address}", source, state)()
        return time.perf_counter() - started


def whole(tools: Path, folder: Path) -> list[str]:
    """Import the demo image in every way; return what was wrong with the disks that arrived."""
    kept = folder / "kept"
    kept.mkdir(parents=True)
    source = source_of(f"oci:{prepared.demo_layout()}:latest", folder)
    disk = contents(top_link(source.store))
    wrong = []
    with vcsim(tools, "-delta", "-keep", str(kept)) as address:
        server = Server(f"http://{address}", source, folder / "state")
        for number, way in enumerate(_WAYS):
            code, _made, said = server("--name", f"demo-{number}", *way)
            arrived = sorted(kept.iterdir())
            if code:
                wrong.append(f"the demo image {' '.join(way)} ended with {code}: {said}")
                continue
            # Links are told apart by the names that they have for one another.
            for at, one in enumerate(arrived, 1):
                top = one.rename(folder / f"disk1-{at}.vmdk")
            if contents(top) != disk or not is_same_disk(top, source.file):
                wrong.append(f"the demo image {' '.join(way)} arrived as another disk")
    return wrong


def break_off(
    tools: Path, source: Source, state: Path, *options: str, cut_bytes: int, cuts: int
) -> list[str]:
    """Import while the first `cuts` uploads break off after `cut_bytes`; return what was wrong."""
    with vcsim(tools, "-delta", "-cut", str(cut_bytes), "-cuts", str(cuts)) as address:
        server = Server(f"http://{address}", source, state)
        code, made, said = server(*options)
        with server.open() as connection:
            left = machines(connection)
    wrong = []
    if said.count("Beginning anew") != min(cuts, _ATTEMPTS - 1):
        wrong.append(f"{cuts} cuts were told as {said!r}")
    if cuts >= _ATTEMPTS:
        if (code, cause(said)) != (_UNAVAILABLE, "unreachable"):
            wrong.append(f"it ended with {code}: {said}")
        if left:
            wrong.append(f"it left {', '.join(left)}")
    elif code or made["sent"]["compared"] is ("--delta" in options) or len(left) != 1:
        wrong.append(f"it ended with {code}, {len(left)} machines: {said}")
    return wrong


def kill(tools: Path, source: Source, state: Path, *, after_seconds: float) -> list[str]:
    """Kill an import, import again until it is whole, and return what was wrong."""
    with vcsim(tools) as address:
        server = Server(f"http://{address}", source, state)
        server.killed(after_seconds)
        code, made, said = server("--wait", "0")
        if code and cause(said) == "unfinished":
            code, made, said = server("--replace")
        with server.open() as connection:
            left = machines(connection)
    if code:
        return [f"the next import ended with {code}: {said}"]
    snapshots = [
        snapshot.name for one in left.values() for snapshot in one["snapshot.rootSnapshotList"]
    ]
    if len(left) != 1 or snapshots != [made["digest"]]:
        return [f"there are {len(left)} machines with the snapshots {snapshots}"]
    return []


def interrupt(tools: Path, source: Source, state: Path, *, after_seconds: float) -> list[str]:
    """Tell an import to end, and return what was wrong with what it left."""
    number = signal.SIGINT if int(after_seconds * 1000) % 2 else signal.SIGTERM
    with vcsim(tools) as address:
        server = Server(f"http://{address}", source, state)
        code = server.killed(after_seconds, number)
        with server.open() as connection:
            left = machines(connection)
    whole_ones = [one for one in left.values() if one.get("snapshot.rootSnapshotList")]
    if len(whole_ones) == len(left) == 1:  # it was told when nothing was left to do
        return []
    # Before it has begun to listen to signals, Python's own way to end counts for SIGTERM.
    if code in (_INTERRUPTED, -signal.SIGTERM, -signal.SIGINT) and not left:
        return []
    return [f"{number.name}: it ended with {code} and left {len(left)}, {len(whole_ones)} whole"]


def together(tools: Path, source: Source, state: Path, lag_seconds: float) -> list[str]:
    """Import by two at once, one of them a while later, and return what was wrong."""
    with vcsim(tools) as address, ThreadPoolExecutor(2) as two:
        clients = [Server(f"http://{address}", source, state / name) for name in ("a", "b")]
        first = two.submit(clients[0])
        time.sleep(lag_seconds)
        ends = [two.submit(clients[1]).result(), first.result()]
        with clients[0].open() as connection:
            left = machines(connection)
    wrong = [f"one ended with {code}: {said}" for code, _made, said in ends if code]
    if not wrong and sorted(made["existed"] for _code, made, _said in ends) != [False, True]:
        wrong.append("both or none of the two made it")
    if [bool(one.get("snapshot.rootSnapshotList")) for one in left.values()] != [True]:
        wrong.append(f"they left {', '.join(left) or 'nothing'}")
    return wrong
