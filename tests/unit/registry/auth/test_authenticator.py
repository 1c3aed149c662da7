"""What a registry is answered, and when a token is asked for again."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

import pytest

from converter.errors import AuthError
from converter.registry.auth.authenticator import PUSH, Authenticator, Scope
from converter.registry.auth.credentials import Credential
from converter.registry.auth.token import ServiceAnswer, basic_authorization

BEARER = 'Bearer realm="https://tokens/t",service="s"'
PULL_A = Scope("a")
ALI = Credential("ali", "p", place="the test")
ID = Credential(identity_token="first", place="the test")


class World:
    """An authenticator, its clock, its token service, and who looked up what."""

    def __init__(self, credential: Credential | None = None) -> None:
        self.now = 0.0
        self.scopes: list[list[str]] = []
        self.forms: list[Mapping[str, str]] = []
        self.looked_up: list[str] = []
        self.answer: dict[str, object] = {"expires_in": 100}
        self.gate = threading.Event()
        self.gate.set()

        def look_up(repository: str) -> Credential | None:
            self.looked_up.append(repository)
            return credential

        self.authenticator = Authenticator(
            "h", look_up=look_up, ask=self.ask, allow_plain_http=False, clock=lambda: self.now
        )

    def ask(
        self, url: str, *, authorization: str | None, form: Mapping[str, str] | None
    ) -> ServiceAnswer:
        self.gate.wait(20)
        if form is not None:
            self.forms.append(form)
        self.scopes.append(parse_qs(urlsplit(url).query).get("scope", []))
        body = {"token": f"t{len(self.scopes)}", **self.answer}
        return ServiceAnswer(200, json.dumps(body).encode())

    def challenged(self, header: str, scope: Scope = PULL_A, refused: str | None = None) -> str:
        return self.authenticator.answer(header, scope, refused, what="it")


def test_nothing_is_known_at_first() -> None:
    world = World(ALI)
    assert world.authenticator.authorization(PULL_A) is None
    assert world.looked_up == []


@pytest.mark.parametrize(
    ("header", "credential", "expected"),
    [
        (BEARER, None, "Bearer t1"),
        (BEARER, ALI, "Bearer t1"),
        (f'Basic realm="a, b", {BEARER}', ALI, "Bearer t1"),
        (f'{BEARER}, Basic realm="x"', ALI, "Bearer t1"),
        ('Negotiate, NTLM abc==, Basic realm="x"', ALI, basic_authorization(ALI)),
        (BEARER, Credential(registry_token="own"), "Bearer own"),
    ],
)
def test_bearer_before_basic(header: str, credential: Credential | None, expected: str) -> None:
    world = World(credential)
    assert world.challenged(header) == expected
    assert world.authenticator.authorization(PULL_A) == expected


@pytest.mark.parametrize(
    ("header", "credential"),
    [
        ('Basic realm="x"', None),
        ('Basic realm="x"', Credential(registry_token="own")),
        ("Negotiate", ALI),
        ("", ALI),
        ("Bearer", ALI),
        ("Bearer (", ALI),
    ],
)
def test_no_way_in(header: str, credential: Credential | None) -> None:
    with pytest.raises(AuthError):
        World(credential).challenged(header)


def test_a_password_is_not_shown_twice() -> None:
    world = World(ALI)
    shown = world.challenged('Basic realm="x"')
    with pytest.raises(AuthError, match="refuses the credentials from the test") as caught:
        world.challenged('Basic realm="x"', refused=shown)
    assert "docker login h" in str(caught.value.hint)


def test_a_token_is_replaced_before_it_expires() -> None:
    world = World()
    world.challenged(BEARER)
    for now, expected in ((89.9, "Bearer t1"), (90.1, "Bearer t2"), (179.0, "Bearer t2")):
        world.now = now
        assert world.authenticator.authorization(PULL_A) == expected
    assert world.scopes == [["repository:a:pull"]] * 2


def test_tokens_are_kept_apart_by_scope() -> None:
    world = World(ALI)
    push = Scope("a", PUSH)
    world.challenged(f'{BEARER},scope="repository:a:pull"')
    world.challenged(f'{BEARER},scope="repository:a:pull"', push)
    assert world.scopes[0] == ["repository:a:pull"]
    assert world.scopes[1] == ["repository:a:pull", "repository:a:pull,push"]
    assert world.authenticator.authorization(PULL_A) == "Bearer t1"
    assert world.authenticator.authorization(push) == "Bearer t2"
    assert world.looked_up == ["a"]


def test_a_wider_scope_that_the_registry_asks_for() -> None:
    world = World(ALI)
    first = world.challenged(BEARER)
    wider = 'scope="repository:a:pull repository:z:pull",error="insufficient_scope"'
    assert world.challenged(f"{BEARER},{wider}", refused=first) == "Bearer t2"
    assert world.scopes[1] == ["repository:a:pull", "repository:z:pull"]


def test_one_thread_asks_and_all_take() -> None:
    world = World(ALI)
    world.gate.clear()
    got: list[str] = []
    threads = [
        threading.Thread(target=lambda: got.append(world.challenged(BEARER))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    world.gate.set()
    for thread in threads:
        thread.join(20)
    assert got == ["Bearer t1"] * 8
    # All of them find it expired: again one asks.
    again = [
        threading.Thread(target=lambda: world.challenged(BEARER, refused="Bearer t1"))
        for _ in range(8)
    ]
    for thread in again:
        thread.start()
    for thread in again:
        thread.join(20)
    assert len(world.scopes) == 2


def test_an_identity_token_that_is_renewed() -> None:
    world = World(ID)
    world.answer = {"expires_in": 100, "refresh_token": "second"}
    world.challenged(BEARER)
    world.now = 1000.0
    world.authenticator.authorization(PULL_A)
    world.challenged(BEARER, Scope("b"))
    tokens = [form["refresh_token"] for form in world.forms]
    assert tokens == ["first", "second", "first"]  # b's was looked up afresh
