"""The verb `vspc serve`: the serial-port concentrator that vSphere's hosts connect to."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import click

from agent.host.concentrator import Certificate, Concentrator, Relaying, RemoteDoor
from agent.host.concentrator import serve as run_concentrator
from agent.host.relay import LineKind, Patience, RelayOptions, read_patience
from agent.host.signals import catch_signals
from agent.host.vspc.allow import AllowList, read_rule
from agent.host.vspc.seam import Notice
from agent.host.vspc.server import read_address
from converter.cli import vspc_machines
from converter.cli.options import size
from converter.cli.output import Output
from converter.errors import UsageError
from converter.events import Note

_CLIENTS = re.compile(r"(?:\[([^\[\]]+)\]|([^:/\[\]]*)):(\d{1,5})")
# Of thousands of machines each is asked now and then, so none can be asked often.
_KEEPALIVE_SECONDS = 20.0


@click.group("vspc")
def command() -> None:
    """Serve the serial ports of vSphere's virtual machines over the network.

    \b
    Examples:
      saltflat vspc add db-1 --uuid 501c62c0-f137-4aa0-8d3e-5c2b1e6f0a11 --document db-1.json
      saltflat vspc serve --listen telnet://:2377 --relays /var/lib/vspc --allow net:10.1.0.0/24
    """


for _verb in (vspc_machines.add, vspc_machines.rekey, vspc_machines.remove, vspc_machines.show):
    command.add_command(_verb)


def _patience(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> Patience:
    """Read --patience WHAT=SECONDS."""
    try:
        return read_patience(values)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error


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
    envvar="SALTFLAT_VSPC_SOCKETS",
    show_envvar=True,
    help="Folder for sockets of VMs that are not relayed, <uuid>.sock; made with mode 0700.",
)
@click.option(
    "--relays",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="SALTFLAT_VSPC_RELAYS",
    show_envvar=True,
    help="Folder of the machines that are relayed (vspc add); made with mode 0700. Without "
    "--sockets, no other VM is served.",
)
@click.option(
    "--clients",
    metavar="HOST:PORT",
    envvar="SALTFLAT_VSPC_CLIENTS",
    show_envvar=True,
    help="Also let clients of relayed machines in here, over TLS; needs --certificate and "
    "--client-rules.",
)
@click.option(
    "--client-rules",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="SALTFLAT_VSPC_CLIENT_RULES",
    show_envvar=True,
    help="Who may do what on which machine (docs/relay.md); read again when it changes.",
)
@click.option(
    "--client-ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="SALTFLAT_VSPC_CLIENT_CA",
    show_envvar=True,
    help="Certificates (PEM) that vouch for clients'; without it clients have tokens only.",
)
@click.option(
    "--patience",
    multiple=True,
    metavar="WHAT=SECONDS",
    envvar="SALTFLAT_VSPC_PATIENCE",
    show_envvar=True,
    callback=_patience,
    help="When to call it a fault: connect=30 (the host), hello=180, silence=60 (the guest), "
    "reconnect=10; repeatable.",
)
@click.option(
    "--log-size",
    type=size,
    default="100m",
    envvar="SALTFLAT_VSPC_LOG_SIZE",
    show_envvar=True,
    show_default=True,
    help="How much of each machine's output is kept.",
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
    help="Certificate chain (PEM) for telnets and --clients.",
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
    sockets: Path | None,
    relays: Path | None,
    clients: str | None,
    client_rules: Path | None,
    client_ca: Path | None,
    patience: Patience,
    log_size: int,
    rules: tuple[str, ...],
    allow_all: bool,
    certificate: Path | None,
    key: Path | None,
) -> int:
    """Run the concentrator until SIGTERM or SIGINT.

    With --relays the machines that were added can be attached to, executed in and so on, with
    --relay of these verbs; their sessions outlive this process. With --sockets the serial port of
    every other VM becomes a Unix socket, for one client at a time. Both stay the same when vMotion
    takes the VM to another host.

    \b
    Examples:
      saltflat vspc serve --listen telnet://0.0.0.0:2377 --relays /var/lib/vspc \\
          --allow net:10.1.0.0/24
      saltflat vspc serve --listen telnets://[::]:2377 --certificate c.pem --key k.pem \\
          --relays /var/lib/vspc --clients :2378 --client-ca ca.pem --client-rules rules.json \\
          --allow net:10.1.0.0/24,uri:saltflat
      saltflat vspc serve --listen telnet://:2377 --sockets /run/vspc --allow net:10.1.0.0/24
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
    if sockets is None and relays is None:
        raise UsageError(
            "What is to become of the VMs' serial ports is not said.",
            expected="--relays DIR, --sockets DIR, or both",
        )
    given = None if certificate is None else Certificate(chain=certificate, key=key)
    door = None if clients is None else _door(clients, relays, given, client_rules, client_ca)

    def log(notice: Notice) -> None:
        output.monitor(Note(notice.text, warning=notice.warning, minor=notice.minor))

    options = RelayOptions(
        log_bytes=log_size,
        patience=patience,
        keepalive_seconds=_KEEPALIVE_SECONDS,
        idle_keepalive_seconds=_KEEPALIVE_SECONDS,
        line=LineKind.VSPC,
    )
    relaying = None if relays is None else Relaying(folder=relays, options=options, door=door)
    with vspc_machines.vspc_errors(), catch_signals(signal.SIGTERM, signal.SIGINT) as inbox:
        concentrator = Concentrator(
            addresses=[read_address(address) for address in addresses],
            allow=AllowList(tuple(read_rule(rule) for rule in rules), everybody=allow_all),
            certificate=given,
            sockets=sockets,
            relaying=relaying,
        )
        run_concentrator(concentrator, inbox, log)
        for number in inbox.drain():
            log(Notice(f"Ended by {signal.Signals(number).name}"))
    return 0


def _door(
    clients: str,
    relays: Path | None,
    certificate: Certificate | None,
    rules: Path | None,
    authority: Path | None,
) -> RemoteDoor:
    """Put together what --clients takes. Raises UsageError when a part lacks."""
    if relays is None or certificate is None or rules is None:
        raise UsageError(
            "--clients was given without what it needs.",
            expected="--relays, --certificate (and --key) and --client-rules with it",
        )
    match = _CLIENTS.fullmatch(clients)
    if match is None or int(match[3]) > 0xFFFF:
        raise UsageError(
            f"{clients!r} is no address to let clients in at.",
            expected="HOST:PORT, with an IPv6 address in brackets",
        )
    host = match[1] or match[2]  # an empty one is every address of this machine
    return RemoteDoor(
        host=host, port=int(match[3]), certificate=certificate, rules=rules, ca=authority
    )
