"""A tag on a machine, named by an image's digest, so that people and programs find it in vCenter.

Tags are another service of vCenter's, with sessions of its own that take name and password: a kept
session of the API does not open them. Knows its REST form, and nothing of what the tags mean.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote

from converter.errors import AuthError, HypervisorError, SaltflatError
from converter.vsphere.c_vsphere import (
    REST_BY_HEADER,
    REST_EXISTS,
    REST_PATH,
    REST_SESSION_HEADER,
    TAG_CATEGORY,
    TAG_PRIVILEGES,
    VIRTUAL_MACHINE,
)
from converter.vsphere.faults import TRANSPORT_ERRORS, from_transport
from converter.vsphere.settings import Settings
from converter.vsphere.upload import Destination, open_http

_LIMIT_BYTES = 4 << 20
_UNAUTHORIZED, _FORBIDDEN = 401, 403


class _ExistsError(HypervisorError):
    """What was to be made is there."""


def tag_machine(settings: Settings, machine: str, *, tag: str, description: str) -> None:
    """Attach a tag of our category to the machine with an id, and make both if need be.

    Raises AuthError (no password, or a privilege is missing), HypervisorError, UnavailableError.
    """
    with _session(settings) as session:
        category = session.make(
            "category",
            TAG_CATEGORY,
            {
                "name": TAG_CATEGORY,
                "description": "Images that machines were made of",
                "cardinality": "MULTIPLE",
                "associable_types": [VIRTUAL_MACHINE],
            },
            listing=("GET", "/tagging/category", None),
        )
        of_category = f"/tagging/tag/id:{quote(category, safe=':')}?~action=list-tags-for-category"
        made = session.make(
            "tag",
            tag,
            {"name": tag, "description": description, "category_id": category},
            listing=("POST", of_category, {"category_id": category}),
        )
        session.ask(
            "POST",
            f"/tagging/tag-association/id:{quote(made, safe=':')}?~action=attach",
            {"object_id": {"type": VIRTUAL_MACHINE, "id": machine}},
        )


class _Session:
    """A connection with a session, for questions one after the other."""

    def __init__(self, connection: HTTPConnection, where: str) -> None:
        self._connection = connection
        self._where = where
        self.headers: dict[str, str] = {"Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - whatever JSON has
        """Return the value of an answer. Raises what `tag_machine` does, TRANSPORT_ERRORS."""
        raw = None if body is None else json.dumps(body).encode()
        self._connection.request(method, REST_PATH + path, body=raw, headers=self.headers)
        answer = self._connection.getresponse()
        said = answer.read(_LIMIT_BYTES)
        try:
            document = json.loads(said) if said else {}
        except ValueError:
            document = {}
        kind = document.get("type", "") if isinstance(document, dict) else ""
        if 200 <= answer.status < 300:
            return document.get("value") if isinstance(document, dict) else document
        if kind == REST_EXISTS or REST_EXISTS.encode() in said:
            raise _ExistsError(f"{self._where} has it already.", cause="name-taken")
        if answer.status in (_UNAUTHORIZED, _FORBIDDEN):
            raise AuthError(
                f"{self._where} does not let the user tag ({answer.status} {kind}).".replace(
                    " )", ")"
                ),
                expected=f"the privileges {', '.join(TAG_PRIVILEGES)}",
                cause="no-permission",
            )
        raise HypervisorError(
            f"{self._where} answered {answer.status} {answer.reason} when it was to tag.",
            expected="vCenter 6.5 or later",
            cause="no-tags",
        )

    def make(
        self,
        kind: str,
        name: str,
        spec: Mapping[str, object],
        *,
        listing: tuple[str, str, object],
    ) -> str:
        """Make a category or tag and return its id, or that of the one that is there.

        Making comes first: there may be thousands, which can only be looked at one by one.
        """
        try:
            return str(self.ask("POST", f"/tagging/{kind}", {"create_spec": dict(spec)}))
        except _ExistsError:
            for one in self.ask(*listing):
                path = f"/tagging/{kind}/id:{quote(str(one), safe=':')}"
                if self.ask("GET", path).get("name") == name:
                    return str(one)
            raise


@contextmanager
def _session(settings: Settings) -> Iterator[_Session]:
    address = settings.address
    password = settings.secret()
    to = Destination(
        address.host, address.port, REST_PATH, address.scheme == "https", settings.trust
    )
    connection = open_http(to, settings.timeout_seconds)
    session = _Session(connection, f"{address.host}:{address.port}")
    try:
        basic = base64.b64encode(f"{settings.username}:{password}".encode()).decode()
        session.headers["Authorization"] = f"Basic {basic}"
        session.headers[REST_BY_HEADER] = "true"
        token = session.ask("POST", "/session")
        if not isinstance(token, str) or not token.isprintable():
            raise HypervisorError(
                f"{to} gives no session for tags.", expected="vCenter 6.5 or later", cause="no-tags"
            )
        del session.headers["Authorization"], session.headers[REST_BY_HEADER]
        session.headers[REST_SESSION_HEADER] = token
        try:
            yield session
        finally:
            _end(session)
    except TRANSPORT_ERRORS as error:
        raise from_transport(error, url=f"{address.scheme}://{to}", doing="tag") from error
    finally:
        connection.close()


def _end(session: _Session) -> None:
    try:
        session.ask("DELETE", "/session")
    except (SaltflatError, OSError, HTTPException):
        return  # one that is not ended ends by itself
