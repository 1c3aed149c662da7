"""The rules of a policy: what each lets through, what it refuses, and what a file may say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from converter.errors import NotFoundError, PolicyError, UsageError
from converter.image.model import Descriptor, Digest, Image, ImageConfig, Layer, Manifest, Platform
from converter.image.reference import parse_source
from converter.policy import ANYTHING, LOCAL_SOURCES, Policy, UserRule
from converter.policy_file import parse_policy, read_policy

ROOT = Path(__file__).resolve().parents[2]
DIGEST = Digest.of(b"")
WHOLE = """\
# The first line is no rule.
schema: 1
registries:
  - registry.example
  - docker.io/library
  - localhost:5000/team/app
  - oci-archive
digest: required
max-compressed-size: 2G
max-disk-size: 8589934592
max-layers: 40
user: not-root
"""


def image(*, user: object = "", layers: int = 1, layer_bytes: int = 10) -> Image:
    layer = Layer(Descriptor("", DIGEST, layer_bytes), DIGEST)
    platform = Platform("linux", "amd64")
    return Image(
        "registry.example/app:1",
        DIGEST,
        platform,
        Manifest("", Descriptor("", DIGEST, 2), (layer.descriptor,) * layers),
        b"",
        ImageConfig(platform, {"User": user}, (DIGEST,) * layers),
        b"{}",
        (layer,) * layers,
    )


def test_a_file_with_every_rule() -> None:
    assert parse_policy(WHOLE.encode(), origin="p") == Policy(
        origin="p",
        registries=(
            *("registry.example", "docker.io/library", "localhost:5000/team/app"),
            "oci-archive",
        ),
        digest=True,
        max_compressed_bytes=2 << 30,
        max_disk_bytes=8 << 30,
        max_layers=40,
        user=UserRule.NOT_ROOT,
    )


def test_the_documented_policy_is_one() -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    example = page.partition("## Policy")[2].partition("```yaml\n")[2].partition("```")[0]
    found = parse_policy(example.encode(), origin="")
    defaults = Policy()
    for rule in Policy.__dataclass_fields__:
        if rule != "origin":
            assert getattr(found, rule) != getattr(defaults, rule), f"{rule} is not in the example"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "no policy"),
        ("- schema\n", 1, "no policy"),
        ("max-layers: 3\n", 1, "schema"),
        ("schema: 2\n", 1, "schema"),
        ("schema: true\n", 1, "schema"),
        ("schema: 1\n\nmax-layer: 3\n", 3, "no rule 'max-layer'"),
        ("schema: 1\nmax-layers: -1\n", 2, "max-layers"),
        ("schema: 1\nmax-layers: true\n", 2, "max-layers"),
        ("schema: 1\nmax-layers: 1" + "0" * 5000, 2, "no value"),
        ("schema: 1\nmax-layers: 1\nmax-layers: 2\n", 3, "said before, in line 2"),
        ("schema: 1\nmax-disk-size: large\n", 2, "not a size"),
        ("schema: 1\nmax-disk-size: [1]\n", 2, "max-disk-size"),
        ("schema: 1\nuser: root\n", 2, "not-root, numeric"),
        ("schema: 1\ndigest: no\n", 2, "required"),
        ("schema: 1\nregistries: docker.io\n", 2, "a list"),
        ("schema: 1\nregistries:\n- a.example\n- debian\n", 4, "'debian' is none of HOST"),
        ("schema: 1\nregistries: [a.example/UP]\n", 2, "none of HOST"),
        ("schema: 1\nregistries: [5000]\n", 2, "no text"),
        ("schema: 1\nuser: &a not-root\n", 2, "anchors"),
        ("schema: 1\nuser: *a\n", 2, "anchors"),
        ("schema: 1\n<<: {user: numeric}\n", 2, "no YAML"),
        ("schema: 1\nuser: !!python/object:os.system x\n", 2, "tags"),
        ("schema: 1\nuser: 2026-13-45\n", 2, "no value"),
        ("schema: 1\n1: 2\n", 2, "a key is no text"),
        ("schema: 1\n? [a]\n: b\n", 2, "a key is no text"),
        ("schema: 1\nuser: 'not-root\n", 3, "no YAML"),
        ("schema: 1\n--- \nschema: 1\n", 2, "no YAML"),
        ("schema: 1\nregistries: " + "[" * 5000, 2, "stand in one another"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_line(text: str, line: int, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_policy(text.encode(), origin="rules.yaml")
    assert caught.value.what.startswith(f"rules.yaml, line {line}: ")
    assert says in f"{caught.value.what} {caught.value.expected}"


@pytest.mark.parametrize("raw", [b"schema: 1\nuser: \xff", b"schema: 1\nuser: \0", b"#" * 300_000])
def test_a_file_that_is_no_text_is_refused(raw: bytes) -> None:
    with pytest.raises(UsageError):
        parse_policy(raw, origin="rules.yaml")


def test_a_misspelt_rule_is_told_its_neighbour(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("schema: 1\nregistry: [docker.io]\n")
    with pytest.raises(UsageError) as caught:
        read_policy(path)
    assert caught.value.hint == "Is it registries that you mean?"
    with pytest.raises(NotFoundError):
        read_policy(tmp_path / "none")


@pytest.mark.parametrize(
    ("allowed", "source", "passes"),
    [
        (["docker.io"], "debian", True),
        (["docker.io/library"], "debian:12", True),
        (["docker.io/library/debian"], "debian", True),
        (["docker.io/library/deb"], "debian", False),  # whole names only
        (["docker.io/library/debian/x"], "debian", False),
        (["index.docker.io"], "debian", False),  # a file's is read into docker.io; this is a value
        (["registry.example"], "registry.example:5000/app", False),
        (["registry.example:5000"], "registry.example:5000/app", True),
        (["registry.example"], "registry.example.evil.test/app", False),
        (["registry.example"], "evil.test/registry.example/app", False),
        (["registry.example"], "oci:registry.example", False),
        ([], "debian", False),
        (["oci"], "oci:folder", True),
        (["oci"], "oci-archive:file", False),
        (["docker-archive"], "docker-archive:-", True),
        (["bundle"], "./bundle", True),
        (["oci"], "./bundle", False),
    ],
)
def test_registries(allowed: list[str], source: str, passes: bool) -> None:
    policy = Policy(origin="p.yaml", registries=tuple(allowed))
    if passes:
        policy.check_reference(parse_source(source))
        return
    with pytest.raises(PolicyError, match=r"rule registries of p\.yaml") as caught:
        policy.check_reference(parse_source(source))
    assert caught.value.cause == "registries"


def test_docker_hubs_older_name_is_docker_hub() -> None:
    found = parse_policy(b"schema: 1\nregistries: [index.docker.io/library]\n", origin="")
    found.check_reference(parse_source("debian"))


@pytest.mark.parametrize("source", ["debian:12", "oci:folder:1", "docker-archive:f", "./bundle"])
def test_only_a_digest_says_which_bytes_are_meant(source: str) -> None:
    policy = Policy(digest=True)
    policy.check_reference(parse_source(f"debian:12@{DIGEST}"))
    with pytest.raises(PolicyError, match="rule digest"):
        policy.check_reference(parse_source(source))


@pytest.mark.parametrize(
    ("user", "not_root", "numeric"),
    [
        ("", False, False),
        ("root", False, False),
        ("root:staff", False, False),
        ("0", False, False),
        ("0:1000", False, False),
        ("00", False, False),
        ("+0", False, False),
        (":1000", False, False),
        (None, False, False),
        ("nobody", True, False),
        ("rooted", True, False),
        ("1000", True, True),
        ("1000:0", True, True),
        ("-1", True, False),
        ("1000\n", True, False),
    ],
)
def test_users(user: object, not_root: bool, numeric: bool) -> None:
    for rule, passes in ((UserRule.NOT_ROOT, not_root), (UserRule.NUMERIC, numeric)):
        policy = Policy(user=rule)
        if passes:
            policy.check_image(image(user=user))
        else:
            with pytest.raises(PolicyError, match="rule user"):
                policy.check_image(image(user=user))


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        (Policy(max_layers=3), "max-layers"),
        (Policy(max_compressed_bytes=30), "max-compressed-size"),
    ],
)
def test_a_limit_is_the_last_number_that_passes(policy: Policy, rule: str) -> None:
    policy.check_image(image(layers=3))
    with pytest.raises(PolicyError) as caught:
        policy.check_image(image(layers=4))
    assert caught.value.cause == rule


def test_disks_are_limited_too() -> None:
    policy = Policy(max_disk_bytes=100)
    policy.check_disks("x", 100)
    with pytest.raises(PolicyError) as caught:
        policy.check_disks("x", 101)
    assert caught.value.cause == "max-disk-size"


def test_no_policy_refuses_nothing() -> None:
    whole = replace(image(layers=1000, layer_bytes=1 << 40))
    ANYTHING.check_image(whole)
    ANYTHING.check_disks("x", 1 << 60)
    for source in ["debian", *(f"{name}:x" for name in LOCAL_SOURCES)]:
        ANYTHING.check_reference(parse_source(source))
