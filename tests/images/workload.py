"""A batch's work: up to 60 images on 15 base chains of Debian packages, as one company has them.

    distribution (3) - common (1) - runtime (5) - flavour (4) - app (each image's own)

The names of its layers say what an image is made of, so how many blobs and links there are in all
follows from names alone: 73 blobs and 141 links where each image by itself would have five. Owns
the recipe and its layers' bytes; tests.integration.direct_push brings them into a registry.

What takes time is a flavour's many small files, as such programs have them: made once, converted
on 15 bases.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from converter.events import ignore
from tests.images.cache import ROOT, cache_folder, cached, fingerprint
from tests.images.raw_layout import GZIP, RawLayer, digest_of
from tests.images.tarball import MTIME, TarBuilder, noise
from tinykernel.deb import merged_path
from tinykernel.packages import open_package_set

COUNT = 60
_SLIM = ("base-files", "bash", "coreutils", "dash", "libc-bin", "libc6", "libgcc-s1", "sed", "tar")
_USUAL = (*_SLIM, "apt", "dpkg", "findutils", "grep", "gzip", "mawk", "perl-base", "util-linux")
_FULL = (*_USUAL, "git", "libstdc++6", "ncurses-bin", "vim-common", "vim-runtime")
DISTRIBUTIONS = {"slim": _SLIM, "usual": _USUAL, "full": _FULL}
COMMON = ("ca-certificates", "libssl3", "openssl", "tzdata")
RUNTIMES = {
    "python": ("libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal"),
    "perl": ("libperl5.36", "perl-modules-5.36"),
    "ruby": ("libruby3.1", "ruby3.1"),
    "tcl": ("libtcl8.6", "tcl8.6"),
    "django": ("python3-django", "python3-pip", "python3-setuptools"),
}
FLAVOURS = ("api", "cron", "web", "worker")
FEW_FILES, MANY_FILES = 300, 30_000  # of a flavour: a slice of a batch, and a batch
_FLAVOUR_BYTES = 2_000
_APP_FILES, _APP_BYTES = 60, 6_000
_MERGED = ("bin", "lib", "lib64", "sbin")
_RECIPE = "1"  # raised when `_unpacked` gives other bytes
_TIMEOUT_SECONDS = 60
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class WorkImage:
    """An image by the names of its layers, base first."""

    repository: str
    tag: str
    layers: tuple[str, ...]


def work_images(count: int = COUNT, *, flavour_files: int = FEW_FILES) -> tuple[WorkImage, ...]:
    """Return the first `count` images: four on each base, its distribution changing first."""
    return tuple(_image(number, flavour_files) for number in range(count))


def _image(number: int, files: int) -> WorkImage:
    base, flavour = divmod(number, len(FLAVOURS))
    runtime, distribution = divmod(base, len(DISTRIBUTIONS))
    runs, on, does = [*RUNTIMES][runtime], [*DISTRIBUTIONS][distribution], FLAVOURS[flavour]
    layers = (f"distribution-{on}", "common", f"runtime-{runs}", f"flavour-{does}-{files}")
    return WorkImage(f"{runs}-on-{on}", does, (*layers, f"app-{number:02d}"))


def unique_blobs(images: Iterable[WorkImage]) -> set[str]:
    """Return the names of all layers, each a blob."""
    return {layer for image in images for layer in image.layers}


def unique_links(images: Iterable[WorkImage]) -> set[tuple[str, ...]]:
    """Return every chain prefix: what a link is, when no layer is empty and none shares a link."""
    return {image.layers[:end] for image in images for end in range(1, len(image.layers) + 1)}


def work_layers(images: Iterable[WorkImage]) -> dict[str, RawLayer]:
    """Return all layers of `images` by name. Those of Debian packages are made once and kept.

    Raises UnavailableError where apt cannot get a package.
    """
    return {name: _layer(name) for name in sorted(unique_blobs(images))}


def _layer(name: str) -> RawLayer:
    kind, _, rest = name.partition("-")
    if kind == "flavour":
        flavour, _, files = rest.partition("-")
        return _packed(_generated(flavour, int(files), _FLAVOUR_BYTES))
    if kind == "app":
        return _packed(_generated(name, _APP_FILES, _APP_BYTES))
    packages = {"common": COMMON, **DISTRIBUTIONS, **RUNTIMES}[rest or kind]
    return _debian(name, packages, links=kind == "distribution")


def documents(image: WorkImage, layers: Sequence[RawLayer]) -> tuple[bytes, bytes]:
    """Return the configuration and the manifest of an image with `layers`."""
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/sh", f"/srv/{image.layers[-1]}/0"], "Env": ["PATH=/usr/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [layer.claimed for layer in layers]},
        }
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _descriptor(_CONFIG_TYPE, config),
        "layers": [
            _descriptor(f"application/vnd.oci.image.{layer.kind}", layer.blob) for layer in layers
        ],
    }
    return config, _json(manifest)


def _descriptor(kind: str, data: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}


def _generated(name: str, files: int, size_bytes: int) -> bytes:
    """Return the archive of a program's own files: half of each is text, half cannot shrink."""
    stream = io.BytesIO()
    tar = TarBuilder(stream)
    choose = random.Random(name)
    tar.directory("srv")
    tar.directory(f"srv/{name}")
    for number in range(files):
        half = choose.randrange(size_bytes)
        text = f"{name} {number}\n".encode() * (half // 12)
        tar.file(f"srv/{name}/{number}", text + noise(f"{name}/{number}", half))
    tar.file("etc/app", f"{name}\n".encode())
    tar.close()
    return stream.getvalue()


def _debian(name: str, packages: Sequence[str], *, links: bool) -> RawLayer:
    def make(folder: Path) -> None:
        layer = _packed(_unpacked(packages, links=links))
        folder.mkdir()
        (folder / "blob").write_bytes(layer.blob)
        (folder / "diff_id").write_text(layer.diff_id)

    key = fingerprint([ROOT / "tests/images/tarball.py"], _RECIPE, *packages)
    kept = cached(cache_folder(), f"work-{name}", key, make)
    return RawLayer((kept / "blob").read_bytes(), (kept / "diff_id").read_text(), GZIP)


def _unpacked(packages: Sequence[str], *, links: bool) -> bytes:
    """Return one archive of all files of `packages`, each path once, and the links of merged /usr.

    Nothing is configured: the result is for converting, not for running.
    """
    stream = io.BytesIO()
    tar = TarBuilder(stream)
    seen = set()
    if links:
        for folder in _MERGED:
            tar.directory(f"usr/{folder}")
            tar.symlink(folder, f"usr/{folder}")
            seen |= {folder, f"usr/{folder}"}
    for file in _fetched(packages):
        done = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", file],
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=True,
        )
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            for member in archive:
                path = merged_path(member.name)
                if not path or path in seen:
                    continue
                seen.add(path)
                member.name = path
                if member.islnk():
                    member.linkname = merged_path(member.linkname)
                member.mtime = min(int(member.mtime), MTIME)
                tar.copy(member, archive.extractfile(member) if member.isreg() else None)
    tar.close()
    return stream.getvalue()


def _fetched(packages: Sequence[str]) -> Iterator[Path]:
    with open_package_set(cache_folder() / "packages", monitor=ignore) as found:
        for name in packages:
            yield found.path(found.fetch(name))


def _packed(archive: bytes) -> RawLayer:
    diff_id = f"sha256:{hashlib.sha256(archive).hexdigest()}"
    return RawLayer(gzip.compress(archive, 6, mtime=0), diff_id, GZIP)


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
