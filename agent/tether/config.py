"""The guest's configuration: one JSON document, checked whole before anything acts on it.

Owns the document's schema and every check that needs no file system. It does not fetch the document
(`sources`) and does not decide what it means for the process (`resolve`). Errors name the field by
its path in the document.
"""

from __future__ import annotations

from agent import bare_json as json
from agent.hints import Mapping, Optional, Tuple, Union
from agent.tether.errors import StartError
from agent.tether.fields import Arguments
from agent.tether.fields import arguments as _arguments
from agent.tether.fields import flag as _flag
from agent.tether.fields import json_object as _object
from agent.tether.fields import optional_text as _optional_text
from agent.tether.fields import text as _text
from agent.tether.fields import whole as _whole
from agent.tether.fields import wrong as _wrong
from agent.tether.health import IMAGE_NAMES, HealthCheck, parse_health
from agent.tether.host_config import DEFAULTS, HostConfig, parse_host_config
from agent.tether.network_config import NONE, NetworkConfig, parse_network
from agent.tether.patterns import is_host_name, is_serial_device, is_serial_number, is_uuid
from agent.values import dataclass, replace

SCHEMA = 1
MAX_DOCUMENT_BYTES = 4 << 20
KEY_BYTES = 32
MAX_EPOCH = (1 << 53) - 1  # what every reader of JSON takes exactly
RING_BYTES = (1 << 16, 1 << 30)  # the least and the most that may be asked for
_HOST_CID = 2  # VMADDR_CID_HOST, linux/vm_sockets.h
_MAX_32_BITS = (1 << 32) - 1

# What a document for the agent alone has no use for.
_MACHINE_MEMBERS = ("root", "hostname", "volumes", "network")
_OWN_HOST_CONFIG = frozenset(
    ("groups", "limits", "no_new_privileges", "oom_score_adj", "stop_signal", "stop_seconds")
)


@dataclass(frozen=True)
class VirtioSerial:
    """A virtio-serial port, by the name that the hypervisor gave it."""

    name: str


@dataclass(frozen=True)
class Serial:
    """A 16550 serial line, by its device node."""

    device: str


@dataclass(frozen=True)
class Vsock:
    """A virtual socket: connect to a CID's port or, with `listen`, let that CID connect to ours."""

    cid: int
    port: int
    listen: bool


@dataclass(frozen=True)
class Connection:
    """What is needed to talk to the host at all."""

    key: bytes
    channel: Union[VirtioSerial, Serial, Vsock]


@dataclass(frozen=True)
class Renewal:
    """A key, and its place in the order of a machine's keys: only a higher epoch's is taken."""

    epoch: int
    key: bytes


@dataclass(frozen=True)
class OutputRules:
    """What becomes of output that no host takes.

    A host that has not come, or not answered for `away_seconds`, is not waited for: `ring_bytes` of
    the newest output are kept. A machine whose work is done waits `linger_seconds` for such a host.
    """

    ring_bytes: int = 1 << 20
    away_seconds: float = 5.0
    linger_seconds: float = 10.0


@dataclass(frozen=True)
class ImageConfig:
    """The part of an OCI image's `config` object that a start needs.

    `entrypoint` and `command` are empty when the image names none.
    """

    entrypoint: Arguments = ()
    command: Arguments = ()
    environment: Arguments = ()
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""
    shell: Arguments = ()
    health: Optional[HealthCheck] = None


@dataclass(frozen=True)
class RunConfig:
    """What the person who runs the image asked for; None and empty mean: as the image says."""

    arguments: Optional[Arguments] = None
    entrypoint: Optional[Arguments] = None
    environment: Arguments = ()
    user: Optional[str] = None
    working_dir: Optional[str] = None
    tty: bool = False
    stdin: bool = False
    rows: Optional[int] = None
    columns: Optional[int] = None
    host: HostConfig = DEFAULTS


@dataclass(frozen=True)
class CopyRequest:
    """What to copy, whether a link there is followed, and whether what is in a folder stays out."""

    path: str
    follow: bool
    shallow: bool


@dataclass(frozen=True)
class Volume:
    """A further disk, by its serial number, and where the process sees its file system.

    `copy`: if it is empty, it takes over what the image has there.
    """

    serial: str
    path: str
    read_only: bool = False
    copy: bool = False


@dataclass(frozen=True)
class Job:
    """What to run, on which root file system, with which volumes and which network."""

    root_uuid: str
    host_name: str
    image: ImageConfig
    run: RunConfig
    volumes: Tuple[Volume, ...] = ()
    network: NetworkConfig = NONE
    call_filter: bytes = b""  # of its processes' system calls, where there is one


