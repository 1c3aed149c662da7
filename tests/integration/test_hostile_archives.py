"""Archives that lie, end early or never end: one clear error, the right exit code, nothing kept."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard

from tests.images.prepared import SALTFLAT
from tests.images.raw_layout import digest_of
from tests.images.raw_tar import header, padded
from tests.integration.conftest import Saltflat
from tests.unit.image.samples import Blobs, Document

pytestmark = pytest.mark.integration

LAYER = header(b"etc/", b"5") + header(b"etc/a", size=1) + padded(b"a") + bytes(1024)
DIFF_ID = digest_of(LAYER)
CONFIG = json.dumps(
    {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [DIFF_ID]},
    }
).encode()
END = bytes(1024)


@dataclass(frozen=True, slots=True)
class Hostile:
    """An archive's bytes, the exit code that it must lead to, and what must be said."""

    data: bytes
    code: int
    said: str
    scheme: str = "docker-archive"


def file(name: str, data: bytes) -> bytes:
    """Return a regular file's header and data."""
    return header(name.encode(), size=len(data)) + padded(data)


def link(name: str, target: str, typeflag: bytes = b"2") -> bytes:
    """Return a link's header; it is symbolic unless told otherwise."""
    return header(name.encode(), typeflag, linkname=target.encode())


def docker(*members: bytes, layers: tuple[str, ...] = ("layer.tar",)) -> bytes:
    """Return a docker archive with a sound configuration, these layers' names, and `members`."""
    entry = {"Config": "config.json", "RepoTags": ["a:1"], "Layers": list(layers)}
    manifest = json.dumps([entry]).encode()
    return b"".join([file("config.json", CONFIG), *members, file("manifest.json", manifest), END])


def layout(
    change: Callable[[Blobs, Document], None] = lambda _blobs, _entry: None, **resized: int
) -> bytes:
    """Return an archive of a layout with one image; `resized` replaces sizes in descriptors."""
    blobs = Blobs()
    config = blobs.add(CONFIG, "application/vnd.oci.image.config.v1+json")
    layer = blobs.add(LAYER, "application/vnd.oci.image.layer.v1.tar")
    layer["size"] = resized.get("layer", layer["size"])
    manifest = {"schemaVersion": 2, "config": config, "layers": [layer]}
    kind = "application/vnd.oci.image.manifest.v1+json"
    entry = blobs.add(json.dumps({**manifest, "mediaType": kind}).encode(), kind)
    change(blobs, entry)
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    return b"".join(
        [
            *(file(f"blobs/{digest.replace(':', '/')}", data) for digest, data in blobs.items()),
            file("index.json", index),
            file("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
            END,
        ]
    )


def without_layer(blobs: Blobs, _entry: Document) -> None:
    """Take the layer out of an archive of a layout."""
    del blobs[DIFF_ID]


def changed_layer(blobs: Blobs, _entry: Document) -> None:
    """Change one byte of the layer's content, under its old name."""
    blobs[DIFF_ID] = LAYER.replace(b"a" + bytes(511), b"b" + bytes(511))


GOOD = docker(file("layer.tar", LAYER))
CASES = {
    "twice": Hostile(docker(file("layer.tar", LAYER), file("./layer.tar", b"x")), 5, "there twice"),
    "dots": Hostile(docker(file("../../layer.tar", LAYER)), 5, "names that stay in the archive"),
    "outside": Hostile(
        docker(link("layer.tar", "../../../etc/shadow")), 5, "outside of the archive"
    ),
    "absolute": Hostile(docker(link("layer.tar", "/etc/shadow")), 5, "not in the archive"),
    "loop": Hostile(docker(link("layer.tar", "x"), link("x", "layer.tar")), 5, "in a circle"),
    "hard link": Hostile(docker(link("layer.tar", "layer.tar", b"1")), 5, "in a circle"),
    "path in manifest": Hostile(docker(layers=("/etc/passwd",)), 5, "not in the archive"),
    "device": Hostile(docker(header(b"layer.tar", b"3")), 5, "not in the archive"),
    "huge": Hostile(docker(header(b"layer.tar", size=1 << 62)), 5, "ends in the middle"),
    "no end": Hostile(GOOD[:-1024], 5, "ends in the middle"),
    "truncated": Hostile(GOOD[:-2048], 5, "ends in the middle"),
    "truncated gzip": Hostile(gzip.compress(GOOD, mtime=0)[:-20], 5, "is truncated"),
    "garbage after gzip": Hostile(gzip.compress(GOOD, mtime=0) + b"garbage" * 9, 5, "is damaged"),
    "missing layer": Hostile(docker(), 5, "'layer.tar', which is not in the archive"),
    "other content": Hostile(docker(file("layer.tar", bytes(1024))), 5, "has the digest"),
    "another count": Hostile(
        docker(file("layer.tar", LAYER), layers=("layer.tar",) * 2), 5, "has 2 layers"
    ),
    "no image": Hostile(file("manifest.json", b"[]") + END, 3, "no such image"),
    "no manifest": Hostile(file("x", b"") + END, 3, "it has no manifest.json"),
    "not a tar": Hostile(b"#!/bin/sh\n" * 100, 5, "unknown format"),
    "not its digest": Hostile(layout(changed_layer), 5, "has the digest", "oci-archive"),
    "no blob": Hostile(layout(without_layer), 3, "has no blob", "oci-archive"),
    "another size": Hostile(layout(layer=7), 5, "expected: 7 bytes", "oci-archive"),
    "no index": Hostile(file("oci-layout", b"{}") + END, 5, "imageLayoutVersion", "oci-archive"),
    "no layout": Hostile(file("index.json", b"{}") + END, 3, "has no oci-layout", "oci-archive"),
}


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *((name, "file") for name in CASES),
        *((name, "standard input") for name in ("truncated", "other content", "no blob")),
    ],
)
def test_one_clear_error_and_nothing_kept(
    saltflat: Saltflat, tmp_path: Path, name: str, way: str
) -> None:
    case = CASES[name]
    path = tmp_path / "a.tar"
    path.write_bytes(case.data)
    source, stdin = (path, b"") if way == "file" else ("-", case.data)
    done = saltflat(
        "convert", "--store", tmp_path / "store", f"{case.scheme}:{source}", stdin=stdin
    )
    said = done.stderr.decode()
    assert done.returncode == case.code, said
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert case.said.lower() in said.lower()
    assert "Traceback" not in said
    assert kept(tmp_path / "store") == []


