"""What the agent uses of `ctypes`, as a guest can afford it.

Owns how a function of the C library is called; the part in C does it. The standard module defines
every type that C has and checks each one's size: 5 ms of each start. To a type checker everything
here is the standard module's.
"""

from __future__ import annotations

from agent.hints import TYPE_CHECKING, Any, Optional

__all__ = [
    "CDLL",
    "CFUNCTYPE",
    "addressof",
    "c_char_p",
    "c_int",
    "c_long",
    "c_ulong",
    "create_string_buffer",
    "get_errno",
]

if TYPE_CHECKING:
    from ctypes import (
        CDLL,
        CFUNCTYPE,
        addressof,
        c_char_p,
        c_int,
        c_long,
        c_ulong,
        create_string_buffer,
        get_errno,
    )
else:
    from _ctypes import (
        FUNCFLAG_CDECL,
        FUNCFLAG_USE_ERRNO,
        CFuncPtr,
        _SimpleCData,
        addressof,
        dlopen,
        get_errno,
    )

    class c_char(_SimpleCData):  # noqa: N801 - their names in the library
        _type_ = "c"

    class c_char_p(_SimpleCData):  # noqa: N801 - as c_char
        _type_ = "z"

    class c_int(_SimpleCData):  # noqa: N801 - as c_char
        _type_ = "i"

    class c_long(_SimpleCData):  # noqa: N801 - as c_char
        _type_ = "l"

    class c_ulong(_SimpleCData):  # noqa: N801 - as c_char
        _type_ = "L"

    class CDLL:
        """The functions of a library; None is what the process has already."""

        def __init__(self, name: Optional[str], *, use_errno: bool) -> None:
            flags = FUNCFLAG_CDECL | (FUNCFLAG_USE_ERRNO if use_errno else 0)
            settings = {"_flags_": flags, "_restype_": c_int}
            self._function = type("Function", (CFuncPtr,), settings)
            self._handle = dlopen(name)

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            function = self._function((name, self))
            setattr(self, name, function)
            return function

    def CFUNCTYPE(result: Any, *arguments: Any) -> Any:  # noqa: N802 - its name in the library
        """Return the kind of functions that take these and return that; called with an address."""
        settings = {"_flags_": FUNCFLAG_CDECL, "_restype_": result, "_argtypes_": arguments}
        return type("Function", (CFuncPtr,), settings)

    def create_string_buffer(data: bytes) -> Any:
        """Return memory that holds `data` and a NUL."""
        buffer = (c_char * (len(data) + 1))()
        buffer.value = data
        return buffer
