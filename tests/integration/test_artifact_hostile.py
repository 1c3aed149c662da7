"""Chains that lie: every lie is refused before anything of it gets a name in the store."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.integration.artifact_places import KINDS, Place, serve_place
from tests.integration.conftest import Saltflat
from tests.integration.watching_proxy import Reply

pytestmark = pytest.mark.integration

REPOSITORY = "test/app"
SIZE, SHA256 = "vnd.saltflat.content.size", "vnd.saltflat.content.sha256"
CODEC = "vnd.saltflat.codec"
BOMB_BYTES = 1 << 30
SECTOR = 512


class Chain:
    """A chain in a registry, to be published again with changes."""

    def __init__(self, place: Place, digest: str) -> None:
        self.place = place
        self.digest = digest
        self.manifest = place.manifest(REPOSITORY, digest)
        self.record: dict[str, Any] = json.loads(self.blob(self.manifest["config"]))

    def blob(self, descriptor: dict[str, Any]) -> bytes:
        """Return a blob."""
        return self.place.get(f"{REPOSITORY}/blobs/{descriptor['digest']}")

    def put_blob(self, number: int, content: bytes) -> None:
        """Let layer `number` be `content`; nothing else is adapted."""
        layers = self.manifest["layers"]
        layers[number] = self.place.put_blob(REPOSITORY, content, layers[number])

    def put_disk(self, link: int, content: bytes) -> None:
        """Let a link's disk be `content`, and everything that is said of it agree."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.manifest["layers"][2 + 2 * link]["annotations"].update(
            {SIZE: str(len(content)), SHA256: sha256}
        )
        self.record["links"][link].update(size_bytes=len(content), sha256=sha256)
        self.put_blob(2 + 2 * link, zstandard.compress(content))

    def put_state(self, link: int, content: bytes) -> None:
        """Let a link's state be `content`, and everything that is said of it agree."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.manifest["layers"][3 + 2 * link]["annotations"].update(
            {SIZE: str(len(content)), SHA256: sha256}
        )
        self.record["links"][link].update(state_size_bytes=len(content), state_sha256=sha256)
        self.put_blob(3 + 2 * link, content)

    def disk(self, link: int) -> bytes:
        """Return a link's disk."""
        compressed = self.blob(self.manifest["layers"][2 + 2 * link])
        return zstandard.ZstdDecompressor().decompressobj().decompress(compressed)

    def publish(self) -> str:
        """Put record and manifest; return the artifact's name."""
        raw = json.dumps(self.record).encode()
        config = self.place.put_blob(REPOSITORY, raw, self.manifest["config"])
        digest = self.place.put_manifest(REPOSITORY, "", {**self.manifest, "config": config})
        return f"{self.place.host}/{REPOSITORY}@{digest}"


@pytest.fixture(scope="module")
def good_chain(
    saltflat: Saltflat,
    tool: Callable[[str], str],
    go_tools: Path,
    corner_layout: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Place, str]]:
    """Return a registry and the digest of a good chain in it."""
    folder = tmp_path_factory.mktemp("hostile")
    with serve_place(KINDS[1], folder / "registry", tool=tool, go_tools=go_tools) as place:
        out = saltflat.good(
            *("push", "--store", folder / "store", "--plain-http", "--format", "json"),
            *("--capacity", "1G", f"oci:{corner_layout}:latest", f"{place.host}/{REPOSITORY}"),
        )
        yield place, json.loads(out)["digest"]


@pytest.fixture
def chain(good_chain: tuple[Place, str]) -> Iterator[Chain]:
    """Return the chain, to be changed."""
    place, digest = good_chain
    yield Chain(place, digest)
    place.proxy.meddle = lambda _asked: None


def newer_schema(chain: Chain) -> None:
    chain.record["schema"] = 2


def newer_schema_of_a_link(chain: Chain) -> None:
    chain.record["links"][1]["schema"] = 2


def unknown_codec(chain: Chain) -> None:
    chain.manifest["layers"][2]["annotations"][CODEC] = "brotli"


def newer_state(chain: Chain) -> None:
    state = chain.blob(chain.manifest["layers"][3])
    chain.put_state(0, state[:8] + struct.pack("<I", 99) + state[12:])


