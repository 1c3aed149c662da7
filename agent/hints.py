"""The names of `typing`, as a guest can afford them: the standard module costs it 0.5 MB.

Owns what stands at run time for the names that annotations are made of. To a type checker they are
the standard ones. Annotations are never evaluated (PEP 563), so that only aliases and bases run: an
alias is good for annotations alone, and a base does what the standard one does.
"""

from __future__ import annotations

from collections import namedtuple

__all__ = [
    "TYPE_CHECKING",
    "Any",
    "Callable",
    "Deque",
    "Dict",
    "FrozenSet",
    "Iterable",
    "Iterator",
    "List",
    "Mapping",
    "NamedTuple",
    "NoReturn",
    "Optional",
    "Protocol",
    "Sequence",
    "Set",
    "Tuple",
    "TypeVar",
    "Union",
]

TYPE_CHECKING = False  # to a type checker it is true, whoever defines it

if TYPE_CHECKING:
    from typing import (
        Any,
        Callable,
        Deque,
        Dict,
        FrozenSet,
        Iterable,
        Iterator,
        List,
        Mapping,
        NamedTuple,
        NoReturn,
        Optional,
        Protocol,
        Sequence,
        Set,
        Tuple,
        TypeVar,
        Union,
    )
else:

    class _Form:
        """What aliases are made of: `Optional[int]` is no more than `Optional`."""

        def __getitem__(self, parameters: object) -> _Form:
            return self

    Any = Callable = Deque = Dict = FrozenSet = Iterable = Iterator = List = Mapping = _Form()
    NoReturn = Optional = Sequence = Set = Tuple = Union = Any

    class Protocol:
        """A base of classes that say what others have to have."""

    class TypeVar:
        """A name in annotations."""

        def __init__(self, name: str) -> None:
            self.__name__ = name

    class _NamedTupleMeta(type):
        """Make a `collections.namedtuple` of a class with annotations, as the standard one does."""

        def __new__(cls, name: str, bases: Tuple[type, ...], namespace: Dict[str, Any]) -> type:
            fields = namespace["__annotations__"]
            defaults = [namespace.pop(field) for field in fields if field in namespace]
            made = namedtuple(name, fields, defaults=defaults, module=namespace["__module__"])
            for key, value in namespace.items():
                setattr(made, key, value)
            return made

    NamedTuple = type.__new__(_NamedTupleMeta, "NamedTuple", (), {})
