"""Where an image's outputs go: templates with names in braces, and what these stand for. Pure."""

from __future__ import annotations

import re
import string
from pathlib import Path

from converter.image.model import Image
from converter.image.reference import (
    DockerArchiveReference,
    RegistryReference,
    parse_source,
)

_DIGITS = 12  # of a digest: enough to tell images apart
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
NAMES = ("host", "repository", "name", "tag", "digest", "platform", "os", "architecture")


def check_template(template: str) -> None:
    """Raise ValueError for a template that is none, or has other names than NAMES."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{template[:80]!a} is no template: {error}") from error
    for _text, name, form, conversion in parts:
        if name is not None and (name not in NAMES or form or conversion):
            raise ValueError(
                f"{{{name[:40]}}} stands for nothing; there are "
                + ", ".join(f"{{{known}}}" for known in NAMES)
            )
    if not template.strip() or not template.isprintable():
        raise ValueError("it is empty, or has control characters")


def fill(template: str, source: str, image: Image) -> str:
    """Return where the output of `image`, named `source` in the batch, goes.

    Nothing that an image or an archive calls itself makes a folder but a repository's slashes.
    """
    return template.format(**_values(parse_source(source), image))


def _values(reference: object, image: Image) -> dict[str, str]:
    digest = image.digest.encoded[:_DIGITS]
    host, repository, tag = "local", "", ""
    if isinstance(reference, RegistryReference):
        host, repository = reference.host, reference.repository
        tag = reference.tag or ""
    elif isinstance(reference, DockerArchiveReference) and reference.name is not None:
        host, repository = reference.name.host, reference.name.repository
        tag = reference.name.tag or ""
    else:
        path: Path | None = getattr(reference, "path", None) or getattr(reference, "file", None)
        # As a whole path may be "." or "-": such an image is called by its digest alone.
        repository = _plain((path.name if path is not None else "").partition(".")[0]) or digest
        tag = getattr(reference, "tag", None) or ""
    return {
        "host": _plain(host),
        "repository": repository,
        "name": repository.rpartition("/")[2],
        "tag": _plain(tag) or digest,
        "digest": digest,
        "platform": _plain(str(image.platform).replace("/", "-")),
        "os": _plain(image.platform.os),
        "architecture": _plain(image.platform.architecture),
    }


def _plain(text: str) -> str:
    """Return `text` with nothing in it that means anything to a path, a shell or a registry."""
    return _UNSAFE.sub("-", text).strip(".-")
