"""What a package says of itself is read out of it, once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from converter.errors import IntegrityError
from tinykernel.facts import kept_facts, read_facts

BUILT = 1_234_567_890
CONTROL = """\
Package: {name}
Version: 1:2.0-3+b1
Architecture: amd64
Maintainer: a <a@b.c>
Homepage: https://sample.example/
Source: origin (1:2.0-3)
Built-Using: linux (= 6.1.2-1),
 gcc (= 12-1)
Description: sample
"""


def package(folder: Path, name: str, copyright_file: bytes | str | None) -> Path:
    """Make a package; `copyright_file` is its text, or the package whose folder it shares."""
    root = folder / name
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(CONTROL.format(name=name))
    documents = root / "usr/share/doc"
    documents.mkdir(parents=True)
    if isinstance(copyright_file, str):
        (documents / name).symlink_to(copyright_file)
    else:
        (documents / name).mkdir()
        if copyright_file is not None:
            (documents / name / "copyright").write_bytes(copyright_file)
    deb = folder / f"{name}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", root, deb],
        check=True,
        capture_output=True,
        timeout=30,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(BUILT)},
    )
    return deb


def test_facts(tmp_path: Path) -> None:
    deb = package(tmp_path, "sample", b"All \xff yours")
    facts = read_facts(deb, scratch_dir=tmp_path)
    assert (facts.name, facts.version, facts.architecture) == ("sample", "1:2.0-3+b1", "amd64")
    assert (facts.source, facts.source_version) == ("origin", "1:2.0-3")
    assert facts.built_using == (("linux", "6.1.2-1"), ("gcc", "12-1"))
    assert facts.homepage == "https://sample.example/"
    assert facts.built_seconds == BUILT
    assert facts.sha1 == hashlib.sha1(deb.read_bytes()).hexdigest()
    assert facts.sha256 == hashlib.sha256(deb.read_bytes()).hexdigest()
    assert (facts.copyright, facts.copyright_of) == ("All \ufffd yours", "sample")


@pytest.mark.parametrize(("shared", "owner"), [("other", "other"), (None, "sample")])
def test_a_copyright_file_may_be_elsewhere_or_nowhere(
    shared: str | None, owner: str, tmp_path: Path
) -> None:
    facts = read_facts(package(tmp_path, "sample", shared), scratch_dir=tmp_path)
    assert (facts.copyright, facts.copyright_of) == ("", owner)


def test_a_package_is_read_once(tmp_path: Path) -> None:
    deb = package(tmp_path, "sample", b"text")
    folder = tmp_path / "kept"
    folder.mkdir()
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    facts = kept_facts(deb, digest, folder=folder)
    content = deb.read_bytes()
    deb.unlink()
    assert kept_facts(deb, digest, folder=folder) == facts
    (kept,) = folder.iterdir()
    for other in (b"damaged", b"[]", json.dumps({"schema": 99, "facts": {}}).encode()):
        deb.write_bytes(content)
        kept.write_bytes(other)
        assert kept_facts(deb, digest, folder=folder) == facts


def test_what_is_no_package_is_one_error(tmp_path: Path) -> None:
    deb = tmp_path / "broken.deb"
    deb.write_bytes(b"!<arch>\nnothing")
    with pytest.raises(IntegrityError, match=r"broken\.deb"):
        read_facts(deb, scratch_dir=tmp_path)
