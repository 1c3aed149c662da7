"""Users and groups as an image's own /etc/passwd and /etc/group have them.

Owns the two text formats and Docker's reading of `User`. Pure: the texts are arguments, and the
guest's C library is never asked (NSS would answer for the agent's world, not for the image's).
"""

from __future__ import annotations

from agent.hints import List, Sequence, Tuple
from agent.tether.errors import StartError
from agent.values import dataclass

MAX_ID = (1 << 31) - 1  # the largest id that Docker accepts


@dataclass(frozen=True)
class Passwd:
    """One line of /etc/passwd, as far as it matters here."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True)
class Group:
    """One line of /etc/group."""

    name: str
    gid: int
    members: Tuple[str, ...]


@dataclass(frozen=True)
class Identity:
    """Who the process is. `groups` are the supplementary ones, the primary first as in Docker."""

    uid: int
    gid: int
    groups: Tuple[int, ...]
    home: str


def parse_passwd(text: str) -> List[Passwd]:
    """Return the usable lines; one without numeric ids (a comment, an NIS entry) is left out."""
    entries = []
    for line in text.split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= 4 and _is_id(fields[2]) and _is_id(fields[3]):
            home = fields[5] if len(fields) > 5 else ""
            entries.append(Passwd(fields[0], int(fields[2]), int(fields[3]), home))
    return entries


def parse_group(text: str) -> List[Group]:
    """Return the usable lines, as `parse_passwd`."""
    entries = []
    for line in text.split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= 3 and _is_id(fields[2]):
            members = fields[3].split(",") if len(fields) > 3 else []
            entries.append(
                Group(fields[0], int(fields[2]), tuple(name for name in members if name))
            )
    return entries


def resolve_identity(
    user: str, passwd_text: str, group_text: str, *, added: Sequence[str] = ()
) -> Identity:
    """Return who "", user, uid, user:group, uid:gid and their mixtures mean in this image.

    Numbers are always ids, even where a user has them for a name. An unknown number is taken as it
    is, with group 0; an unknown name is a StartError("user"). Supplementary groups come from the
    group file, unless a group was given: then there are none but that one. The groups `added` come
    to them either way.
    """
    user_part, colon, group_part = user.partition(":")
    if ":" in group_part:
        raise StartError(
            "user", "user {!r}: expected user, uid, user:group or uid:gid".format(user)
        )
    entries = parse_passwd(passwd_text)
    if not user_part or _is_number(user_part):
        uid = _checked_id(user_part or "0", user)
        entry = next((entry for entry in entries if entry.uid == uid), None)
    else:
        entry = next((entry for entry in entries if entry.name == user_part), None)
        if entry is None:
            raise StartError(
                "user", "user {!r} is not in the image's /etc/passwd".format(user_part)
            )
        uid = entry.uid
    gid = entry.gid if entry else 0
    home = entry.home if entry else "/"
    groups = parse_group(group_text)
    supplementary: List[int] = []
    if colon and group_part:
        gid = _find_group(group_part, groups, user)
    elif entry:
        supplementary = [group.gid for group in groups if entry.name in group.members]
    supplementary += [_find_group(name, groups, user) for name in added]
    ordered = dict.fromkeys([gid, *supplementary])
    return Identity(uid, gid, tuple(ordered), home)


def _find_group(group_part: str, groups: List[Group], user: str) -> int:
    if _is_number(group_part):
        return _checked_id(group_part, user)
    for group in groups:
        if group.name == group_part:
            return group.gid
    raise StartError("user", "group {!r} is not in the image's /etc/group".format(group_part))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_id(text: str) -> bool:
    return _is_number(text) and len(text) <= 10 and int(text) <= MAX_ID


def _checked_id(text: str, user: str) -> int:
    if not _is_id(text):
        raise StartError("user", "user {!r}: ids go from 0 to {}".format(user, MAX_ID))
    return int(text)
