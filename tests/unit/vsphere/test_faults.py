"""Faults as errors, made of pyvmomi's own types: every name and field is one of the API's."""

from __future__ import annotations

import socket
import ssl
import string
from http.client import BadStatusLine, RemoteDisconnected
from pathlib import Path

import pytest
from pyVmomi import vim, vmodl

from converter.errors import AuthError, HypervisorError, NotFoundError, UnavailableError
from converter.vsphere.faults import MEANINGS, from_fault, from_transport
from converter.vsphere.trust import ThumbprintError

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "vsphere.md").read_text("utf-8")


def _type_of(name: str) -> type:
    return getattr(vim.fault, name, None) or getattr(vmodl.fault, name)


@pytest.mark.parametrize("name", MEANINGS)
def test_the_table_names_faults_and_fields_of_the_api(name):
    fault = _type_of(name)
    properties = {one.name for one in fault._GetPropertyList()}
    meaning = MEANINGS[name]
    for text in (meaning.what, meaning.expected or ""):
        named = {field for _text, field, _spec, _how in string.Formatter().parse(text) if field}
        assert named <= properties
    assert f"`{meaning.cause}`" in DOCUMENT
    error = from_fault(fault(), doing="do it")
    assert type(error) is meaning.error
    assert error.cause == meaning.cause
    assert "{" not in f"{error.what}{error.expected}"


@pytest.mark.parametrize(
    ("fault", "kind", "cause", "says"),
    [
        (
            vim.fault.NoPermission(
                object=vim.Folder("group-v3"), privilegeId="VirtualMachine.Inventory.Create"
            ),
            AuthError,
            "no-permission",
            "the privilege VirtualMachine.Inventory.Create on <group-v3> is missing",
        ),
        (
            vim.fault.NoDiskSpace(datastore="ssd", file="[ssd] a/a.vmdk"),
            HypervisorError,
            "datastore-full",
            r"the datastore ssd is full \(at \[ssd\] a/a.vmdk\)",
        ),
        # Of types that are not in the table themselves, the one above counts.
        (vim.fault.InaccessibleDatastore(name="ssd"), HypervisorError, "datastore-unusable", "ssd"),
        (vmodl.fault.HostNotReachable(), HypervisorError, "host-unreachable", "does not reach"),
        (vim.fault.LicenseRestricted(), HypervisorError, "licence", "licences"),
        (
            vim.fault.DuplicateName(name="db", object=vim.VirtualMachine("vm-1")),
            HypervisorError,
            "name-taken",
            "the name db is taken",
        ),
        (
            vmodl.fault.ManagedObjectNotFound(obj=vim.Task("task-7")),
            NotFoundError,
            "object-gone",
            "<task-7>",
        ),
        (
            vim.fault.GenericVmConfigFault(msg="Bad disk."),
            HypervisorError,
            "vsphere-fault",
            "Bad disk",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, vmodl.MethodFault) else None,
)
def test_what_a_fault_says(fault, kind, cause, says):
    error = from_fault(fault, doing="make db", named=lambda thing: f"<{thing._moId}>")
    assert (type(error), error.cause) == (kind, cause)
    with pytest.raises(kind, match=f"vSphere could not make db: .*{says}"):
        raise error


@pytest.mark.parametrize(
    ("error", "kind", "cause"),
    [
        (ThumbprintError("AA:BB"), UnavailableError, "tls-thumbprint"),
        (ssl.SSLError(1, "wrong version number"), UnavailableError, "tls"),
        (TimeoutError("timed out"), UnavailableError, "no-answer"),
        (ConnectionRefusedError(111, "Connection refused"), UnavailableError, "unreachable"),
        (socket.gaierror(-2, "Name or service not known"), UnavailableError, "unreachable"),
        (RemoteDisconnected("closed"), UnavailableError, "unreachable"),
        (BadStatusLine("SSH-2.0"), HypervisorError, "not-vsphere"),
    ],
)
def test_what_a_broken_connection_says(error, kind, cause):
    assert f"`{cause}`" in DOCUMENT
    made = from_transport(error, url="https://v.example:443/sdk", doing="log in")
    assert (type(made), made.cause) == (kind, cause)
    assert "https://v.example:443/sdk" in made.what
