"""The `WWW-Authenticate` header as values. Pure. (RFC 9110 sections 11.2, 11.3 and 11.6.1)"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110's "token"
_SEPARATORS = re.compile(r"[ \t,]*")
_SCHEME = re.compile(rf"({_WORD})(?=[ \t,]|$)")
_PARAMETER = re.compile(rf'({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))(?=[ \t,]|$)')
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_QUOTED_PAIR = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate that a server offers. Scheme and parameter names are lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Read all challenges of a header, in its order. Raises ValueError where it is malformed.

    Several header lines are given joined by commas, which is how HTTP libraries hand them out. A
    parameter that is repeated keeps its first value.
    """
    challenges: list[Challenge] = []
    parameters: dict[str, str] | None = None
    position = _skip(header, 0)
    while position < len(header):
        # A comma separates both parameters and challenges; only "=" tells which one follows.
        match = _PARAMETER.match(header, position)
        if match and parameters is not None:
            name, quoted, plain = match.groups()
            value = plain if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
            parameters.setdefault(name.lower(), value)
        elif match := _SCHEME.match(header, position):
            parameters = {}
            challenges.append(Challenge(match[1].lower(), parameters))
            blank = _skip(header, match.end())
            token68 = _TOKEN68.match(header, blank)
            # "Negotiate abc==" has a token68; in "Basic, Bearer" the second word is a scheme.
            if token68 and "," not in header[match.end() : blank]:
                match = token68
        else:
            raise ValueError(f"malformed at character {position + 1}")
        position = _skip(header, match.end())
    return tuple(challenges)


def _skip(header: str, position: int) -> int:
    match = _SEPARATORS.match(header, position)
    assert match, "the pattern matches the empty text"
    return match.end()
