"""What the agent uses of `collections`, `functools` and `contextlib`, as a guest can afford it.

Owns `suppress` and `ExitStack`, with as much as the agent uses. The three modules and what they
bring along take 8 ms of each start; what is written in C of them needs none of it. To a type
checker everything here is the standard modules'.
"""

from __future__ import annotations

from agent.hints import TYPE_CHECKING, Any, Callable, List

__all__ = ["ExitStack", "deque", "partial", "suppress"]

if TYPE_CHECKING:
    from collections import deque
    from contextlib import ExitStack, suppress
    from functools import partial
else:
    from _collections import deque
    from _functools import partial

    class suppress:  # noqa: N801 - its name in the library
        """Go on behind the block when it raises one of `kinds`."""

        def __init__(self, *kinds: type) -> None:
            self._kinds = kinds

        def __enter__(self) -> None:
            return None

        def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
            return kind is not None and issubclass(kind, self._kinds)

    class ExitStack:
        """Leave what was entered, and call what was asked for, in the opposite order."""

        def __init__(self) -> None:
            self._exits: List[Callable[..., Any]] = []

        def __enter__(self) -> ExitStack:
            return self

        def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
            first = error
            while self._exits:
                leave = self._exits.pop()
                try:
                    if leave(kind, error, trace):
                        kind = error = trace = None
                except BaseException as raised:
                    raised.__context__ = raised.__context__ or error
                    kind, error, trace = type(raised), raised, raised.__traceback__
            if error is not None and error is not first:
                raise error
            return first is not None and error is None

        def enter_context(self, manager: Any) -> Any:
            """Enter `manager` and return what that gives; it is left at the end."""
            value = type(manager).__enter__(manager)
            self._exits.append(partial(type(manager).__exit__, manager))
            return value

        def callback(self, call: Callable[..., object], *arguments: object) -> None:
            """Have `call` made at the end; what it returns means nothing."""

            def leave(*_: object) -> None:
                call(*arguments)

            self._exits.append(leave)

        def close(self) -> None:
            """Leave everything now."""
            self.__exit__(None, None, None)
