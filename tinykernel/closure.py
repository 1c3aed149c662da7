"""Find the Python modules that a program needs. Owns the import scan; reads and writes no file.

The scan is static and works on sources in memory, so the target's Python need not run here. What is
imported while a module loads is followed everywhere; an import inside a function is followed in our
own modules only: the guest deletes its initramfs once it runs, so nothing may be imported late.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from converter.errors import IntegrityError

# What the interpreter itself imports before the first line of a script, with -I -S, and what its
# modules in C import: array its collections.abc.
STARTUP = (
    *("encodings.utf_8", "encodings.ascii", "encodings.latin_1", "io", "abc", "os"),
    "collections.abc",
)

# Left out although the standard library asks for them: where they are not needed, or in a try.
OPTIONAL = frozenset(
    {
        "_hashlib",  # OpenSSL, 6 MB; the interpreter's own blake2 and sha2 serve
        "_ssl",
        "logging",  # hashlib's, when the interpreter lacks one of its own hashes
        "ntpath",  # os's, on Windows
        "_py_abc",  # abc's, where there is no _abc
    }
)


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """One importable file of a library; `path` is relative to the library's root."""

    name: str
    path: str

    @property
    def is_package(self) -> bool:
        return self.path.endswith("/__init__.py")

    @property
    def is_source(self) -> bool:
        return self.path.endswith(".py")


@dataclass(frozen=True, slots=True)
class Library:
    """A folder of modules: an entry of sys.path.

    `modules` by dotted name; `read` gives a module's bytes; `late_imports` says whether imports
    inside functions are followed.
    """

    modules: Mapping[str, ModuleFile]
    read: Callable[[ModuleFile], bytes]
    late_imports: bool


def index_modules(paths: Iterable[str], *, extension_suffix: str) -> dict[str, ModuleFile]:
    """Name the modules among `paths`, which are relative to an entry of sys.path.

    `extension_suffix` is the target's ".cpython-311-x86_64-linux-gnu.so"; extension modules stand
    in the root or in lib-dynload.
    """
    modules: dict[str, ModuleFile] = {}
    for path in sorted(paths):
        if path.endswith(".py"):
            name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        elif path.endswith(extension_suffix):
            name = path.removesuffix(extension_suffix).removeprefix("lib-dynload/")
            name = name.replace("/", ".")
        else:
            continue
        modules[name] = ModuleFile(name, path)
    return modules


def import_closure(roots: Iterable[str], libraries: Iterable[Library]) -> list[list[ModuleFile]]:
    """Return what importing `roots` can load, for each library the files, sorted by path.

    Names that no library has are taken to be built into the interpreter. Raises IntegrityError
    when a root is missing or a source does not parse.
    """
    search = list(libraries)
    found: dict[str, tuple[int, ModuleFile]] = {}
    queue = list(roots)
    for root in queue:
        if not any(root in library.modules for library in search):
            raise IntegrityError(f"the boot image's Python has no module {root}")
    while queue:
        name = queue.pop()
        if name in found or name in OPTIONAL:
            continue
        position = next((i for i, library in enumerate(search) if name in library.modules), None)
        if position is None:
            continue
        library = search[position]
        module = library.modules[name]
        found[name] = (position, module)
        parent = name.rpartition(".")[0]
        if parent:
            queue.append(parent)
        if module.is_source:
            queue.extend(_imports(library.read(module), module, late=library.late_imports))
    return [
        sorted((module for at, module in found.values() if at == i), key=lambda m: m.path)
        for i in range(len(search))
    ]


def _imports(source: bytes, module: ModuleFile, *, late: bool) -> Iterator[str]:
    """Yield every name that `source` may import; some are attributes and no modules."""
    try:
        tree = ast.parse(source, module.path)
    except (SyntaxError, ValueError) as error:
        raise IntegrityError(
            f"module {module.name} does not parse: {error}",
            hint="build the boot image with the distribution's own Python",
        ) from error
    for node in _statements(tree, late=late):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module)
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _statements(node: ast.AST, *, late: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not late:
            continue
        if isinstance(child, ast.If) and _never_in_the_guest(child.test):
            for other in child.orelse:
                yield other
                yield from _statements(other, late=late)
            continue
        yield child
        yield from _statements(child, late=late)


def _never_in_the_guest(test: ast.expr) -> bool:
    """Recognise `if TYPE_CHECKING:` and `if __name__ == "__main__":`."""
    if isinstance(test, ast.Compare):
        return isinstance(test.left, ast.Name) and test.left.id == "__name__"
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _absolute(node: ast.ImportFrom, module: ModuleFile) -> str:
    if not node.level:
        return node.module or ""
    package = module.name.split(".")
    drop = node.level - 1 if module.is_package else node.level
    base = package[: len(package) - drop]
    return ".".join([*base, node.module] if node.module else base)
