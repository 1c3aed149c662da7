"""Being at a vSphere: TLS, login, sessions that last and end, properties, tasks. Against vcsim."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from pyVmomi import vim

from converter.errors import AuthError, HypervisorError, NotFoundError, UnavailableError
from converter.vsphere.connection import Connection, open_connection
from converter.vsphere.kept import KeptSessions
from converter.vsphere.settings import Given, Settings, read_settings
from converter.vsphere.survey import survey
from converter.vsphere.trust import Trust, read_thumbprint, thumbprint
from tests.integration.vcsim import vcsim
from tests.loopback import serving

pytestmark = pytest.mark.integration
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def address(go_tools: Path) -> Iterator[str]:
    with vcsim(go_tools, "-tls", "-clusters", "1", "-login", f"me:{PASSWORD}") as found:
        yield found


@pytest.fixture(scope="module")
def certificate(address: str) -> str:
    host, port = address.split(":")
    return ssl.get_server_certificate((host, int(port)), timeout=20)


@pytest.fixture
def settings(address: str, certificate: str) -> Settings:
    pin = read_thumbprint(thumbprint(ssl.PEM_cert_to_DER_cert(certificate)))
    given = Given(url=f"me@{address}", password=PASSWORD, trust=Trust(thumbprints=(pin,)))
    return read_settings(given, {})


def end_session(settings: Settings, key: str) -> None:
    """End somebody's session, as an administrator does."""
    with open_connection(settings) as other:
        other.content.sessionManager.TerminateSession([key])


def test_an_authority_that_vouches_is_believed(settings, certificate, tmp_path):
    file = tmp_path / "ca.pem"
    file.write_text(certificate)
    with open_connection(replace(settings, trust=Trust(ca_files=(file,)))) as connection:
        assert connection.about.is_vcenter


def test_nobody_else_is_believed(settings):
    with pytest.raises(UnavailableError, match="SHA-256 thumbprint") as untrusted:
        open_connection(replace(settings, trust=Trust()))
    assert untrusted.value.cause == "tls-untrusted"
    # The error shows the thumbprint that would be right.
    shown = untrusted.value.what.rpartition(" ")[2].rstrip(".")
    assert (read_thumbprint(shown),) == settings.trust.thumbprints
    with pytest.raises(UnavailableError) as other:
        open_connection(replace(settings, trust=Trust(thumbprints=("0" * 64,))))
    assert other.value.cause == "tls-thumbprint"
    assert shown in other.value.what


def test_every_connection_is_looked_at_and_not_the_first_alone(settings):
    """pyvmomi's own pins let the second connection through unseen."""
    context = replace(settings, trust=Trust(thumbprints=("0" * 40,))).trust.context()
    stub = Connection(settings, kept=None)
    stub._stub.DropConnections()
    stub._stub.schemeArgs["context"] = context
    for _time in range(2):
        with pytest.raises(UnavailableError), stub.doing("connect"):
            stub._service.CurrentTime()


def test_a_wrong_password_is_refused_and_shown_nowhere(settings):
    wrong = replace(settings, password="battery staple")
    with pytest.raises(AuthError, match="log me in: user name or password is wrong") as caught:
        open_connection(wrong)
    assert caught.value.cause == "login-refused"
    assert "staple" not in f"{caught.value.what}{caught.value.hint}{caught.value.__cause__!r}"


def test_a_kept_session_serves_the_next_command(settings, tmp_path):
    kept = KeptSessions(tmp_path)
    with open_connection(settings, kept=kept) as first:
        key = first.session_key
    (file,) = (tmp_path / "vsphere").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    nobody_knows = replace(settings, password=None)
    with open_connection(nobody_knows, kept=kept) as second:
        assert second.resumed
        assert second.session_key == key
    with open_connection(settings, kept=kept, fresh=True) as third:
        assert not third.resumed
        assert third.session_key != key
    with pytest.raises(AuthError) as caught:
        open_connection(nobody_knows)
    assert caught.value.cause == "no-password"


