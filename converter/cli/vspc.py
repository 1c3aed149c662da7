"""The verb `vspc serve`: the serial-port concentrator that vSphere's hosts connect to."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import click

from agent.host.errors import ChannelError
from agent.host.loop import READABLE
from agent.host.signals import SignalInbox
from agent.host.vspc import (
    AllowList,
    BusyError,
    ListenError,
    Loop,
    Notice,
    RuleError,
    Server,
    SocketBackend,
    read_address,
    read_rule,
    tls_context,
)
from converter.cli.output import Output
from converter.errors import PolicyError, SaltflatError, UsageError
from converter.events import Note


@click.group("vspc")
def command() -> None:
    """Serve the serial ports of vSphere's virtual machines over the network.

    \b
    Examples:
      saltflat vspc serve --listen telnet://:2377 --sockets /run/vspc --allow net:10.1.0.0/24
    """


@command.command("serve")
@click.option(
    "--listen",
    "addresses",
    multiple=True,
    required=True,
    metavar="URI",
    envvar="SALTFLAT_VSPC_LISTEN",
    show_envvar=True,
    help="telnet://HOST:PORT or telnets://HOST:PORT, as in the port's proxy URI; repeatable.",
)
@click.option(
    "--sockets",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    envvar="SALTFLAT_VSPC_SOCKETS",
    show_envvar=True,
    help="Folder for the VMs' sockets, <uuid>.sock; made with mode 0700.",
)
@click.option(
    "--allow",
    "rules",
    multiple=True,
    metavar="RULE",
    envvar="SALTFLAT_VSPC_ALLOW",
    show_envvar=True,
    help="Serve VMs that meet all conditions of RULE: uuid:, name:, uri: (patterns) and net:, "
    "with commas between; repeatable. Nobody else is served.",
)
@click.option(
    "--allow-all",
    is_flag=True,
    envvar="SALTFLAT_VSPC_ALLOW_ALL",
    show_envvar=True,
    help="Serve every VM that connects.",
)
@click.option(
    "--certificate",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="SALTFLAT_VSPC_CERTIFICATE",
    show_envvar=True,
    help="Certificate chain (PEM) for telnets.",
)
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="SALTFLAT_VSPC_KEY",
    show_envvar=True,
    help="Its private key (PEM, unencrypted), when it is in another file.",
)
@click.pass_obj
def serve(
    output: Output,
    *,
    addresses: tuple[str, ...],
    sockets: Path,
    rules: tuple[str, ...],
    allow_all: bool,
    certificate: Path | None,
    key: Path | None,
) -> int:
    """Run the concentrator until SIGTERM or SIGINT.

    Each VM's serial port becomes a Unix socket, for one client at a time, and stays the same socket
    when vMotion takes the VM to another host.

    \b
    Examples:
      saltflat vspc serve --listen telnet://0.0.0.0:2377 --sockets /run/vspc --allow net:10.1.0.0/24
      saltflat vspc serve --listen telnets://[::]:2377 --certificate c.pem --key k.pem \\
          --sockets /run/vspc --allow net:10.1.0.0/24,uri:saltflat --allow name:build-*
      socat -,raw,echo=0 UNIX-CONNECT:/run/vspc/501c62c0-f137-4aa0-8d3e-5c2b1e6f0a11.sock
    """
    if allow_all == bool(rules):
        raise UsageError(
            "--allow and --allow-all exclude each other."
            if rules
            else "No VM is allowed, so none would be served.",
            expected="one --allow or several, or --allow-all",
            hint="Write for example --allow net:10.1.0.0/24, the network of the hosts.",
        )

    def log(notice: Notice) -> None:
        output.monitor(Note(notice.text, warning=notice.warning, minor=notice.minor))

    with _translated():
        where = [read_address(address) for address in addresses]
        allow = AllowList(tuple(read_rule(rule) for rule in rules), everybody=allow_all)
        context = None if certificate is None else tls_context(certificate, key)
        with contextlib.ExitStack() as cleanup:
            loop = Loop()
            cleanup.callback(loop.close)
            inbox = cleanup.enter_context(_ending_signals())
            backend = SocketBackend(sockets, loop, log)
            cleanup.callback(backend.close)
            server = Server(where, backend, allow, loop, context=context, log=log)
            cleanup.callback(server.close)
            loop.watch(inbox.fileno(), READABLE, lambda _events: loop.stop())
            loop.run()
            for number in inbox.drain():
                log(Notice(f"Ended by {signal.Signals(number).name}"))
    return 0


@contextlib.contextmanager
def _ending_signals() -> Iterator[SignalInbox]:
    """Collect the signals that ask a service to end, instead of letting them act."""
    inbox = SignalInbox()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, inbox.put) for number in numbers}
    try:
        yield inbox
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        inbox.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn the concentrator's errors into the command line's."""
    try:
        yield
    except ChannelError as error:
        kinds: dict[type[ChannelError], type[SaltflatError]] = {
            RuleError: UsageError,
            ListenError: UsageError,
            BusyError: PolicyError,
        }
        kind = kinds.get(type(error), SaltflatError)
        raise kind(error.what, expected=error.expected, hint=error.hint) from error
