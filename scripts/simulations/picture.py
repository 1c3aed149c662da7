"""A batch for docs/batch.svg: sixty images of one company, carried out on paper. Pure.

What it shows is what the product's planning, order and drawing make of it, so the picture changes
when they do.
"""

from __future__ import annotations

from hashlib import sha256

from converter.batch.plan import Whereabouts
from converter.batch.planning import FoundLink, WantedImage, WantedLayer, make_plan
from converter.batch.report.history import History
from converter.batch.report.page import encode_svg
from converter.store.links import ChainParameters
from scripts.simulations.costs import Costs
from scripts.simulations.local import Content, Machine, simulate

_MB = 1_000_000
_FILE_BYTES = 12_000  # of content, as Debian's packages have
_INFLATION = 2.6
_DISTRIBUTIONS = {"slim": 28 * _MB, "usual": 54 * _MB, "full": 120 * _MB}
_RUNTIMES = {
    "python": 46 * _MB,
    "node": 62 * _MB,
    "java": 88 * _MB,
    "ruby": 31 * _MB,
    "tcl": 6 * _MB,
}
_PROGRAMS = {"api": 18 * _MB, "web": 25 * _MB, "worker": 12 * _MB, "cron": 3 * _MB}
_MACHINE = Machine(processors=4.0, jobs=4, fetches=4)


def picture() -> bytes:
    """Return the picture of a batch whose store has one distribution already."""
    images = [
        _image(runtime, distribution, program)
        for runtime in _RUNTIMES
        for distribution in _DISTRIBUTIONS
        for program in _PROGRAMS
    ]
    known = make_plan([_image("python", "usual", "api")]).images[0].links[0]
    plan = make_plan(
        images, lambda key: FoundLink(Whereabouts.STORE if key == known else Whereabouts.MISSING)
    )
    contents = {blob: _content(each.size_bytes) for blob, each in plan.blobs.items()}
    history = History()
    for event in simulate(plan, contents, Costs(), _MACHINE):
        history.take(event)
    record = history.record()
    assert record is not None, "a simulated batch comes to its end"
    return encode_svg(record)


def _image(runtime: str, distribution: str, program: str) -> WantedImage:
    reference = f"registry.example/{program}:{runtime}-{distribution}"
    layers = (
        _layer(distribution, _DISTRIBUTIONS[distribution]),
        _layer(f"{runtime} on {distribution}", _RUNTIMES[runtime]),
        _layer(program, _PROGRAMS[program]),
        _layer(reference, 40_000),
    )
    return WantedImage(reference, _digest(reference), "linux/amd64", layers, ChainParameters())


def _layer(name: str, size_bytes: int) -> WantedLayer:
    return WantedLayer(_digest(name), size_bytes, _digest(f"content of {name}"))


def _content(size_bytes: int) -> Content:
    content_bytes = int(size_bytes * _INFLATION)
    files = 1 + content_bytes // _FILE_BYTES
    return Content(content_bytes, files, content_bytes)


def _digest(name: str) -> str:
    return f"sha256:{sha256(name.encode()).hexdigest()}"
