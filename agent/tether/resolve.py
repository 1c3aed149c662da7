"""What to run: Docker's rules for merging an image's configuration with a request.

Owns the argument vector, environment, working directory and stop signal, as pure functions of the
configuration. Who runs it is `accounts`' matter, and whether the command exists is decided in the
image's own world (`process`). The rules are those of the Docker Engine, so that an image behaves
here as it does there; each has a row in tests/unit/tether/test_tether_resolve.py.
"""

from __future__ import annotations

import posixpath

from agent import bare_signal as signal
from agent.hints import Dict, List, Tuple
from agent.tether.config import ImageConfig, RunConfig
from agent.tether.errors import StartError
from agent.tether.fields import Arguments
from agent.tether.health import HealthCheck

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# RTMIN and RTMAX, or RTMIN+3: a number of one or two digits.
_REALTIME = {"RTMIN": signal.SIGRTMIN, "RTMAX": signal.SIGRTMAX}


def resolve_arguments(image: ImageConfig, run: RunConfig) -> Arguments:
    """Return the argument vector; StartError("command") when nothing names a command.

    Arguments replace the image's Cmd. An entrypoint replaces the image's Entrypoint and clears its
    Cmd, for that was written for the other program; `[""]` clears both.
    """
    arguments = run.arguments or ()
    if run.entrypoint:
        entrypoint = () if run.entrypoint == ("",) else run.entrypoint
    else:
        arguments = arguments or image.command
        # An entrypoint of [] is "none", where null is "the image's".
        entrypoint = image.entrypoint if run.entrypoint is None else ()
        entrypoint = () if entrypoint == ("",) else entrypoint
    if not entrypoint and not arguments:
        raise StartError("command", "no command: the image has no Entrypoint and no Cmd")
    return entrypoint + arguments


def resolve_environment(
    image: ImageConfig, run: RunConfig, *, host_name: str, home: str
) -> Dict[str, str]:
    """Return the environment in the order in which Docker builds it.

    PATH, HOSTNAME and, with a terminal, TERM have defaults; then come the request's variables and
    those of the image that the request does not name. A name without "=" in the request removes
    the variable, default or image's. HOME is the user's own unless it is set to something.
    """
    environment = {"PATH": DEFAULT_PATH, "HOSTNAME": host_name}
    if run.tty:
        environment["TERM"] = "xterm"
    requested = {entry.partition("=")[0] for entry in run.environment}
    inherited = [entry for entry in image.environment if entry.partition("=")[0] not in requested]
    for entry in [*run.environment, *inherited]:
        name, equals, value = entry.partition("=")
        if not equals:
            environment.pop(name, None)
        elif name:  # "=x" has no name that execve(2) could give to anyone
            environment[name] = value
    if not environment.get("HOME"):
        environment["HOME"] = home
    return environment


def resolve_working_dir(image: ImageConfig, run: RunConfig) -> str:
    """Return the absolute working directory; StartError("workdir") when the request's is not."""
    if run.working_dir and not run.working_dir.startswith("/"):
        raise StartError(
            "workdir",
            "the working directory {!r} is not an absolute path".format(run.working_dir),
        )
    # POSIX lets normpath keep two leading slashes; Linux sees one.
    return "/" + posixpath.normpath("/" + (run.working_dir or image.working_dir)).lstrip("/")


def resolve_user(image: ImageConfig, run: RunConfig) -> str:
    """Return the user to look up: the request's unless it is empty, else the image's."""
    return run.user or image.user


def resolve_stop_signal(image: ImageConfig, run: RunConfig) -> int | None:
    """Return the number that the request's stop signal or else the image's StopSignal names.

    None when neither names one. Raises StartError("config") when it is no signal.
    """
    named = run.host.stop_signal or image.stop_signal
    text = named.strip().upper()
    if not text:
        return None
    number = _signal_number(text[3:] if text.startswith("SIG") else text)
    if number is None:
        raise StartError("config", "the stop signal {!r} is no signal".format(named))
    return number


def resolve_health(image: ImageConfig, run: RunConfig) -> Tuple[HealthCheck, Arguments] | None:
    """Return the health check and the command that it executes; None when nothing is checked.

    What the request does not say of it is the image's. A check of a kind that is not known is none,
    as in Docker.
    """
    asked = run.host.health or HealthCheck()
    check = asked.over(image.health or HealthCheck())
    command = check.command(image.shell)
    return None if command is None else (check, command)


def command_candidates(command: str, path: str | None) -> List[str]:
    """Return the files to try for argv[0], in order, as execvp(3) would with this PATH.

    A name with a slash is itself; an empty element of PATH is the working directory. Without a PATH
    nothing is found: there is no fallback of our own.
    """
    if "/" in command:
        return [command]
    return [posixpath.join(folder or ".", command) for folder in path.split(":")] if path else []


def _signal_number(name: str) -> int | None:
    if name.isascii() and name.isdigit():
        number = int(name)
        return number if 1 <= number <= signal.SIGRTMAX else None
    base, offset = _REALTIME.get(name[:5]), name[5:]
    if base is not None and (not offset or _is_offset(offset)):
        number = base + int(offset or 0)
        return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else None
    return signal.NAMES.get(name)


def _is_offset(text: str) -> bool:
    digits = text[1:]
    return text[0] in "+-" and 1 <= len(digits) <= 2 and digits.isascii() and digits.isdigit()
