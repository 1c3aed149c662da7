"""Devices of a machine as changes to its template's: network card, boot medium, serial line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from converter.vsphere import c_vsphere as c
from converter.vsphere.connection import Connection, vim
from converter.vsphere.inventory import Node
from converter.vsphere.machine_spec import network_backing

# Keys of devices that are being added are negative, to tell them apart within one request.
_SATA_KEY, _MEDIUM_KEY, _SERIAL_KEY, _CARD_KEY = -101, -102, -103, -104


def network_card(
    connection: Connection, present: Sequence[Any], network: Node, mac: str | None
) -> Iterator[Any]:
    """Yield the changes that leave one card with the address `mac` on `network`; None for none."""
    cards = [one for one in present if isinstance(one, vim.vm.device.VirtualEthernetCard)]
    if mac is None:
        yield from (_change(card, "remove") for card in cards)
        return
    yield from (_change(card, "remove") for card in cards[1:])
    card = cards[0] if cards else vim.vm.device.VirtualVmxnet3(key=_CARD_KEY)
    card.backing = network_backing(connection, network.reference)
    card.addressType = c.MANUAL_ADDRESS
    card.macAddress = mac
    card.connectable = _connected()
    yield _change(card, "edit" if cards else "add")


def boot_medium(path: str, datastore: Node) -> Iterator[Any]:
    """Yield what adds a drive with the ISO image `path` ("[datastore] folder/file")."""
    yield _change(vim.vm.device.VirtualAHCIController(key=_SATA_KEY, busNumber=0), "add")
    drive = vim.vm.device.VirtualCdrom(
        key=_MEDIUM_KEY,
        controllerKey=_SATA_KEY,
        unitNumber=0,
        backing=vim.vm.device.VirtualCdrom.IsoBackingInfo(
            fileName=path, datastore=datastore.reference
        ),
        connectable=_connected(),
    )
    yield _change(drive, "add")


def serial_line(proxy: str, service: str) -> Iterator[Any]:
    """Yield what adds a network serial port, which a host connects to the concentrator `proxy`.

    `service` is what the port says that it is for.
    """
    port = vim.vm.device.VirtualSerialPort(
        key=_SERIAL_KEY,
        yieldOnPoll=True,
        backing=vim.vm.device.VirtualSerialPort.URIBackingInfo(
            direction=c.SERIAL_CLIENT, serviceURI=service, proxyURI=proxy
        ),
        connectable=_connected(),
    )
    yield _change(port, "add")


def _connected() -> Any:  # noqa: ANN401 - pyvmomi's own
    return vim.vm.device.VirtualDevice.ConnectInfo(
        startConnected=True, allowGuestControl=True, connected=True
    )


def _change(device: Any, operation: str) -> Any:  # noqa: ANN401 - pyvmomi's own
    return vim.vm.device.VirtualDeviceSpec(operation=operation, device=device)
