"""Pulls with random faults: each ends with the right bytes or with a clear error of ours.

A real docker-registry stands behind a proxy that breaks, stalls, lies and refuses
(tests/integration/fault_proxy.py). Each round pulls an image into a fresh folder of blobs, several
layers at a time, while faults hit some of its requests; in some rounds there is a mirror, in some
the first pull is abandoned in the middle and a second one goes on. After each:

- it ended well, or with an error whose exit code fits what was done to it; nothing else;
- every file with a final name has the sha256 that its name says, success or not;
- no byte was sent twice: a request begins where the bytes of the one before it ended, and that of a
  second pull where the first one's file ends. Excused are bytes that a reset took out of the
  client's receive buffer, that were under way when it hung up itself, and that were wrong.

The fault table goes to stderr: how often each kind of fault was met, and how those rounds ended.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from converter.errors import SaltflatError
from converter.events import Event, StepAdvanced
from converter.image.fetch import fetch_blob
from converter.image.partial import PARTIAL_PREFIX
from converter.image.platform import Platform
from converter.image.reference import parse_source
from converter.image.source import SourceOptions, open_source
from converter.registry.options import Mirror
from converter.registry.pace import Pace
from tests.images.layout import LayoutWriter
from tests.images.tarball import TarBuilder, noise
from tests.integration.fault_proxy import Exchange, Fault, FaultProxy, Kind, fault_proxy
from tests.integration.registry_server import registry_server

COUNT = 500
LAYER_BYTES = (1_500_000, 700_000, 300_000, 70_000, 3_000)
_AT_A_TIME = 4
_RETRIES = 3
_TIMEOUT_SECONDS = 0.4
_PLATFORM = Platform("linux", "amd64")
_AUTH, _INTEGRITY, _NOT_FOUND, _UNAVAILABLE = 4, 5, 3, 8

# What a round may end with beside success, when faults of this kind hit it.
_CODES = {
    Kind.WRONG_BYTE: {_INTEGRITY},
    Kind.NOT_FOUND: {_NOT_FOUND},
    Kind.FORBIDDEN: {_AUTH},
    Kind.TOKEN_EXPIRED: {_AUTH},
    Kind.TRUNCATED: {_INTEGRITY, _UNAVAILABLE},
    Kind.SHORT_LENGTH: {_INTEGRITY, _UNAVAILABLE},
    Kind.LONG_LENGTH: {_INTEGRITY, _UNAVAILABLE},
    Kind.RANGE_REFUSED: {1, _UNAVAILABLE},
    Kind.WRONG_RANGE: {1, _UNAVAILABLE},
}
# After these, bytes may rightly come again: they were wrong, or there were no ranges.
_AGAIN = {
    Kind.WRONG_BYTE,
    Kind.RANGE_REFUSED,
    Kind.RANGE_IGNORED,
    Kind.WRONG_RANGE,
    Kind.LONG_LENGTH,
    Kind.RESET,
}
_HANGING_UP_BYTES = 16  # of a trickle, may be on the line when the client has had enough
_ELSEWHERE = ("nobody listens", "no TLS where TLS is wanted", "a mirror where nobody listens")


class _AbandonedError(Exception):
    """The round's first pull is given up here."""


@dataclass(frozen=True, slots=True)
class _Place:
    proxy: FaultProxy
    clean: str
    dead: str


def run(count: int, seed: int) -> list[str]:
    """Pull `count` times with faults that `seed` chooses; return what was wrong."""
    failures: list[str] = []
    table: defaultdict[str, Counter[str]] = defaultdict(Counter)
    with tempfile.TemporaryDirectory(prefix="saltflat-pulls-") as name:
        folder = Path(name)
        _build(folder / "layout")
        with (
            registry_server("docker-registry", folder / "registry") as registry,
            fault_proxy(registry.host) as proxy,
            fault_proxy(registry.host) as other,
            socket.create_server(("127.0.0.1", 0)) as free,
        ):
            proxy.elsewhere = other.host
            command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
            target = f"docker://{registry.host}/soak/app:1"
            subprocess.run(
                [*command, f"oci:{folder / 'layout'}:latest", target], check=True, timeout=60
            )
            dead = f"127.0.0.1:{free.getsockname()[1]}"
            free.close()
            place = _Place(proxy, registry.host, dead)
            for number in range(count):
                choose = random.Random(f"{seed}-{number}")
                met, outcome, wrong = _round(choose, place, folder / "blobs")
                for kind in met or {"none"}:
                    table[kind][outcome] += 1
                failures += [f"seed {seed}, pull {number} ({', '.join(met)}): {w}" for w in wrong]
                shutil.rmtree(folder / "blobs", ignore_errors=True)
    _print(table)
    return failures


