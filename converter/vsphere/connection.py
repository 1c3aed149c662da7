"""A session at vCenter or ESXi: logging in, staying so, reading properties, waiting for tasks.

Importing this loads pyvmomi, an extra of the distribution. What pyvmomi brings for these matters is
left aside: its own sessions repeat a request after any broken connection, even one that made a
machine, and its own way to connect takes any certificate where the host is called localhost.
"""

from __future__ import annotations

import ssl
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from typing import Any

from converter.errors import HypervisorError, NotFoundError, SaltflatError
from converter.vsphere.c_vsphere import API_NAMESPACE, API_VERSION, VCENTER_API_TYPE
from converter.vsphere.faults import TRANSPORT_ERRORS, from_fault, from_transport
from converter.vsphere.kept import KeptSessions
from converter.vsphere.settings import Settings
from converter.vsphere.trust import presented_thumbprint

try:
    from pyVmomi import SoapAdapter, VmomiSupport, vmodl
    from pyVmomi import pbm as pbm  # noqa: PLC0414 - for others, who get it or this one's error
    from pyVmomi import vim as vim  # noqa: PLC0414 - as said
except ImportError as _missing:
    raise NotFoundError(
        "pyvmomi, by which vSphere is spoken to, is not installed.",
        hint=f"{sys.executable} -m pip install 'saltflat[vsphere]'",
        cause="no-pyvmomi",
    ) from _missing

FAULTS = vmodl.MethodFault  # all that the API raises

# Servers end idle connections without a word, and a request that meets one cannot be told from one
# that was carried out: so none is used again after more than a moment.
_POOLED_SECONDS = 5
_PRESENTED_SECONDS = 5.0  # to look at a certificate for an error message
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 1.0
_PAGE_OBJECTS = 500


@dataclass(frozen=True, slots=True)
class About:
    """What a server says that it is."""

    name: str  # "VMware vCenter Server 8.0.3 build-24022515"
    version: str
    is_vcenter: bool