def test_the_sound_form_of_these_archives_is_taken(saltflat: Saltflat, tmp_path: Path) -> None:
    """Without this, the cases above could fail for another reason than theirs."""
    for data, scheme in ((GOOD, "docker-archive"), (layout(), "oci-archive")):
        saltflat.good("convert", "--store", tmp_path, f"{scheme}:-", stdin=data)
    assert len(list((tmp_path / "links").glob("*.vmdk"))) == 1


def kept(store: Path) -> list[str]:
    """Return all files of a store but locks and its own description."""
    return [
        str(path.relative_to(store))
        for path in store.rglob("*")
        if path.is_file() and path.parent.name != "locks" and path.name != "store.json"
    ]


@pytest.mark.timeout(60)
def test_a_million_members(saltflat: Saltflat, tmp_path: Path) -> None:
    block = header(b"folder/", b"5") * 1000  # folders may repeat, so nothing else is wrong
    data = zstandard.compress(block * 1000)
    assert len(data) < 1 << 20
    done = saltflat("inspect", "docker-archive:-", stdin=data)
    assert done.returncode == 5
    assert b"has more than 100000 members" in done.stderr


def test_a_manifest_of_a_hundred_megabytes(saltflat: Saltflat, tmp_path: Path) -> None:
    size = 100 << 20
    data = zstandard.compress(header(b"manifest.json", size=size) + b"[" * size + END)
    done = saltflat("inspect", "docker-archive:-", stdin=data)
    assert done.returncode == 5
    assert b"manifest.json is 4194305 bytes long" in done.stderr


def test_without_room_for_the_copy(saltflat: Saltflat, tmp_path: Path) -> None:
    """No file may grow beyond 1 MiB: what a full disk says, from the same system call."""
    data = gzip.compress(docker(file("layer.tar", LAYER), file("rest", bytes(4 << 20))), mtime=0)
    done = subprocess.run(
        [
            "prlimit",
            "--fsize=1048576",
            *SALTFLAT,
            "convert",
            "--store",
            tmp_path,
            "docker-archive:-",
        ],
        input=data,
        capture_output=True,
        env={**os.environ, **saltflat.environment},
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert b"could not be unpacked: File too large" in done.stderr
    assert b"$TMPDIR" in done.stderr
    assert kept(tmp_path) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_copy_that_was_interrupted(
    saltflat: Saltflat, tmp_path: Path, how: signal.Signals
) -> None:
    command = [*SALTFLAT, "--progress", "json", "convert", "--store", tmp_path, "docker-archive:-"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **saltflat.environment},
    ) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(file("rest", os.urandom(4 << 20)))
        process.stdin.flush()
        events = _events(process.stderr)
        assert next(events)["event"] == "started"
        assert next(events)["event"] == "advanced"  # so the copy is being written
        process.send_signal(how)
        assert process.wait(30) == (130 if how == signal.SIGINT else -how)
    assert kept(tmp_path) == []


def _events(stream: Iterator[bytes]) -> Iterator[dict[str, object]]:
    for line in stream:
        yield json.loads(line)


def test_two_readers_of_standard_input(saltflat: Saltflat, tmp_path: Path) -> None:
    done = saltflat("run", "--store", tmp_path, "-i", "docker-archive:-", "cat", stdin=GOOD)
    assert done.returncode == 125
    assert b"Both run -i and docker-archive:- would read standard input" in done.stderr


def test_swapped_layers_are_found_by_their_diff_ids(saltflat: Saltflat, tmp_path: Path) -> None:
    other = header(b"b", size=0) + bytes(1024)
    config = json.loads(CONFIG)
    config["rootfs"]["diff_ids"] = [DIFF_ID, digest_of(other)]
    entry = {"Config": "c", "Layers": ["2.tar", "1.tar"]}
    data = b"".join(
        [
            file("c", json.dumps(config).encode()),
            file("1.tar", LAYER),
            file("2.tar", other),
            file("manifest.json", json.dumps([entry]).encode()),
            END,
        ]
    )
    done = saltflat("convert", "--store", tmp_path, "docker-archive:-", stdin=data)
    assert done.returncode == 5
    assert b"layer 1/2" in done.stderr
    assert hashlib.sha256(other).hexdigest().encode() in done.stderr
    assert kept(tmp_path) == []
