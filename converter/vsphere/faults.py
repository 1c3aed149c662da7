"""What vSphere's faults mean for a person: one table from the API's names to our errors.

Knows faults by the names of their types and fields, not by pyvmomi's classes, so none of those need
be loaded. Owns also what a connection that fails means. Whoever calls has the names of the objects
that a fault refers to.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from xml.parsers.expat import ExpatError

from converter.errors import (
    AuthError,
    HypervisorError,
    NotFoundError,
    SaltflatError,
    UnavailableError,
    UsageError,
)
from converter.vsphere.c_vsphere import OLDEST_RELEASE
from converter.vsphere.trust import ThumbprintError

# What a request may raise that is no fault: all that `from_transport` explains.
TRANSPORT_ERRORS = (OSError, http.client.HTTPException, ExpatError)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one kind of fault is: the class and cause of our error, and its sentences.

    `what` goes on after "vSphere could not DOING: "; {names} in it and in the hint are the fault's
    fields, or "unknown".
    """

    error: type[SaltflatError]
    cause: str
    what: str
    hint: str | None = None
    expected: str | None = None


_FREE_SPACE = "Free space on it, or name another one with --datastore."
_OTHER_HOST = "Wait until it is back, or name another one with --host or --cluster."
_LICENCE = "Assign a licence that allows it; ESXi's free one allows no changes through the API."
_AGAIN = "Try again later."
_REFRESH = "It was deleted meanwhile, or moved to where you may not see it: run the command again."

