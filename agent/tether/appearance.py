"""How this machine looks to its manager: its names, its system, its addresses.

Owns what is told and what was. vCenter shows it as the virtual machine's guest, beside "VMware
Tools: Running". The hypervisor forgets when it asks anew, so then all is told again, and whatever
changes in between when it does.

Source: open-vm-tools, services/plugins/guestInfo/guestInfoServer.c.
"""

from __future__ import annotations

from agent import bare_socket as socket
from agent.hints import Any, Callable, Dict, List, Mapping, Sequence, Tuple
from agent.tether import log
from agent.tether.c_rpci import (
    INFO_DNS_NAME,
    INFO_IPADDRESS_V2,
    INFO_IPADDRESS_V3,
    INFO_OS_NAME,
    INFO_OS_NAME_FULL,
)
from agent.tether.nic_info import Names, Nic, Route, encode_nics
from agent.tether.rpci import RefusalError, RpciError

RETRY_SECONDS = 30.0  # after a call that nobody answered, as often as open-vm-tools looks

_SET = b"SetGuestInfo  %d "
_ADDRESS = b"info-set guestinfo.ip "
_NICS = _SET % INFO_IPADDRESS_V3
_NICS_BEFORE = _SET % INFO_IPADDRESS_V2  # the same, as hypervisors before 6.0 want it
_NO_ADDRESS = b"unknown"
_IPV4_BYTES = 4


class Appearance:
    """What the hypervisor is to know. `call` makes a call to it, and raises RpciError."""

    def __init__(self, call: Callable[[bytes], None], *, host_name: str) -> None:
        self._call = call
        self._host_name = host_name
        # By the words that a call begins with.
        self._known = {_SET % INFO_DNS_NAME: host_name.encode("utf-8")}
        self._told: Dict[bytes, bytes] = {}
        self._is_wanted = False  # the hypervisor has asked at least once

    @property
    def is_behind(self) -> bool:
        """Whether the hypervisor did not answer, and is to be told again."""
        return self._is_wanted and self._told != self._known

    def take_system(self, full: str, short: str) -> None:
        """Learn what the guest's system is called."""
        self._known[_SET % INFO_OS_NAME_FULL] = full.encode("utf-8")
        self._known[_SET % INFO_OS_NAME] = short.encode("utf-8")
        self.tell()

    def take_network(self, message: Mapping[str, Any]) -> None:
        """Learn how the network is, from the control message that tells it (docs/protocol.md)."""
        nics, routes = _read_cards(message["interfaces"])
        names = Names(
            self._host_name,
            domain="".join(message["search_domains"][:1]),
            servers=tuple(_pack(server) for server in message["name_servers"]),
            suffixes=tuple(message["search_domains"]),
        )
        self._known[_NICS] = encode_nics(nics, routes, names)
        addresses = [packed for nic in nics for packed, _ in nic.addresses]
        addresses.sort(key=len)  # of IPv4 first; the sort keeps their order
        self._known[_ADDRESS] = _unpack(addresses[0]).encode("ascii") if addresses else _NO_ADDRESS
        self.tell()

    def tell_all(self) -> None:
        """Tell a hypervisor that asks what there is, whatever it was told before."""
        self._is_wanted = True
        self._told.clear()
        self.tell()

    def tell_address(self) -> None:
        """Tell the machine's first address, again if need be."""
        self._is_wanted = True
        self._told.pop(_ADDRESS, None)
        self.tell()

    def tell(self) -> None:
        """Tell what has not been told, once somebody has asked. Never fails.

        What the hypervisor refuses is as good as told.
        """
        for words, value in self._known.items() if self._is_wanted else ():
            if self._told.get(words) == value:
                continue
            try:
                self._tell_one(words, value)
            except RefusalError as error:
                log.info("{}: {}".format(words.decode("ascii"), error))
            except RpciError as error:
                log.error("vCenter is not told of the guest: {}".format(error))
                return
            self._told[words] = value

    def _tell_one(self, words: bytes, value: bytes) -> None:
        try:
            self._call(words + value)
        except RefusalError:
            if words != _NICS:
                raise
            self._call(_NICS_BEFORE + value)


def _read_cards(interfaces: Sequence[Mapping[str, Any]]) -> Tuple[List[Nic], List[Route]]:
    nics: List[Nic] = []
    routes: List[Route] = []
    for place, interface in enumerate(interfaces):
        addresses = [text.split("/") for text in interface["addresses"]]
        prefixes = tuple((_pack(host), int(length)) for host, length in addresses)
        nics.append(Nic(interface["mac"], prefixes, dhcp=interface["dhcp"] is not None))
        for gateway in map(_pack, interface["gateways"]):
            routes.append(Route((bytes(len(gateway)), 0), gateway, place))
    return nics, routes


def _pack(text: str) -> bytes:
    host = text.partition("%")[0]  # a router that advertises itself is told with its interface
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def _unpack(packed: bytes) -> str:
    family = socket.AF_INET if len(packed) == _IPV4_BYTES else socket.AF_INET6
    return socket.inet_ntop(family, packed)
