"""Who may reach which machine."""

from __future__ import annotations

import hashlib
import json

import pytest

from agent.host import ChannelError
from agent.host.relay import Identity, LocalAccess, read_rules

FINGERPRINT = hashlib.sha256(b"certificate").hexdigest()
TOKEN = hashlib.sha256(b"secret").hexdigest()


def rules(*clients):
    return read_rules(json.dumps({"schema": 1, "clients": list(clients)}))


LOGS_OF_DB = {"certificate": FINGERPRINT, "machines": ["db-*", "one"], "allow": ["logs", "status"]}
ALL = {"token": TOKEN, "machines": ["*"], "allow": ["*"]}


@pytest.mark.parametrize(
    ("identity", "machine", "verb", "allowed"),
    [
        (Identity(certificate=FINGERPRINT), "db-1", "logs", True),
        (Identity(certificate=FINGERPRINT), "one", "status", True),
        (Identity(certificate=FINGERPRINT), "db-1", "exec", False),
        (Identity(certificate=FINGERPRINT), "web", "logs", False),
        (Identity(certificate="0" * 64), "db-1", "logs", False),
        (Identity(certificate=TOKEN), "web", "logs", False),
        (Identity(token="secret"), "web", "exec", True),
        (Identity(token=TOKEN), "web", "exec", False),
        (Identity(token="Secret"), "web", "exec", False),
        (Identity(token="\udc80"), "web", "exec", False),
        (Identity(token=""), "web", "exec", False),
        (Identity(uid=0), "web", "exec", False),
        (Identity(), "db-1", "logs", False),
    ],
)
def test_rules_decide(identity, machine, verb, allowed):
    assert rules(LOGS_OF_DB, ALL).allows(identity, machine, verb) is allowed


def test_what_no_rule_is_about_is_not_there():
    access = rules(LOGS_OF_DB)
    assert access.reaches(Identity(certificate=FINGERPRINT), "db-1")
    assert not access.reaches(Identity(certificate=FINGERPRINT), "web")
    assert not rules().reaches(Identity(token="secret"), "web")


def test_at_a_unix_socket_the_uid_decides():
    access = LocalAccess(uid=1000)
    assert access.allows(Identity(uid=1000), "", "exec")
    assert access.allows(Identity(uid=0), "", "exec")
    assert not access.allows(Identity(uid=1001), "", "status")
    assert not access.reaches(Identity(uid=None, token="secret"), "")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "cannot be read"),
        ("[]", "no object"),
        ('{"schema": 2, "clients": []}', "schema"),
        ('{"schema": 1, "clients": [], "x": 1}', "members"),
        ('{"schema": 1, "clients": [{}]}', "rule 1 needs"),
        (json.dumps({"schema": 1, "clients": [{**ALL, "certificate": TOKEN}]}), "rule 1 needs"),
        (json.dumps({"schema": 1, "clients": [ALL, {**ALL, "token": "secret"}]}), "rule 2 has no"),
        (json.dumps({"schema": 1, "clients": [{**ALL, "allow": ["root"]}]}), "rule 1: allow"),
        (json.dumps({"schema": 1, "clients": [{**ALL, "machines": "*"}]}), "rule 1: machines"),
        (json.dumps({"schema": 1, "clients": [{**ALL, "alow": []}]}), "rule 1 has members"),
    ],
)
def test_a_file_that_is_wrong_says_where(text, what):
    with pytest.raises(ChannelError, match=what):
        read_rules(text)
