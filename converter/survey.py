"""Look through a bundle for its disk map: which link holds what. Owns the reading; draws nothing.

What each link holds is read from its tables, what is in use from the file system: once through all
names of the finished disk, and through those of the disk as it was under a link only where that
link has lost files that weigh enough to be named. No content is read.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from converter.diskmap.model import DiskMap, MapFile, MapLayer, MapLink
from converter.diskmap.runs import Run, Runs, common, joined, length, without
from converter.errors import IntegrityError
from converter.events import Monitor, StepFinished, StepStarted
from converter.ext4 import c_ext4 as c
from converter.ext4.reader import Reader, StoredInode
from converter.ext4.walk import Walk
from converter.image.history import created_by
from converter.image.model import Image
from converter.layer.entry import Kind as EntryKind
from converter.store.bundle import Bundle, BundleLink
from converter.vmdk.chain import Chain, open_chain
from converter.vmdk.extent import Kind

_NAMED = 6  # files of each link
_STEP = "map"


def survey(bundle: Bundle, image: Image, *, monitor: Monitor) -> DiskMap:
    """Return the map of `bundle`, which is of `image`.

    Raises IntegrityError for a damaged chain or file system, or a chain that is not the bundle's.
    """
    monitor(StepStarted(_STEP))
    covered = _covered(bundle, image)
    with open_chain(bundle.disks[-1]) as chain:
        if tuple(link.path for link in chain.links) != bundle.disks:
            raise IntegrityError(
                f"The chain below {bundle.disks[-1]} has {len(chain.links)} links, "
                "not the files that bundle.json lists."
            )
        looked = _Survey(chain)
        links = tuple(
            looked.link(number, recorded, layers)
            for number, (recorded, layers) in enumerate(zip(bundle.links, covered, strict=True))
        )
        capacity_bytes = chain.capacity_bytes
    monitor(StepFinished(_STEP, f"{len(links)} links"))
    return DiskMap(
        image.reference,
        str(image.digest),
        str(image.platform),
        capacity_bytes,
        len(image.layers),
        links,
    )


def _covered(bundle: Bundle, image: Image) -> list[tuple[MapLayer, ...]]:
    """Return the layers of each link, base first. Raises IntegrityError if the image lacks one."""
    steps = created_by(image.config_raw, len(image.layers))
    rest = iter(
        [
            MapLayer(number, str(layer.descriptor.digest), str(layer.diff_id), step)
            for number, (layer, step) in enumerate(zip(image.layers, steps, strict=True), 1)
        ]
    )
    covered = []
    for link in bundle.links:
        layers = []
        for diff_id in link.layers:
            # Takes out what stands before it: layers that change nothing.
            layer = next((each for each in rest if each.diff_id == diff_id), None)
            if layer is None:
                raise IntegrityError(
                    f"{link.file} is to hold the layer {diff_id}.",
                    expected=f"the layers of {image.reference}, in their order",
                )
            layers.append(layer)
        covered.append(tuple(layers))
    return covered


class _Heaviest:
    """The files that weigh most of all that were offered; of equal ones those offered first."""

    def __init__(self) -> None:
        self._found: list[tuple[int, bytes, bool]] = []

    @property
    def least_bytes(self) -> int:
        """What a file has to weigh at least to be among them."""
        return 1 - self._found[-1][0] if len(self._found) == _NAMED else 1

    def offer(self, held_bytes: int, path: bytes, *, gone: bool = False) -> None:
        del self._found[_NAMED - 1 :]
        insort(self._found, (-held_bytes, path, gone))

    def files(self) -> tuple[MapFile, ...]:
        return tuple(MapFile(path, -held, gone) for held, path, gone in self._found)


class _Survey:
    """What was found of a whole chain. All runs are in bytes of the disk."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        count = len(chain.links)
        self._held = [_held(chain, number) for number in range(count)]
        self._answers = _answers(chain)
        self._answer_begins = [begin for begin, _, _ in self._answers]
        self._visible = [
            joined((begin, end) for begin, end, link in self._answers if link == number)
            for number in range(count)
        ]
        self._top = Reader(chain.read, chain.capacity_bytes)
        self._named = [_Heaviest() for _ in range(count)]
        self._look_through()

    def link(self, number: int, recorded: BundleLink, layers: tuple[MapLayer, ...]) -> MapLink:
        """Return what a link holds, and which files weigh most in it."""
        visible = self._visible[number]
        reader = self._reader(number)
        files = common(visible, self._files)
        structure = common(visible, self._structure)
        rest = without(without(self._held[number], files), structure)
        used = _in_use(reader, rest)
        replaced = common(rest, used)
        return MapLink(
            recorded.link_id,
            layers,
            recorded.size,
            files,
            structure,
            replaced,
            without(rest, used),
            visible,
            self._heaviest(number, reader, replaced),
        )

    def _heaviest(self, number: int, reader: Reader, replaced: Runs) -> tuple[MapFile, ...]:
        """Return the files that weigh most in a link, those that are gone again among them."""
        named = self._named[number]
        if length(replaced) >= named.least_bytes:
            walk = Walk(reader)
            for held, directory, name in _files_in(walk, replaced):
                if held >= named.least_bytes:
                    named.offer(held, walk.path(directory, name), gone=True)
        return named.files()

    def _look_through(self) -> None:
        """Read all names of the finished disk: where files are, and which weigh most."""
        geometry = self._top.geometry
        files: list[Run] = []
        structure = [_in_bytes(run) for run in geometry.metadata_ranges()]
        walk = Walk(self._top)
        for directory, name, inode in _first_names(walk):
            content, other = _blocks_of(inode)
            files += content
            structure += other
            for link, held in self._links_of(content):
                if held >= self._named[link].least_bytes:
                    self._named[link].offer(held, walk.path(directory, name))
        self._files, self._structure = joined(files), joined(structure)

    def _links_of(self, runs: Sequence[Run]) -> list[tuple[int, int]]:
        """Return (link, bytes) for each link that the finished disk has `runs` from."""
        found: dict[int, int] = {}
        for begin, end in runs:
            at = max(bisect_right(self._answer_begins, begin) - 1, 0)
            while at < len(self._answers) and self._answers[at][0] < end:
                low, high, link = self._answers[at]
                if held := max(min(high, end) - max(low, begin), 0):
                    found[link] = found.get(link, 0) + held
                at += 1
        return sorted(found.items())

    def _reader(self, number: int) -> Reader:
        """Return the file system as it is when the link `number` is the top one."""
        if number == len(self._chain.links) - 1:
            return self._top
        # The links are the whole chain's, which closes them.
        below = Chain(self._chain.links[: number + 1], ExitStack())
        return Reader(below.read, below.capacity_bytes)


