"""The kernel's network settings by rtnetlink: links, addresses and routes, without a program.

Owns messages and sockets. Addresses are packed as inet_pton(3) has them. Every request is
acknowledged, so an OSError is the kernel's own answer; what it should be is `network`'s matter.
"""

from __future__ import annotations

import os
import struct

from agent import bare_socket as socket
from agent.hints import Dict, Iterator, List, Optional, Tuple
from agent.tether import c_netlink
from agent.tether.c_linux import IFF_LOWER_UP, IFF_RUNNING, IFF_UP
from agent.tether.c_netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    NLMSGHDR,
    RTATTR,
)
from agent.values import dataclass

ANSWER_SECONDS = 5.0  # the kernel answers at once
_RECEIVE_BYTES = 1 << 17  # more than the kernel puts into one message of a dump

# The kernel sends when it has taken note of the carrier, a moment after that is there.
_RUNNING = IFF_RUNNING | IFF_LOWER_UP

Attributes = Dict[int, bytes]


@dataclass(frozen=True)
class Link:
    """An interface of the machine. `mac` is in lower case with colons, "" where there is none.

    `is_running`: it is up, and what it sends goes out.
    """

    index: int
    name: str
    mac: str
    is_running: bool
    mtu: int
    is_ethernet: bool


@dataclass(frozen=True)
class Address:
    """An address that an interface has. `usable`: nobody else was found to have it."""

    index: int
    family: int
    packed: bytes
    prefix: int
    scope: int
    usable: bool = True

    @property
    def text(self) -> str:
        """The address with its prefix length, as "10.0.2.15/24"."""
        return "{}/{}".format(socket.inet_ntop(self.family, self.packed), self.prefix)


class RouteSocket:
    """A connection to the kernel for requests; all methods raise OSError."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, c_netlink.NETLINK_ROUTE
        )
        self._socket.settimeout(ANSWER_SECONDS)
        self._sequence = 0

    def __enter__(self) -> RouteSocket:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    # --- looking ---------------------------------------------------------------------------------

    def links(self) -> List[Link]:
        """Return all interfaces."""
        found = []
        body = c_netlink.IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        for payload in self._dump(c_netlink.RTM_GETLINK, body):
            _, kind, index, flags, _ = c_netlink.IFINFOMSG.unpack_from(payload)
            attributes = read_attributes(payload, c_netlink.IFINFOMSG.size)
            name = attributes.get(c_netlink.IFLA_IFNAME, b"").rstrip(b"\0")
            (mtu,) = struct.unpack("=I", attributes.get(c_netlink.IFLA_MTU, bytes(4)))
            mac = ":".join(
                "{:02x}".format(byte) for byte in attributes.get(c_netlink.IFLA_ADDRESS, b"")
            )
            is_ethernet = kind == c_netlink.ARPHRD_ETHER
            found.append(
                Link(index, os.fsdecode(name), mac, flags & _RUNNING == _RUNNING, mtu, is_ethernet)
            )
        return found

    def addresses(self) -> List[Address]:
        """Return all addresses, in the kernel's order."""
        found = []
        body = c_netlink.IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        for payload in self._dump(c_netlink.RTM_GETADDR, body):
            family, prefix, flags, scope, index = c_netlink.IFADDRMSG.unpack_from(payload)
            attributes = read_attributes(payload, c_netlink.IFADDRMSG.size)
            packed = attributes.get(c_netlink.IFA_LOCAL) or attributes.get(c_netlink.IFA_ADDRESS)
            if packed is None or family not in (socket.AF_INET, socket.AF_INET6):
                continue
            if c_netlink.IFA_FLAGS in attributes:
                (flags,) = struct.unpack("=I", attributes[c_netlink.IFA_FLAGS])
            bad = c_netlink.IFA_F_TENTATIVE | c_netlink.IFA_F_DADFAILED
            found.append(Address(index, family, packed, prefix, scope, not flags & bad))
        return found

    # --- changing --------------------------------------------------------------------------------

    def set_link(
        self,
        index: int,
        *,
        up: Optional[bool] = None,
        name: Optional[str] = None,
        mtu: Optional[int] = None,
    ) -> None:
        """Change what is given. An interface can be renamed only while it is down."""
        change = 0 if up is None else IFF_UP
        body = c_netlink.IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, IFF_UP if up else 0, change)
        if name is not None:
            body += attribute(c_netlink.IFLA_IFNAME, os.fsencode(name) + b"\0")
        if mtu is not None:
            body += attribute(c_netlink.IFLA_MTU, struct.pack("=I", mtu))
        self._request(c_netlink.RTM_SETLINK, 0, body)

    def set_address(
        self, index: int, packed: bytes, prefix: int, *, seconds: Optional[int] = None
    ) -> None:
        """Give an interface an address, or another lifetime to one that it has.

        The kernel takes it away after `seconds`. An IPv6 address can be used at once: nobody is
        asked first whether it is his.
        """
        family = family_of(packed)
        flags = c_netlink.IFA_F_NODAD if family == socket.AF_INET6 else 0
        lifetime = c_netlink.FOREVER if seconds is None else seconds
        body = c_netlink.IFADDRMSG.pack(family, prefix, flags, c_netlink.RT_SCOPE_UNIVERSE, index)
        body += attribute(c_netlink.IFA_LOCAL, packed) + attribute(c_netlink.IFA_ADDRESS, packed)
        if family == socket.AF_INET and prefix < 31:
            host_bits = (1 << (32 - prefix)) - 1
            broadcast = int.from_bytes(packed, "big") | host_bits
            body += attribute(c_netlink.IFA_BROADCAST, broadcast.to_bytes(4, "big"))
        times = c_netlink.CACHEINFO.pack(lifetime, lifetime, 0, 0)
        body += attribute(c_netlink.IFA_CACHEINFO, times)
        self._request(c_netlink.RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body)

    def remove_address(self, index: int, packed: bytes, prefix: int) -> None:
        """Take an address away, and with it the routes that need it."""
        body = c_netlink.IFADDRMSG.pack(family_of(packed), prefix, 0, 0, index)
        body += attribute(c_netlink.IFA_LOCAL, packed) + attribute(c_netlink.IFA_ADDRESS, packed)
        self._request(c_netlink.RTM_DELADDR, 0, body)

    def set_route(
        self,
        index: int,
        destination: bytes,
        prefix: int,
        gateway: Optional[bytes],
        *,
        metric: int = 0,
        onlink: bool = False,
    ) -> None:
        """Make a route; one to the same place with the same metric is replaced.

        With `onlink` the gateway is taken to be on the wire whatever the addresses say.
        """
        body = _route(index, destination, prefix, gateway, metric, onlink=onlink)
        self._request(c_netlink.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)

    def remove_route(
        self,
        index: int,
        destination: bytes,
        prefix: int,
        gateway: Optional[bytes],
        *,
        metric: int = 0,
    ) -> None:
        """Take a route away."""
        body = _route(index, destination, prefix, gateway, metric)
        self._request(c_netlink.RTM_DELROUTE, 0, body)

    # --- messages --------------------------------------------------------------------------------

    def _request(self, kind: int, flags: int, body: bytes) -> None:
        sequence = self._send(kind, NLM_F_ACK | flags, body)
        for _ in self._replies(sequence):
            pass

    def _dump(self, kind: int, body: bytes) -> List[bytes]:
        return list(self._replies(self._send(kind, NLM_F_DUMP, body)))

    def _send(self, kind: int, flags: int, body: bytes) -> int:
        self._sequence += 1
        length = NLMSGHDR.size + len(body)
        header = NLMSGHDR.pack(length, kind, NLM_F_REQUEST | flags, self._sequence, 0)
        self._socket.sendto(header + body, (0, 0))
        return self._sequence

    def _replies(self, sequence: int) -> Iterator[bytes]:
        """Yield the payloads up to the acknowledgement or the end of a dump."""
        while True:
            for kind, answered, payload in split_messages(self._socket.recv(_RECEIVE_BYTES)):
                if answered != sequence:
                    continue  # of a request that was given up
                if kind in (c_netlink.NLMSG_ERROR, c_netlink.NLMSG_DONE):
                    code = c_netlink.NLMSGERR.unpack_from(payload)[0] if payload else 0
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return
                yield payload