@dataclass(frozen=True, slots=True)
class Found:
    """An object with those of its properties that were asked for, are set and may be read."""

    reference: Any
    values: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Return its id, which no other object of the server has: "datastore-12"."""
        return str(self.reference._moId)

    @property
    def kind(self) -> str:
        """Return the name of its type in the API: "Datastore"."""
        return str(self.reference._wsdlName)


class _Stub(SoapAdapter.SoapStubAdapter):  # type: ignore[misc]  # pyvmomi's classes have no types
    """Sends requests; logs in again, once for each, when the server says that nobody is."""

    logins = 0  # so far; a cookie would not do, since servers give one with a refusal, too
    log_in_again: Any = None  # Callable[[int], None], given how many there had been

    def InvokeMethod(self, mo: Any, info: Any, args: Any, outerStub: Any = None) -> Any:  # noqa: ANN401, N802, N803 - pyvmomi's signature
        logins = self.logins
        try:
            return super().InvokeMethod(mo, info, args, outerStub)
        except vim.fault.NotAuthenticated:
            if self.log_in_again is None:
                raise
        # The server has refused to do anything, so the request may be made again, whatever it is.
        self.log_in_again(logins)
        return super().InvokeMethod(mo, info, args, outerStub)


class Connection:
    """One session. A context manager, which logs out at the end unless the session is kept."""

    def __init__(self, settings: Settings, *, kept: KeptSessions | None) -> None:
        """Prepare; `open_connection` makes one that is logged in."""
        address = settings.address
        self.settings = settings
        self.content: Any = None  # until the first answer
        self.resumed = False  # whether a kept session was still good
        self._kept = kept
        self._logging_in = threading.Lock()
        plain = address.scheme == "http"
        self._stub = _Stub(
            host=address.host,
            port=-address.port if plain else address.port,  # pyvmomi's sign of no TLS
            path=address.path,
            version=API_VERSION,
            sslContext=None if plain else settings.trust.context(),
            httpConnectionTimeout=settings.timeout_seconds,
            connectionPoolTimeout=_POOLED_SECONDS,
        )
        self._service = vim.ServiceInstance("ServiceInstance", self._stub)
        try:
            with self.doing("say what it is"):
                self.content, self.about = self._first_answer()
        except BaseException:
            self._stub.DropConnections()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def log_in(self, *, fresh: bool) -> None:
        """Be logged in: by a kept session unless `fresh`, else by name and password.

        Raises AuthError, or what a request may raise.
        """
        session = self._kept.load(self.settings) if self._kept is not None and not fresh else None
        self._stub.log_in_again = self._log_in_again
        if session is not None:
            self._stub.SetSessionId(session)
            with self.doing("tell whether the session is still good"):
                current = self.content.sessionManager.currentSession
            # A vCenter that does not know the session says so, which has logged us in; a host may
            # answer that there is none.
            if current is not None:
                self.resumed = self._stub.logins == 0
                return
        self._log_in()

    @property
    def session_key(self) -> str:
        """Return the key that the API has for this session."""
        with self.doing("tell which session this is"):
            current = self.content.sessionManager.currentSession
        return str(current.key)

    def service_time(self) -> datetime:
        """Return the server's clock; to be asked for within `doing`."""
        moment: datetime = self._service.CurrentTime()
        return moment

    def machine(self, identifier: str) -> Any:  # noqa: ANN401 - pyvmomi's own
        """Return the virtual machine with an id ("vm-12"); whether it is there is not asked."""
        return vim.VirtualMachine(identifier, self._stub)

    @property
    def cookie(self) -> str:
        """Return what makes an HTTP request to the same server one of this session. A secret."""
        return str(self._stub.cookie)

    def close(self) -> None:
        """Log out unless the session is kept, and end the connections. Raises nothing."""
        self._stub.log_in_again = None
        if self._kept is None and self._stub.cookie:
            with suppress(vmodl.MethodFault, *TRANSPORT_ERRORS):
                self.content.sessionManager.Logout()
        self._stub.DropConnections()

    @contextmanager
    def beside(self, path: str, version: str) -> Iterator[Any]:
        """Yield a stub for another service of the same server, with this session.

        `version` is that service's, in pyvmomi's own names.
        """
        session = self._stub.GetSessionId() or ""
        address = self.settings.address
        plain = address.scheme == "http"
        stub = SoapAdapter.SoapStubAdapter(
            host=address.host,
            port=-address.port if plain else address.port,
            path=path,
            version=version,
            sslContext=None if plain else self.settings.trust.context(),
            httpConnectionTimeout=self.settings.timeout_seconds,
            requestContext={"vcSessionCookie": session},  # where these services look for it
        )
        stub.SetSessionId(session)
        try:
            yield stub
        finally:
            stub.DropConnections()

    @contextmanager
    def doing(self, words: str) -> Iterator[None]:
        """Turn what a request raises in the block into an error that says what it was to do."""
        try:
            yield
        except vmodl.MethodFault as fault:
            raise from_fault(fault, doing=words, named=self.name_of) from fault
        except TRANSPORT_ERRORS as error:
            address = self.settings.address
            presented = None
            if isinstance(error, ssl.SSLCertVerificationError):
                presented = presented_thumbprint(address.host, address.port, _PRESENTED_SECONDS)
            raise from_transport(
                error, url=address.url, doing=words, presented=presented
            ) from error

    def name_of(self, thing: object) -> str:
        """Return an object's name as far as it can be had, else its id. Raises nothing."""
        if not isinstance(thing, VmomiSupport.ManagedObject):
            return str(thing)
        if self.content is None:
            return _id(thing)
        with suppress(SaltflatError, vmodl.MethodFault, *TRANSPORT_ERRORS):
            for found in self._pages([_object_spec(thing)], {type_name(thing): ["name"]}):
                if "name" in found.values:
                    return f"{found.values['name']} ({found.id})"
        return _id(thing)

    def properties(self, thing: object, paths: Sequence[str]) -> Mapping[str, Any]:
        """Return properties of an object by path, without those that are unset or not readable."""
        return next(iter(self.each([thing], paths).values()), {})

    def each(
        self, things: Sequence[object], paths: Sequence[str]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return properties of objects of one type, by their ids, as `properties` does."""
        if not things:
            return {}
        kind = type_name(things[0])
        with self.doing(f"tell about {kind} {_id(things[0])}"):
            pages = self._pages([_object_spec(thing) for thing in things], {kind: paths})
            return {found.id: found.values for found in pages}

    def everything(
        self, kinds: Mapping[str, Sequence[str]], *, below: object | None = None
    ) -> Iterator[Found]:
        """Yield all objects of some types, named as the API does, with some of their properties.

        Of those below the folder `below`, if one is given.
        """
        with self.doing("list its inventory"):
            view = self.content.viewManager.CreateContainerView(
                below or self.content.rootFolder, [_type(kind) for kind in kinds], recursive=True
            )
            try:
                collector = vmodl.query.PropertyCollector
                walk = collector.TraversalSpec(
                    name="view", path="view", skip=False, type=type(view)
                )
                yield from self._pages(
                    [collector.ObjectSpec(obj=view, skip=True, selectSet=[walk])], kinds
                )
            finally:
                with suppress(vmodl.MethodFault, *TRANSPORT_ERRORS):
                    view.DestroyView()

    def wait(self, task: Any, *, doing: str, timeout_seconds: float) -> Any:  # noqa: ANN401 - pyvmomi's own
        """Return a task's result when it has succeeded.

        Raises the error of its fault; HypervisorError with the cause task-timeout if it takes
        longer, and it goes on then. Asks again and again, which needs nothing of the server's that
        a new login would lose.
        """
        end = time.monotonic() + timeout_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            # By path: what some servers' tasks say they are about, pyvmomi does not take.
            info = self.properties(task, ["info.state", "info.result", "info.error"])
            if info.get("info.state") == vim.TaskInfo.State.success:
                return info.get("info.result")
            if info.get("info.state") == vim.TaskInfo.State.error:
                raise from_fault(info["info.error"], doing=doing, named=self.name_of)
            if time.monotonic() + pause > end:
                raise HypervisorError(
                    f"vSphere has not managed to {doing} in {timeout_seconds:g} seconds; its task "
                    f"{_id(task)} goes on.",
                    hint="Look at the task in the client; cancel it there, or wait for it.",
                    cause="task-timeout",
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _first_answer(self) -> tuple[Any, About]:
        """Return the service's content, and what it says that it is."""
        try:
            content = self._service.RetrieveContent()
            about = content.about
            named = About(
                name=str(about.fullName),
                version=str(about.version),
                is_vcenter=about.apiType == VCENTER_API_TYPE,
            )
        except (vmodl.MethodFault, *TRANSPORT_ERRORS):
            raise
        except Exception as error:
            # XML that is not SOAP, or SOAP of another service: pyvmomi fails wherever it gets to.
            raise HTTPException("XML, but not vSphere's") from error
        return content, named

    def _pages(self, objects: list[Any], kinds: Mapping[str, Sequence[str]]) -> Iterator[Found]:
        collector = self.content.propertyCollector
        query = vmodl.query.PropertyCollector
        wanted = [
            query.PropertySpec(type=_type(kind), pathSet=list(paths), all=False)
            for kind, paths in kinds.items()
        ]
        page = collector.RetrievePropertiesEx(
            [query.FilterSpec(objectSet=objects, propSet=wanted)],
            query.RetrieveOptions(maxObjects=_PAGE_OBJECTS),
        )
        while page is not None:
            for one in page.objects:
                yield Found(one.obj, {found.name: found.val for found in one.propSet})
            page = collector.ContinueRetrievePropertiesEx(page.token) if page.token else None

    def _log_in(self) -> None:
        settings = self.settings
        password = settings.secret()
        self._stub.SetSessionId(None)  # a login with a session that has ended is refused
        self._stub.cookie = ""
        with self.doing(f"log {settings.username} in"):
            self.content.sessionManager.Login(settings.username, password)
        self._stub.logins += 1
        if self._kept is not None and (session := self._stub.GetSessionId()):
            with suppress(OSError):  # one that cannot be kept costs the next command a login
                self._kept.save(settings, session)

    def _log_in_again(self, logins: int) -> None:
        with self._logging_in:
            if self._stub.logins == logins:  # else another thread has done it
                self._stub.log_in_again = None  # a login that needs one would go round for ever
                try:
                    self._log_in()
                finally:
                    self._stub.log_in_again = self._log_in_again


def open_connection(
    settings: Settings, *, kept: KeptSessions | None = None, fresh: bool = False
) -> Connection:
    """Connect and log in. `kept` keeps the session for the next command; `fresh` uses none.

    Raises AuthError, UnavailableError (network, TLS), HypervisorError (no vSphere, or too old).
    """
    connection = Connection(settings, kept=kept)
    try:
        connection.log_in(fresh=fresh)
    except BaseException:
        connection.close()
        raise
    return connection


def import_parameters(
    *, name: str, networks: Mapping[str, object], provisioning: str, host: object | None
) -> Any:  # noqa: ANN401 - pyvmomi's own
    """Return what the server is to know beside a descriptor; `networks` by the names in that."""
    manager = vim.OvfManager
    return manager.CreateImportSpecParams(
        entityName=name,
        diskProvisioning=provisioning,
        hostSystem=host,
        networkMapping=[
            manager.NetworkMapping(name=inside, network=network)
            for inside, network in networks.items()
        ],
    )


def type_name(thing: object) -> str:
    """Return the API's name of an object's type: "Datastore"."""
    return str(thing._wsdlName)  # type: ignore[attr-defined]  # pyvmomi has no other name for it


def option_values(values: Mapping[str, str]) -> list[Any]:
    """Return settings as extra configuration of a machine, in order of their keys."""
    return [vim.option.OptionValue(key=key, value=value) for key, value in sorted(values.items())]


def _type(kind: str) -> Any:  # noqa: ANN401 - pyvmomi's own
    """Return pyvmomi's class for the API's name of a type."""
    return VmomiSupport.GetWsdlType(API_NAMESPACE, kind)


def _id(thing: object) -> str:
    return str(thing._moId)  # type: ignore[attr-defined]  # pyvmomi has no other name for it


def _object_spec(thing: object) -> Any:  # noqa: ANN401 - pyvmomi's own
    return vmodl.query.PropertyCollector.ObjectSpec(obj=thing, skip=False)
