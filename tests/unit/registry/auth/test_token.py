"""The exchange with a token service, on its messages alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

import pytest

from converter.errors import AuthError
from converter.registry.auth.challenge import Challenge
from converter.registry.auth.credentials import Credential
from converter.registry.auth.token import BearerToken, ServiceAnswer, request_token

REALM = "https://tokens.example/t"
SCOPES = ("repository:a/b:pull", "repository:c:pull")
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


class Service:
    """A service that answers in turn, and keeps what it was asked."""

    def __init__(self, *answers: ServiceAnswer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str | None, Mapping[str, str] | None]] = []

    def __call__(
        self, url: str, *, authorization: str | None, form: Mapping[str, str] | None
    ) -> ServiceAnswer:
        self.asked.append((url, authorization, form))
        return self.answers.pop(0)


def good(date: str = "", **fields: object) -> ServiceAnswer:
    return ServiceAnswer(200, json.dumps({"token": "t", **fields}).encode(), date)


def ask(service: Service, credential: Credential | None = None, realm: str = REALM) -> BearerToken:
    challenge = Challenge("bearer", {"realm": realm, "service": "the service"})
    return request_token(
        challenge,
        credential,
        scopes=SCOPES,
        allow_plain_http=False,
        ask=service,
        clock=lambda: 1000.0,
    )


def test_get_with_basic_or_without() -> None:
    service = Service(good(), good())
    ask(service, Credential("ali", "p"))
    ask(service)
    (first, shown, form), (second, hidden, _) = service.asked
    assert form is None
    assert shown == "Basic " + base64.b64encode(b"ali:p").decode()
    query = parse_qs(urlsplit(first).query)
    assert query == {"scope": list(SCOPES), "service": ["the service"], "account": ["ali"]}
    assert hidden is None
    assert "account" not in second


def test_post_with_a_refresh_token() -> None:
    service = Service(good(refresh_token="next"))
    token = ask(service, Credential("ali", "p", identity_token="id"))
    assert token.value == "t"
    assert token.refresh == "next"
    ((url, shown, form),) = service.asked
    assert url == REALM
    assert shown is None
    assert form == {
        "grant_type": "refresh_token",
        "service": "the service",
        "client_id": "saltflat",
        "scope": " ".join(SCOPES),
        "refresh_token": "id",
    }


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize(
    ("credential", "pair"),
    [
        (Credential("ali", "p", identity_token="id"), b"ali:p"),
        (Credential("ali", "", identity_token="id"), b"ali:id"),
        (Credential(identity_token="id"), b"<token>:id"),
    ],
)
def test_get_where_there_is_no_post(status: int, credential: Credential, pair: bytes) -> None:
    service = Service(ServiceAnswer(status, b""), good())
    assert ask(service, credential).value == "t"
    assert service.asked[1][1] == "Basic " + base64.b64encode(pair).decode()


@pytest.mark.parametrize(
    ("fields", "date", "expires"),
    [
        ({}, "", 1054),
        ({"expires_in": 300}, "", 1270),
        ({"expires_in": "300"}, "", 1054),
        ({"expires_in": True}, "", 1054),
        ({"expires_in": -1}, "", 1054),
        ({"expires_in": 300, "issued_at": "1994-11-06T08:47:57Z"}, DATE, 1180),
        ({"expires_in": 300, "issued_at": "1994-11-06T09:47:57Z"}, DATE, 1270),
        ({"expires_in": 300, "issued_at": "1994-11-06T08:47:57Z"}, "", 1270),
        ({"expires_in": 300, "issued_at": "yesterday"}, DATE, 1270),
        ({"expires_in": 300, "issued_at": "1994-11-06T08:47:57"}, DATE, 1270),
    ],
)
def test_when_it_expires(fields: dict[str, object], date: str, expires: float) -> None:
    assert ask(Service(good(date, **fields))).expires == expires


@pytest.mark.parametrize(
    "realm", ["", "http://tokens.example/t", "file:///etc/passwd", "https://", "https://[::1/t"]
)
def test_realms_that_are_not_asked(realm: str) -> None:
    service = Service(good())
    with pytest.raises(AuthError, match="no token service"):
        ask(service, Credential("ali", "p"), realm)
    assert service.asked == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"token": ""}', b'{"token": "a b"}', b"[" * 9999])
def test_answers_without_a_token(body: bytes) -> None:
    with pytest.raises(AuthError, match="without a usable token"):
        ask(Service(ServiceAnswer(200, body)))


def test_no_repr_has_a_secret() -> None:
    assert "hush" not in repr(BearerToken("hush-1", refresh="hush-2"))
    assert "hush" not in repr(ServiceAnswer(200, b"hush"))
