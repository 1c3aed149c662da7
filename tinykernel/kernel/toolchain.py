"""The programs that building a kernel needs. Owns which package has which, and their versions."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from converter.errors import NotFoundError

_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Tool:
    """A program, and the Debian package that it is in."""

    program: str
    package: str


TOOLS = (
    Tool("gcc", "gcc"),
    Tool("ld", "binutils"),
    Tool("make", "make"),
    Tool("flex", "flex"),
    Tool("bison", "bison"),
    Tool("bc", "bc"),
    Tool("perl", "perl-base"),
    Tool("tar", "tar"),
    Tool("xz", "xz-utils"),
    Tool("zstd", "zstd"),
)
# Headers, with the package of each: <gelf.h> is for objtool, the kernel's own checker.
_HEADERS = (("stdio.h", "libc6-dev"), ("gelf.h", "libelf-dev"))
# What puts bytes into the kernel: the compiler, the assembler and linker, the compressor.
_WRITERS = ("gcc", "ld", "zstd")


def missing_packages() -> list[str]:
    """Return the packages that this host lacks to build a kernel, in order; [] when it can."""
    missing = [tool.package for tool in TOOLS if shutil.which(tool.program) is None]
    if "gcc" not in missing:
        missing += [package for header, package in _HEADERS if not _has_header(header)]
    return missing


def require_toolchain() -> None:
    """Raise NotFoundError, with the command that mends it, unless a kernel can be built here."""
    missing = missing_packages()
    if missing:
        raise NotFoundError(
            f"The tiny kernel cannot be built here: {', '.join(missing)} missing",
            hint=f"apt-get install --no-install-recommends {' '.join(missing)}, "
            "or take the distribution's kernel: --kernel stock",
        )


def versions() -> list[str]:
    """Return what the programs that put bytes into the kernel call themselves.

    Raises NotFoundError when one is missing.
    """
    return list(_versions())


def _versions() -> Iterator[str]:
    for program in _WRITERS:
        try:
            output = subprocess.run(
                [program, "--version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_SECONDS,
                check=True,
                text=True,
                errors="replace",
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise NotFoundError(f"{program} cannot be run: {error}") from error
        yield output.partition("\n")[0]


def _has_header(name: str) -> bool:
    result = subprocess.run(
        ["gcc", "-fsyntax-only", "-x", "c", "-"],
        input=f"#include <{name}>\n",
        capture_output=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
        text=True,
    )
    return result.returncode == 0