def load_document(raw: bytes) -> Mapping[str, object]:
    """Return the document in `raw`: the JSON itself, or an OVF environment that gives it.

    StartError("config") when it is neither, or of a schema that we do not know.
    """
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise _wrong("document", "at most {} bytes".format(MAX_DOCUMENT_BYTES))
    if not raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return load_json(raw)
    from agent.tether import ovf_environment  # noqa: PLC0415 - most guests do not pay its memory

    return ovf_environment.read_environment(raw)


def json_object_of(raw: bytes, field: str) -> Mapping[str, object]:
    """Parse a JSON object; StartError("config") that names `field` if it is none."""
    try:
        found = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _wrong(field, "JSON in UTF-8 ({})".format(error)) from error
    if not isinstance(found, dict):
        raise _wrong(field, "a JSON object")
    return found


def load_json(raw: bytes) -> Mapping[str, object]:
    """Parse the bytes into a JSON object of a schema that we know; StartError("config") if not."""
    document = json_object_of(raw, "document")
    schema = document.get("schema")
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise _wrong("schema", "a positive whole number")
    if schema > SCHEMA:
        raise StartError(
            "config",
            "config schema {} is newer than this guest's {}; "
            "build a boot image with the same saltflat".format(schema, SCHEMA),
        )
    return document


def parse_connection(document: Mapping[str, object]) -> Connection:
    """Check and return the channel and its key, so that later errors can be reported through it."""
    key_bytes = parse_renewal(document).key
    return Connection(key_bytes, parse_channel(document))


def parse_channel(document: Mapping[str, object]) -> Union[VirtioSerial, Serial, Vsock]:
    """Check and return the line to the host."""
    channel = _object(document, "channel", "channel")
    kind = _text(channel, "kind", "channel.kind")
    if kind == "virtio-serial":
        name = _text(channel, "name", "channel.name")
        if not name:
            raise _wrong("channel.name", "a port name")
        return VirtioSerial(name)
    if kind == "serial":
        device = _text(channel, "device", "channel.device")
        if not is_serial_device(device):
            raise _wrong("channel.device", "a serial line such as /dev/ttyS0")
        return Serial(device)
    if kind == "vsock":
        return Vsock(
            cid=_whole(channel, "cid", "channel.cid", 0, _MAX_32_BITS, default=_HOST_CID),
            port=_whole(channel, "port", "channel.port", 0, _MAX_32_BITS),
            listen=_flag(channel, "listen", "channel.listen"),
        )
    raise _wrong("channel.kind", "virtio-serial, serial or vsock")


def parse_renewal(document: Mapping[str, object]) -> Renewal:
    """Check and return the key and its epoch: all that counts in a document that comes later."""
    epoch = _whole(document, "epoch", "epoch", 0, MAX_EPOCH, default=0)
    key = _text(document, "key", "key")
    try:
        key_bytes = bytes.fromhex(key)
    except ValueError:
        key_bytes = b""
    if len(key_bytes) != KEY_BYTES or len(key) != 2 * KEY_BYTES:
        # The value is a secret: say what is expected, never what was there.
        raise _wrong("key", "{} hexadecimal digits".format(2 * KEY_BYTES))
    return Renewal(epoch, key_bytes)


def parse_output(document: Mapping[str, object]) -> OutputRules:
    """Check and return the rules for output; a member that is missing has its default."""
    if document.get("output") is None:
        return OutputRules()
    output = _object(document, "output", "output")
    rules = OutputRules()
    return OutputRules(
        ring_bytes=_whole(
            output,
            "ring_bytes",
            "output.ring_bytes",
            *RING_BYTES,
            default=rules.ring_bytes,
        ),
        away_seconds=_seconds(output, "away_seconds", rules.away_seconds),
        linger_seconds=_seconds(output, "linger_seconds", rules.linger_seconds),
    )


def output_rules(document: Mapping[str, object]) -> Tuple[OutputRules, Optional[StartError]]:
    """Return the rules, or the defaults and what is wrong: the line is needed to report that."""
    try:
        return parse_output(document), None
    except StartError as error:
        return OutputRules(), error


def parse_job(document: Mapping[str, object]) -> Job:
    """Check and return everything else that the document says."""
    uuid = _text(_object(document, "root", "root"), "uuid", "root.uuid").lower()
    if not is_uuid(uuid):
        raise _wrong("root.uuid", "a UUID of 36 characters")
    host_name = _text(document, "hostname", "hostname")
    if not is_host_name(host_name):
        raise _wrong("hostname", "1 to 64 letters, digits, dots, dashes or underscores")
    return Job(
        root_uuid=uuid,
        host_name=host_name,
        image=_parse_image(_object(document, "image", "image")),
        run=_parse_run(_object(document, "run", "run")),
        volumes=_parse_volumes(document.get("volumes")),
        network=parse_network(document.get("network")),
    )


