"""The files under /etc that belong to a run and not to its image. Owns their text; writes none."""

from __future__ import annotations

from agent.hints import Mapping, Tuple
from agent.tether.host_config import HostConfig
from agent.values import dataclass

_LOCAL_HOSTS = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)
_NO_ADDRESS = ("127.0.1.1",)
NO_NAME_SERVER = "# This machine has no name server.\n"


@dataclass(frozen=True)
class Names:
    """What the network has to say: the machine's own addresses, and whom to ask for others."""

    addresses: Tuple[str, ...] = ()
    name_servers: Tuple[str, ...] = ()
    search_domains: Tuple[str, ...] = ()


NO_NETWORK = Names()


def compose(host_name: str, host: HostConfig, network: Names = NO_NETWORK) -> Mapping[str, str]:
    """Return them, path to text; hosts in Docker's order, the machine's own name last."""
    added = "".join("{}\t{}\n".format(address, name) for name, address in host.hosts)
    short = host_name.partition(".")[0]
    names = host_name if short == host_name else "{} {}".format(host_name, short)
    own = "".join("{}\t{}\n".format(address, names) for address in network.addresses or _NO_ADDRESS)
    return {
        "/etc/hostname": host_name + "\n",
        "/etc/hosts": _LOCAL_HOSTS + added + own,
        "/etc/resolv.conf": _resolver(host, network),
    }


def _resolver(host: HostConfig, network: Names) -> str:
    """Return resolv.conf(5): what the run says of a thing takes the place of what the network says.

    A search domain of "." is Docker's way to ask for none.
    """
    servers = host.name_servers or network.name_servers
    lines = ["nameserver {}\n".format(address) for address in servers]
    domains = host.search_domains or network.search_domains
    if domains == (".",):
        domains = ()
    for keyword, words in (("search", domains), ("options", host.resolver_options)):
        if words:
            lines.append("{} {}\n".format(keyword, " ".join(words)))
    return "".join(lines) or NO_NAME_SERVER
