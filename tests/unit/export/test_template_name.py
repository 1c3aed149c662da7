"""What a template is called when nobody says: the image's own name, wherever it came from."""

from __future__ import annotations

import hashlib

import pytest

from converter.export.template import check_template_name, template_name
from converter.image.digest import Digest


@pytest.mark.parametrize(
    ("reference", "stem"),
    [
        ("docker.io/library/debian:12", "debian"),
        ("registry.example:5000/team/web-app@sha256:" + "0" * 64, "web-app"),
        ("oci:hello:latest", "hello"),
        ("oci:/srv/images/hello:team/app:1", "hello"),
        ("oci:.", "package"),
        ("oci-archive:./hello.tar:1", "hello.tar"),
        ("docker-archive:saved.tar:registry.example/team/web:1", "web"),
        ("docker-archive:-", "image"),
        ("docker-archive:saved.tar:@2", "saved.tar"),
    ],
)
def test_the_last_name_counts(reference, stem):
    name = template_name(reference, Digest.of(b"manifest"))
    check_template_name(name)
    assert name == f"{stem}-{hashlib.sha256(b'manifest').hexdigest()[:12]}"