def a_bomb(chain: Chain) -> None:
    compressor = zstandard.ZstdCompressor().compressobj()
    piece = bytes(1 << 20)
    parts = [compressor.compress(piece) for _ in range(BOMB_BYTES >> 20)]
    chain.put_blob(2, b"".join([*parts, compressor.flush()]))


def other_content(chain: Chain) -> None:
    disk = chain.disk(0)
    chain.put_blob(2, zstandard.compress(disk[:-1] + bytes([disk[-1] ^ 1])))


def cut_short(chain: Chain) -> None:
    chain.put_blob(2, chain.blob(chain.manifest["layers"][2])[:-10])


def shorter_content(chain: Chain) -> None:
    chain.put_blob(2, zstandard.compress(chain.disk(0)[:-SECTOR]))


def another_form_than_its_codec(chain: Chain) -> None:
    chain.put_blob(2, chain.disk(0))


def swapped_links(chain: Chain) -> None:
    layers = chain.manifest["layers"]
    layers[2:6] = [*layers[4:6], *layers[2:4]]


def swapped_disks(chain: Chain) -> None:
    """The blobs change places, and each is said to be what it is."""
    one, other = chain.disk(1), chain.disk(2)
    chain.put_disk(1, other)
    chain.put_disk(2, one)


def a_link_missing(chain: Chain) -> None:
    del chain.manifest["layers"][4:6]


def a_link_skipped(chain: Chain) -> None:
    del chain.manifest["layers"][4:6]
    del chain.record["links"][1]


def a_link_more(chain: Chain) -> None:
    chain.manifest["layers"] += chain.manifest["layers"][-2:]


def the_top_left_out(chain: Chain) -> None:
    """Everything agrees but the annotations by which the chain was chosen."""
    del chain.manifest["layers"][-2:]
    del chain.record["links"][-1]


def another_subject(chain: Chain) -> None:
    chain.manifest["subject"]["digest"] = f"sha256:{'1' * 64}"


def no_subject(chain: Chain) -> None:
    del chain.manifest["subject"]


def another_configuration(chain: Chain) -> None:
    config = json.loads(chain.blob(chain.manifest["layers"][1]))
    config["config"] = {"Cmd": ["evil"]}
    chain.put_blob(1, json.dumps(config).encode())


def another_parent(chain: Chain) -> None:
    chain.record["links"][2]["parent"] = chain.record["links"][0]["link_id"]


def other_parameters(chain: Chain) -> None:
    for link in chain.record["links"]:
        link["parameters"]["capacity_bytes"] *= 2


def an_edited_annotation(chain: Chain) -> None:
    chain.manifest["layers"][2]["annotations"]["vnd.saltflat.link.producer"] = "somebody else"


def a_disk_that_names_a_file_of_the_host(chain: Chain) -> None:
    """Consistent everywhere, but the base has a parent: QEMU would open what it names."""
    disk = bytearray(chain.disk(0))
    text = bytes(disk[SECTOR : 21 * SECTOR]).rstrip(b"\0")
    assert b"parentCID=ffffffff\n" in text
    text = text.replace(
        b"parentCID=ffffffff\n", b'parentCID=12345678\nparentFileNameHint="/etc/shadow"\n'
    )
    disk[SECTOR : 21 * SECTOR] = text.ljust(20 * SECTOR, b"\0")
    chain.put_disk(0, bytes(disk))


def a_disk_that_is_raw(chain: Chain) -> None:
    chain.put_disk(0, bytes(len(chain.disk(0))))


def a_table_entry_that_points_elsewhere(chain: Chain) -> None:
    """Two grains in one place: every digest is right, the disk is not one of ours."""
    disk = bytearray(chain.disk(3))
    (directory,) = struct.unpack_from("<Q", disk, 56)
    tables = [one for (one,) in struct.iter_unpack("<I", disk[directory * SECTOR :]) if one]
    entries = [
        table * SECTOR + 4 * slot
        for table in tables
        for slot in range(512)
        if struct.unpack_from("<I", disk, table * SECTOR + 4 * slot)[0] > 1
    ]
    disk[entries[0] : entries[0] + 4] = disk[entries[1] : entries[1] + 4]
    chain.put_disk(3, bytes(disk))


