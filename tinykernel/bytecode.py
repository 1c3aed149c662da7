"""Compile Python sources to .pyc files that are the same on every run. Owns the compiler process.

Marshalled code depends on the state of the process that makes it (which strings are shared), so a
fresh interpreter compiles everything, in the order given, with a fixed hash seed.
"""

from __future__ import annotations

import importlib.util
import marshal
import subprocess
import sys
from collections.abc import Sequence

from converter.errors import IntegrityError
from tinykernel import c_pyc

_TIMEOUT_SECONDS = 120

# Both ends are one and the same interpreter, so marshal is a safe and exact pipe between them.
_COMPILER = """
import marshal, sys
sources = marshal.load(sys.stdin.buffer)
compiled = [
    marshal.dumps(compile(source, name, "exec", dont_inherit=True, optimize=2))
    for name, source in sources
]
sys.stdout.buffer.write(marshal.dumps(compiled))
"""


def compiler_version() -> str:
    """Return what the bytes of compiled modules depend on: this interpreter's exact version."""
    return ".".join(str(part) for part in sys.version_info[:3])


def can_compile_for(python: str) -> bool:
    """Say whether this interpreter's bytecode runs on CPython `python` ("3.11")."""
    ours = "{}.{}".format(*sys.version_info[:2])
    return sys.implementation.name == "cpython" and ours == python


def compile_modules(sources: Sequence[tuple[str, bytes]]) -> list[bytes]:
    """Compile (file name for tracebacks, source) pairs; return the .pyc files in the same order.

    They carry a hash of their source and are never compared with it. Raises IntegrityError when a
    source does not compile.
    """
    try:
        result = subprocess.run(
            # Not -I: it would ignore the hash seed. -s -S -P and the bare environment isolate.
            [sys.executable, "-s", "-S", "-P", "-c", _COMPILER],
            input=marshal.dumps(list(sources)),
            capture_output=True,
            env={"PYTHONHASHSEED": "0", "PYTHONNODEBUGRANGES": "1"},
            timeout=_TIMEOUT_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise IntegrityError(f"compiling did not finish in {_TIMEOUT_SECONDS} s") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise IntegrityError(f"a module of the boot image does not compile: {reason}") from error
    codes: list[bytes] = marshal.loads(result.stdout)  # noqa: S302  # our own process's answer
    return [_header(source) + code for (_, source), code in zip(sources, codes, strict=True)]


def _header(source: bytes) -> bytes:
    return c_pyc.HEADER.pack(
        importlib.util.MAGIC_NUMBER, c_pyc.FLAG_HASH_BASED, importlib.util.source_hash(source)
    )
