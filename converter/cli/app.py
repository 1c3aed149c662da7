"""The top command: finds verbs, and turns every way to end into an exit code and a message.

Verbs are imported when they are called, so that `saltflat --version` does not pay for all of them.
"""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from itertools import pairwise
from typing import NoReturn

import click
from click.shell_completion import shell_complete

from converter import __version__
from converter.cli.output import Output
from converter.cli.progress import STYLES
from converter.cli.report import report
from converter.errors import INTERRUPTED, SaltflatError, UsageError

BROKEN_PIPE = 141
# Their exit code is the process's; ours is always 125. `start` joins them when it attaches.
GUEST_VERBS = frozenset({"run", "attach", "exec"})
GUEST_FAILURE = 125
COMPLETE_VARIABLE = "_SALTFLAT_COMPLETE"  # what click's scripts for shells set

# verb: (module that has it under its own name, line in the overview)
_VERBS = {
    "convert": ("convert", "Turn an image into a chain of VMDK disks."),
    "run": ("run", "Run an image's process in a virtual machine."),
    "ps": ("ps", "List machines."),
    "start": ("start", "Start machines that were created or have ended."),
    "stop": ("stop", "End machines, giving their processes time."),
    "restart": ("restart", "Stop machines and start them again."),
    "kill": ("kill", "Send the processes of machines a signal."),
    "wait": ("wait", "Wait for machines to end and print their exit codes."),
    "rm": ("rm", "Remove machines."),
    "attach": ("attach", "Connect to the process of a running machine."),
    "exec": ("execute", "Run another process in a running machine."),
    "logs": ("logs", "Show what a machine's process has printed."),
    "cp": ("cp", "Copy files between a machine and this host."),
    "port": ("port", "Show which ports of this host lead to a machine."),
    "inspect": ("inspect", "Show a machine, an image or a bundle."),
    "export": ("export", "Write a chain as a disk or a machine for others."),
    "verify": ("verify", "Check a bundle or a chain, down to the last sector."),
    "push": ("push", "Push a chain to a registry, beside its image."),
    "pull": ("pull", "Pull a chain from a registry."),
    "agent": ("agent", "Make the agent alone, for guests of your own."),
    "batch": ("batch", "Convert many images, what they share once."),
    "boot": ("boot", "Build and list boot images."),
    "volume": ("volume", "Make, list and remove volumes."),
    "store": ("store", "List, check and clean what is kept."),
    "vsphere": ("vsphere", "Check a vSphere, bring images there as templates, and clean up."),
    "vspc": ("vspc", "Serve the serial ports of vSphere's machines."),
    "doctor": ("doctor", "Say what is missing on this host."),
}


class _Verbs(click.Group):
    """The verbs by name, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        if isinstance(ctx.obj, Output):
            ctx.obj.passes_exit_code = cmd_name in GUEST_VERBS
        module = import_module(f"converter.cli.{_VERBS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # click compares an unknown verb with those that are loaded, which are none.
        verb = args[0]
        if verb not in _VERBS and not verb.startswith("-") and not ctx.resilient_parsing:
            from converter.cli.docker_words import (  # noqa: PLC0415 - right commands do without
                unknown_verb,
            )

            raise unknown_verb(verb, tuple(_VERBS), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in _VERBS.items()])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="saltflat", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors.")
@click.option(
    "--progress",
    type=click.Choice(STYLES),
    default="auto",
    envvar="SALTFLAT_PROGRESS",
    show_envvar=True,
    show_default=True,
    help="How to show progress; auto is tty on a terminal, else plain.",
)
@click.option(
    "--debug",
    is_flag=True,
    envvar="SALTFLAT_DEBUG",
    show_envvar=True,
    help="Show a traceback with every error.",
)
@click.pass_context
def top(ctx: click.Context, *, verbose: bool, quiet: bool, progress: str, debug: bool) -> None:
    """Turn container images into virtual machines.

    \b
    Examples:
      saltflat boot build
      saltflat run debian:12 echo hello
      saltflat convert oci:./layout:1.0 -o ./bundle
    """
    ctx.obj.configure(verbose=verbose, progress="none" if quiet else progress, debug=debug)


def run_command_line() -> NoReturn:
    """Run the command in sys.argv and exit with its code."""
    _complete_standard_streams()
    output = Output()
    arguments = sys.argv[1:]
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        sys.exit(shell_complete(top, {"obj": output}, "saltflat", COMPLETE_VARIABLE, instruction))
    try:
        with top.make_context(
            "saltflat", arguments, obj=output, auto_envvar_prefix="SALTFLAT"
        ) as ctx:
            code = top.invoke(ctx)
        sys.stdout.flush()
    except SaltflatError as error:
        code = _report(output, error)
    except BrokenPipeError:
        # Nobody reads our result any more; the interpreter's last flush must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        code = _report(output, SaltflatError(f"{error.strerror or error}{where}."))
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.UsageError as error:
        code = _report_usage(output, error, arguments)
    except (click.Abort, KeyboardInterrupt):
        output.close()
        click.echo("Interrupted.", err=True)
        code = INTERRUPTED
    except Exception as error:
        output.close()
        if output.debug:
            traceback.print_exc()
        click.echo(
            f"Error: saltflat has a bug: {type(error).__name__}: {error}\n"
            "Next: run it again with --debug and report what it prints.",
            err=True,
        )
        code = GUEST_FAILURE if output.passes_exit_code else 1
    finally:
        output.close()
    sys.exit(code if isinstance(code, int) else 0)


def _complete_standard_streams() -> None:
    """Open /dev/null for each standard stream that was closed by whoever started us.

    The next file that is opened would have its number, and what is printed would go there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest free number, which is the stream's, as those below it are open by now.
            descriptor = os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))


def _report(output: Output, error: SaltflatError) -> int:
    """Print an error and return the exit code."""
    code = GUEST_FAILURE if output.passes_exit_code else error.exit_code
    report(output, error, code)
    return code


def _report_usage(output: Output, error: click.UsageError, arguments: list[str]) -> int:
    """Print what click found wrong with the command line, and return the exit code."""
    from converter.cli.docker_words import AdvisedError, advised  # noqa: PLC0415 - as above

    error = advised(error)
    code = GUEST_FAILURE if output.passes_exit_code else error.exit_code
    if not _wants_json(output, error, arguments):
        error.show()
        return code
    output.format = "json"
    hint = f"{error.ctx.command_path} --help" if error.ctx is not None else None
    if isinstance(error, AdvisedError):
        hint = error.advice
    report(output, UsageError(error.format_message(), hint=hint), code)
    return code


def _wants_json(output: Output, error: click.UsageError, arguments: list[str]) -> bool:
    """Tell whether errors are to be JSON; click may have stopped before it came to --format."""
    if error.ctx is None or all(
        parameter.name != "output_format" for parameter in error.ctx.command.params
    ):
        return False
    return (
        output.format == "json"
        or "--format=json" in arguments
        or ("--format", "json") in pairwise(arguments)
        or os.environ.get("SALTFLAT_FORMAT") == "json"
    )
