"""Chains: which files become one disk, which do not, and what it reads as."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from converter.errors import IntegrityError, NotFoundError
from converter.vmdk.chain import DEPTH_MAX, open_chain
from converter.vmdk.reader import Kind, Piece, read_link
from tests.unit.vmdk.chains import (
    LinkPlan,
    ParentRef,
    Write,
    cid_of,
    disk_of,
    write_chain,
    write_link,
)

GRAIN = 4096
CAPACITY = 1100 * GRAIN
PLANS = [
    LinkPlan(GRAIN, (Write(0, (1, 1, 1, 1)), Write(510, (3, 2, 3, 2)))),
    LinkPlan(GRAIN, (Write(1, (5, 0)), Write(1099, (4,)))),
    LinkPlan(GRAIN, (Write(2, (7,)),)),
]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_topmost_link_that_has_a_grain_answers(tmp_path: Path) -> None:
    top = write_chain(tmp_path, PLANS, CAPACITY)[-1]
    disk = disk_of(PLANS, CAPACITY)
    with open_chain(top) as chain:
        assert chain.capacity_bytes == CAPACITY
        assert chain.read(0, CAPACITY) == disk
        owners = [(offset // GRAIN, link) for offset, link in chain.grains()]
    assert owners == [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 0),
        (510, 0),
        (511, 0),
        (512, 0),
        (513, 0),
        (1099, 1),
    ]


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 0),
        (1, 1),
        (GRAIN - 1, 2),
        (GRAIN + 7, 3 * GRAIN),
        (510 * GRAIN + 5, 9999),
        (CAPACITY, 0),
    ],
)
def test_reads_need_no_alignment(offset: int, length: int, tmp_path: Path) -> None:
    top = write_chain(tmp_path, PLANS, CAPACITY)[-1]
    with open_chain(top) as chain:
        assert chain.read(offset, length) == disk_of(PLANS, CAPACITY)[offset : offset + length]


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (CAPACITY, 1), (0, CAPACITY + 1)])
def test_reads_beyond_the_disk_are_errors(offset: int, length: int, tmp_path: Path) -> None:
    with (
        open_chain(write_chain(tmp_path, PLANS, CAPACITY)[-1]) as chain,
        pytest.raises(ValueError, match="not within"),
    ):
        chain.read(offset, length)


def test_pieces_that_lie_together_come_as_one(tmp_path: Path) -> None:
    path = write_chain(tmp_path, PLANS, CAPACITY)[1]
    with read_link(path) as link:
        assert list(link.pieces(100, CAPACITY - 100)) == [
            Piece(Kind.ABSENT, 100, GRAIN - 100),
            Piece(Kind.DATA, GRAIN, GRAIN, 24 * 512),
            Piece(Kind.ZERO, 2 * GRAIN, GRAIN),
            Piece(Kind.ABSENT, 3 * GRAIN, 1096 * GRAIN),
            Piece(Kind.DATA, 1099 * GRAIN, GRAIN, 32 * 512),
        ]
    with read_link(tmp_path / "link-0.vmdk") as link:
        assert [(piece.kind, piece.length // GRAIN) for piece in link.pieces(0, CAPACITY)] == [
            (Kind.DATA, 4),
            (Kind.ABSENT, 506),
            (Kind.DATA, 4),
            (Kind.ABSENT, 586),
        ]


def test_links_may_differ_in_grain_size(tmp_path: Path) -> None:
    plans = [
        LinkPlan(65536, (Write(1, (1, 0, 3)),)),
        LinkPlan(4096, (Write(16, (0, 5)), Write(63, (7, 7)))),
        LinkPlan(8192, (Write(9, (0,)), Write(31, (9,)))),
    ]
    capacity = 64 * 65536
    with open_chain(write_chain(tmp_path, plans, capacity)[-1]) as chain:
        assert chain.grain_bytes == 4096
        assert chain.read(0, capacity) == disk_of(plans, capacity)
        owners = dict(chain.grains())
    assert owners[17 * 4096] == 1
    assert 16 * 4096 not in owners
    assert 18 * 4096 not in owners
    assert owners[62 * 4096] == owners[63 * 4096] == 2
    assert owners[20 * 4096] == 0


def test_a_chain_closes_what_it_opened(tmp_path: Path) -> None:
    paths = write_chain(tmp_path, PLANS, CAPACITY)
    before = open_files()
    with open_chain(paths[-1]):
        assert open_files() == before + 3
    assert open_files() == before
    paths[0].write_bytes(b"KDMV" + bytes(508))
    with pytest.raises(IntegrityError):
        open_chain(paths[-1])
    assert open_files() == before


def test_a_top_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        open_chain(tmp_path / "x.vmdk")


def test_a_parent_that_is_not_there_breaks_the_chain(tmp_path: Path) -> None:
    paths = write_chain(tmp_path, PLANS, CAPACITY)
    paths[1].unlink()
    with pytest.raises(IntegrityError, match=r"link-2\.vmdk has lost its parent") as caught:
        open_chain(paths[2])
    assert caught.value.expected == str(paths[1])


def test_a_parent_that_has_changed_is_refused(tmp_path: Path) -> None:
    paths = write_chain(tmp_path, PLANS, CAPACITY)
    write_link(paths[0], PLANS[0], CAPACITY, cid=0xBAD)
    with pytest.raises(
        IntegrityError, match=r"parent with CID c0de0000, but link-0\.vmdk has 00000bad"
    ):
        open_chain(paths[2])


def test_a_parent_of_another_size_is_refused(tmp_path: Path) -> None:
    paths = write_chain(tmp_path, PLANS, CAPACITY)
    write_link(paths[0], PLANS[0], CAPACITY + GRAIN)
    with pytest.raises(IntegrityError, match=r"capacity, its parent link-0\.vmdk"):
        open_chain(paths[2])


def test_a_chain_that_bites_its_tail_is_refused(tmp_path: Path) -> None:
    paths = write_chain(tmp_path, PLANS, CAPACITY)
    parent = ParentRef(cid_of(2), paths[2].name)
    write_link(paths[0], PLANS[0], CAPACITY, parent=parent)
    with pytest.raises(IntegrityError, match=r"link-0\.vmdk .* leads back to itself"):
        open_chain(paths[2])


def test_a_chain_may_have_64_links_and_no_more(tmp_path: Path) -> None:
    paths = write_chain(tmp_path, [LinkPlan(GRAIN)] * (DEPTH_MAX + 1), CAPACITY)
    with open_chain(paths[DEPTH_MAX - 1]) as chain:
        assert len(chain.links) == DEPTH_MAX
    with pytest.raises(IntegrityError, match="more than 64 links"):
        open_chain(paths[DEPTH_MAX])


@pytest.mark.parametrize(
    "hint", ["../base.vmdk", "/base.vmdk", "..", "sub/base.vmdk", "a\\b", "nbd:h:1", "json:{}"]
)
def test_a_parent_elsewhere_is_never_opened(hint: str, tmp_path: Path) -> None:
    placeholder = "p" * len(hint)
    path = tmp_path / "top.vmdk"
    write_link(path, LinkPlan(GRAIN), CAPACITY, cid=1, parent=ParentRef(2, placeholder))
    path.write_bytes(path.read_bytes().replace(placeholder.encode(), hint.encode(), 1))
    with pytest.raises(IntegrityError, match="no file beside it"):
        open_chain(path)


def test_a_parent_is_no_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    paths = write_chain(tmp_path, PLANS, CAPACITY)
    paths[0].rename(tmp_path / "elsewhere" / paths[0].name)
    paths[0].symlink_to(tmp_path / "elsewhere" / paths[0].name)
    with pytest.raises(IntegrityError, match="symbolic link"):
        open_chain(paths[2])


def test_a_chain_of_hard_links_is_a_chain(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    for path in write_chain(tmp_path, PLANS, CAPACITY):
        os.link(path, tmp_path / "bundle" / path.name)
    with open_chain(tmp_path / "bundle" / "link-2.vmdk") as chain:
        assert chain.read(0, CAPACITY) == disk_of(PLANS, CAPACITY)


def test_an_empty_base_reads_as_zeros(tmp_path: Path) -> None:
    (path,) = write_chain(tmp_path, [replace(PLANS[0], writes=())], CAPACITY)
    with open_chain(path) as chain:
        assert not any(chain.read(0, CAPACITY))
        assert not list(chain.grains())
