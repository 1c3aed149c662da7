"""What is said of a SOURCE that is a path without `./`, which is a registry's image."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.cli.images import open_image
from converter.errors import UnavailableError
from converter.events import ignore
from converter.image.source import Origin, SourceOptions

NOBODY = "127.0.0.1:1/web"  # no registry listens there
ORIGIN = Origin(access=SourceOptions(plain_http=True, retries=0))


@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_of_that_name_is_pointed_at(
    is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if is_there:
        (tmp_path / NOBODY).mkdir(parents=True)
    with pytest.raises(UnavailableError) as caught, open_image(NOBODY, ORIGIN, monitor=ignore):
        pass
    assert (f"./{NOBODY} names it" in (caught.value.hint or "")) == is_there
