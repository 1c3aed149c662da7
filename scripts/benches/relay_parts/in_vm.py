"""The relay in a virtual machine against a plain loop in the same guest, and against cat.

Each round measures the peers one after the other in the same booted machine. The guest's process
is the worker either way; what differs is who carries its bytes: tether, the relay and an attached
client, or a loop that reads, tags and writes on a line of its own to a socket that is only read.
Needs QEMU; KVM only where it boots a guest.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

from agent.tether.channel import SERIAL_LIMITS, VIRTIO_LIMITS
from agent.wire.c_frame import FRAME_OVERHEAD
from converter.machine.model import Channel
from scripts.benches.relay_parts.guest_worker import frame, keyed
from scripts.benches.relay_parts.machine import (
    FILE_BYTES,
    RANDOM,
    TEXT,
    Bench,
    booted,
    payloads,
    write_all,
)

_READ_BYTES = 65536
_VIRTIO_FILES = 32  # sent in a row; at more than 10 MB/s
_SERIAL_FILES = 1
_KEYS = 300  # fewer than a terminal keeps of a line

Rates = dict[str, list[float]]


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Return MB/s, ratios and latencies of both lines."""
    virtio, accelerator = _rounds(Channel.VIRTIO_SERIAL, rounds, _virtio)
    serial, _ = _rounds(Channel.SERIAL, rounds, _serial)
    figures: dict[str, dict[str, float]] = {"MB/s": {}, "ratios": {}, "microseconds": {}}
    for rates in (virtio, serial):
        for what, found in rates.items():
            kind = "microseconds" if "key" in what else "MB/s"
            figures[kind][what] = statistics.median(found)

    def ratio(name: str, rates: Rates, what: str, peer: str) -> None:
        figures["ratios"][name] = statistics.median(
            mine / other for mine, other in zip(rates[what], rates[peer], strict=True)
        )

    for direction, goal in (("out", 0.8), ("in", 0.65)):
        line = f"virtio {direction}: "
        ratio(f"{line}relay / plain loop (goal {goal})", virtio, line + "relay", line + "plain")
        note = "goal 0.5" if accelerator == "kvm" else "no KVM"
        ratio(f"{line}relay / cat ({note})", virtio, line + "relay", line + "cat")
        line = f"16550 {direction}: "
        ratio(f"{line}relay, random / cat (goal 0.9)", serial, line + "random", line + "cat")
        ratio(f"{line}relay, text / cat (goal 2.5)", serial, line + "text", line + "cat")
    return figures


def _rounds(
    channel: Channel, rounds: int, one: Callable[[Bench], dict[str, float]]
) -> tuple[Rates, str]:
    """Return what each of the rounds found, after one that only warms everything up."""
    rates: Rates = {}
    with booted(channel) as bench:
        one(bench)
        for _ in range(rounds):
            for what, rate in one(bench).items():
                rates.setdefault(what, []).append(rate)
        return rates, bench.accelerator


def _virtio(bench: Bench) -> dict[str, float]:
    payload, files = VIRTIO_LIMITS.max_payload_bytes, _VIRTIO_FILES
    return {
        "virtio out: cat": _cat_out(bench, files),
        "virtio out: plain": _plain_out(bench, files, payload),
        "virtio out: relay": _relay_out(bench, RANDOM, files),
        "virtio in: cat": _cat_in(bench, files),
        "virtio in: plain": _plain_in(bench, files, payload),
        "virtio in: relay": _relay_in(bench, RANDOM, files),
        **_latency(bench, "virtio"),
    }


def _serial(bench: Bench) -> dict[str, float]:
    payload, files = SERIAL_LIMITS.max_payload_bytes, _SERIAL_FILES
    return {
        "16550 out: cat": _cat_out(bench, files),
        "16550 out: plain": _plain_out(bench, files, payload),
        "16550 out: random": _relay_out(bench, RANDOM, files),
        "16550 out: text": _settled(lambda: _relay_out(bench, TEXT, files)),
        "16550 in: cat": _cat_in(bench, files),
        "16550 in: plain": _plain_in(bench, files, payload),
        "16550 in: random": _relay_in(bench, RANDOM, files),
        "16550 in: text": _settled(lambda: _relay_in(bench, TEXT, files)),
        **_latency(bench, "16550"),
    }


