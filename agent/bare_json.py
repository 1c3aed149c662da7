"""What the agent uses of `json`, as a guest can afford it.

Owns `loads` and `dumps` with as much as the agent uses. The standard module brings `re` and `enum`
along and compiles patterns, for what its part in C does by itself: 9 ms of each start. To a type
checker everything here is the standard module's. Where that part is missing it is, and errors of a
text that is no JSON are the standard module's in any case, which is loaded for them.
"""

from __future__ import annotations

from agent.hints import TYPE_CHECKING, Any

__all__ = ["dumps", "loads"]

if TYPE_CHECKING:
    from json import dumps, loads
else:
    try:
        from _json import encode_basestring_ascii, make_encoder, make_scanner
    except ImportError:
        from json import dumps, loads
    else:
        _SPACE = " \t\n\r"  # RFC 8259, 2
        _NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": -float("inf")}

        class _Usual:
            """How the standard module reads when it is not told otherwise."""

            strict = True
            object_hook = None
            object_pairs_hook = None
            parse_float = float
            parse_int = int
            parse_constant = _NUMBERS.__getitem__

        _scan = make_scanner(_Usual)

        def loads(text: str) -> Any:
            """Return the value that `text` stands for. Raises ValueError, RecursionError."""
            start = len(text) - len(text.lstrip(_SPACE))
            try:
                value, end = _scan(text, start)
            except (StopIteration, SystemError):  # the latter where nobody has loaded json
                end = -1
            if end < 0 or text[end:].strip(_SPACE):
                from json import loads as explain  # noqa: PLC0415 - it raises, and says where

                return explain(text)
            return value

        def dumps(value: Any, *, separators: Any = (", ", ": ")) -> str:
            """Return `value` as text, in ASCII. Raises TypeError, ValueError."""
            between, behind_names = separators
            # Every call has a record of its own of what it is in, for values that hold themselves.
            rules = (encode_basestring_ascii, None, behind_names, between, False, False, True)
            encode = make_encoder({}, _refuse, *rules)
            return "".join(encode(value, 0))

        def _refuse(value: Any) -> Any:
            kind = type(value).__name__
            raise TypeError(f"Object of type {kind} is not JSON serializable")
