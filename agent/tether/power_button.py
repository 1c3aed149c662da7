"""The machine's power button, by ACPI's events on generic netlink: pressed means stop.

Owns the socket and the reading of its messages. A hypervisor that switches a machine off in an
orderly way presses it: QEMU's system_powerdown, and others by the same device.
"""

from __future__ import annotations

import errno
import os
import select

from agent import bare_socket as socket
from agent.hints import Callable, Iterator, Optional, Tuple
from agent.tether import c_genl, log
from agent.tether.companion import Tell, Watcher
from agent.tether.poller import Poller

_RECEIVE_BYTES = 65536


class PowerButton(Watcher):
    """A companion that calls `on_press`. The driver must have been loaded.

    A kernel without ACPI's events has no button: that is logged and no error.
    """

    def __init__(self, on_press: Callable[[], None]) -> None:
        self._on_press = on_press
        self._socket: Optional[socket.socket] = None

    def attach(self, poller: Poller, _tell: Tell) -> None:
        """Have the loop watch for the button."""
        try:
            self._socket = open_events()
        except (OSError, ValueError) as error:
            log.info("no power button: {}".format(error))
            return
        poller.watch(self._socket.fileno(), select.EPOLLIN, self._take)

    def _take(self, _mask: int) -> None:
        assert self._socket is not None
        try:
            message = self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except OSError:  # nothing after all, or some were dropped
            return
        if any(is_power_button(payload) for _, payload in messages(message)):
            log.info("the power button was pressed")
            self._on_press()


def open_events() -> socket.socket:
    """Return a socket that gets ACPI's events. Raises OSError, ValueError where there are none."""
    events = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, c_genl.NETLINK_GENERIC
    )
    try:
        events.bind((0, 0))
        events.send(family_request(c_genl.ACPI_FAMILY))
        group = find_group(events.recv(_RECEIVE_BYTES), c_genl.ACPI_GROUP)
        events.setsockopt(c_genl.SOL_NETLINK, c_genl.NETLINK_ADD_MEMBERSHIP, group)
    except BaseException:
        events.close()
        raise
    return events


def family_request(name: bytes) -> bytes:
    """Return the request for what the kernel knows of a family."""
    attribute = c_genl.ATTRIBUTE_HEADER.pack(
        c_genl.ATTRIBUTE_HEADER.size + len(name) + 1, c_genl.CTRL_ATTR_FAMILY_NAME
    )
    attribute += name + b"\0"
    attribute += bytes(-len(attribute) % c_genl.ALIGNMENT)
    body = c_genl.GENL_HEADER.pack(c_genl.CTRL_CMD_GETFAMILY, 1, 0) + attribute
    length = c_genl.NLMSG_HEADER.size + len(body)
    header = c_genl.NLMSG_HEADER.pack(length, c_genl.GENL_ID_CTRL, c_genl.NLM_F_REQUEST, 1, 0)
    return header + body


def messages(data: bytes) -> Iterator[Tuple[int, bytes]]:
    """Yield type and payload of each whole netlink message."""
    at = 0
    while at + c_genl.NLMSG_HEADER.size <= len(data):
        length, kind, _, _, _ = c_genl.NLMSG_HEADER.unpack_from(data, at)
        if length < c_genl.NLMSG_HEADER.size or at + length > len(data):
            return
        yield kind, data[at + c_genl.NLMSG_HEADER.size : at + length]
        at += length + -length % c_genl.ALIGNMENT


def attributes(data: bytes) -> Iterator[Tuple[int, bytes]]:
    """Yield type and content of each whole attribute."""
    at = 0
    while at + c_genl.ATTRIBUTE_HEADER.size <= len(data):
        length, kind = c_genl.ATTRIBUTE_HEADER.unpack_from(data, at)
        if length < c_genl.ATTRIBUTE_HEADER.size or at + length > len(data):
            return
        yield (
            kind & c_genl.ATTRIBUTE_TYPE_MASK,
            data[at + c_genl.ATTRIBUTE_HEADER.size : at + length],
        )
        at += length + -length % c_genl.ALIGNMENT


def find_group(answer: bytes, name: bytes) -> int:
    """Return the number of a group in the kernel's answer to a family's request.

    Raises OSError when that is an error, ValueError when it has no such group.
    """
    for kind, payload in messages(answer):
        if kind == c_genl.NLMSG_ERROR:
            number = -int.from_bytes(payload[:4], "little", signed=True)
            raise OSError(number or errno.EPROTO, os.strerror(number or errno.EPROTO))
        for of, groups in attributes(payload[c_genl.GENL_HEADER.size :]):
            if of != c_genl.CTRL_ATTR_MCAST_GROUPS:
                continue
            for _, group in attributes(groups):
                found = dict(attributes(group))
                identifier = found.get(c_genl.CTRL_ATTR_MCAST_GRP_ID)
                named = found.get(c_genl.CTRL_ATTR_MCAST_GRP_NAME, b"").rstrip(b"\0")
                if named == name and identifier:
                    return int.from_bytes(identifier, "little")
    raise ValueError("the kernel tells no ACPI events")


def is_power_button(payload: bytes) -> bool:
    """Say whether a message's payload is the event of a power button."""
    for kind, content in attributes(payload[c_genl.GENL_HEADER.size :]):
        if kind == c_genl.ACPI_ATTR_EVENT and len(content) >= c_genl.ACPI_EVENT.size:
            device_class = c_genl.ACPI_EVENT.unpack_from(content)[0]
            if device_class.rstrip(b"\0") == c_genl.POWER_BUTTON_CLASS:
                return True
    return False
