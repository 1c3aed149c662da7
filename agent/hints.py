"""The names of `typing`, as a guest can afford them: the standard module costs it 0.5 MB.

Owns what stands at run time for the names that annotations are made of. To a type checker they are
the standard ones. Annotations are never evaluated (PEP 563), so that only aliases and bases run: an
alias is good for annotations alone, and a base does what the standard one does.
"""

from __future__ import annotations

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

    from _collections import _tuplegetter

    class _Record(tuple):
        """What every tuple with names can do, of what `collections.namedtuple` can."""

        __slots__ = ()

        def __new__(cls, *places: Any, **names: Any) -> Any:
            if names or len(places) != len(cls._fields):
                places = _completed(cls, places, names)
            return tuple.__new__(cls, places)

        def __repr__(self) -> str:
            fields = ("{}={!r}".format(*each) for each in zip(self._fields, self))
            return "{}({})".format(type(self).__name__, ", ".join(fields))

        def __getnewargs__(self) -> Tuple[Any, ...]:
            return tuple(self)

        def _replace(self, **changes: Any) -> Any:
            """Return a tuple like this one but for the changes."""
            made = type(self)(*(changes.pop(*each) for each in zip(self._fields, self)))
            if changes:
                raise ValueError("{} has no {}".format(type(self).__name__, ", ".join(changes)))
            return made

    def _completed(cls: Any, places: Tuple[Any, ...], names: Dict[str, Any]) -> Tuple[Any, ...]:
        values = {**cls._field_defaults, **dict(zip(cls._fields, places)), **names}
        given = len(places) + len(names)
        if (
            set(values) != set(cls._fields)
            or given > len(cls._fields)
            or names.keys() & set(cls._fields[: len(places)])
        ):
            raise TypeError("{} is made of {}".format(cls.__name__, ", ".join(cls._fields)))
        return tuple(values[field] for field in cls._fields)

    class _NamedTupleMeta(type):
        """Make a tuple with names of a class with annotations, as the standard one does."""

        def __new__(cls, name: str, bases: Tuple[type, ...], namespace: Dict[str, Any]) -> type:
            fields = tuple(namespace["__annotations__"])
            defaults = {field: namespace.pop(field) for field in fields if field in namespace}
            namespace.update(__slots__=(), _fields=fields, _field_defaults=defaults)
            for place, field in enumerate(fields):
                namespace[field] = _tuplegetter(place, None)
            return type(name, (_Record,), namespace)

    NamedTuple = type.__new__(_NamedTupleMeta, "NamedTuple", (), {})
