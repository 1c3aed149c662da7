"""Licences out of copyright files: known names become SPDX's, others keep theirs and their text."""

from __future__ import annotations

import pytest
from license_expression import get_spdx_licensing

from tinykernel.sbom.c_licences import SPDX_LICENCES
from tinykernel.sbom.licences import read_licence

HEAD = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"


def files(*licences: str) -> str:
    """Return a copyright file with a Files paragraph for each licence."""
    return HEAD + "".join(
        f"\nFiles: {i}\nCopyright: me\nLicense: {x}\n" for i, x in enumerate(licences)
    )


@pytest.mark.parametrize(
    ("licences", "expression"),
    [
        (["Expat"], "MIT"),
        (["GPL-2+", "Expat", "GPL-2+"], "GPL-2.0-or-later AND MIT"),
        (["MPL-1.1 or GPL-2+ or LGPL-2.1+"], "MPL-1.1 OR GPL-2.0-or-later OR LGPL-2.1-or-later"),
        (["GPL-2 or BSD-2-clause", "Zlib"], "(GPL-2.0-only OR BSD-2-Clause) AND Zlib"),
        (["GPL-2+ and Expat"], "GPL-2.0-or-later AND MIT"),
        (["GPL-2 or Zlib, and Expat"], "(GPL-2.0-only OR Zlib) AND MIT"),
        (["Expat and Zlib or GPL-2"], "MIT AND Zlib OR GPL-2.0-only"),
        (["Expat, Zlib, or GPL-2 , and ISC"], "MIT AND Zlib OR GPL-2.0-only AND ISC"),
        (["GPL-2+ with exception"], "LicenseRef-src-GPL-2-plus-with-exception"),
        (["GPL-2+-or-X11"], "LicenseRef-src-GPL-2-plus-or-X11"),
        (["A B/C"], "LicenseRef-src-A-B-C"),
    ],
)
def test_names(licences: list[str], expression: str) -> None:
    found = read_licence(files(*licences), "src")
    assert found.expression == expression
    unknown = get_spdx_licensing().validate(expression).errors
    assert len(unknown) == len(found.extracted)


def test_every_name_is_one_of_spdx() -> None:
    for name in SPDX_LICENCES.values():
        assert get_spdx_licensing().validate(name).errors == []


def test_texts_of_others_come_along_from_wherever_they_stand() -> None:
    text = files("odd", "odder\n There is\n .\n  a text.", "oddest")
    text += "\n# a comment\nLicense: odd\n Do\n  as you like.\n"
    found = {item.name: item for item in read_licence(text, "src").extracted}
    assert found["odd"].ref == "LicenseRef-src-odd"
    assert found["odd"].text == "Do\nas you like."
    assert found["odder"].text == "There is\n\na text."
    assert found["oddest"].text == "oddest: see the copyright file of src."


@pytest.mark.parametrize(
    "text",
    ["", "This package is free.\n", "License: GPL-2\n", HEAD, HEAD + "\nLicense: GPL-2\n text\n",
     "\n \n", HEAD + "\nFiles: *\nLicense:\n"],
)  # fmt: skip
def test_what_is_not_machine_readable_is_not_guessed(text: str) -> None:
    assert read_licence(text, "src").expression == "NOASSERTION"
