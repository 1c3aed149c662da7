"""Read licences out of a Debian copyright file, where it is machine-readable. Pure.

Source: "Machine-readable debian/copyright file" 1.0. A licence whose SPDX name is not known keeps
its own, as a LicenseRef with its text: nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tinykernel.sbom.c_licences import (
    FORMAT_FIELD,
    FORMAT_MARK,
    LICENCE_REF,
    NOASSERTION,
    SPDX_LICENCES,
)

_NOT_OF_A_REF = re.compile(r"[^A-Za-z0-9.-]+")
# "A or B", "A, and B": the words between names. `with` stays a part of a name.
_OPERATOR = re.compile(r"\s+(and|or)\s+", re.IGNORECASE)
_COMMA = re.compile(r"\s*,\s*(?:(and|or)\s+)?", re.IGNORECASE)

Paragraph = dict[str, str]


@dataclass(frozen=True, slots=True)
class ExtractedLicence:
    """A licence that SPDX has no name for: the name it gets in the document, its own, its text."""

    ref: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Licence:
    """What a package says that it may be used under, as an SPDX expression."""

    expression: str
    extracted: tuple[ExtractedLicence, ...] = ()


def read_licence(copyright_file: str, scope: str) -> Licence:
    """Return the licences of all the files that `copyright_file` tells of, joined by AND.

    NOASSERTION where it is not machine-readable. `scope`, a source package's name, keeps licences
    of one name but different texts apart.
    """
    paragraphs = list(_paragraphs(copyright_file))
    if not paragraphs or FORMAT_MARK not in paragraphs[0].get(FORMAT_FIELD, ""):
        return Licence(NOASSERTION)
    texts: dict[str, str] = {}
    for paragraph in paragraphs:
        name, _, text = paragraph.get("license", "").partition("\n")
        if text.strip():
            texts.setdefault(_plain(name), text)
    extracted: dict[str, ExtractedLicence] = {}

    def named(name: str) -> str:
        known = SPDX_LICENCES.get(name.lower())
        if known is not None:
            return known
        plain = f"{scope}-{name}".replace("+", "-plus")
        ref = f"{LICENCE_REF}{_NOT_OF_A_REF.sub('-', plain).strip('-')}"
        text = texts.get(_plain(name)) or f"{name}: see the copyright file of {scope}."
        extracted[ref] = ExtractedLicence(ref, name, _text(text))
        return ref

    expressions = {
        _expression(synopsis, named)
        for paragraph in paragraphs
        if "files" in paragraph
        and (synopsis := paragraph.get("license", "").partition("\n")[0].strip())
    }
    if not expressions:
        return Licence(NOASSERTION)
    whole = _all_of(sorted(expressions))
    return Licence(whole, tuple(extracted[ref] for ref in sorted(extracted)))


def _expression(synopsis: str, named: Callable[[str], str]) -> str:
    """Return the SPDX expression of a License field's first line.

    `and` binds closer than `or`, and both closer than where a comma stands before them.
    """
    outer = _COMMA.split(synopsis)
    terms = []
    for clause in outer[::2]:
        inner = _OPERATOR.split(clause.strip())
        terms.append(_joined([named(name.strip()) for name in inner[::2]], inner[1::2]))
    return _joined(terms, outer[1::2])


def _joined(terms: Sequence[str], operators: Sequence[str | None]) -> str:
    """Join terms by the words between them; None is `and`."""
    choices = [[terms[0]]]
    for term, operator in zip(terms[1:], operators, strict=True):
        if operator is not None and operator.lower() == "or":
            choices.append([term])
        else:
            choices[-1].append(term)
    return " OR ".join(dict.fromkeys(_all_of(choice) for choice in choices))


def _all_of(terms: Iterable[str]) -> str:
    """Join terms by AND, each once."""
    several = list(dict.fromkeys(terms))
    if len(several) == 1:
        return several[0]
    return " AND ".join(f"({term})" if " OR " in term else term for term in several)


def _paragraphs(text: str) -> Iterator[Paragraph]:
    """Yield the paragraphs of a control file: names in lower case, values of all lines."""
    paragraph: Paragraph = {}
    field = ""
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if paragraph:
                yield paragraph
            paragraph, field = {}, ""
        elif line.startswith((" ", "\t")):
            if field:
                paragraph[field] += f"\n{line}"
        elif not line.startswith("#"):
            field, _, value = line.partition(":")
            field = field.strip().lower()
            paragraph[field] = value.strip()


def _plain(name: str) -> str:
    return name.strip().lower()


def _text(continuation: str) -> str:
    """Return the text of a field's further lines: indented by one, empty ones marked by a dot."""
    lines = [line.strip() for line in continuation.strip("\n").splitlines()]
    return "\n".join("" if line == "." else line for line in lines)
