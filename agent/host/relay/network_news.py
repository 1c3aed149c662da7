"""What a guest says of its network, cleaned: for the journal, for clients and for people. Pure.

A guest is not trusted: what is no address, no name and no plain text is left out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,253}", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_MOST = 16  # of anything in a list
_MAX_WARNING = 200
_MAX_SECONDS = 0xFFFFFFFF


def network_news(message: Mapping[str, Any]) -> Json:
    """Return the `network` message with what may be believed to be what it says it is."""
    return {
        "interfaces": [
            _interface(entry)
            for entry in _list(message.get("interfaces"))
            if isinstance(entry, dict) and _NAME.fullmatch(str(entry.get("name", "")))
        ],
        "name_servers": list(_addresses(message.get("name_servers"))),
        "search_domains": [
            text
            for text in _list(message.get("search_domains"))
            if isinstance(text, str) and _NAME.fullmatch(text)
        ],
        "warnings": [
            "".join(letter for letter in text if letter.isprintable())[:_MAX_WARNING]
            for text in _list(message.get("warnings"))
            if isinstance(text, str)
        ],
    }


def _interface(entry: Mapping[str, Any]) -> Json:
    mac, lease = str(entry.get("mac", "")), entry.get("dhcp")
    return {
        "name": str(entry["name"]),
        "mac": mac if _MAC.fullmatch(mac) else "",
        "addresses": list(_addresses(entry.get("addresses"), prefix=True)),
        "gateways": list(_addresses(entry.get("gateways"))),
        "dhcp": _lease(lease) if isinstance(lease, dict) else None,
    }


def _lease(lease: Mapping[str, Any]) -> Json:
    seconds = lease.get("seconds")
    known = isinstance(seconds, int) and not isinstance(seconds, bool)
    return {
        "server": next(_addresses([lease.get("server")]), ""),
        "seconds": seconds if known and 0 <= int(seconds or 0) <= _MAX_SECONDS else None,
    }


def _addresses(value: object, *, prefix: bool = False) -> Iterator[str]:
    for text in _list(value):
        if not isinstance(text, str) or ("/" in text) != prefix:
            continue
        try:
            yield str(ipaddress.ip_interface(text) if prefix else ipaddress.ip_address(text))
        except ValueError:
            continue


def _list(value: object) -> list[Any]:
    return value[:_MOST] if isinstance(value, list) else []
