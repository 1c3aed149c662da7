"""What an exported machine's guest is told is what the agent takes: its own checks say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.tether import config
from agent.tether.errors import StartError
from converter.export.exportable import Exportable, ExportLink
from converter.export.guest import guest_document, host_name, mac_address
from converter.image.digest import Digest
from converter.image.model import Descriptor, Image, ImageConfig, Manifest
from converter.image.platform import Platform
from converter.store.links import ChainParameters

PLATFORM = Platform.parse("linux/amd64")
DIGEST = Digest.parse(f"sha256:{'0' * 64}")
KEY = bytes(range(32))


def exportable(link_id: str) -> Exportable:
    """Return an image with one link of that id."""
    execution = {"Entrypoint": ["/bin/sh"], "Env": ["A=\u2615"], "User": "app"}
    image = Image(
        "example/app:1",
        DIGEST,
        PLATFORM,
        Manifest("", Descriptor("", DIGEST, 0), ()),
        b"",
        ImageConfig(PLATFORM, execution, ()),
        b"",
        (),
    )
    return Exportable(image, ChainParameters(), (ExportLink(Path(), link_id, "", (), 0, ""),))


def test_the_agent_takes_the_document() -> None:
    source = exportable("a" * 64)
    mac = mac_address(source)
    document = config.load_document(guest_document(source, key=KEY, mac=mac, hostname="web"))
    connection = config.parse_connection(document)
    assert connection.key == KEY
    assert connection.channel == config.Serial("/dev/ttyS0")
    job = config.parse_job(document)
    assert job.host_name == "web"
    assert job.image.entrypoint == ("/bin/sh",)
    assert job.image.environment == ("A=\u2615",)
    assert job.image.user == "app"
    (interface,) = job.network.interfaces
    assert (interface.mac, interface.dhcp, interface.slaac) == (mac, True, True)


def test_without_a_key_nobody_has_one() -> None:
    source = exportable("a" * 64)
    raw = guest_document(source, key=None, mac=mac_address(source), hostname="web")
    assert b'"key"' not in raw
    with pytest.raises(StartError, match="key"):
        config.parse_connection(config.load_document(raw))
    config.parse_job(config.load_document(raw))


def test_addresses_follow_from_the_chain() -> None:
    """They are of VMware's range for addresses that are given by hand."""
    addresses = [mac_address(exportable(f"{number:064x}")) for number in range(50)]
    assert addresses == [mac_address(exportable(f"{number:064x}")) for number in range(50)]
    assert len(set(addresses)) == 50
    assert all("00:50:56:00:00:00" <= address <= "00:50:56:3f:ff:ff" for address in addresses)


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("web", "web"),
        ("My VM (2)", "My-VM-2"),
        ("Stra\u00dfe_1.2", "Stra-e-1.2"),
        ("...", "guest"),
        ("x" * 62 + "-y" * 9, "x" * 62),
    ],
)
def test_a_host_may_be_called_so(name: str, host: str) -> None:
    assert host_name(name) == host
    source = exportable("a" * 64)
    raw = guest_document(source, key=KEY, mac=mac_address(source), hostname=host)
    assert config.parse_job(config.load_document(raw)).host_name == host
