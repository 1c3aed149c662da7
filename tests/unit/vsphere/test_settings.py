"""Which server, as whom, and how trusted: what comes from where, and what never gets anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.errors import AuthError, UsageError
from converter.vsphere.settings import Address, Given, Wishes, read_settings
from converter.vsphere.trust import Trust

GOVC = {
    "GOVC_URL": "root:p%40ss@esxi.example",
    "GOVC_INSECURE": "true",
    "GOVC_DATASTORE": "ssd",
    "GOVC_RESOURCE_POOL": "*/Resources",
}


@pytest.mark.parametrize(
    ("url", "address", "username", "password"),
    [
        ("https://me:pw@v.example/sdk", Address("https", "v.example", 443), "me", "pw"),
        ("me:pw@v.example", Address("https", "v.example", 443), "me", "pw"),
        ("me:pw@v.example:8443/", Address("https", "v.example", 8443), "me", "pw"),
        (
            "me%40vsphere.local:a%2Fb%3Ac@[fd00::1]/other/",
            Address("https", "fd00::1", 443, "/other"),
            "me@vsphere.local",
            "a/b:c",
        ),
    ],
)
def test_a_url_is_read_as_govc_reads_it(url, address, username, password):
    for settings in (
        read_settings(Given(url=url), {}),
        read_settings(Given(), {"GOVC_URL": url}),
    ):
        assert settings.address == address
        assert (settings.username, settings.secret()) == (username, password)
    assert Address("https", "fd00::1", 443).url == "https://[fd00::1]:443/sdk"


def test_govc_is_the_fall_back():
    settings = read_settings(Given(wishes=Wishes(datastore="hdd", host="h1")), GOVC)
    assert settings.address.host == "esxi.example"
    assert settings.secret() == "p@ss"
    assert settings.trust == Trust(insecure=True)
    assert settings.wishes == Wishes(datastore="hdd", host="h1", resource_pool="*/Resources")


def test_govc_counts_for_its_own_server_alone():
    settings = read_settings(Given(url="https://other.example", username="root"), GOVC)
    assert settings.trust == Trust()
    assert settings.wishes == Wishes()
    with pytest.raises(AuthError) as caught:
        settings.secret()
    assert caught.value.cause == "no-password"
    same = read_settings(Given(url="https://esxi.example:443/sdk"), GOVC)
    assert (same.username, same.secret(), same.wishes.datastore) == ("root", "p@ss", "ssd")


def test_a_password_beside_another_name_is_not_taken():
    settings = read_settings(Given(username="someone"), GOVC)
    assert (settings.password, settings.password_from) == (None, "nowhere")
    ours = read_settings(Given(username="someone"), {**GOVC, "SALTFLAT_VSPHERE_PASSWORD": "x"})
    assert (ours.secret(), ours.password_from) == ("x", "SALTFLAT_VSPHERE_PASSWORD")
    url = "https://me:mine@v.example"
    assert read_settings(Given(url=url, username="you"), {}).password is None


def test_govc_variables_come_before_what_its_url_says():
    environment = {**GOVC, "GOVC_USERNAME": "admin", "GOVC_PASSWORD": "other"}
    settings = read_settings(Given(), environment)
    assert (settings.username, settings.secret()) == ("admin", "other")


def test_what_is_typed_about_trust_leaves_govc_s_out():
    typed = Trust(ca_files=(Path("ca.pem"),))
    assert read_settings(Given(trust=typed), GOVC).trust == typed


def test_known_hosts_pin(tmp_path):
    file = tmp_path / "known"
    file.write_text(f"else.example {'AA:' * 19}AA\nesxi.example {'01:' * 19}0F\nodd\n")
    environment = {**GOVC, "GOVC_TLS_KNOWN_HOSTS": f"{tmp_path}/none:{file}"}
    trust = read_settings(Given(), environment).trust
    assert trust.thumbprints == ("01" * 19 + "0f",)
    assert trust.verifies  # although GOVC_INSECURE is set: the stricter counts


@pytest.mark.parametrize(
    ("given", "environment", "says"),
    [
        (Given(), {}, "Which vSphere is meant"),
        (Given(url="https://v.example"), {}, "Who to be"),
        (Given(url="me@http:////"), {}, "cannot be read"),
        (Given(url="ftp://me@v.example"), {}, "cannot be read"),
        (Given(url="http://me@v.example"), {}, "not encrypted"),
    ],
)
def test_what_is_refused(given, environment, says):
    with pytest.raises(UsageError, match=says):
        read_settings(given, environment)


@pytest.mark.parametrize(
    "url", ["me:pw#secret@v.example", "me:secret/x@v.example", "ftp://me:secret@v.example"]
)
def test_no_error_and_no_repr_shows_a_password(url):
    with pytest.raises(UsageError) as caught:
        read_settings(Given(url=url), {})
    assert "secret" not in f"{caught.value.what} {caught.value.expected} {caught.value.hint}"
    assert caught.value.__cause__ is None
    settings = read_settings(Given(password="secret"), GOVC)
    assert settings.secret() == "secret"
    assert "secret" not in repr(settings) + repr(Given(password="secret"))
    assert "p@ss" not in repr(read_settings(Given(), GOVC))
