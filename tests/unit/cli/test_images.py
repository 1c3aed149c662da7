"""What is said of a SOURCE that is a path without `./`, which is a registry's image."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.cli.images import open_image
from converter.errors import NotFoundError, UnavailableError
from converter.events import ignore
from converter.image.source import Origin, SourceOptions
from converter.store.bundle import read_bundle

NOBODY = "127.0.0.1:1/web"  # no registry listens there
ORIGIN = Origin(access=SourceOptions(plain_http=True, retries=0))


@pytest.mark.parametrize(
    ("inside", "named"),
    [
        ("bundle.json", "bundle:{}"),
        ("oci-layout", "oci:{}"),
        ("thesis.tex", None),
        (None, "docker-archive:{} or oci-archive:{}"),  # a file itself
    ],
)
def test_what_is_there_under_that_name_is_pointed_at(
    inside: str | None, named: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(NOBODY)
    file = path if inside is None else path / inside
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(UnavailableError) as caught, open_image(NOBODY, ORIGIN, monitor=ignore):
        pass
    hint = caught.value.hint or ""
    assert ("is called" in hint) == (named is not None)
    assert (named or "").format(NOBODY, NOBODY) in hint
    if inside != "bundle.json":
        with pytest.raises(NotFoundError) as missed:
            read_bundle(path)
        assert (named or "saltflat convert").format(NOBODY, NOBODY) in (missed.value.hint or "")
