"""Write one layer's changes into a file system: changes in, (block, bytes) out.

Owns the order of writes and which metadata a layer touches. File data goes out in the order in
which it comes in, straight from the layer's stream; directories follow behind it, then whatever
grains of metadata the layer changed. Every write begins and ends on a grain's border (64 KiB).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from converter.errors import SaltflatError
from converter.ext4 import c_ext4 as c
from converter.ext4.allocator import Run
from converter.ext4.directory import encode_block, encode_first_block, pack_names
from converter.ext4.filesystem import GRAIN_BYTES, FileSystem
from converter.ext4.geometry import ALIGNMENT_BLOCKS
from converter.ext4.holes import block_ranges, fill_blocks
from converter.ext4.inode import Inode, encode_extents, extent_blocks_needed
from converter.ext4.placement import Placement, update
from converter.ext4.stream import FLUSH_BYTES, DataStream, Write
from converter.ext4.superblock import encode_descriptors, encode_journal, encode_superblock
from converter.ext4.xattr import encode_xattrs
from converter.layer.entry import Entry, Kind, Segments
from converter.layer.paths import show
from converter.rootfs.apply import Change, Created, Listed, Relinked, Removed, Updated
from converter.rootfs.tree import KIND_MASK


def write_layer(
    filesystem: FileSystem, changes: Iterable[Change], *, first: bool = False
) -> Iterator[Write]:
    """Yield the writes that bring the disk from the state before `changes` to the one after.

    `first` makes a whole file system of it: the link at the bottom of a chain. Without it a layer
    that changes nothing yields nothing. `filesystem` is changed along the way; after an error it
    must be thrown away. Raises SaltflatError when the image does not fit, IntegrityError for what
    the layer does wrong.
    """
    return _LayerWriter(filesystem, first=first).run(changes)


class _LayerWriter:
    def __init__(self, filesystem: FileSystem, *, first: bool) -> None:
        self._fs = filesystem
        self._allocator = filesystem.allocator
        self._first = first
        self._allocator.align_frontier()
        self._stream = DataStream(self._allocator.frontier)

    def run(self, changes: Iterable[Change]) -> Iterator[Write]:
        for change in changes:
            if type(change) is Created:
                yield from self._create(change.node, change.entry)
            elif type(change) is Listed:
                yield from self._list(change.node)
            elif type(change) is Relinked:
                self._relink(change)
            elif type(change) is Removed:
                self._remove(change.node, change.kind)
            elif type(change) is Updated:
                yield from self._update(change.node, change.entry)
        if self._first and not self._fs.read_inode(c.EXT4_ROOT_INO).size:
            yield from self._list(c.EXT4_ROOT_INO)
        yield from self._stream.finish()
        self._allocator.check_headroom()
        yield from self._metadata()

    # Nodes

    def _create(self, node: int, entry: Entry) -> Iterator[Write]:
        xattrs, xattr_block = b"", 0
        if entry.xattrs:
            xattrs, xattr_block = yield from self._write_xattrs(entry)
        blocks = 1 if xattr_block else 0
        size, i_block, extents = len(entry.target), entry.target, False
        if entry.kind is Kind.FILE:
            size, extents = entry.size, True
            data: Iterable[bytes | memoryview] = entry.data
            logical: list[int] | None = None
            if entry.segments is None:
                runs = self._allocator.allocate_blocks(-(-size // c.BLOCK_SIZE)) if size else []
            else:
                runs, logical = self._allocate_apart(entry.segments)
                data = fill_blocks(entry.segments, entry.data)
            stream = self._stream
            if len(runs) == 1 and runs[0][0] == stream.next_block:
                # Nearly every file: appended here, without a generator of its own.
                for view in data:
                    stream.append(view)
                    if stream.buffered >= FLUSH_BYTES:
                        yield stream.flush()
                stream.pad_block()
                stream.next_block += runs[0][1]
            elif runs:
                yield from self._write_runs(runs, data)
            if len(runs) == 1 and logical is None:
                i_block, blocks = encode_extents(runs, [])[0], blocks + runs[0][1]
            else:
                i_block, tree_blocks = yield from self._map(node, runs, logical)
                blocks += tree_blocks + sum(length for _, length in runs)
        elif size > c.FAST_SYMLINK_MAX:
            runs = self._allocator.allocate_blocks(1)
            yield from self._write_runs(runs, (entry.target,))
            blocks, i_block, extents = blocks + 1, encode_extents(runs, [])[0], True
        inode = Inode.of(
            entry,
            size=size,
            blocks=blocks,
            i_block=i_block,
            extents=extents,
            xattr_block=xattr_block,
        )
        self._fs.new_inode(node, inode, xattrs)

    def _update(self, node: int, entry: Entry) -> Iterator[Write]:
        """Give a directory new attributes; its list of names and its place stay."""
        before = self._fs.read_inode(node)
        # Counted anew: what a stored inode counts is not checked when its state is loaded.
        blocks = sum(length for _, length in self._fs.data_runs(node, before))
        if before.i_file_acl_lo:
            self._allocator.free_blocks_of([(before.i_file_acl_lo, 1)])
        xattrs, xattr_block = yield from self._write_xattrs(entry)
        if xattr_block:
            blocks += 1
        inode = Inode.of(entry, links=before.i_links_count).with_content(
            size=before.size,
            blocks=blocks,
            i_block=before.i_block,
            extents=bool(before.i_flags & c.EXT4_EXTENTS_FL),
            xattr_block=xattr_block,
        )
        self._fs.write_inode(node, inode, xattrs)

    # Directories

    def _list(self, node: int) -> Iterator[Write]:
        """Write the names of a directory, if they are not what they were."""
        fs = self._fs
        names = fs.tree.directories[node]
        inode = fs.read_inode(node)
        before = None if node in fs.tree.journal.made else fs.tree.journal.before.get(node)
        links = 2 + sum(packed & KIND_MASK == Kind.DIRECTORY for packed in names.values())
        inode = inode._replace(i_links_count=links if links < c.EXT4_LINK_MAX else 1)
        if before is not None:
            if before == names:
                return
            placement = fs.placements.get(node)
            if placement is not None:
                grains = update(placement, before, names)
                if grains is not None:
                    yield from self._list_in_place(node, inode, placement, grains)
                    return
        yield from self._list_anew(node, inode)

    def _list_anew(self, node: int, inode: Inode) -> Iterator[Write]:
        """Write all names at the frontier and free where they were."""
        fs = self._fs
        old = fs.data_runs(node, inode)
        if old:
            self._allocator.free_blocks_of(old)
            fs.spilled.pop(node, None)
        blocks = list(pack_names(fs.tree.directories[node]))
        fs.placements.pop(node, None)
        if len(blocks) > ALIGNMENT_BLOCKS:
            placement = fs.placements[node] = Placement.of(blocks)
            blocks += [[]] * (placement.blocks - len(blocks))
            yield from self._align()
        runs = self._allocator.allocate_blocks(len(blocks))
        contents = (self._directory_block(node, *numbered) for numbered in enumerate(blocks))
        yield from self._write_runs(runs, contents)
        yield from self._write_directory_inode(node, inode, runs)

    def _list_in_place(
        self, node: int, inode: Inode, placement: Placement, grains: set[int]
    ) -> Iterator[Write]:
        """Write `grains` of a large directory: the old ones where they are, new ones behind."""
        fs = self._fs
        names = placement.names(grains)
        runs, leaves = fs.split_runs(node, inode)
        addresses = [
            block
            for start, length in runs
            for block in range(start, start + length, ALIGNMENT_BLOCKS)
        ]

        def blocks(grain: int) -> Iterator[bytes]:
            first = grain * ALIGNMENT_BLOCKS
            for number in range(first, first + ALIGNMENT_BLOCKS):
                yield self._directory_block(node, number, names.get(number, []))

        for grain in sorted(grains):
            if grain < len(addresses):
                yield addresses[grain], b"".join(blocks(grain))
        added = range(len(addresses), placement.blocks // ALIGNMENT_BLOCKS)
        if not added:
            fs.write_inode(node, inode, None)
            return
        yield from self._align()
        more = self._allocator.allocate_blocks(len(added) * ALIGNMENT_BLOCKS)
        yield from self._write_runs(more, (block for grain in added for block in blocks(grain)))
        if leaves:
            self._allocator.free_blocks_of(leaves)
            del fs.spilled[node]
        yield from self._write_directory_inode(node, inode, runs + more)

    def _align(self) -> Iterator[Write]:
        """Let what comes next begin at a grain's border."""
        self._allocator.align_frontier()
        yield from self._stream.jump(self._allocator.frontier)

    def _directory_block(self, node: int, number: int, block: list[bytes]) -> bytes:
        tree = self._fs.tree
        names = tree.directories[node]
        if number:
            return encode_block(block, names)
        return encode_first_block(node, tree.parents[node], block, names)

    def _write_directory_inode(self, node: int, inode: Inode, runs: list[Run]) -> Iterator[Write]:
        """Let a directory consist of `runs`; its extent tree is written anew."""
        i_block, leaves = yield from self._map(node, runs)
        blocks = sum(length for _, length in runs)
        content = inode.with_content(
            size=blocks * c.BLOCK_SIZE,
            blocks=blocks + leaves + bool(inode.i_file_acl_lo),
            i_block=i_block,
            extents=True,
            xattr_block=inode.i_file_acl_lo,
        )
        self._fs.write_inode(node, content, None)

    def _relink(self, change: Relinked) -> None:
        node, count, path = change
        if count > c.EXT4_LINK_MAX:
            raise SaltflatError(
                f"member {show(path)}: It gives a file {count} hard links.",
                expected=f"at most {c.EXT4_LINK_MAX}, ext4's limit",
            )
        inode = self._fs.read_inode(node)
        self._fs.write_inode(node, inode._replace(i_links_count=count), None)

    def _remove(self, node: int, kind: Kind) -> None:
        fs = self._fs
        inode = fs.read_inode(node)
        runs = list(fs.data_runs(node, inode))
        fs.spilled.pop(node, None)
        fs.placements.pop(node, None)
        if inode.i_file_acl_lo:
            runs.append((inode.i_file_acl_lo, 1))
        if runs:
            self._allocator.free_blocks_of(runs)
        self._allocator.free_inode(node, directory=kind is Kind.DIRECTORY)
        fs.clear_inode(node)

    # Data

    def _write_xattrs(self, entry: Entry) -> Generator[Write, None, tuple[bytes, int]]:
        """Return the attributes that go into the inode, and the block that has the others or 0."""
        inside, outside = encode_xattrs(entry.xattrs, entry.path)
        if not outside:
            return inside, 0
        runs = self._allocator.allocate_blocks(1)
        yield from self._write_runs(runs, (outside,))
        return inside, runs[0][0]

    def _allocate_apart(self, segments: Segments) -> tuple[list[Run], list[int]]:
        """Take blocks for what is not a hole; return the runs and where in the file they begin."""
        runs: list[Run] = []
        logical: list[int] = []
        for first, count in block_ranges(segments):
            position = first
            for run in self._allocator.allocate_blocks(count):
                runs.append(run)
                logical.append(position)
                position += run[1]
        return runs, logical

    def _map(
        self, node: int, runs: list[Run], logical: list[int] | None = None
    ) -> Generator[Write, None, tuple[bytes, int]]:
        """Write the blocks of the extent tree of `runs`; return (i_block, number of them)."""
        needed = extent_blocks_needed(len(runs))
        if not needed:
            return encode_extents(runs, [], logical)[0], 0
        leaf_runs = self._allocator.allocate_blocks(needed)
        leaves = [start + number for start, length in leaf_runs for number in range(length)]
        i_block, nodes = encode_extents(runs, leaves, logical)
        yield from self._write_runs(leaf_runs, nodes)
        self._fs.spilled[node] = runs + leaf_runs
        return i_block, needed

    def _write_runs(self, runs: list[Run], pieces: Iterable[bytes | memoryview]) -> Iterator[Write]:
        """Lay the bytes of `pieces` over `runs`, zeros behind them to the end of the last block."""
        stream = self._stream
        source = iter(pieces)
        view = memoryview(b"")
        for start, length in runs:
            if start != stream.next_block:
                yield from stream.jump(start)
            room = length * c.BLOCK_SIZE
            while room:
                if not view:
                    piece = next(source, b"")
                    if not piece:
                        break
                    view = memoryview(piece)
                    continue
                part = view[:room]
                stream.append(part)
                view = view[len(part) :]
                room -= len(part)
                if stream.buffered >= FLUSH_BYTES:
                    yield stream.flush()
            stream.pad_block()
            stream.next_block += length
        left = next(source, b"")
        if view or left:
            raise AssertionError("more data than blocks")  # sizes are checked where they are read

    # Metadata

    def _metadata(self) -> Iterator[Write]:
        fs = self._fs
        allocator = self._allocator
        allocator.settle()
        for grain in sorted(fs.dirty_grains):
            yield fs.inode_grain(grain)
        if self._first:
            yield from self._journal_and_backups()
        if self._first or allocator.dirty_block_bitmaps or allocator.dirty_inode_bitmaps:
            yield from self._hot_grains()

    def _journal_and_backups(self) -> Iterator[Write]:
        fs, geometry = self._fs, self._fs.geometry
        if geometry.journal:
            journal = encode_journal(geometry.journal_blocks, fs.identity)
            yield geometry.journal_start, journal.ljust(GRAIN_BYTES, b"\0")
        descriptors = encode_descriptors(self._allocator, fs.identity)
        for group in geometry.backup_groups:
            copy = encode_superblock(
                self._allocator, fs.identity, fs.journal_i_block, group=group
            ).ljust(c.BLOCK_SIZE, b"\0")
            size = geometry.backup_reserved_blocks * c.BLOCK_SIZE
            yield group * c.BLOCKS_PER_GROUP, (copy + descriptors).ljust(size, b"\0")

    def _hot_grains(self) -> Iterator[Write]:
        """Yield those grains of superblock, descriptors and bitmaps in which something changed."""
        fs, allocator, geometry = self._fs, self._allocator, self._fs.geometry
        superblock = encode_superblock(allocator, fs.identity, fs.journal_i_block)
        head = bytes(c.SUPERBLOCK_OFFSET) + superblock
        front = head.ljust(c.BLOCK_SIZE, b"\0") + encode_descriptors(allocator, fs.identity)
        blocks = {
            at // c.BLOCK_SIZE: front[at : at + c.BLOCK_SIZE]
            for at in range(0, len(front), c.BLOCK_SIZE)
        }
        dirty = set(blocks)
        for group, bitmap in allocator.block_bitmaps.items():
            blocks[geometry.block_bitmaps[group]] = bytes(bitmap)
            if group in allocator.dirty_block_bitmaps:
                dirty.add(geometry.block_bitmaps[group])
        for group, bitmap in allocator.inode_bitmaps.items():
            blocks[geometry.inode_bitmaps[group]] = bytes(bitmap)
            if group in allocator.dirty_inode_bitmaps:
                dirty.add(geometry.inode_bitmaps[group])
        zero = bytes(c.BLOCK_SIZE)
        for grain in sorted({block // ALIGNMENT_BLOCKS for block in dirty}):
            start = grain * ALIGNMENT_BLOCKS
            yield (
                start,
                b"".join(blocks.get(start + number, zero) for number in range(ALIGNMENT_BLOCKS)),
            )
