"""Run a program of another package to its end. Owns what is said when it is not there or hangs.

What its exit code and its words mean is the caller's; so are errors of other classes, as of apt,
whose silence is the network's.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from converter.errors import NotFoundError, SaltflatError

_TIMEOUT_SECONDS = 300  # for a person with a passphrase, too


def run_to_end(
    program: str,
    arguments: Sequence[str],
    *,
    package: str,
    stdin: bytes | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run `program`, which Debian's `package` has, and return its exit code and all it printed.

    Without `stdin` it has ours, without `environment` and `folder` likewise. Raises NotFoundError
    when it is not installed, SaltflatError when it takes longer than five minutes.
    """
    try:
        return subprocess.run(
            [program, *arguments],
            cwd=folder,
            env=environment,
            input=stdin,
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise NotFoundError(
            f"The program {program} is not installed.",
            hint=f"Install it: apt-get install {package}",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SaltflatError(f"{program} did not finish in {_TIMEOUT_SECONDS} s.") from error


def lines_of(said: bytes) -> list[str]:
    """Return what a program said as lines, to be quoted in an error."""
    return said.decode("utf-8", "replace").strip().splitlines()
