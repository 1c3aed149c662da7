"""A token service of the tests, whose tokens a real docker-registry checks: signed by openssl.

GET with Basic, and POST with an OAuth2 refresh token, as distribution's docs/spec/auth/token.md and
oauth.md have them. What clients sent is kept.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.loopback import serving

ISSUER, SERVICE = "issuer of the tests", "registry of the tests"


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a client sent; `fields` are those of the query or of the form."""

    method: str
    authorization: str
    fields: Mapping[str, list[str]]


@dataclass
class TokenServer:
    """A service at http://`host`/token. What it knows and does may be changed at any time.

    `password` is "user:password"; anonymous clients get tokens for `public` repositories alone.
    `stale` is how many tokens are still to be handed out that have expired already.
    """

    host: str
    key: Path
    certificate: Path
    password: str = "ali:open sesame"
    refresh_token: str = "a refresh token"
    takes_posts: bool = True
    public: str = ""
    stale: int = 0
    requests: list[TokenRequest] = field(default_factory=list)

    def auth(self) -> dict[str, object]:
        """Return the registry's configuration."""
        return {
            "token": {
                "realm": f"http://{self.host}/token",
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(self.certificate),
            }
        }

    def answer(self, request: TokenRequest) -> tuple[int, dict[str, object]]:
        """Return status and body for a request."""
        self.requests.append(request)
        scopes = [scope for text in request.fields.get("scope", []) for scope in text.split()]
        if request.method == "POST":
            if not self.takes_posts:
                return 405, {}
            if request.fields.get("refresh_token") != [self.refresh_token]:
                return 401, {}
            return 200, {"access_token": self._token(scopes), "expires_in": 300}
        if request.authorization:
            wanted = base64.b64encode(self.password.encode()).decode()
            if request.authorization != f"Basic {wanted}":
                return 401, {"errors": [{"code": "UNAUTHORIZED", "message": "who is that?"}]}
        else:
            scopes = [scope for scope in scopes if scope.split(":")[1] == self.public]
        return 200, {"token": self._token(scopes), "expires_in": 300}

    def _token(self, scopes: list[str]) -> str:
        now = int(time.time())
        expires = now + 300
        if self.stale:
            self.stale -= 1
            expires = now - 300
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        der = "".join(self.certificate.read_text().splitlines()[1:-1])
        header = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        claims = {"iss": ISSUER, "sub": "", "aud": SERVICE, "exp": expires, "nbf": now - 600}
        claims |= {"iat": now - 600, "jti": str(len(self.requests)), "access": access}
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        done = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key],
            input=signed.encode(),
            capture_output=True,
            check=True,
            timeout=20,
        )
        return f"{signed}.{_encoded(done.stdout)}"


@contextmanager
def token_server(openssl: str, folder: Path) -> Iterator[TokenServer]:
    """Serve on a free port of 127.0.0.1 until the block ends; keys are made in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-subj", "/CN=tokens"]
    command += ["-days", "2", "-out", "tokens.pem", "-keyout", "tokens-key.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._serve(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def _serve(self, fields: str) -> None:
            authorization = self.headers.get("Authorization", "")
            request = TokenRequest(self.command, authorization, parse_qs(fields))
            status, document = service.answer(request)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as host:
        key, certificate = folder / "tokens-key.pem", folder / "tokens.pem"
        service = TokenServer(host, key, certificate)
        yield service


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
