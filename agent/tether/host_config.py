"""What a run asks of the machine around the process: privileges, limits, mounts, names.

Owns the document's `run.host_config` and its checks, which the host has made before; here they
are made again because the document comes from outside. How it is done is decided elsewhere.
"""

from __future__ import annotations

from agent.hints import Mapping, Optional, Tuple
from agent.tether import fields
from agent.tether.c_limits import CAPABILITIES, RESOURCES
from agent.tether.fields import wrong
from agent.tether.health import HealthCheck, parse_health
from agent.tether.restart import NEVER, POLICIES, RestartPolicy
from agent.values import dataclass

MAX_SIZE = (1 << 63) - 1
SHM_BYTES = 64 << 20  # Docker's default
ALL = "ALL"
_FIELD = "run.host_config"


@dataclass(frozen=True)
class HostConfig:
    """Docker's HostConfig, as far as a guest has to do with it.

    Capabilities are named without CAP_; `limits` are (resource, soft, hard) with -1 for unlimited;
    `tmpfs` is (path, options as in --tmpfs); `hosts` is (name, address).
    """

    groups: Tuple[str, ...] = ()
    limits: Tuple[Tuple[str, int, int], ...] = ()
    add_capabilities: Tuple[str, ...] = ()
    drop_capabilities: Tuple[str, ...] = ()
    privileged: bool = False
    no_new_privileges: bool = False
    open_system_paths: bool = False
    open_hypervisor: bool = False
    read_only: bool = False
    tmpfs: Tuple[Tuple[str, str], ...] = ()
    shm_bytes: int = SHM_BYTES
    sysctls: Tuple[Tuple[str, str], ...] = ()
    init: bool = False
    machine_processes: bool = False
    hosts: Tuple[Tuple[str, str], ...] = ()
    name_servers: Tuple[str, ...] = ()
    search_domains: Tuple[str, ...] = ()
    resolver_options: Tuple[str, ...] = ()
    oom_score_adj: int = 0
    stop_signal: str = ""
    stop_seconds: Optional[int] = None
    restart: RestartPolicy = NEVER
    health: Optional[HealthCheck] = None


DEFAULTS = HostConfig()


def parse_host_config(document: object) -> HostConfig:
    """Check and return it; StartError("config") that names the member. None means: all defaults."""
    if document is None:
        return DEFAULTS
    if not isinstance(document, dict):
        raise wrong(_FIELD, "an object")
    stop_seconds = None
    if document.get("stop_seconds") is not None:
        stop_seconds = _whole(document, "stop_seconds", -1, 1 << 30, 0)
    return HostConfig(
        groups=_texts(document, "groups"),
        limits=_parse_limits(document),
        add_capabilities=_parse_capabilities(document, "add_capabilities"),
        drop_capabilities=_parse_capabilities(document, "drop_capabilities"),
        privileged=_flag(document, "privileged"),
        no_new_privileges=_flag(document, "no_new_privileges"),
        open_system_paths=_flag(document, "open_system_paths"),
        open_hypervisor=_flag(document, "open_hypervisor"),
        read_only=_flag(document, "read_only"),
        tmpfs=_parse_tmpfs(document),
        shm_bytes=_whole(document, "shm_bytes", 1, MAX_SIZE, SHM_BYTES),
        sysctls=_pairs(document, "sysctls"),
        init=_flag(document, "init"),
        machine_processes=_flag(document, "machine_processes"),
        hosts=_pairs(document, "hosts"),
        name_servers=_texts(document, "name_servers"),
        search_domains=_texts(document, "search_domains"),
        resolver_options=_texts(document, "resolver_options"),
        oom_score_adj=_whole(document, "oom_score_adj", -1000, 1000, 0),
        stop_signal=fields.optional_text(document, "stop_signal", _name("stop_signal")) or "",
        stop_seconds=stop_seconds,
        restart=_parse_restart(document.get("restart")),
        health=parse_health(document.get("health"), _name("health")),
    )


def _parse_restart(document: object) -> RestartPolicy:
    if document is None:
        return NEVER
    if not isinstance(document, dict):
        raise wrong(_name("restart"), "an object")
    name = fields.text(document, "name", _name("restart.name"))
    if name not in POLICIES:
        raise wrong(_name("restart.name"), "one of " + ", ".join(POLICIES))
    retries = fields.whole(document, "retries", _name("restart.retries"), 0, 1 << 31, default=0)
    return RestartPolicy(name, retries)


def _parse_limits(document: Mapping[str, object]) -> Tuple[Tuple[str, int, int], ...]:
    limits = []
    for index, entry in enumerate(_list(document, "limits")):
        place = "{}[{}]".format(_name("limits"), index)
        if not isinstance(entry, list) or len(entry) != 3:
            raise wrong(place, "a resource, a soft and a hard limit")
        resource, soft, hard = entry
        if not isinstance(resource, str) or resource not in RESOURCES:
            raise wrong(place, "one of " + ", ".join(sorted(RESOURCES)))
        for value in (soft, hard):
            if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= MAX_SIZE:
                raise wrong(place, "whole numbers from -1, which is no limit")
        if hard != -1 and (soft == -1 or soft > hard):
            raise wrong(place, "a soft limit that is not above the hard one")
        limits.append((resource, soft, hard))
    return tuple(limits)


def _parse_capabilities(document: Mapping[str, object], name: str) -> Tuple[str, ...]:
    capabilities = _texts(document, name)
    for capability in capabilities:
        if capability != ALL and capability not in CAPABILITIES:
            raise wrong(_name(name), "capabilities, and {!r} is none".format(capability))
    return capabilities


def _parse_tmpfs(document: Mapping[str, object]) -> Tuple[Tuple[str, str], ...]:
    pairs = _pairs(document, "tmpfs")
    for path, _ in pairs:
        if not path.startswith("/") or path.strip("/") == "":
            raise wrong(_name("tmpfs"), "absolute paths other than /")
    return pairs


def _list(document: Mapping[str, object], name: str) -> Tuple[object, ...]:
    value = document.get(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise wrong(_name(name), "a list")
    return tuple(value)


def _pairs(document: Mapping[str, object], name: str) -> Tuple[Tuple[str, str], ...]:
    pairs = []
    for index, entry in enumerate(_list(document, name)):
        place = "{}[{}]".format(_name(name), index)
        if not isinstance(entry, list) or len(entry) != 2:
            raise wrong(place, "a list of two texts")
        pairs.append((fields.checked(entry[0], place), fields.checked(entry[1], place)))
    return tuple(pairs)


def _texts(document: Mapping[str, object], name: str) -> Tuple[str, ...]:
    return fields.arguments(document, name, _name(name)) or ()


def _flag(document: Mapping[str, object], name: str) -> bool:
    return fields.flag(document, name, _name(name))


def _whole(document: Mapping[str, object], name: str, low: int, high: int, default: int) -> int:
    return fields.whole(document, name, _name(name), low, high, default=default)


def _name(member: str) -> str:
    return "{}.{}".format(_FIELD, member)
