"""saltflat on the host: from an image reference to disks, packages and machines.

What is listed in `__all__` is the library (docs/library.md). Each name is loaded when it is first
used, so that importing this costs nothing; other modules may change without notice.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.library import (
        BundleTarget,
        Chain,
        ChainParameters,
        Converted,
        ConvertOptions,
        Limits,
        Origin,
        Platform,
        Policy,
        SourceOptions,
        convert,
        verify,
    )
    from converter.policy_file import read_policy
    from converter.verification import Check
    from converter.watching import Watched, watch

__version__ = "0.1.0"
__all__ = [
    "BundleTarget",
    "Chain",
    "ChainParameters",
    "Check",
    "ConvertOptions",
    "Converted",
    "Limits",
    "Origin",
    "Platform",
    "Policy",
    "SourceOptions",
    "Watched",
    "__version__",
    "convert",
    "read_policy",
    "verify",
    "watch",
]

_ELSEWHERE = {
    "Check": "converter.verification",
    "Watched": "converter.watching",
    "read_policy": "converter.policy_file",
    "watch": "converter.watching",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE.get(name, "converter.library")), name)
