"""What docker's verbs and options that are not here are called here, for whoever types them.

Owns the words and the advice. That a word is unknown is click's to find; docs/docker-compat.md says
why some are missing.
"""

from __future__ import annotations

from typing import IO, Any

import click

_NO_BUILDS = "No images are built here: use docker, podman or buildah, then saltflat run."
_LOGIN = "docker login, podman login or skopeo login: credentials are read where they keep them."
_ARCHIVE = (
    "An archive is a source: saltflat run docker-archive:FILE, or docker-archive:- for stdin."
)
_SPEC = "skopeo copy and crane copy move images between registries and archives."
_PAUSE = "A machine cannot be paused; saltflat stop and saltflat start keep its disk."
_DRAWN_UP = "saltflat rm, and saltflat run with the options that are wanted; volumes stay."

# docker's verb: what to do instead
VERBS = {
    "build": _NO_BUILDS,
    "builder": _NO_BUILDS,
    "buildx": _NO_BUILDS,
    "commit": _NO_BUILDS,
    "import": _NO_BUILDS,
    "compose": "saltflat run for each service; they reach each other by published ports.",
    "container": "Its verbs stand alone: saltflat ps, run, start, stop, exec, logs, rm.",
    "create": "saltflat run -d makes a machine and starts it.",
    "events": "saltflat ps --format json and saltflat wait say how machines do.",
    "help": "saltflat VERB --help",
    "history": "saltflat inspect IMAGE shows its layers.",
    "image": "saltflat store ls lists images, convert fetches one, inspect shows it.",
    "images": "saltflat store ls",
    "info": "saltflat doctor",
    "load": _ARCHIVE,
    "login": _LOGIN,
    "logout": _LOGIN,
    "ls": "saltflat ps lists machines, saltflat store ls images, saltflat volume ls volumes.",
    "manifest": "skopeo inspect --raw or crane manifest show it.",
    "network": "Machines share no network: publish ports with run -p.",
    "pause": _PAUSE,
    "rename": _DRAWN_UP,
    "rmi": "saltflat store gc --max-store-size SIZE deletes what was not used for longest.",
    "save": _SPEC,
    "stats": "saltflat exec MACHINE top -b -n 1, if the image has it.",
    "system": "saltflat store ls shows what is kept, saltflat store gc cleans it.",
    "tag": _SPEC,
    "top": "saltflat exec MACHINE ps aux, if the image has it.",
    "unpause": _PAUSE,
    "update": _DRAWN_UP,
    "version": "saltflat --version",
}

_OWN_KERNEL = (
    "A machine has a kernel of its own: it shares nothing of this host's and lends nothing."
)
_SIZES = "What a machine takes of this host is limited by --memory and --cpus."
_NO_NETWORK = "Machines share no network. Publish ports with -p; this host is 10.0.2.2 to them."
_DISK = "A volume is a disk of its own: --size SIZE says how large."
_FILLED = "saltflat exec MACHINE df -h / says how full its disk is."

_BEHIND = "It stands behind the verb, as in saltflat ps --state DIR."
_NO_DAEMON = (
    "There is no daemon: machines run under QEMU on this host, or elsewhere with --on vsphere."
)

# verb: docker's options of it, and what to do instead; "" is the top command
OPTIONS = {
    "": {
        "-c": _NO_DAEMON,
        "--context": _NO_DAEMON,
        "-D": "--debug",
        "--format": _BEHIND,
        "-H": _NO_DAEMON,
        "--host": _NO_DAEMON,
        "--state": _BEHIND,
        "--store": _BEHIND,
    },
    "run": {
        "-a": "Output is shown without it, unless -d is given; -i passes standard input.",
        "--annotation": "--label notes something on a machine.",
        "--attach": "Output is shown without it, unless -d is given; -i passes standard input.",
        "--blkio-weight": _SIZES,
        "-c": _SIZES,
        "--cgroup-parent": _SIZES,
        "--cgroupns": _OWN_KERNEL,
        "--cpu-period": _SIZES,
        "--cpu-quota": _SIZES,
        "--cpu-shares": _SIZES,
        "--cpuset-cpus": _SIZES,
        "--cpuset-mems": _SIZES,
        "--device": _OWN_KERNEL,
        "--device-cgroup-rule": _OWN_KERNEL,
        "--device-read-bps": _SIZES,
        "--device-read-iops": _SIZES,
        "--device-write-bps": _SIZES,
        "--device-write-iops": _SIZES,
        "--disable-content-trust": "--policy FILE says which images are allowed.",
        "--domainname": "--hostname NAME.DOMAIN",
        "--gpus": _OWN_KERNEL,
        "--ipc": _OWN_KERNEL,
        "--label-file": "--label for each of them.",
        "--link": _NO_NETWORK,
        "--log-driver": "A machine keeps what its process prints: saltflat logs.",
        "--log-opt": "A machine keeps what its process prints: saltflat logs.",
        "--memory-reservation": _SIZES,
        "--memory-swap": _SIZES,
        "--network-alias": _NO_NETWORK,
        "--oom-kill-disable": "--oom-score-adj -1000",
        "--pids-limit": "--ulimit nproc=NUMBER limits the processes of a user.",
        "-q": "saltflat -q run ...",
        "--quiet": "saltflat -q run ...",
        "--runtime": _OWN_KERNEL,
        "--userns": _OWN_KERNEL,
        "--uts": _OWN_KERNEL,
        "--volume-driver": "A volume is a disk of its own: -v NAME:PATH.",
        "--volumes-from": "Name the volumes themselves: -v NAME:PATH.",
    },
    "exec": {
        "--privileged": "A process has no more than its machine's: saltflat run --privileged."
    },
    "inspect": {"-f": "saltflat inspect --format json, and jq to pick from it."},
    "ps": {"-s": _FILLED, "--size": _FILLED},
    "volume create": {"-d": _DISK, "--driver": _DISK, "-o": _DISK, "--opt": _DISK},
    "restart": {
        "-s": "saltflat stop -s SIGNAL, then saltflat start.",
        "--signal": "saltflat stop -s SIGNAL, then saltflat start.",
    },
}


class AdvisedError(click.UsageError):
    """A wrong command line, and what to do next."""

    def __init__(self, message: str, advice: str, ctx: click.Context | None) -> None:
        super().__init__(message, ctx)
        self.advice = advice

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it as click does, and a line with the advice."""
        super().show(file)
        click.echo(f"Next: {self.advice}", file=file, err=file is None)


def unknown_verb(verb: str, verbs: tuple[str, ...], ctx: click.Context) -> click.UsageError:
    """Return the error for a verb that is none of `verbs`."""
    message = f"No such command {verb!r}."
    if advice := VERBS.get(verb):
        return AdvisedError(message, advice, ctx)
    from difflib import get_close_matches  # noqa: PLC0415 - only who has mistyped needs it

    if near := get_close_matches(verb, verbs):
        return AdvisedError(message, " or ".join(f"saltflat {name}" for name in near), ctx)
    return click.UsageError(message, ctx)


def advised(error: click.UsageError) -> click.UsageError:
    """Return the error with advice, if it is about an option of docker's that is not here.

    What click finds similar among ours is not said then: it is another thing.
    """
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        options = OPTIONS.get(error.ctx.command_path.partition(" ")[2], {})
        if advice := options.get(error.option_name):
            return AdvisedError(error.message, advice, error.ctx)
    return error
