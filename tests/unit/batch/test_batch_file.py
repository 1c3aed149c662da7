"""A batch's file: what it means, and every fault with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converter.artifact.referrers import referrers_tag
from converter.batch.batch_file import parse_batch
from converter.batch.keys import KEYS, OUTPUT_KEYS
from converter.batch.places import fill
from converter.batch.tags import choose_tags
from converter.batch.wishes import BatchFile, BundleWish, ExportWish, PushWish, TagWish, Treatment
from converter.convert_options import ConvertOptions
from converter.errors import UsageError
from converter.image.digest import Digest
from converter.image.model import Descriptor, Image, ImageConfig, Manifest
from converter.image.platform import Platform
from converter.image.source import Origin
from converter.policy import ANYTHING
from tests.images.cache import ROOT

AMD64 = Platform("linux", "amd64")
BASE = Treatment(ConvertOptions(), Origin(), (AMD64,))
YAML = """\
schema: 1
defaults:
  capacity: 8G
  bundle: out/{name}
images:
  - debian:12
  - registry.example/app:1.*
  - image: registry.example/web
    tags: [v1*, "regex:v2[.][0-9]"]
    newest: 2
    platforms: [linux/amd64, linux/arm64]
    capacity: 32G
    bundle: null
    export: {type: sparse, output: "{tag}.vmdk"}
    push: registry.example/chains/{name}
  - {image: "oci:./layout", journal: false, plain-http: true, mirror: mirror.example/hub}
