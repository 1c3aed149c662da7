"""The import closure: what loading needs, late imports of ours only, nothing that never runs."""

from __future__ import annotations

import pytest

from converter.errors import IntegrityError
from tinykernel.closure import Library, import_closure, index_modules

SUFFIX = ".cpython-311-x86_64-linux-gnu.so"


def library(files: dict[str, str], *, late: bool = False) -> Library:
    return Library(
        index_modules(files, extension_suffix=SUFFIX),
        lambda module: files[module.path].encode(),
        late_imports=late,
    )


def loaded(root: str, files: dict[str, str], *, late: bool = False) -> set[str]:
    [found] = import_closure([root], [library(files, late=late)])
    return {module.name for module in found}


def test_index_names_packages_modules_and_extensions() -> None:
    modules = index_modules(
        ["os.py", "json/__init__.py", "json/decoder.py", f"lib-dynload/_ctypes{SUFFIX}", "README"],
        extension_suffix=SUFFIX,
    )
    assert set(modules) == {"os", "json", "json.decoder", "_ctypes"}
    assert modules["json"].is_package
    assert not modules["_ctypes"].is_source


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import b", {"b"}),
        ("import p.m", {"p", "p.m"}),
        ("import p.m as other", {"p", "p.m"}),
        ("from p import m", {"p", "p.m"}),
        ("from p import attribute", {"p"}),
        ("try:\n import b\nexcept ImportError:\n import c", {"b", "c"}),
        ("class A:\n import b", {"b"}),
        ("if x:\n import b\nelse:\n import c", {"b", "c"}),
        ("if TYPE_CHECKING:\n import b\nelse:\n import c", {"c"}),
        ("if typing.TYPE_CHECKING:\n import b", set()),
        ("if __name__ == '__main__':\n import b", set()),
        ("def f():\n import b", set()),
        ("import built_into_the_interpreter", set()),
        ("import _hashlib", set()),
    ],
)
def test_what_an_import_loads(statement: str, expected: set[str]) -> None:
    files = {
        "a.py": statement,
        "b.py": "",
        "c.py": "",
        "p/__init__.py": "",
        "p/m.py": "",
        f"lib-dynload/_hashlib{SUFFIX}": "",
    }
    assert loaded("a", files) == {"a"} | expected


def test_late_imports_are_followed_where_asked() -> None:
    files = {"a.py": "def f():\n import b", "b.py": ""}
    assert loaded("a", files, late=True) == {"a", "b"}


def test_relative_imports() -> None:
    files = {
        "p/__init__.py": "from . import m",
        "p/m.py": "from .q import x\nfrom ..outside import y",
        "p/q/__init__.py": "from .. import sibling",
        "p/sibling.py": "",
        "q.py": "raise SystemExit",
    }
    assert loaded("p", files) == {"p", "p.m", "p.q", "p.sibling"}


def test_the_first_library_wins_and_cycles_end() -> None:
    first = library({"a.py": "import b, ours", "b.py": "import a"})
    second = library({"b.py": "", "ours.py": "import b"})
    of_first, of_second = import_closure(["a"], [first, second])
    assert [module.path for module in of_first] == ["a.py", "b.py"]
    assert [module.path for module in of_second] == ["ours.py"]


def test_missing_root_is_an_error() -> None:
    with pytest.raises(IntegrityError, match="no module gone"):
        import_closure(["gone"], [library({})])


def test_source_of_another_python_is_an_error_with_a_hint() -> None:
    with pytest.raises(IntegrityError, match="does not parse") as caught:
        loaded("a", {"a.py": "def ("})
    assert caught.value.hint