def open_listener(groups: int) -> socket.socket:
    """Return a socket that is readable when something in one of the groups has changed."""
    listener = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, c_netlink.NETLINK_ROUTE
    )
    listener.setblocking(False)
    listener.bind((0, groups))
    return listener


def drain(listener: socket.socket) -> None:
    """Read what is queued: what has changed is looked up, so that lost messages do no harm."""
    for _ in read_all(listener):
        pass


def read_all(listener: socket.socket) -> Iterator[bytes]:
    """Yield what is queued. The kernel drops what comes while too much is."""
    while True:
        try:
            yield listener.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: some were dropped
            return


def attribute(kind: int, data: bytes) -> bytes:
    """Return an attribute with its padding."""
    length = RTATTR.size + len(data)
    return RTATTR.pack(length, kind) + data + bytes(-length % c_netlink.NLMSG_ALIGNTO)


def read_attributes(payload: bytes, start: int) -> Attributes:
    """Return the attributes behind the first `start` bytes; one that is cut short ends them."""
    found: Attributes = {}
    at = start
    while at + RTATTR.size <= len(payload):
        length, kind = RTATTR.unpack_from(payload, at)
        if length < RTATTR.size or at + length > len(payload):
            break
        found[kind] = payload[at + RTATTR.size : at + length]
        at += length + -length % c_netlink.NLMSG_ALIGNTO
    return found


def split_messages(data: bytes) -> Iterator[Tuple[int, int, bytes]]:
    """Yield type, sequence and payload of each message; one that is cut short ends them."""
    at = 0
    while at + NLMSGHDR.size <= len(data):
        length, kind, _, sequence, _ = NLMSGHDR.unpack_from(data, at)
        if length < NLMSGHDR.size or at + length > len(data):
            return
        yield kind, sequence, data[at + NLMSGHDR.size : at + length]
        at += length + -length % c_netlink.NLMSG_ALIGNTO


def _route(
    index: int,
    destination: bytes,
    prefix: int,
    gateway: Optional[bytes],
    metric: int,
    *,
    onlink: bool = False,
) -> bytes:
    scope = c_netlink.RT_SCOPE_LINK if gateway is None else c_netlink.RT_SCOPE_UNIVERSE
    body = c_netlink.RTMSG.pack(
        family_of(destination),
        prefix,
        0,
        0,
        c_netlink.RT_TABLE_MAIN,
        c_netlink.RTPROT_STATIC,
        scope,
        c_netlink.RTN_UNICAST,
        c_netlink.RTNH_F_ONLINK if onlink else 0,
    )
    if prefix:
        body += attribute(c_netlink.RTA_DST, destination)
    if gateway is not None:
        body += attribute(c_netlink.RTA_GATEWAY, gateway)
    body += attribute(c_netlink.RTA_OIF, struct.pack("=I", index))
    if metric:
        body += attribute(c_netlink.RTA_PRIORITY, struct.pack("=I", metric))
    return body


def family_of(packed: bytes) -> int:
    """Return the address family of a packed address."""
    return socket.AF_INET if len(packed) == 4 else socket.AF_INET6
