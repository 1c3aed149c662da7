"""What modules import, read off their syntax trees, and what a rule about that says.

Owns the reading; the table of rules is `test_imports`'s.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """Modules under `who` may import nothing of `never`, and if `only` is given nothing else.

    The standard library is always in `only`. All are prefixes in whole dotted names; `unless` names
    modules under `who` that the rule leaves alone. `why` is for the person who broke it.
    """

    who: tuple[str, ...]
    why: str
    never: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    unless: tuple[str, ...] = ()

    def allows(self, importer: str, imported: str) -> bool:
        """Say whether `importer` (dotted module) may import `imported` (dotted module or name)."""
        if not _under(importer, self.who) or _under(importer, self.unless):
            return True
        if _under(imported, self.never):
            return False
        if self.only is None or _under(imported, self.only):
            return True
        return imported.partition(".")[0] in sys.stdlib_module_names


def imports(source: str, importer: str, *, is_package: bool = False) -> Iterator[tuple[str, int]]:
    """Yield (dotted name, line) of everything imported; `from a import b` counts as a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = importer.split(".")
                keep = len(above) - node.level + is_package
                base = ".".join([*above[:keep], *filter(None, [base])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def _under(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)