def a_state_of_garbage(chain: Chain) -> None:
    chain.put_state(0, b"SALTSTAT" + bytes(1000))


def another_links_state(chain: Chain) -> None:
    chain.put_state(1, chain.blob(chain.manifest["layers"][3]))


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        (newer_schema, 1),
        (newer_schema_of_a_link, 1),
        (unknown_codec, 1),
        (newer_state, 1),
        (a_bomb, 5),
        (other_content, 5),
        (cut_short, 5),
        (shorter_content, 5),
        (another_form_than_its_codec, 5),
        (swapped_links, 5),
        (swapped_disks, 5),
        (a_link_missing, 5),
        (a_link_skipped, 5),
        (a_link_more, 5),
        (the_top_left_out, 5),
        (another_subject, 5),
        (no_subject, 5),
        (another_configuration, 5),
        (another_parent, 5),
        (other_parameters, 5),
        (an_edited_annotation, 5),
        (a_disk_that_names_a_file_of_the_host, 5),
        (a_disk_that_is_raw, 5),
        (a_table_entry_that_points_elsewhere, 5),
        (a_state_of_garbage, 5),
        (another_links_state, 5),
    ],
)
def test_a_lie(
    saltflat: Saltflat, chain: Chain, tmp_path: Path, lie: Callable[[Chain], None], code: int
) -> None:
    lie(chain)
    name = chain.publish()
    done = saltflat("pull", "--store", tmp_path, "--plain-http", name)
    assert done.returncode == code, done.stderr
    assert b"bug" not in done.stderr
    assert list((tmp_path / "images").iterdir()) == []
    # Links below the lie may have arrived; each that has a name is good.
    saltflat.good("store", "verify", "--store", tmp_path)
    assert not [path.name for path in (tmp_path / "links").iterdir() if path.name[0] == "."]


def test_wrong_bytes_on_the_way(saltflat: Saltflat, chain: Chain, tmp_path: Path) -> None:
    blob = chain.manifest["layers"][4]
    changed = bytearray(chain.blob(blob))
    changed[len(changed) // 2] ^= 1
    chain.place.proxy.meddle = lambda asked: (
        Reply(200, bytes(changed)) if blob["digest"] in asked.path else None
    )
    done = saltflat("pull", "--store", tmp_path, "--plain-http", chain.publish())
    assert done.returncode == 5
    assert blob["annotations"]["vnd.saltflat.link.id"].encode() in done.stderr
    # What was right is there already when the next attempt comes.
    chain.place.proxy.meddle = lambda _asked: None
    chain.place.proxy.asked.clear()
    saltflat.good("pull", "--store", tmp_path, "--plain-http", chain.publish())
    first = chain.manifest["layers"][2]["digest"]
    assert not chain.place.proxy.paths("GET", first)


def test_published_again_without_a_lie_it_is_taken(
    saltflat: Saltflat, chain: Chain, tmp_path: Path
) -> None:
    saltflat.good("pull", "--store", tmp_path, "--plain-http", chain.publish())


def test_an_artifact_that_is_no_chain(saltflat: Saltflat, chain: Chain, tmp_path: Path) -> None:
    chain.manifest["artifactType"] = "application/vnd.example+json"
    done = saltflat("pull", "--store", tmp_path, "--plain-http", chain.publish())
    assert (done.returncode, b"artifact of type" in done.stderr) == (2, True), done.stderr


def test_the_record_says_what_the_store_has_differently(
    saltflat: Saltflat, chain: Chain, tmp_path: Path, corner_layout: Path
) -> None:
    """A store that made a link itself does not take another's word for it."""
    image = f"oci:{corner_layout}:latest"
    saltflat.good("convert", "--store", tmp_path, "--capacity", "1G", image)
    other_content(chain)
    disk = zstandard.decompress(chain.blob(chain.manifest["layers"][2]))
    chain.put_disk(0, disk)
    done = saltflat("pull", "--store", tmp_path, "--plain-http", chain.publish())
    assert done.returncode == 5
    assert b"has the sha256" in done.stderr