def _held(chain: Chain, number: int) -> Runs:
    link = chain.links[number]
    return joined(
        (piece.offset, piece.offset + piece.length)
        for piece in link.pieces(0, link.capacity_bytes)
        if piece.kind is Kind.DATA
    )


def _answers(chain: Chain) -> list[tuple[int, int, int]]:
    """Return (begin, end, link) of what the finished disk has, in order."""
    found: list[tuple[int, int, int]] = []
    grain = chain.grain_bytes
    for offset, link in chain.grains():
        if found and found[-1][1] == offset and found[-1][2] == link:
            found[-1] = (found[-1][0], offset + grain, link)
        else:
            found.append((offset, offset + grain, link))
    return found


def _first_names(walk: Walk) -> Iterator[tuple[int, bytes, StoredInode]]:
    """Yield every inode once, under the first of its names."""
    seen: set[int] = set()
    for directory, name, inode in walk:
        if inode.kind is not EntryKind.DIRECTORY and inode.fields.i_links_count > 1:
            if inode.node in seen:
                continue
            seen.add(inode.node)
        yield directory, name, inode


def _files_in(walk: Walk, runs: Runs) -> Iterator[tuple[int, int, bytes]]:
    """Yield (bytes, directory, name) of files that have content in `runs`."""
    for directory, name, inode in _first_names(walk):
        content, _ = _blocks_of(inode)
        if content and (held := length(common(joined(content), runs))):
            yield held, directory, name


def _blocks_of(inode: StoredInode) -> tuple[list[Run], list[Run]]:
    """Return where an inode has content of a file, and what else it owns."""
    runs = [_in_bytes(run) for run in inode.runs]
    if inode.kind is EntryKind.DIRECTORY:
        return [], runs
    count = len(inode.map.extents)
    return runs[:count], runs[count:]


def _in_use(reader: Reader, runs: Runs) -> Runs:
    """Return which blocks of the groups that `runs` touch are in use, as their bitmaps say."""
    geometry = reader.geometry
    group_bytes = c.BLOCKS_PER_GROUP * c.BLOCK_SIZE
    groups = sorted(
        {
            group
            for begin, end in runs
            for group in range(begin // group_bytes, (end - 1) // group_bytes + 1)
        }
    )
    used = [_in_bytes(run) for run in geometry.metadata_ranges()]
    for group in groups:
        if reader.volume.groups[group].bg_flags & c.EXT4_BG_BLOCK_UNINIT:
            continue  # nothing but the metadata
        bitmap = reader.block(geometry.block_bitmaps[group])
        used += (_in_bytes((group * c.BLOCKS_PER_GROUP + at, count)) for at, count in _ones(bitmap))
    return joined(used)


def _ones(bitmap: bytes) -> Iterator[tuple[int, int]]:
    """Yield (first bit, number) of the ones in a bitmap."""
    bits = int.from_bytes(bitmap, "little")
    at = 0
    while bits:
        zeros = (bits & -bits).bit_length() - 1
        bits >>= zeros
        at += zeros
        ones = (~bits & (bits + 1)).bit_length() - 1
        yield at, ones
        bits >>= ones
        at += ones


def _in_bytes(run: tuple[int, int]) -> Run:
    start, count = run
    return start * c.BLOCK_SIZE, (start + count) * c.BLOCK_SIZE
