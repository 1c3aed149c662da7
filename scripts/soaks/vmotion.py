"""Migrations at random instants in the middle of transfers: every byte once, in order, both ways.

Several VMs talk to their clients through one `saltflat vspc serve` without a pause, as fast as the
other side takes it, while they move from host to host: sources close before or after COMPLETE, some
targets say PEER before everything else, some vMotions are aborted or never get a target, some VMs
move again at once. At the end of each VM's way both directions' sha256 must agree. One vMotion is
written to stderr as it went over the lines.
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.vspc.simulated_esxi import (
    ABORT,
    BEGIN,
    COMPLETE,
    GOAHEAD,
    NOTNOW,
    PEER,
    PEER_OK,
    Client,
    Concentrator,
    Host,
    Lab,
    Vm,
    concentrator,
    connect,
)

COUNT = 1000  # migrations
_VMS = 4
_STALL_SECONDS = 60.0
_AHEAD_BYTES = 16384  # in either direction, in the sender's hands
_NAMES = {BEGIN: "VMOTION-BEGIN", GOAHEAD: "VMOTION-GOAHEAD", PEER: "VMOTION-PEER"}
_NAMES |= {PEER_OK: "VMOTION-PEER-OK", COMPLETE: "VMOTION-COMPLETE", ABORT: "VMOTION-ABORT"}


@dataclass
class Journey:
    """One VM with its client, what each has sent, and where its vMotion stands."""

    vm: Vm
    host: Host
    client: Client
    choose: random.Random
    up: hashlib._Hash = field(default_factory=hashlib.sha256)
    down: hashlib._Hash = field(default_factory=hashlib.sha256)
    came_up: hashlib._Hash = field(default_factory=hashlib.sha256)
    came_down: hashlib._Hash = field(default_factory=hashlib.sha256)
    up_bytes: int = 0
    down_bytes: int = 0
    came_up_bytes: int = 0
    came_down_bytes: int = 0
    migrations: int = 0
    aborts: int = 0
    next_at: int = 0  # bytes in both directions
    step: str = "runs"
    target: Host | None = None
    close_first: bool = False
    transcript: list[str] = field(default_factory=list)

    def talk(self) -> None:
        """Say something more in both directions, if the other side takes it."""
        self.talk_up()
        if len(self.client.out) < _AHEAD_BYTES:
            data = self._some()
            self.client.out += data
            self.down.update(data)
            self.down_bytes += len(data)

    def talk_up(self) -> None:
        """Let the VM alone say something more, where it runs; on its way it is silent."""
        speaks_at = {"runs": self.host, "begun": self.host, "completed": self.target}
        host = speaks_at.get(self.step)
        if host is not None and len(host.out) < _AHEAD_BYTES:
            data = self._some()
            host.write(data)
            self.up.update(data)
            self.up_bytes += len(data)

    def _some(self) -> bytes:
        data = self.choose.randbytes(self.choose.randrange(1, 8192))
        # Telnet's own bytes more often than chance has them.
        return (
            data.replace(b"\x80", b"\xff\xff").replace(b"\x81", b"\xff\xf0").replace(b"\x82", b"\0")
        )

    def note(self, text: str) -> None:
        """Put a line into the transcript of the vMotion under way."""
        self.absorb()
        received = f"VM has received {self.came_down_bytes}, client {self.came_up_bytes}"
        self.transcript.append(f"{text:<62} | {received}")

    def absorb(self) -> None:
        """Take what has come into account."""
        self.came_up.update(self.client.received)
        self.came_up_bytes += len(self.client.received)
        self.client.received.clear()
        self.came_down.update(self.vm.received)
        self.came_down_bytes += len(self.vm.received)
        self.vm.received.clear()

    def finished(self) -> bool:
        """Whether all that was said has come, or too much."""
        self.absorb()
        return self.came_down_bytes >= self.down_bytes and self.came_up_bytes >= self.up_bytes

    def failures(self) -> list[str]:
        """Return what is wrong at the end."""
        found = list(self.vm.violations)
        if self.came_up.digest() != self.up.digest():
            found.append(f"{self.came_up_bytes} bytes from the VM are not what was sent")
        if self.came_down.digest() != self.down.digest():
            found.append(f"{self.came_down_bytes} bytes to the VM are not what was sent")
        return [f"{self.vm.name}: {text}" for text in found]


def run(count: int, seed: int) -> list[str]:
    """Migrate `count` times, all told; return what was lost, doubled, mixed up or unforgivable."""
    choose = random.Random(seed)
    shown = False
    with (
        tempfile.TemporaryDirectory(prefix="vspc-") as folder,
        concentrator(Path(folder)) as server,
        Lab() as lab,
    ):
        journeys = []
        for number in range(1, _VMS + 1):
            vm = Vm(number)
            host = connect(lab, server, vm)
            client = Client(lab, server.socket_of(vm))
            journeys.append(Journey(vm, host, client, random.Random(seed * 1000 + number)))
        done = 0
        progress = time.monotonic()
        while done < count:
            before = done
            for journey in journeys:
                journey.talk()
                done += _advance(journey, lab, server, choose)
                if not shown and journey.migrations == 6 and journey.step == "runs":
                    shown = True
                    print("\n".join(["", journey.vm.uuid, *journey.transcript]), file=sys.stderr)
            lab.turn(0.01)
            if done > before:
                progress = time.monotonic()
            elif time.monotonic() - progress > _STALL_SECONDS:
                return [f"no vMotion completes any more: {server.log()[-2000:]}"]
            if server.process.poll() is not None:
                return [f"the concentrator has ended: {server.log()[-2000:]}"]
        for journey in journeys:
            _let_arrive(journey, lab, server, choose)
        failures = [text for journey in journeys for text in journey.failures()]
        moved = sum(journey.came_down_bytes + journey.came_up_bytes for journey in journeys)
        aborts = sum(journey.aborts for journey in journeys)
        print(f"{done} migrations, {aborts} aborted ones, {moved} bytes", file=sys.stderr)
        if server.stop():
            failures.append("the concentrator did not end well")
    return failures


def _let_arrive(journey: Journey, lab: Lab, server: Concentrator, choose: random.Random) -> None:
    """Finish the vMotion under way and wait for all that was sent."""
    journey.next_at = sys.maxsize

    def arrived() -> bool:
        _advance(journey, lab, server, choose)
        return journey.step == "runs" and journey.finished()

    lab.until(arrived)


def _advance(journey: Journey, lab: Lab, server: Concentrator, choose: random.Random) -> int:
    """Take the next step of a VM's vMotion if it is time; return 1 when one has completed."""
    host, target, vm = journey.host, journey.target, journey.vm
    journey.absorb()
    moved = journey.came_down_bytes + journey.came_up_bytes
    if journey.step == "runs" and moved >= journey.next_at:
        host.words.clear()
        journey.transcript.clear()
        journey.note("in the middle of a transfer, both ways")
        host.say(BEGIN, choose.randbytes(choose.choice([4, 4, 4, 8])))
        _show(journey, "source", host)
        journey.step = "begun"
    elif journey.step == "begun" and host.heard(GOAHEAD) is not None:
        _show(journey, "source", host)
        journey.talk_up()  # its last words at the source
        journey.note("VM goes on talking at the source")
        if choose.random() < 0.05:
            _abort(journey)
            return 0
        early = choose.random() < 0.3
        journey.target = target = Host(lab, server.address, vm, opening=not early)
        target.running = False
        target.say(PEER, host.heard(GOAHEAD) or b"")
        _show(journey, "target", target)
        if early:
            target.open()
        journey.step = "peered"
        journey.close_first = choose.random() < 0.4
    elif journey.step == "begun" and host.heard(NOTNOW) is not None:
        journey.step = "runs"  # and tries again
    elif journey.step == "peered" and target is not None and target.heard(PEER_OK) is not None:
        if choose.random() < 0.05:
            _abort(journey)
            return 0
        _show(journey, "target", target)
        journey.step = "leaving"
    elif journey.step == "leaving" and target is not None:
        if journey.close_first and host.out:
            return 0
        if journey.close_first:
            host.close()
            journey.note("source closes")
        target.running = True
        target.say(COMPLETE, host.heard(GOAHEAD) or b"" if choose.random() < 0.2 else _begun(host))
        _show(journey, "target", target)
        journey.step = "completed"
    elif journey.step == "completed" and target is not None:
        if not journey.close_first:
            if host.out:
                return 0
            host.close()
            journey.note("source closes")
        journey.host, journey.target, journey.step = target, None, "runs"
        journey.next_at = moved + choose.choice([0, 0, 5_000, 20_000, 100_000])
        journey.note("VM goes on talking at the target")
        journey.migrations += 1
        return 1
    return 0


def _abort(journey: Journey) -> None:
    if journey.target is not None:
        journey.target.close()
        journey.target = None
    journey.host.running = True
    journey.host.say(ABORT, _begun(journey.host))
    journey.step = "runs"
    journey.aborts += 1


def _begun(host: Host) -> bytes:
    """Return the sequence of the host's last vMotion."""
    return next(p for who, code, p in reversed(host.transcript) if (who, code) == ("host", BEGIN))


def _show(journey: Journey, name: str, host: Host) -> None:
    who, code, parameters = next(line for line in reversed(host.transcript) if line[1] in _NAMES)
    arrow = f"{name} > proxy" if who == "host" else f"proxy > {name}"
    journey.note(f"{arrow}  {_NAMES[code]} {parameters.hex()}")