def test_a_session_that_was_ended_is_made_anew(settings, tmp_path):
    kept = KeptSessions(tmp_path)
    with open_connection(settings, kept=kept) as first:
        key = first.session_key
        end_session(settings, key)
        # In the middle of a command: the request that met it is made again.
        names = [found.values["name"] for found in first.everything({"Datacenter": ["name"]})]
        assert names == ["DC0"]
        second_key = first.session_key
        assert second_key != key
    end_session(settings, second_key)
    # Between two commands.
    with open_connection(settings, kept=kept) as later:
        assert not later.resumed
        assert later.session_key not in {key, second_key}
        session = kept.load(settings)
        end_session(settings, later.session_key)
    with pytest.raises(AuthError) as caught:
        open_connection(replace(settings, password=None), kept=kept)
    assert caught.value.cause == "no-password"
    assert session is not None


def test_a_session_that_is_not_kept_is_logged_out(settings):
    with open_connection(settings) as connection:
        key = connection.session_key
    with open_connection(settings) as other:
        listed = other.content.sessionManager.sessionList
        assert key not in {session.key for session in listed}


def test_the_inventory_is_whole_and_has_names(settings):
    with open_connection(settings) as connection:
        inventory = survey(connection)
        (datacenter,) = [one for one in inventory._nodes.values() if one.kind == "Datacenter"]
        paths = [inventory.path(one) for one in inventory.computes(datacenter=datacenter)]
        assert paths == ["/DC0/host/DC0_C0", "/DC0/host/DC0_H0"]
        assert connection.name_of(datacenter.reference) == f"DC0 ({datacenter.id})"


def test_tasks_end_in_a_result_or_in_an_error(settings):
    with open_connection(settings) as connection:
        root = connection.content.rootFolder
        (datacenter,) = connection.everything({"Datacenter": ["vmFolder"]})
        folder = datacenter.values["vmFolder"]
        with connection.doing("make the folder a"):
            made = folder.CreateFolder("a")
        taken = pytest.raises(HypervisorError, match="the name a is taken there")
        with taken as caught, connection.doing("make the folder a"):
            folder.CreateFolder("a")
        assert caught.value.cause == "name-taken"
        task = made.Destroy_Task()
        assert connection.wait(task, doing="remove a", timeout_seconds=20) is None
        with pytest.raises(NotFoundError) as gone, connection.doing("rename a"):
            made.Rename_Task("b")
        assert gone.value.cause == "object-gone"
        # A task that fails: its error comes as a property, not as an answer.
        spec = vim.vm.ConfigSpec(name="m", files=vim.vm.FileInfo(vmPathName="[LocalDS_0]"))
        pool = next(iter(connection.everything({"ResourcePool": ["name"]}))).reference
        task = folder.CreateVM_Task(spec, pool)
        machine = connection.wait(task, doing="make m", timeout_seconds=20)
        assert connection.name_of(machine) == f"m ({machine._moId})"
        connection.wait(machine.PowerOnVM_Task(), doing="start m", timeout_seconds=20)
        again = machine.PowerOnVM_Task()
        with pytest.raises(HypervisorError, match="could not start m: the machine is") as failed:
            connection.wait(again, doing="start m", timeout_seconds=20)
        assert failed.value.cause == "power-state"
        assert connection.properties(root, ["name"]) == {"name": "Datacenters"}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html><body>Welcome</html>"),
        (200, b"<a/>"),
        (404, b""),
        (500, b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body/></e:Envelope>'),
    ],
)  # fmt: skip
def test_what_is_no_vsphere_is_told_so(status, body):
    class Other(BaseHTTPRequestHandler):
        # As vSphere does; of a 1.0 answer pyvmomi leaves the socket to the garbage collector.
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Other) as host:
        given = Given(url=f"http://me@{host}", password=PASSWORD, trust=Trust(insecure=True))
        with pytest.raises(HypervisorError) as caught:
            open_connection(read_settings(given, {}))
    assert caught.value.cause == "not-vsphere"


def test_a_fault_of_the_first_request_is_told_like_any_other(go_tools):
    fault = ("-fault", "RetrieveServiceContent:NoPermission")
    with vcsim(go_tools, *fault) as address, pytest.raises(AuthError) as caught:
        open_connection(
            read_settings(Given(url=f"http://me:pw@{address}", trust=Trust(insecure=True)), {})
        )
    assert caught.value.cause == "no-permission"
