"""What is told of a machine in a line or a paragraph. Pure: the clock is an argument.

Owns the fields of `ps --format` and the words of STATUS; a guest's or an image's text is shown
without what could steer a terminal.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace

from agent.host.relay.life import HealthReport
from agent.host.status import printable
from converter.cli.ages import ago, duration_words
from converter.cli.durations import SECOND_NS
from converter.cli.moments import local_time, timestamp
from converter.machine.machines import MachineRecord, Status

COMMAND_CHARACTERS = 20  # as docker shows
_MIB = "MiB"
_ELLIPSIS = "\u2026"

# Each field of --format with the heading of its column.
HEADINGS: Mapping[str, str] = {
    "ID": "MACHINE ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "State": "STATE",
    "Ports": "PORTS",
    "Names": "NAMES",
    "ExitCode": "EXIT CODE",
    "Mounts": "MOUNTS",
    "Labels": "LABELS",
    "Memory": "MEMORY",
    "CPUs": "CPUS",
    "ImageDigest": "IMAGE DIGEST",
    "Reason": "REASON",
}
TABLE = (
    r"table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
)


def row(record: MachineRecord, now_ns: int, *, whole: bool) -> dict[str, str]:
    """Return the fields of a machine; with `whole` nothing is cut short."""
    command = printable(shlex.join(record.command))
    if not whole and len(command) > COMMAND_CHARACTERS:
        command = command[: COMMAND_CHARACTERS - 1] + _ELLIPSIS
    spec = record.spec
    return {
        "ID": record.id if whole else record.short_id,
        "Image": printable(record.image),
        "Command": f'"{command}"',
        "CreatedAt": local_time(record.created_ns),
        "RunningFor": ago(record.created_ns, now_ns),
        "Status": status_words(record, now_ns),
        "State": state_word(record),
        "Ports": ports_words(record),
        "Names": record.name,
        "ExitCode": "" if record.end is None else str(record.end.code),
        "Mounts": ",".join(volume.name for volume in spec.volumes) if spec else "",
        "Labels": ",".join(labels(record)),
        "Memory": f"{spec.memory_mib}{_MIB}" if spec else "",
        "CPUs": str(spec.processors) if spec else "",
        "ImageDigest": record.image_digest,
        "Reason": printable(record.reason),
    }


def ports_words(record: MachineRecord) -> str:
    """Return a running machine's ports as docker shows them, neighbours as ranges.

    Those that are only exposed come last.
    """
    if record.status is not Status.RUNNING or record.spec is None:
        return ""
    published = sorted(
        record.ports, key=lambda one: (one.host_ip, one.protocol, one.container, one.host_port)
    )
    words, run = [], 0  # how many before the present one belong to it
    for number, one in enumerate(published):
        following = published[number + 1] if number + 1 < len(published) else None
        if following is not None and following == replace(
            one, container=one.container + 1, host_port=one.host_port + 1
        ):
            run += 1
            continue
        host, own = _span(one.host_port, run), _span(one.container, run)
        words.append(f"{one.host_ip}:{host}->{own}/{one.protocol}")
        run = 0
    named = {one.name for one in published}
    words += [name for name in record.spec.networking.exposed if name not in named]
    return ", ".join(words)


def _span(last: int, before: int) -> str:
    return f"{last - before}-{last}" if before else str(last)


def labels(record: MachineRecord) -> list[str]:
    """Return a machine's labels, each as KEY=VALUE."""
    return [printable(f"{key}={value}") for key, value in sorted(record.labels.items())]


def state_word(record: MachineRecord) -> str:
    """Return docker's word for how a machine is; "restarting" is one that runs."""
    return "restarting" if record.restarting else record.status.value


def status_words(record: MachineRecord, now_ns: int) -> str:
    """Return "Up 3 minutes", "Exited (7) 2 hours ago", "Created" or "Dead".

    One that runs may be "Restarting (1) 3 seconds ago", or "Up 3 minutes (healthy)". Where the end
    is not the process's own, the reason follows.
    """
    if record.restarting and record.end is not None and record.finished_ns is not None:
        return f"Restarting ({record.end.code}) {ago(record.finished_ns, now_ns)}"
    if record.status is Status.RUNNING:
        since = now_ns if record.started_ns is None else record.started_ns
        words = f"Up {duration_words(max(0, now_ns - since) / SECOND_NS)}"
        return words if record.health is None else f"{words} ({health_words(record.health)})"
    if record.status is not Status.EXITED:
        return record.status.value.capitalize()
    code = "?" if record.end is None else str(record.end.code)
    words = f"Exited ({code})"
    if record.finished_ns is not None:
        words += f" {ago(record.finished_ns, now_ns)}"
    return f"{words}: {printable(record.reason)}" if record.reason else words


def health_words(health: HealthReport) -> str:
    """Return docker's words for it in a line."""
    return "health: starting" if health.status == "starting" else health.status


def paragraph(record: MachineRecord, now_ns: int) -> str:
    """Return what `inspect` shows a person."""
    return "\n".join(f"{name}: {value}" for name, value in _facts(record, now_ns))


def _facts(record: MachineRecord, now_ns: int) -> Iterator[tuple[str, str]]:
    yield "machine", f"{record.name}  {record.id}"
    yield "status", status_words(record, now_ns)
    yield "image", f"{printable(record.image)}  {record.image_digest}"
    yield "command", printable(shlex.join(record.command))
    yield "created", timestamp(record.created_ns)
    if record.started_ns is not None:
        yield "started", timestamp(record.started_ns)
    if record.finished_ns is not None:
        yield "finished", timestamp(record.finished_ns)
    if record.end is not None and record.end.failure is not None:
        yield "failure", record.end.failure.message
    if record.end is not None and record.end.oom:
        yield "memory", "the process was killed for want of it"
    if record.end is not None and record.end.core:
        yield "core", "the process dumped its memory"
    if record.restarts:
        yield "restarted", f"{record.restarts} times"
    if record.health is not None:
        health = record.health
        streak = f", failures in a row: {health.failing_streak}" if health.failing_streak else ""
        yield "health", health.status + streak
        for check in health.log:
            moment = timestamp(check.end_ns)
            yield "check", f"{moment} code {check.code}: {printable(check.output).strip()}"
    for label in labels(record):
        yield "label", label
    if record.auto_remove:
        yield "removed", "when it has ended"
    if record.spec is not None:
        spec = record.spec
        yield "size", f"{spec.memory_mib} MiB, {spec.processors} CPUs, {spec.channel} line"
        yield "disk", f"{spec.capacity_bytes:,} bytes on {len(spec.chain)} links"
        yield "host name", printable(spec.guest.hostname)
        yield from _network_facts(record)
        for volume in spec.volumes:
            mode = "read-only" if volume.read_only else "read-write"
            yield "volume", f"{volume.name} at {printable(volume.target)}, {mode}"


def _network_facts(record: MachineRecord) -> Iterator[tuple[str, str]]:
    assert record.spec is not None
    told = record.network or {}
    for number, card in enumerate(record.spec.networking.cards):
        name = f"eth{number}"
        addresses = [
            address
            for interface in told.get("interfaces", ())
            if interface["name"] == name
            for address in interface["addresses"]
        ]
        yield "network", f"{card.network}, {card.model} {card.mac} {' '.join(addresses)}".rstrip()
    for warning in told.get("warnings", ()):
        yield "warning", printable(warning)
    ports = ports_words(record)
    if ports:
        yield "ports", ports
