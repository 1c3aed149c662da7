"""The files under /etc that belong to a run and not to its image. Owns their text; writes none."""

from __future__ import annotations

from typing import Mapping

from agent.tether.host_config import HostConfig

_LOCAL_HOSTS = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)
NO_NAME_SERVER = "# This machine has no name server.\n"


def compose(host_name: str, host: HostConfig) -> Mapping[str, str]:
    """Return them, path to text; hosts in Docker's order, the machine's own name last."""
    added = "".join("{}\t{}\n".format(address, name) for name, address in host.hosts)
    short = host_name.partition(".")[0]
    names = host_name if short == host_name else "{} {}".format(host_name, short)
    return {
        "/etc/hostname": host_name + "\n",
        "/etc/hosts": "{}{}127.0.1.1\t{}\n".format(_LOCAL_HOSTS, added, names),
        "/etc/resolv.conf": _resolver(host),
    }


def _resolver(host: HostConfig) -> str:
    """Return resolv.conf(5). A search domain of "." is Docker's way to ask for none."""
    lines = ["nameserver {}\n".format(address) for address in host.name_servers]
    domains = [] if host.search_domains == (".",) else host.search_domains
    for keyword, words in (("search", domains), ("options", host.resolver_options)):
        if words:
            lines.append("{} {}\n".format(keyword, " ".join(words)))
    return "".join(lines) or NO_NAME_SERVER