def parse_own_job(document: Mapping[str, object]) -> Job:
    """Check and return the job of an agent that is no machine's init, and prepares no world.

    What the document says of disks, names and the like would have no effect: it is refused.
    """
    for name in _MACHINE_MEMBERS:
        if document.get(name) not in (None, [], {}):
            raise _wrong(name, "nothing, for the agent alone does not prepare the machine")
    run = _parse_run(_object(document, "run", "run"))
    for name in sorted(vars(DEFAULTS)):
        if name not in _OWN_HOST_CONFIG and getattr(run.host, name) != getattr(DEFAULTS, name):
            field = "run.host_config." + name
            raise _wrong(field, "nothing, for the agent alone leaves the world as it is")
    image = document.get("image")
    return Job(
        root_uuid="",
        host_name="",
        image=ImageConfig() if image is None else _parse_image(_object(document, "image", "image")),
        run=run,
    )


def parse_exec(message: Mapping[str, object], job: Job) -> Job:
    """Check a request for another process beside the job's; return it as a job of its own.

    What it does not say is as for the main process: user, working directory, environment.
    """
    arguments = _arguments(message, "args", "exec.args")
    if not arguments:
        raise StartError("config", "exec.args: expected a list of text that is not empty")
    user = _optional_text(message, "user", "exec.user")
    working_dir = _optional_text(message, "workdir", "exec.workdir")
    run = RunConfig(
        arguments=arguments,
        entrypoint=(),
        environment=job.run.environment + (_arguments(message, "env", "exec.env") or ()),
        user=user or job.run.user,
        working_dir=working_dir or job.run.working_dir,
        tty=_flag(message, "tty", "exec.tty"),
        stdin=_flag(message, "stdin", "exec.stdin"),
        rows=_cells(message, "rows", "exec.rows"),
        columns=_cells(message, "cols", "exec.cols"),
        host=job.run.host,
    )
    return replace(job, run=run)


def parse_copy(message: Mapping[str, object]) -> CopyRequest:
    """Check a request to copy."""
    path = _text(message, "path", "copy.path")
    if not path.startswith("/"):
        raise _wrong("copy.path", "an absolute path")
    return CopyRequest(
        path,
        follow=_flag(message, "follow", "copy.follow"),
        shallow=_flag(message, "shallow", "copy.shallow"),
    )


def _parse_image(image: Mapping[str, object]) -> ImageConfig:
    return ImageConfig(
        entrypoint=_arguments(image, "Entrypoint", "image.Entrypoint") or (),
        command=_arguments(image, "Cmd", "image.Cmd") or (),
        environment=_arguments(image, "Env", "image.Env") or (),
        user=_optional_text(image, "User", "image.User") or "",
        working_dir=_optional_text(image, "WorkingDir", "image.WorkingDir") or "",
        stop_signal=_optional_text(image, "StopSignal", "image.StopSignal") or "",
        shell=_arguments(image, "Shell", "image.Shell") or (),
        health=parse_health(image.get("Healthcheck"), "image.Healthcheck", IMAGE_NAMES),
    )


def _parse_run(run: Mapping[str, object]) -> RunConfig:
    return RunConfig(
        arguments=_arguments(run, "args", "run.args"),
        entrypoint=_arguments(run, "entrypoint", "run.entrypoint"),
        environment=_arguments(run, "env", "run.env") or (),
        user=_optional_text(run, "user", "run.user"),
        working_dir=_optional_text(run, "workdir", "run.workdir"),
        tty=_flag(run, "tty", "run.tty"),
        stdin=_flag(run, "stdin", "run.stdin"),
        rows=_cells(run, "rows", "run.rows"),
        columns=_cells(run, "cols", "run.cols"),
        host=parse_host_config(run.get("host_config")),
    )


def _parse_volumes(value: object) -> Tuple[Volume, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _wrong("volumes", "a list of objects")
    volumes = []
    for number, entry in enumerate(value):
        field = "volumes[{}]".format(number)
        if not isinstance(entry, dict):
            raise _wrong(field, "an object")
        serial = _text(entry, "serial", field + ".serial").lower()
        if not is_serial_number(serial):
            raise _wrong(field + ".serial", "1 to 64 letters, digits or dashes")
        path = _text(entry, "path", field + ".path")
        if not path.startswith("/"):
            raise _wrong(field + ".path", "an absolute path")
        read_only = _flag(entry, "read_only", field + ".read_only")
        copy = _flag(entry, "copy", field + ".copy")
        volumes.append(Volume(serial, path, read_only, copy))
    return tuple(volumes)


def _seconds(output: Mapping[str, object], name: str, default: float) -> float:
    value = output.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1e9:
        raise _wrong("output." + name, "a number of seconds from 0 to 10^9")
    return value


def _cells(parent: Mapping[str, object], name: str, field: str) -> int | None:
    value = parent.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0xFFFF:
        raise _wrong(field, "a whole number from 0 to 65535")
    return value
