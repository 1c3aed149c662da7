"""The options of `run` about networks and ports."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import click

from converter.errors import UsageError
from converter.network.attach import parse_networks
from converter.network.model import Networking
from converter.network.publish import exposed_ports, published_ports

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """What the command line says about networks."""

    networks: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    mac_address: str | None = None
    ip: str | None = None
    ip6: str | None = None

    def check(self) -> None:
        """Raise UsageError for what is wrong whatever the image says."""
        self.networking({})

    def networking(self, image: Mapping[str, Any]) -> Networking:
        """Return what is asked for, with what the image's own `config` object exposes.

        Raises UsageError for what Docker would refuse, and for what QEMU's user network cannot do.
        """
        cards = parse_networks(self.networks, mac=self.mac_address, ip=self.ip, ip6=self.ip6)
        exposed = exposed_ports(self.expose, image)
        ports = published_ports(self.publish, exposed=exposed, all_exposed=self.publish_all)
        if ports and not cards:
            if self.publish:
                raise UsageError(
                    "Ports cannot be published with --network none.",
                    hint="Leave out -p, or --network none.",
                )
            ports = ()  # as docker run -P --network none
        return Networking(cards=cards, ports=ports, exposed=exposed)


def network_options(command: _Command) -> _Command:
    """Add --network, -p and what goes with them; the command gets them as `network`."""

    @functools.wraps(command)
    def with_network(*args: object, **given: Any) -> object:  # noqa: ANN401  # click's values
        own = {name: given.pop(name) for name in NetworkOptions.__dataclass_fields__}
        return command(*args, network=NetworkOptions(**own), **given)

    options = [
        click.option(
            "--network",
            "--net",
            "networks",
            multiple=True,
            metavar="NETWORK[,OPTION=VALUE...]",
            help="user (bridge and default are the same; without this option), dhcp, or none.",
        ),
        click.option(
            "-p",
            "--publish",
            multiple=True,
            metavar="[[IP:]HOSTPORT:]PORT[/udp]",
            help="Have a port of this host lead to the machine's, or ranges of both.",
        ),
        click.option(
            "-P",
            "--publish-all",
            is_flag=True,
            help="Publish every port that the image or --expose names, at any free port.",
        ),
        click.option(
            "--expose",
            multiple=True,
            metavar="PORT[/udp]",
            help="Name a port or a range of the machine's.",
        ),
        click.option("--mac-address", metavar="MAC", help="The first interface's address."),
        click.option("--ip", metavar="ADDRESS", help="The machine's IPv4 address in its network."),
        click.option("--ip6", metavar="ADDRESS", help="Give it IPv6, and this address."),
    ]
    wrapped = cast("_Command", with_network)
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped
