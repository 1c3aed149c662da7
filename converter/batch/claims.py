"""Which places a batch's outputs take: no two the same, and none within another's folder.

What is compared is what the places are in the end, not how they are written: a path with its links
and dots resolved, as this host has them; a tag in a registry; a template's name in its inventory.
What has no name but its digest, an artifact without a tag, is in nobody's way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from converter.artifact.target import parse_target
from converter.batch.lookup import LookedUp
from converter.batch.treatments import request_of
from converter.batch.wishes import BundleWish, ExportWish, OutputWish, PushWish
from converter.errors import UsageError

_MOST_FAULTS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class _Claim:
    """An output of an image that takes a place; `is_folder`: and all that is below it."""

    image: LookedUp
    wish: OutputWish
    is_folder: bool = False


def check_claims(images: Sequence[LookedUp]) -> None:
    """Raise UsageError, with the lines, if two outputs of `images` would be in each other's way.

    Places are filled in, and such as their outputs can have.
    """
    taken: dict[object, _Claim] = {}
    faults = []
    for claim, place in _claims(images):
        other = taken.setdefault(place, claim)
        if other is not claim:
            faults.append(_fault(claim, other))
    for place, claim in taken.items():
        if isinstance(place, Path):
            above = (taken.get(parent) for parent in place.parents)
            faults += [_fault(claim, other) for other in above if other and other.is_folder]
    if faults:
        raise UsageError(
            "Two outputs cannot lie in one place:\n"
            + "\n".join(dict.fromkeys(faults[:_MOST_FAULTS_SHOWN])),
            expected="a name for each, such as {repository}-{tag}-{platform}",
        )


def _claims(images: Sequence[LookedUp]) -> Iterator[tuple[_Claim, object]]:
    """Yield each output with each place that it takes; of a file those beside it that it has."""
    for one in images:
        for wish in one.treatment.outputs if one.image is not None else ():
            if isinstance(wish, BundleWish):
                yield _Claim(one, wish, is_folder=True), _path(wish.place)
            elif isinstance(wish, ExportWish):
                request = request_of(wish, Path(wish.place))
                claim = _Claim(one, wish, is_folder=request.type.is_folder)
                place = _path(wish.place)
                yield claim, place
                for name in request.beside:
                    yield claim, place.with_name(name)
            elif isinstance(wish, PushWish):
                target = parse_target(wish.place)
                if target.tag is not None:
                    yield _Claim(one, wish), (wish.kind, str(target.reference))
            else:
                wishes = wish.settings.wishes
                where = (wish.settings.address, wishes.datacenter, wishes.folder)
                yield _Claim(one, wish), (wish.kind, wish.place, where)


def _path(place: str) -> Path:
    return Path(os.path.realpath(place))


def _fault(claim: _Claim, other: _Claim) -> str:
    one, wish, first = claim.image, claim.wish, other.image
    itself = f"as {first.source} ({first.platform}) of line {first.line}"
    if other.wish.place != wish.place:  # written otherwise, beside it or below it
        itself += f" has its {other.wish.kind.value} at {other.wish.place}"
    return (
        f"line {one.line}: {one.source} ({one.platform}) would have its {wish.kind.value} at "
        f"{wish.place}, {itself}"
    )
