"""tether in a guest that somebody else has booted: an ordinary service, not PID 1.

Owns the command line, which parts of the agent apply there, and the exit code. It prepares nothing
and switches nothing off: processes are started in the world that the agent itself is in, as root's
own. It takes in their orphans, and ends with the main process, whose code is its own.
"""

from __future__ import annotations

import argparse
import functools
import os
import resource
import socket

from agent.hints import Callable, Mapping, Optional, Sequence
from agent.tether import (
    channel,
    config,
    copy_in,
    copy_out,
    descendants,
    log,
    modules,
    process,
    resolve,
    sources,
    syscalls,
    vmware,
)
from agent.tether.channel import Transport
from agent.tether.errors import CANNOT_START, StartError
from agent.tether.guestinfo import GuestInfo, open_hypervisor
from agent.tether.line import guest_line
from agent.tether.messages import MAIN, describe_failure
from agent.tether.renewals import Renewals
from agent.tether.sockets import Connecting
from agent.tether.supervisor import Supervisor
from agent.tether.uevents import UeventListener
from agent.values import replace
from agent.wire import PROTOCOL_VERSION, ProtocolError

# On a tmpfs: what is removed there is gone, and does not stay on a disk.
CONFIG_FILE = "/run/saltflat/tether.json"

_CODES = """\
exit codes:
  the main process's own, 128 + N if signal N ended it
  125  it could not be started, for a reason that is not the command's: a bad document, no line
  126  the command was found but cannot be executed
  127  the command was not found
  2    wrong usage
The reason is on stderr, and with the host as soon as there is a line.
"""


def main(arguments: Sequence[str]) -> int:
    """Serve the host until the main process has ended; return the exit code."""
    options = _parser().parse_args(arguments)
    log.use_stderr()
    if os.getpid() == 1:
        log.error("as PID 1 the agent is started by a boot image's /init")
        return CANNOT_START
    try:
        return _serve(options.config, options.channel)
    except StartError as error:
        log.error("{}: {}".format(error.kind, error.message))
        return error.code
    except ProtocolError as error:
        log.error("the host broke the protocol: {}".format(error))
        return CANNOT_START
    except Exception as error:  # a fault of ours, in the words of all others
        log.error(log.describe(error))
        return CANNOT_START
    finally:
        descendants.kill_descendants()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tether",
        description="Relay processes of this guest to its host, as its document says.",
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        default="auto",
        metavar="WHERE",
        help="the document: a file, guestinfo, fw_cfg, or auto, which is VMware's guestinfo, then "
        "QEMU's fw_cfg, then {}. It is erased there when it was read.".format(CONFIG_FILE),
    )
    parser.add_argument(
        "--channel",
        metavar="LINE",
        help="the line to the host, in place of the document's: a serial line or a virtio-serial "
        "port by its path, unix:PATH, or vsock:PORT at the host",
    )
    version = "tether, protocol {}, document schema {}".format(PROTOCOL_VERSION, config.SCHEMA)
    parser.add_argument("--version", action="version", version=version)
    return parser


class _Modprobe:
    """Loads modules as this system does; what it lacks, the device's user says in better words."""

    def load(self, name: str) -> None:
        """Load a module, if there is one of that name."""
        try:
            child = os.posix_spawnp("modprobe", ["modprobe", "-q", name], os.environ)
        except OSError:
            return
        os.waitpid(child, 0)


def _serve(where: str, named: Optional[str]) -> int:
    loader = _Modprobe()
    shared = _find_guestinfo(loader)
    try:
        return _serve_host(_choose_source(where, loader, shared), named, shared)
    except StartError as error:
        if shared is not None:
            shared.report(describe_failure(MAIN, error))
        raise


def _find_guestinfo(loader: modules.Loader) -> Optional[GuestInfo]:
    """Return VMware's variables, if this is VMware's machine."""
    ids = modules.read_pci_ids()
    return open_hypervisor(loader, ids).guestinfo if vmware.is_here(ids) else None


def _choose_source(
    where: str, loader: modules.Loader, shared: Optional[GuestInfo]
) -> sources.ConfigSource:
    if where == "auto":
        return sources.choose_source("", loader, shared, file=CONFIG_FILE)
    if where not in ("guestinfo", "fw_cfg"):
        where = "file:" + os.path.abspath(where)
    return sources.choose_source("tether.config=" + where, loader, shared)


def _serve_host(
    source: sources.ConfigSource, named: Optional[str], shared: Optional[GuestInfo]
) -> int:
    document = config.load_document(source.read())
    source.forget()
    renewal = config.parse_renewal(document)
    transport = _open_channel(document, named)
    rules, fault = config.output_rules(document)
    line = guest_line(transport, renewal.key, rules)
    ended: Mapping[str, object] = {}

    def report(message: Mapping[str, object]) -> None:
        nonlocal ended
        ended = message
        if shared is not None:
            shared.report(message)

    with Supervisor(
        line,
        linger_seconds=rules.linger_seconds,
        renew=Renewals(source, renewal.epoch).look if source.renews else None,
        report=report,
    ) as supervisor:
        try:
            if fault is not None:
                raise fault
            _run(config.parse_own_job(document), supervisor)
        except StartError as error:
            log.error("{}: {}".format(error.kind, error.message))
            supervisor.report_failure(error)
    code = ended.get("code")
    return code if isinstance(code, int) else CANNOT_START


def _open_channel(document: Mapping[str, object], named: Optional[str]) -> Transport:
    """Open the line that the command names, else the document's."""
    if named is None:
        with UeventListener() as events:
            return channel.open_transport(config.parse_channel(document), events)
    kind, _, rest = named.partition(":")
    if kind == "unix" and rest:
        return Connecting(socket.AF_UNIX, rest, limits=channel.VSOCK_LIMITS)
    if kind == "vsock":
        asked = {"kind": kind, "port": int(rest) if rest.isdigit() else rest}
        with UeventListener() as events:
            return channel.open_transport(config.parse_channel({"channel": asked}), events)
    return channel.open_device(named)


def _run(job: config.Job, supervisor: Supervisor) -> None:
    """Start the job's process here, and supervise it to its end."""
    stop_signal = resolve.resolve_stop_signal(job.image, job.run)
    syscalls.become_subreaper()
    # The agent needs three descriptors for each process; what it starts has what there was.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    host = replace(job.run.host, limits=(("nofile", soft, hard), *job.run.host.limits))
    job = replace(job, run=replace(job.run, host=host))
    supervisor.supervise(
        process.start_here(job),
        stop_signal=stop_signal,
        stop_seconds=job.run.host.stop_seconds,
        oom_kills=descendants.oom_kills,
        start=functools.partial(_start_beside, job),
        end=descendants.kill_descendants,
    )


def _start_beside(job: config.Job, message: Mapping[str, object]) -> process.Launch:
    if message["type"] == "exec":
        return process.start_here(config.parse_exec(message, job))
    asked = config.parse_copy(message)
    takes = message["type"] == "copy-in"
    copy: Callable[[], int] = functools.partial(
        copy_out.run, asked.path, follow=asked.follow, shallow=asked.shallow
    )
    if takes:
        copy = functools.partial(copy_in.run, asked.path)
    return process.start_here(replace(job, run=config.RunConfig(stdin=takes)), builtin=copy)
