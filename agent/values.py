"""`dataclass`, as a guest can afford it: the standard one costs the agent 1.4 MB and boot time.

Owns what a class of values is: construction by place or name, equality, hash and repr by fields,
frozen or not, `replace`. The standard one brings `inspect` along, and compiles six functions for
each class; here all classes share theirs. To a type checker it is the standard one, and what it
has of that, it does as that does (a property test holds the two against each other).
"""

from __future__ import annotations

from agent.hints import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

__all__ = ["dataclass", "field", "replace"]

if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
else:

    def dataclass(cls: Optional[type] = None, *, frozen: bool = False) -> Any:
        """Make a class of values of a class with annotations, which has no base of this kind."""
        if cls is None:
            return lambda decorated: dataclass(decorated, frozen=frozen)
        fields = {}
        for name in cls.__annotations__:
            found = cls.__dict__.get(name, _MISSING)
            if isinstance(found, _Field):
                delattr(cls, name)
                if found.default is not _MISSING:
                    setattr(cls, name, found.default)
            fields[name] = found if isinstance(found, _Field) else _Field(found)
        cls.__value_fields__ = fields
        cls.__init__ = _init
        cls.__repr__ = _repr
        cls.__eq__ = _eq
        cls.__hash__ = _hash if frozen else None
        if frozen:
            cls.__setattr__ = cls.__delattr__ = _refuse
        return cls

    def field(
        *,
        default: Any = None,
        default_factory: Optional[Callable[[], Any]] = None,
        compare: bool = True,
    ) -> Any:
        """Describe a field that has more than a name; it has a default."""
        return _Field(_MISSING if default_factory else default, default_factory, compare)

    def replace(value: Any, **changes: Any) -> Any:
        """Return a value like this one but for the changes."""
        return type(value)(**{**value.__dict__, **changes})


_MISSING = object()


class _Field:
    """What is known of a field: how to make its default, and whether it is compared."""

    __slots__ = ("compare", "default", "factory")

    def __init__(
        self,
        default: Any,
        factory: Optional[Callable[[], Any]] = None,
        compare: bool = True,
    ) -> None:
        self.default = default
        self.factory = factory
        self.compare = compare


def _init(self: Any, *places: Any, **names: Any) -> None:
    fields: Dict[str, _Field] = self.__value_fields__
    # By way of the dictionary, which no __setattr__ guards.
    values = self.__dict__
    if len(places) > len(fields):
        raise TypeError("{} has {} fields".format(type(self).__name__, len(fields)))
    values.update(zip(fields, places))
    for name, given in names.items():
        if name not in fields or name in values:
            what = "was given twice" if name in values else "is no field"
            raise TypeError("{}: {} {}".format(type(self).__name__, name, what))
        values[name] = given
    if len(values) < len(fields):
        for name, one in fields.items():
            if name not in values:
                values[name] = _default(self, name, one)


def _default(self: Any, name: str, one: _Field) -> Any:
    if one.factory is not None:
        return one.factory()
    if one.default is _MISSING:
        raise TypeError("{}: {} is missing".format(type(self).__name__, name))
    return one.default


def _compared(self: Any) -> Tuple[Any, ...]:
    values = self.__dict__
    return tuple([values[name] for name, one in self.__value_fields__.items() if one.compare])


def _eq(self: Any, other: object) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return _compared(self) == _compared(other)


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _repr(self: Any) -> str:
    shown = ["{}={!r}".format(name, self.__dict__[name]) for name in self.__value_fields__]
    return "{}({})".format(type(self).__qualname__, ", ".join(shown))


def _refuse(self: Any, name: str, *_value: Any) -> None:
    raise AttributeError("{} is frozen: {}".format(type(self).__name__, name))