def _round(choose: random.Random, place: _Place, blobs: Path) -> tuple[list[str], str, list[str]]:
    """Pull once; return the faults that were met, how it ended, and what was wrong."""
    proxy = place.proxy
    proxy.exchanges.clear()
    proxy.plan = _plan(choose, proxy)
    host, plain_http = proxy.host, True
    mirrors: tuple[Mirror, ...] = ()
    special = choose.choice([None] * 30 + [*_ELSEWHERE])
    mirrored = choose.random() < 0.15
    if special == _ELSEWHERE[0]:
        host, mirrored = place.dead, False
    elif special == _ELSEWHERE[1]:
        plain_http, mirrored = False, False
    elif special == _ELSEWHERE[2]:
        mirrors, mirrored = (Mirror(place.dead),), False
    elif mirrored:
        host, mirrors = place.clean, (Mirror(proxy.host),)
    options = SourceOptions(
        plain_http=plain_http,
        retries=_RETRIES,
        read_timeout_seconds=_TIMEOUT_SECONDS,
        pace=Pace(0.001, 0.01, 0.01, dice=choose.random),
        mirrors=mirrors,
    )
    wrong: list[str] = []
    abandoned = choose.random() < 0.15
    if abandoned:
        seen: dict[str, int] = {}
        _pull(host, options, blobs, _abandon(seen))
        wrong += _unverified(blobs)
        wrong += _sent_twice(proxy.blobs(), {}, set())
        if _AGAIN.isdisjoint(_kinds(proxy)):
            wrong += _lost(blobs, seen)
    earlier = proxy.blobs()
    there = {path.name: path.stat().st_size for path in blobs.glob(f"sha256/{PARTIAL_PREFIX}*")}
    error = _pull(host, options, blobs, _ignore)
    wrong += _unverified(blobs)
    wrong += _sent_twice(proxy.blobs()[len(earlier) :], there, _spoiled(earlier))
    kinds = _kinds(proxy)
    met = sorted({kind.value for kind in kinds} | ({special} if special else set()))
    if error is None:
        outcome = "right bytes"
        if len(list(blobs.glob("sha256/[!.]*"))) != len(LAYER_BYTES):
            wrong.append("it said that it succeeded, and blobs are missing")
    elif isinstance(error, SaltflatError):
        outcome = f"{error.kind}, exit code {error.exit_code}"
        fitting = {_UNAVAILABLE}.union(*(_CODES.get(kind, set()) for kind in kinds))
        if error.exit_code not in fitting or not error.what or mirrored:
            wrong.append(f"exit code {error.exit_code} does not fit: {error.what}")
        if not met:
            wrong.append(f"an error without a fault: {error.what}")
    else:
        outcome = "no error of ours"
        wrong.append(f"{type(error).__name__}: {error}")
    return [*met, *(["abandoned and taken up again"] if abandoned else [])], outcome, wrong


def _plan(choose: random.Random, proxy: FaultProxy) -> Callable[[Exchange], Fault | None]:
    """Choose what goes wrong: one or two kinds, the odds per request, and where in a body.

    Most rounds spare the two documents that come first: without them there are no layers.
    """
    kinds = choose.sample(list(Kind), choose.choice([1, 1, 2]))
    odds = choose.choice([0.4, 0.7, 1.0])
    most = choose.choice([1, 2, 3, 6, 50])
    spared = choose.choice([0, 2, 2, 2])
    hits = Counter[str]()

    def plan(exchange: Exchange) -> Fault | None:
        kind = choose.choice(kinds)
        needs_range = kind in {Kind.RANGE_REFUSED, Kind.RANGE_IGNORED, Kind.WRONG_RANGE}
        if needs_range and not exchange.start:
            kind = Kind.CUT  # so that there will be a range
        if choose.random() >= odds or hits.total() >= most or len(proxy.exchanges) < spared:
            return None
        hits[exchange.path] += 1
        size = choose.choice([1, 1000, 100_000, 1_000_000])
        return Fault(kind, choose.randrange(size))

    return plan


