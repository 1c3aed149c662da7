"""An Ethernet of a test's own: a network namespace with a tap device, and dnsmasq as DHCP server.

Needs root. Nothing of this host's network is seen in there, and nothing in there gets out.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

READY_SECONDS = 10.0


class Lan:
    """The namespace `name`; its tap device has 10.99.1.1/24, 10.99.2.1/24 and fd99::1/64."""

    tap = "tap0"

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def inside(self) -> tuple[str, ...]:
        """The beginning of a command that is executed in there."""
        return ("nsenter", f"--net=/run/netns/{self.name}", "--")

    def card(self, mac: str, model: str = "virtio-net-pci") -> list[str]:
        """Return QEMU's arguments for a card on this Ethernet."""
        tap = f"tap,id=lan,ifname={self.tap},script=no,downscript=no"
        return ["-netdev", tap, "-device", f"{model},netdev=lan,mac={mac},romfile="]

    def serve(
        self, subnet: int, options: Sequence[str] = (), *, advertised: Sequence[str] = ()
    ) -> None:
        """Have dnsmasq give out addresses of 10.99.`subnet`.0/24, in place of what it did.

        It is a router of fd99::/64 as well when there are options to be `advertised`.
        """
        self.silence()
        log = self.folder / "dnsmasq.log"
        log.unlink(missing_ok=True)
        self._server = subprocess.Popen(
            [
                *(*self.inside, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0"),
                *("--user=root", "--no-ping", "--dhcp-authoritative", "--log-dhcp"),
                *(f"--interface={self.tap}", f"--log-facility={log}"),
                f"--dhcp-leasefile={self.folder}/leases-{subnet}",
                f"--dhcp-range=10.99.{subnet}.50,10.99.{subnet}.99,255.255.255.0,10m",
                *(f"--dhcp-option={option}" for option in (*options, *advertised)),
                *(("--enable-ra", "--dhcp-range=fd99::,ra-only,64") if advertised else ()),
            ]
        )
        deadline = time.monotonic() + READY_SECONDS
        while not log.exists() or "DHCP" not in log.read_text():
            assert self._server.poll() is None, "dnsmasq does not run"
            assert time.monotonic() < deadline, "dnsmasq does not begin"
            time.sleep(0.05)

    def silence(self) -> None:
        """Have nobody give out addresses."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(10)
            self._server = None

    def said(self) -> str:
        """Return the server's log."""
        return (self.folder / "dnsmasq.log").read_text()


@contextlib.contextmanager
def lan() -> Iterator[Lan]:
    """Make one, and take it away."""
    name = f"saltflat-{os.getpid()}"

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, timeout=30)

    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "tuntap", "add", "dev", Lan.tap, "mode", "tap")
        for subnet in (1, 2):
            ip("-n", name, "address", "add", f"10.99.{subnet}.1/24", "dev", Lan.tap)
        ip("-n", name, "address", "add", "fd99::1/64", "dev", Lan.tap, "nodad")
        ip("-n", name, "link", "set", Lan.tap, "up")
        with tempfile.TemporaryDirectory() as folder:
            made = Lan(name, Path(folder))
            try:
                yield made
            finally:
                made.silence()
    finally:
        ip("netns", "delete", name)