"""


def read(text: str) -> BatchFile:
    return parse_batch(text.encode(), name="images.yaml", base=BASE)


def test_yaml_says_what_is_done_with_each_image() -> None:
    debian, app, web, layout = read(YAML).entries
    assert (debian.line, debian.source, debian.tags) == (6, "debian:12", None)
    assert debian.treatment.conversion.parameters.capacity_bytes == 8 << 30
    assert debian.treatment.outputs == (BundleWish(place="out/{name}"),)
    assert (app.source, app.tags) == ("registry.example/app", TagWish(("1.*",)))
    assert web.tags == TagWish(("v1*", "regex:v2[.][0-9]"), 2)
    assert web.treatment.platforms == (AMD64, Platform("linux", "arm64"))
    assert web.treatment.conversion.parameters.capacity_bytes == 32 << 30
    export, push = web.treatment.outputs
    assert isinstance(export, ExportWish)
    assert (export.type, export.place) == ("sparse", "{tag}.vmdk")
    assert push == PushWish(place="registry.example/chains/{name}", codec="zstd")
    assert not layout.treatment.conversion.parameters.journal
    assert layout.treatment.origin.access.plain_http
    assert str(layout.treatment.origin.access.mirrors[0]) == "mirror.example/hub"


def test_json_lines_say_the_same() -> None:
    web = {"image": "registry.example/web", "tags": "v1*", "capacity": "32G", "bundle": None}
    lines = [{"defaults": {"capacity": "8G", "bundle": "out/{name}"}}, "debian:12", web]
    found = read("\n".join(map(json.dumps, lines)))
    debian, app = found.entries
    assert (debian.line, debian.treatment) == (2, read(YAML).entries[0].treatment)
    assert (app.tags, app.treatment.outputs) == (TagWish(("v1*",)), ())


def test_an_images_own_words_replace_the_defaults(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("schema: 1\nmax-layers: 2\n")
    defaults = {"platforms": ["linux/amd64", "linux/arm64"], "policy": str(policy)}
    lines = [{"defaults": defaults}, "a", {"image": "a", "platform": "linux/s390x", "policy": None}]
    other, own = (entry.treatment for entry in read("\n".join(map(json.dumps, lines))).entries)
    assert len(other.platforms) == other.conversion.policy.max_layers == 2
    assert (own.platforms, own.conversion.policy) == ((Platform("linux", "s390x"),), ANYTHING)


def test_a_folder_may_have_a_pattern_s_letters() -> None:
    found = read(
        "images: ['oci:lay[1]', 'oci-archive:*.tar', 'oci/app:*', 'docker-archive:?:a/b:1']"
    )
    assert [(entry.source, entry.tags) for entry in found.entries] == [
        ("oci:lay[1]", None),
        ("oci-archive:*.tar", None),
        ("oci/app", TagWish(("*",))),
        ("docker-archive:?:a/b:1", None),
    ]
    with pytest.raises(UsageError, match=r"oci:layout is in no registry"):
        read("images: ['oci:layout:1.*']")


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r\n\r\n  \r\n"])
def test_what_editors_put_around_lines_says_nothing(ends: str) -> None:
    for lines in (['"a"', '"b:1"'], ["images:", "- a", '- "b:1"']):
        found = read("\ufeff" + ends.join([*lines, ""]))
        assert [entry.source for entry in found.entries] == ["a", "b:1"]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("images: 3", ["line 1: images is no list"]),
        ("- debian", ["line 1: this is no batch"]),
        ("images: []", ["names no image"]),
        (
            '"debian:12"\n{"image": 3}\n[',
            ["line 2: image: it has to be a text", "line 3: this is no JSON"],
        ),
        (
            "defaults: {capcity: 8G}\nimages:\n- ./bundle\n- image: a/b:1\n  tags: x\n"
            "- docker-archive:-\n- image: c\n  export:\n  - {type: ovx, output: '{nam}'}\n"
            "  - {type: ova}\n",
            [
                "line 1: there is no setting 'capcity' here; is it capacity",
                "line 3: ./bundle is a bundle",
                "line 4: a/b:1 names an image already",
                "line 6: standard input cannot be",
                "line 9: export: type: it has to be one of: stream",
                "line 9: export: output: {nam} stands for nothing",
                "line 10: export: output is not said",
            ],
        ),
        ("images:\n- image: a\n  platform: x\n", ["line 3: platform: 'x' is not a platform"]),
        (
            "images:\n- image: a\n  bundle: b\n  export: {type: flat, output: x, memory: 1g}\n",
            ["line 2: memory says nothing of a disk"],
        ),
        (
            '{"defaults": {}}\n{"defaults": {}}\n{"image": "a", "image": "b"}\n'
            '{"image": "a", "capacity": "4k"}\n{"image": "a", "timeout": 1e999}\n',
            [
                "line 2: defaults were said before",
                "line 3: 'image' was said before",
                "line 4: A capacity of 4096 bytes is not possible",
                "line 5: timeout: it has to be a number of seconds, at most 86400",
            ],
        ),
        ('# what a program wrote\n"debian:12"\n', ["line 2: this is no batch"]),
    ],
)
def test_every_fault_is_told_with_its_line(text: str, faults: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        read(text)
    for fault in faults:
        assert fault in error.value.what
    assert error.value.what.count("line ") == sum("line" in fault for fault in faults)


TAGS = ("1.9", "1.10", "1.10-rc1", "v1.11", "latest", "2.0-alpine", "2.0")


@pytest.mark.parametrize(
    ("wish", "chosen"),
    [
        (TagWish(("*",), 3), ["2.0-alpine", "2.0", "v1.11"]),
        (TagWish(("1.*",)), ["1.10", "1.10-rc1", "1.9"]),
        (TagWish((r"regex:v?1\.\d+",), 2), ["v1.11", "1.10"]),
        (TagWish(("regex:1",)), []),
        (TagWish(("latest", "2.?")), ["2.0", "latest"]),
    ],
)
def test_the_newest_tags_are_the_highest_versions(wish: TagWish, chosen: list[str]) -> None:
    assert choose_tags(wish, reversed(TAGS)) == chosen


def test_tags_that_list_referrers_are_no_images() -> None:
    digests = Digest.of(b""), Digest("sha512", "0" * 128)
    tags = [f"{referrers_tag(digest)}{end}" for digest in digests for end in ("", ".sig")]
    alike = ["sha256-0123", "sha-0123abc"]
    assert choose_tags(TagWish(("*", "regex:.*")), [*tags, *alike]) == [*alike]


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("debian:12", "docker.io/library/debian debian 12 linux-arm64-v9"),
        ("r.example:5000/a/b@sha256:" + "0" * 64, "r.example-5000/a/b b DIGEST linux-arm64-v9"),
        ("oci:./some/dir.x:a/b@c", "local/dir dir a-b-c linux-arm64-v9"),
        ("docker-archive:x.tar:app:2", "docker.io/library/app app 2 linux-arm64-v9"),
        ("oci-archive:./..", "local/DIGEST DIGEST DIGEST linux-arm64-v9"),
    ],
)
def test_places_are_filled_by_names_that_lead_nowhere_else(source: str, place: str) -> None:
    raw = b"{}"
    digest = Digest.of(raw)
    config = Descriptor("type", digest, 2)
    image = Image(
        source,
        digest,
        Platform("linux", "arm64", "v9"),
        Manifest("type", config, ()),
        raw,
        ImageConfig(AMD64, {}, ()),
        raw,
        (),
    )
    filled = fill("{host}/{repository} {name} {tag} {platform}", source, image)
    assert filled == place.replace("DIGEST", digest.encoded[:12])
    assert Path(filled).parts == Path(str(Path(filled))).parts


def test_the_documents_examples_are_batches_and_its_table_has_every_word() -> None:
    document = (ROOT / "docs" / "batch.md").read_text()
    yaml = document.partition("```yaml\n")[2].partition("```")[0]
    assert [entry.source for entry in read(yaml).entries] == [
        "debian:12",
        "registry.example/app",
        "registry.example/web",
        "oci:./layout:1.0",
    ]
    lines = [line.strip() for line in document.splitlines() if line.startswith(('    {"', '    "'))]
    assert len(read("\n".join(lines)).entries) == 2
    table = "".join(line for line in document.splitlines() if line.startswith("| `"))
    words = {*KEYS, *OUTPUT_KEYS}
    assert {word for word in words if f"`{word}`" not in table} == set()
