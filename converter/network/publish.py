"""What -p, -P and --expose mean, by Docker's rules. Pure.

Source of the rules: docker/go-connections, nat/nat.go (ParsePortSpec) and nat/parse.go
(ParsePortRange); docker/cli, opts/port.go and cli/command/container/opts.go.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from converter.errors import UsageError
from converter.network.model import PortRequest

MAX_PORT = 65535
PROTOCOLS = ("tcp", "udp")
_FORM = "-p [[IP:]HOSTPORT:]PORT[/tcp|/udp]; ports may be ranges such as 8000-8010"
_LONG_KEYS = ("target", "published", "protocol")


def parse_publish(text: str) -> tuple[PortRequest, ...]:
    """Read one value of -p: a request for each port of the range. Raises UsageError."""
    place = f"-p {text!r}"
    rest, _, protocol = (_short_form(text) if "=" in text else text).partition("/")
    protocol = _protocol(protocol or "tcp", place)
    *before, container_text = rest.rsplit(":", 2)
    if rest.startswith("[") and "]" in rest:  # an IPv6 address has colons of its own
        host_ip, _, others = rest[1:].partition("]")
        _, _, others = others.partition(":")
        host_text, _, container_text = others.rpartition(":")
    else:
        host_text = before[-1] if before else ""
        host_ip = before[0] if len(before) > 1 else ""
    _check_host(host_ip, place)
    if not container_text:
        raise UsageError(f"{place} names no port of the machine.", expected=_FORM)
    first, last = _range(container_text, place, least=1)
    host_first, host_last = _range(host_text, place, least=0) if host_text else (0, 0)
    if host_text and host_last - host_first != last - first and first != last:
        raise UsageError(
            f"{place}: {host_text} and {container_text} are ranges of different lengths.",
            expected="one port of the host for each of the machine",
        )
    requests = []
    for offset in range(last - first + 1):
        low = high = host_first + offset
        if not host_first:
            low = high = 0
        elif first == last:  # any of the host's
            low, high = host_first, host_last
        requests.append(
            PortRequest(
                container=first + offset,
                protocol=protocol,
                host_ip=host_ip,
                host_first=low,
                host_last=high,
            )
        )
    return tuple(requests)


def parse_expose(text: str, *, option: str = "--expose ") -> tuple[str, ...]:
    """Read one value of --expose, or of an image's ExposedPorts. Raises UsageError.

    `option` is what stands before the value where errors quote it.
    """
    place = f"{option}{text!r}"
    ports, _, protocol = text.partition("/")
    protocol = _protocol(protocol or "tcp", place)
    first, last = _range(ports, place, least=1)
    return tuple(f"{port}/{protocol}" for port in range(first, last + 1))


def exposed_ports(expose: Iterable[str], image: Mapping[str, Any]) -> tuple[str, ...]:
    """Return all ports that the options and the image's `config` object expose, in order.

    Raises UsageError.
    """
    declared = image.get("ExposedPorts") or {}
    if not isinstance(declared, dict):
        raise UsageError("The image's ExposedPorts are no JSON object.")
    found: dict[str, None] = {}
    for text in (*expose, *map(str, declared)):
        found.update(dict.fromkeys(parse_expose(text)))
    return tuple(sorted(found, key=port_order))


def published_ports(
    publish: Sequence[str], *, exposed: Sequence[str] = (), all_exposed: bool = False
) -> tuple[PortRequest, ...]:
    """Return what -p asks for and, with -P, each exposed port that it does not name.

    Raises UsageError.
    """
    requests = list(dict.fromkeys(port for text in publish for port in parse_publish(text)))
    if all_exposed:
        named = {request.name for request in requests}
        requests += [_any_port(name) for name in exposed if name not in named]
    return tuple(requests)


def port_order(name: str) -> tuple[int, str]:
    """Return what sorts "80/tcp" and its like."""
    port, _, protocol = name.partition("/")
    return int(port), protocol


def _any_port(name: str) -> PortRequest:
    port, protocol = port_order(name)
    return PortRequest(container=port, protocol=protocol)


def _short_form(text: str) -> str:
    """Return target=80,published=8080,protocol=tcp as 8080:80/tcp."""
    found = dict(_members(text))
    return f"{found.get('published', '')}:{found.get('target', '')}/{found.get('protocol', 'tcp')}"


def _members(text: str) -> Iterator[tuple[str, str]]:
    for member in text.split(","):
        key, equals, value = member.partition("=")
        if not equals or key.strip() not in _LONG_KEYS:
            raise UsageError(
                f"-p {text!r}: {member!r} is not known.",
                expected="target=PORT[,published=PORT][,protocol=tcp|udp]",
            )
        yield key.strip(), value.strip()


def _protocol(text: str, place: str) -> str:
    protocol = text.lower()
    if protocol not in PROTOCOLS:
        hint = "The user network carries TCP and UDP alone." if protocol == "sctp" else None
        raise UsageError(
            f"{place}: {text!r} is no protocol that can be published.",
            expected="tcp or udp",
            hint=hint,
        )
    return protocol


def _check_host(text: str, place: str) -> None:
    if not text:
        return
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise UsageError(f"{place}: {text!r} is no IP address.", expected=_FORM) from error
    if address.version != 4:
        raise UsageError(
            f"{place}: QEMU's user network publishes on IPv4 addresses only.",
            expected="an IPv4 address of this host, or none for all of them",
        )


def _range(text: str, place: str, *, least: int) -> tuple[int, int]:
    first_text, dash, last_text = text.partition("-")
    first = _port(first_text, place, least)
    last = _port(last_text, place, least) if dash else first
    if last < first:
        raise UsageError(f"{place}: the range {text} ends before it begins.")
    return first, last


def _port(text: str, place: str, least: int) -> int:
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= MAX_PORT:
        raise UsageError(
            f"{place}: {text!r} is no port.", expected=f"a number from {least} to {MAX_PORT}"
        )
    return int(text)