# By the type of the fault, or the nearest type above it that is here.
MEANINGS: Mapping[str, Meaning] = {
    # Who we are and what we may.
    "InvalidLogin": Meaning(
        AuthError,
        "login-refused",
        "user name or password is wrong",
        hint="On vCenter the name has its domain: administrator@vsphere.local. After several wrong "
        "ones the account is locked for a while.",
    ),
    "PasswordExpired": Meaning(
        AuthError, "password-expired", "the password has expired", hint="Change it in the client."
    ),
    "NotAuthenticated": Meaning(
        AuthError,
        "not-authenticated",
        "the session is not logged in, or has ended",
        hint="Run the command again; it will log in anew.",
    ),
    "NoPermission": Meaning(
        AuthError,
        "no-permission",
        "the privilege {privilegeId} on {object} is missing",
        expected="a role with it on that object, or on one above it that is propagated",
        hint="`saltflat vsphere check` lists all that are missing.",
    ),
    "RestrictedVersion": Meaning(
        HypervisorError, "licence", "its licence does not allow it", hint=_LICENCE
    ),
    # Licences.
    "InvalidLicense": Meaning(
        HypervisorError, "licence", "its licence is not valid", hint=_LICENCE
    ),
    "NotEnoughLicenses": Meaning(
        HypervisorError, "licence", "there are not enough licences", hint=_LICENCE
    ),
    "LicenseExpired": Meaning(HypervisorError, "licence", "the licence has expired", hint=_LICENCE),
    # Datastores and files.
    "InsufficientStorageSpace": Meaning(
        HypervisorError, "datastore-full", "there is not enough space for it", hint=_FREE_SPACE
    ),
    "NoDiskSpace": Meaning(
        HypervisorError,
        "datastore-full",
        "the datastore {datastore} is full (at {file})",
        hint=_FREE_SPACE,
    ),
    "InvalidDatastore": Meaning(
        HypervisorError,
        "datastore-unusable",
        "the datastore {name} cannot be used",
        hint="Check that it is mounted and not in maintenance, or name another with --datastore.",
    ),
    "FileAlreadyExists": Meaning(
        HypervisorError,
        "name-taken",
        "the file {file} is there already",
        hint="Choose another name, or remove what has it.",
    ),
    "FileNotFound": Meaning(
        NotFoundError, "file-missing", "the file {file} is not there", hint=_REFRESH
    ),
    "FileLocked": Meaning(
        HypervisorError, "busy", "the file {file} is in use by another machine or host", hint=_AGAIN
    ),
    "CannotAccessFile": Meaning(
        HypervisorError,
        "file-inaccessible",
        "the file {file} cannot be opened",
        hint="Check that the host of the machine has its datastore.",
    ),
    # Hosts.
    "InvalidHostState": Meaning(
        HypervisorError,
        "host-unusable",
        "the host {host} is in maintenance or cannot run it as it is",
        hint=_OTHER_HOST,
    ),
    "HostCommunication": Meaning(
        HypervisorError, "host-unreachable", "vCenter does not reach the host", hint=_OTHER_HOST
    ),
    "NoActiveHostInCluster": Meaning(
        HypervisorError,
        "host-unusable",
        "no host of the cluster is connected and out of maintenance",
        hint=_OTHER_HOST,
    ),
    "NoCompatibleHost": Meaning(
        HypervisorError,
        "no-compatible-host",
        "no host has what the machine needs (its datastore, its network, enough memory)",
        hint="`saltflat vsphere check` shows which hosts can be used.",
    ),
    "InsufficientResourcesFault": Meaning(
        HypervisorError,
        "no-resources",
        "memory or processors do not suffice, or the resource pool's limit is reached",
        hint="Stop machines, ask for less, or name another pool with --resource-pool.",
    ),
    # Names and objects.
    "DuplicateName": Meaning(
        HypervisorError,
        "name-taken",
        "the name {name} is taken there",
        hint="Choose another name or folder, or remove what has it.",
    ),
    "AlreadyExists": Meaning(
        HypervisorError,
        "name-taken",
        "{name} exists already",
        hint="Choose another name, or remove what has it.",
    ),
    "InvalidName": Meaning(
        UsageError,
        "bad-name",
        "{name} is no name that it takes",
        expected="at most 80 characters",
    ),
    "CannotAccessNetwork": Meaning(
        HypervisorError,
        "network-missing",
        "the network {network} is not on the host",
        hint="Name one with --network that all hosts of the cluster have.",
    ),
    "OvfNetworkMappingNotSupported": Meaning(
        HypervisorError,
        "network-missing",
        "the host takes no choice of networks",
        hint="Name with --network one that the host has.",
    ),
    "ManagedObjectNotFound": Meaning(
        NotFoundError, "object-gone", "the object {obj} is not there any more", hint=_REFRESH
    ),
    "NotFound": Meaning(NotFoundError, "not-found", "it did not find what was named"),
    # States.
    "InvalidPowerState": Meaning(
        HypervisorError,
        "power-state",
        "the machine is {existingState}",
        expected="{requestedState}",
    ),
    "InvalidState": Meaning(
        HypervisorError,
        "wrong-state",
        "it is not in a state for that",
        hint="Check that hosts and datastore are not in maintenance, and that no task runs.",
    ),
    "TaskInProgress": Meaning(
        HypervisorError, "busy", "another task is at work on it", hint=_AGAIN
    ),
    "ResourceInUse": Meaning(HypervisorError, "busy", "{name} is in use", hint=_AGAIN),
    "ConcurrentAccess": Meaning(
        HypervisorError, "busy", "somebody else changed it at the same time", hint=_AGAIN
    ),
    "Timedout": Meaning(
        UnavailableError, "timed-out", "it took vSphere longer than vSphere allows", hint=_AGAIN
    ),
    "RequestCanceled": Meaning(
        HypervisorError, "cancelled", "somebody cancelled the task", hint="Run it again."
    ),
    "InvalidArgument": Meaning(
        HypervisorError,
        "bad-argument",
        "it does not take {invalidProperty} as it was given",
        hint="On a cluster without DRS, a host has to be named with --host.",
    ),
    # What the server is.
    "NotSupported": Meaning(
        HypervisorError,
        "not-supported",
        "it does not support that here",
        hint="A host without vCenter has no clones and no folders.",
    ),
    "InvalidRequest": Meaning(
        HypervisorError,
        "not-supported",
        "it does not understand the request",
        expected=f"vSphere {OLDEST_RELEASE} or later",
    ),
}