def _pull(
    host: str, options: SourceOptions, blobs: Path, monitor: Callable[[Event], None]
) -> Exception | None:
    try:
        reference = parse_source(f"{host}/soak/app:1")
        with (
            open_source(reference, options) as source,  # type: ignore[arg-type]  # no bundle
            ThreadPoolExecutor(_AT_A_TIME) as threads,
        ):
            image = source.resolve(_PLATFORM)
            fetched = [
                threads.submit(fetch_blob, source, layer.descriptor, blobs, monitor)
                for layer in image.layers
            ]
            errors = [found for blob in fetched if (found := blob.exception())]
    except Exception as error:  # whatever it is, the round judges it
        return error
    unexpected = [found for found in errors if not isinstance(found, SaltflatError)]
    for found in [*unexpected, *errors]:
        return found if isinstance(found, Exception) else RuntimeError(repr(found))
    return None


def _ignore(_event: Event) -> None:
    pass


def _kinds(proxy: FaultProxy) -> list[Kind]:
    return [exchange.fault.kind for exchange in proxy.exchanges if exchange.fault]


def _abandon(seen: dict[str, int]) -> Callable[[Event], None]:
    """Return a monitor that gives up a blob at its first sign of progress, as a killed one would.

    `seen` gets what had arrived by then, by the beginning of the blob's name.
    """

    def monitor(event: Event) -> None:
        if isinstance(event, StepAdvanced):
            seen[event.step.removeprefix("pull ")] = event.done_bytes
            raise _AbandonedError

    return monitor


def _lost(blobs: Path, seen: dict[str, int]) -> list[str]:
    """Say what had arrived and is not there for the next pull."""
    wrong = []
    for name, size_bytes in seen.items():
        kept = [path.stat().st_size for path in blobs.glob(f"sha256/{PARTIAL_PREFIX}{name}*")]
        if kept != [size_bytes]:
            wrong.append(f"of {name} {size_bytes} bytes had arrived, and {kept} were kept")
    return wrong


def _unverified(blobs: Path) -> list[str]:
    return [
        f"{path.name} has a final name and other bytes"
        for path in blobs.glob("sha256/[!.]*")
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name
    ]


def _encoded(exchange: Exchange) -> str:
    return exchange.path.rpartition(":")[2]


def _spoiled(exchanges: list[Exchange]) -> set[str]:
    """Return the blobs whose bytes may rightly come again after these requests."""
    return {_encoded(found) for found in exchanges if found.fault and found.fault.kind in _AGAIN}


def _sent_twice(exchanges: list[Exchange], there: dict[str, int], excused: set[str]) -> list[str]:
    """Say which requests began before the end of what had come of their blob.

    `there` are the sizes of the files in which an earlier pull left its bytes, by their names;
    `excused` are the blobs of which it may have left wrong ones.
    """
    wrong: list[str] = []
    reached: dict[str, int] = {}
    for exchange in exchanges:
        kind = exchange.fault.kind if exchange.fault else None
        encoded = _encoded(exchange)
        end = reached.get(encoded, there.get(f"{PARTIAL_PREFIX}{encoded}", 0))
        if exchange.start < end and encoded not in excused:
            wrong.append(f"{end - exchange.start} bytes of {encoded[:12]} were sent twice")
        if kind in _AGAIN:
            excused = {*excused, encoded}
        certain = exchange.sent_bytes - (_HANGING_UP_BYTES if kind is Kind.TRICKLE else 0)
        reached[encoded] = max(end, exchange.start + certain)
    return wrong


def _build(folder: Path) -> None:
    layout = LayoutWriter(folder)
    for number, size_bytes in enumerate(LAYER_BYTES):

        def write(tar: TarBuilder, number: int = number, size_bytes: int = size_bytes) -> None:
            tar.file(f"noise-{number}", noise(f"soak-{number}", size_bytes))

        layout.layer(write, comment=f"{size_bytes} bytes")
    layout.finish(config={})


def _print(table: dict[str, Counter[str]]) -> None:
    outcomes = sorted({outcome for counts in table.values() for outcome in counts})
    print(" | ".join(["fault", *outcomes]), file=sys.stderr)
    for kind in sorted(table):
        cells = [str(table[kind][outcome]) for outcome in outcomes]
        print(" | ".join([kind, *cells]), file=sys.stderr)