def _settled(rate: Callable[[], float]) -> float:
    """Measure twice and return the second: after noise, text is tried only now and then."""
    rate()
    return rate()


# --- from the guest ------------------------------------------------------------------------------


def _relay_out(bench: Bench, path: str, files: int) -> float:
    bench.command("relay-out", *[path] * files)
    return _take(bench.worker.take, files * FILE_BYTES, 1.0)


def _cat_out(bench: Bench, files: int) -> float:
    bench.command("cat-out", *[RANDOM] * files)
    return _take(bench.plain.fileno(), files * FILE_BYTES, 1.0)


def _plain_out(bench: Bench, files: int, payload: int) -> float:
    bench.command("plain-out", payload, *[RANDOM] * files)
    count = files * FILE_BYTES
    frames = -(-count // payload)
    on_line = count + frames * FRAME_OVERHEAD
    return _take(bench.plain.fileno(), on_line, count / on_line)


def _take(descriptor: int, count: int, part: float) -> float:
    """Read so many bytes; return `part` of their rate from the first to the last, in MB/s."""
    count -= len(os.read(descriptor, _READ_BYTES))
    started = time.perf_counter()
    left = count
    while left:
        left -= len(os.read(descriptor, min(left, _READ_BYTES)))
    return count / (time.perf_counter() - started) / 1e6 * part


# --- to the guest --------------------------------------------------------------------------------


def _relay_in(bench: Bench, path: str, files: int) -> float:
    return _give(bench, "relay-in", bench.worker.give, [payloads()[path]] * files)


def _cat_in(bench: Bench, files: int) -> float:
    return _give(bench, "cat-in", bench.plain.fileno(), [payloads()[RANDOM]] * files)


def _plain_in(bench: Bench, files: int, payload: int) -> float:
    data = payloads()[RANDOM]
    state = keyed()
    pieces = [frame(state, data[at : at + payload]) for at in range(0, len(data), payload)]
    return _give(bench, f"plain-in {payload}", bench.plain.fileno(), [b"".join(pieces)] * files)


def _give(bench: Bench, command: str, descriptor: int, data: list[bytes]) -> float:
    """Have the worker read so many bytes, and give them; return the rate in MB/s."""
    count = len(data) * FILE_BYTES
    name, *rest = command.split()
    bench.command(name, count, *rest)
    bench.expect("go")
    started = time.perf_counter()
    for piece in data:
        write_all(descriptor, piece)
    bench.expect("done")
    return count / (time.perf_counter() - started) / 1e6


# --- a key and its echo --------------------------------------------------------------------------


def _latency(bench: Bench, line: str) -> dict[str, float]:
    """Return median and p99 of a key and its echo by a terminal, by the relay and without it."""
    bench.command("echo")
    bench.expect("go")
    plain = _echoes(bench.plain.fileno(), bench.plain.fileno())
    bench.plain.send(b"\0")
    with bench.terminal() as ends:
        relayed = _echoes(ends.give, ends.take)
    return {
        f"{line}: a key by the relay, {what}": of(relayed)
        for what, of in (("median", statistics.median), ("p99", _p99))
    } | {
        f"{line}: a key by the plain line, {what}": of(plain)
        for what, of in (("median", statistics.median), ("p99", _p99))
    }


def _p99(found: list[float]) -> float:
    return statistics.quantiles(found, n=100)[98]


def _echoes(give: int, take: int) -> list[float]:
    """Return how many microseconds each of some keys took to be echoed."""
    found = []
    for _ in range(_KEYS):
        started = time.perf_counter()
        os.write(give, b"x")
        os.read(take, 16)
        found.append((time.perf_counter() - started) * 1e6)
    return found[_KEYS // 3 :]  # the first wait for the process to start