def kind_of(fault: BaseException) -> str:
    """Return the API's name of a fault's type: NoPermission, not vim.fault.NoPermission."""
    return type(fault).__name__.rpartition(".")[2]


def from_fault(
    fault: BaseException, *, doing: str, named: Callable[[object], str] = str
) -> SaltflatError:
    """Return the error for a fault of the API that came of `doing` ("create the machine db").

    `named` gives the name of an object that the fault refers to.
    """
    for kind in type(fault).__mro__:
        meaning = MEANINGS.get(kind.__name__.rpartition(".")[2])
        if meaning is not None:
            words = _Fields(fault, named)
            return meaning.error(
                f"vSphere could not {doing}: {meaning.what.format_map(words)}.",
                expected=meaning.expected and meaning.expected.format_map(words),
                hint=meaning.hint,
                cause=meaning.cause,
            )
    said = getattr(fault, "localizedMessage", None) or getattr(fault, "msg", None) or "no reason"
    return HypervisorError(
        f"vSphere could not {doing}: {str(said).rstrip('.')} ({kind_of(fault)}).",
        hint="The task in the client, and the host's vmkernel and hostd logs, may say more.",
        cause="vsphere-fault",
    )


def from_transport(
    error: Exception, *, url: str, doing: str, presented: str | None = None
) -> SaltflatError:
    """Return the error for a request to `url` that got no answer (one of TRANSPORT_ERRORS).

    `presented` is the thumbprint of the certificate that the server shows, where one is known.
    """
    if isinstance(error, ThumbprintError):
        return UnavailableError(
            f"No secure connection to {url}: its certificate has the SHA-256 thumbprint "
            f"{error.found}.",
            expected="the thumbprint that was given",
            hint="If its certificate was renewed, compare with the server itself and give the new "
            "thumbprint. If not, somebody is in between.",
            cause="tls-thumbprint",
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        shown = f" It shows one with the SHA-256 thumbprint {presented}." if presented else ""
        return UnavailableError(
            f"No secure connection to {url}: its certificate cannot be verified "
            f"({error.verify_message}).{shown}",
            expected="a certificate that is trusted here",
            hint="Give the authority's certificates with --vsphere-ca-file, or compare the "
            "thumbprint with the server's own and give it with --vsphere-thumbprint.",
            cause="tls-untrusted",
        )
    if isinstance(error, ssl.SSLError):
        return UnavailableError(
            f"No secure connection to {url}: {getattr(error, 'reason', None) or error}.",
            expected="TLS",
            hint="Check the port; vSphere serves its API at 443.",
            cause="tls",
        )
    if isinstance(error, TimeoutError):
        return UnavailableError(
            f"{url} did not answer in time when asked to {doing}.",
            hint="Check the address and the network, or wait longer with --vsphere-timeout.",
            cause="no-answer",
        )
    if isinstance(error, http.client.HTTPException | ExpatError) and not isinstance(error, OSError):
        said = str(error) or type(error).__name__
        return HypervisorError(
            f"{url} does not answer as vSphere does ({said}).",
            expected="vCenter or ESXi, at /sdk",
            hint="Check host, port and path, and that no proxy answers in its place.",
            cause="not-vsphere",
        )
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UnavailableError(
        f"{url} was not reached: {reason}.",
        hint="Check the address and the network, and that the server runs.",
        cause="unreachable",
    )


class _Fields(dict[str, str]):
    """The fields of a fault as words, for `str.format_map`."""

    def __init__(self, fault: BaseException, named: Callable[[object], str]) -> None:
        super().__init__()
        self._fault = fault
        self._named = named

    def __missing__(self, key: str) -> str:
        value = getattr(self._fault, key, None)
        if value is None:
            return "unknown"
        # pyvmomi's references cannot be compared with anything else, so not `value == ""`.
        return (value or "unknown") if isinstance(value, str) else self._named(value)
