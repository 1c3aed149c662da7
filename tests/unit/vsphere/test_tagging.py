"""What stands in the way of a tag, by a fake of the tags' service. The simulator has the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from converter.errors import AuthError, HypervisorError, UnavailableError
from converter.vsphere.settings import Given, Settings, read_settings
from converter.vsphere.tagging import tag_machine
from converter.vsphere.trust import Trust
from tests import loopback

LIST = "~action=list-tags-for-category"
TAG = "sha256:" + "ab" * 32
Answers = Mapping[str, tuple[int, object]]
EXISTS = (400, {"type": "com.vmware.vapi.std.errors.already_exists", "value": {"messages": []}})
GOOD: Answers = {
    "POST /session": (200, {"value": "token"}),
    "POST /tagging/category": (200, {"value": "urn:c:1"}),
    "POST /tagging/tag": (200, {"value": "urn:t:1"}),
    "POST /tagging/tag-association/id:urn:t:1?~action=attach": (200, {}),
    "DELETE /session": (200, {}),
}


@contextmanager
def serving(answers: Answers) -> Iterator[tuple[Settings, list[str]]]:
    """Serve fixed answers; yield settings for the server, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            key = f"{self.command} {self.path.removeprefix('/rest/com/vmware/cis')}"
            asked.append(key)
            status, document = answers.get(key, (404, None))
            body = b"<html>" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the server's names

    with loopback.serving(Handler) as host:
        url = f"http://me:pw@{host}"
        yield read_settings(Given(url=url, trust=Trust(insecure=True)), {}), asked


def test_what_is_made_is_attached():
    with serving(GOOD) as (settings, asked):
        tag_machine(settings, "vm-1", tag=TAG, description="an image")
    assert asked == list(GOOD)


def test_what_is_there_is_looked_for_by_name():
    answers = {
        **GOOD,
        "POST /tagging/category": EXISTS,
        "GET /tagging/category": (200, {"value": ["urn:c:7", "urn:c:8"]}),
        "GET /tagging/category/id:urn:c:7": (200, {"value": {"name": "other"}}),
        "GET /tagging/category/id:urn:c:8": (200, {"value": {"name": "saltflat"}}),
        "POST /tagging/tag": EXISTS,
        f"POST /tagging/tag/id:urn:c:8?{LIST}": (200, {"value": ["urn:t:1"]}),
        "GET /tagging/tag/id:urn:t:1": (200, {"value": {"name": TAG}}),
    }
    with serving(answers) as (settings, asked):
        tag_machine(settings, "vm-1", tag=TAG, description="an image")
    assert "POST /tagging/tag-association/id:urn:t:1?~action=attach" in asked
    assert asked[-1] == "DELETE /session"


@pytest.mark.parametrize(
    ("answers", "error", "cause"),
    [
        ({}, HypervisorError, "no-tags"),  # no such service
        ({"POST /session": (200, {"value": None})}, HypervisorError, "no-tags"),
        ({"POST /session": (401, {"type": "unauthenticated"})}, AuthError, "no-permission"),
        (
            {**GOOD, "POST /tagging/tag": (403, {"type": "x"})},
            AuthError,
            "no-permission",
        ),
        ({**GOOD, "POST /tagging/tag": (500, None)}, HypervisorError, "no-tags"),
    ],
)
def test_what_stands_in_the_way_is_told(answers, error, cause):
    with serving(answers) as (settings, asked), pytest.raises(error) as caught:
        tag_machine(settings, "vm-1", tag=TAG, description="an image")
    assert caught.value.cause == cause
    if len(answers) > 1:  # a session that was begun is ended
        assert asked[-1] == "DELETE /session"


def test_a_password_is_needed_and_a_server():
    with serving(GOOD) as (settings, _asked):
        pass
    with pytest.raises(UnavailableError):  # it has gone
        tag_machine(settings, "vm-1", tag=TAG, description="an image")
    without = read_settings(Given(url="https://me@v.example"), {})
    with pytest.raises(AuthError) as caught:
        tag_machine(without, "vm-1", tag=TAG, description="an image")
    assert caught.value.cause == "no-password"
