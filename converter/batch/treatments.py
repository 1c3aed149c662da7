"""From the words of a batch's file, read, to how an image is treated."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from converter.artifact.target import parse_target
from converter.batch.wishes import (
    BundleWish,
    ExportWish,
    ImportWish,
    OutputWish,
    PushWish,
    Treatment,
)
from converter.errors import UsageError
from converter.export.options import PackageOptions, read_machine_options
from converter.export.request import AUTO, ExportRequest, read_codec
from converter.export.template import check_template_name
from converter.vsphere.placement import Provisioning
from converter.vsphere.settings import (
    DEFAULT_TIMEOUT_SECONDS,
    Given,
    Settings,
    Wishes,
    read_settings,
)
from converter.vsphere.trust import Trust, read_thumbprint

_MEMORY_BYTES = 512 << 20
_TEMPLATE_NAME = "{name}-{digest}"
_MACHINE_WORDS = (
    "boot",
    "memory",
    "cpus",
    "firmware",
    "serial",
    "serial-log",
    "key-file",
    "hostname",
)
_PACKAGE_WORDS = ("delta", "property", "network-name", "boot-medium", "sign", "cert")
_PASSWORD_BYTES = 64 << 10
_URL_VARIABLE, _USER_VARIABLE = "SALTFLAT_VSPHERE_URL", "SALTFLAT_VSPHERE_USERNAME"


def treatment(base: Treatment, values: Mapping[str, Any]) -> Treatment:
    """Return `base` changed by what a file says: `values` as `converter.batch.keys` read them.

    Raises UsageError and ValueError for what does not go together, and OSError.
    """
    if "platform" in values and "platforms" in values:
        raise ValueError("platform and platforms are the same thing; name one of them")
    conversion, origin = base.conversion, base.origin
    conversion = replace(
        conversion,
        parameters=_changed(
            conversion.parameters, values, {"capacity": "capacity_bytes", "journal": "journal"}
        ),
        limits=_changed(
            conversion.limits,
            values,
            {
                "max-entries": "max_entries",
                "max-layer-size": "max_layer_bytes",
                "max-ratio": "max_ratio",
            },
        ),
    )
    conversion = _changed(conversion, values, {"max-links": "max_links", "policy": "policy"})
    conversion.check()
    access = _changed(
        origin.access,
        values,
        {
            "plain-http": "plain_http",
            "tls-verify": "tls_verify",
            "ca-file": "ca_file",
            "authfile": "authfile",
            "mirror": "mirrors",
            "retries": "retries",
            "timeout": "read_timeout_seconds",
        },
    )
    platforms = values.get("platforms", base.platforms)
    if "platform" in values:
        platforms = (values["platform"],)
    if not platforms:
        raise ValueError("platforms is empty")
    origin = replace(
        _changed(origin, values, {"foreign-layers": "foreign_layers"}),
        access=access,
        platform=platforms[0],
    )
    return Treatment(conversion, origin, tuple(dict.fromkeys(platforms)), tuple(_outputs(values)))


def _changed(value: Any, values: Mapping[str, Any], members: Mapping[str, str]) -> Any:  # noqa: ANN401 - any dataclass
    """Return the dataclass `value` with those members changed that `values` has words for."""
    return replace(value, **{members[word]: values[word] for word in members if word in values})


def _outputs(values: Mapping[str, Any]) -> list[OutputWish]:
    outputs: list[OutputWish] = []
    if (bundle := values.get("bundle")) is not None:
        outputs.append(
            BundleWish(
                place=bundle["output"],
                boot=bundle.get("boot"),
                force=bundle.get("force", False),
                copy=bundle.get("copy", False),
            )
        )
    outputs += [_export(each) for each in values.get("export", ()) if each is not None]
    if (push := values.get("push")) is not None:
        outputs.append(PushWish(place=push["target"], codec=push.get("codec", "zstd")))
    if (vsphere := values.get("vsphere")) is not None:
        settings = _vsphere(vsphere)
        wished = vsphere.get("provisioning") or settings.wishes.provisioning
        outputs.append(
            ImportWish(
                place=vsphere.get("name", _TEMPLATE_NAME),
                provisioning=Provisioning(wished or Provisioning.THIN),
                replace=vsphere.get("replace", False),
                settings=settings,
            )
        )
    return outputs


def _export(values: Mapping[str, Any]) -> ExportWish:
    machine = read_machine_options(
        given=tuple(word for word in _MACHINE_WORDS if word in values),
        boot_name=values.get("boot"),
        memory=values.get("memory", _MEMORY_BYTES),
        cpus=values.get("cpus", 1),
        firmware=values.get("firmware", "efi"),
        serial=values.get("serial", ""),
        serial_log=values.get("serial-log", False),
        key_file=values.get("key-file"),
        hostname=values.get("hostname"),
    )
    package = PackageOptions(
        given=tuple(word for word in _PACKAGE_WORDS if word in values),
        is_delta=values.get("delta", False),
        variables=values.get("property", ()),
        network=values.get("network-name", "VM Network"),
        medium_name=values.get("boot-medium", "iso"),
        key=values.get("sign"),
        certificate=values.get("cert"),
    )
    wish = ExportWish(
        place=values["output"],
        type=values["type"],
        codec=read_codec(values.get("codec", AUTO), values.get("compression-level")),
        machine=machine,
        package=package,
        force=values.get("force", False),
        provenance=values.get("provenance"),
        sbom=values.get("sbom", True),
    )
    request_of(wish, None).check()
    return wish


def request_of(wish: ExportWish, out: Path | None) -> ExportRequest:
    """Return the export of `wish` to `out`, or if that is None to nowhere in particular.

    It has one thread: there are other tasks beside it.
    """
    return ExportRequest(
        kind=wish.type,
        out=out,
        force=wish.force,
        codec=wish.codec,
        machine=wish.machine,
        package=wish.package,
        provenance=wish.provenance,
        threads=1,
    )


def check_place(wish: OutputWish) -> None:
    """Raise UsageError if the place of `wish`, filled in, is none that its output can have."""
    if isinstance(wish, ExportWish):
        _ = request_of(wish, Path(wish.place)).file_name
    elif isinstance(wish, PushWish):
        parse_target(wish.place)
    elif isinstance(wish, ImportWish):
        check_template_name(wish.place)


def _vsphere(values: Mapping[str, Any]) -> Settings:
    password_file: Path | None = values.get("password-file")
    password = None  # then the environment has it
    if password_file is not None:
        with password_file.open("rb") as file:
            raw = file.read(_PASSWORD_BYTES)
        password = raw.decode(errors="replace").removesuffix("\n").removesuffix("\r")
        if not password:
            raise UsageError(f"{password_file} has no password.", expected="it alone, on one line")
    given = Given(
        url=values.get("url") or os.environ.get(_URL_VARIABLE),
        username=values.get("username") or os.environ.get(_USER_VARIABLE),
        password=password,
        trust=Trust(
            values.get("ca-file", ()),
            tuple(map(read_thumbprint, values.get("thumbprint", ()))),
            values.get("insecure", False),
        ),
        wishes=Wishes(
            datacenter=values.get("datacenter"),
            datastore=values.get("datastore"),
            resource_pool=values.get("resource-pool"),
            folder=values.get("folder"),
            cluster=values.get("cluster"),
            host=values.get("host"),
            network=values.get("network"),
            storage_policy=values.get("storage-policy"),
        ),
        timeout_seconds=values.get("timeout", DEFAULT_TIMEOUT_SECONDS),
    )
    return read_settings(given, os.environ)
