"""Credential helpers: programs that keep secrets. Owns their protocol; bounded in time and output.

Source: the docker-credential-helpers project, README "Development": `get` takes the server on
standard input and answers {"ServerURL", "Username", "Secret"}; failures are text with exit code 1.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from contextlib import suppress

from converter.errors import AuthError
from converter.registry.auth.credentials import Credential, HelperCall

HELPER_TIMEOUT_SECONDS = 30.0  # some ask the person
MAX_HELPER_OUTPUT_BYTES = 64 << 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_FOUND = "credentials not found"


def run_helper(
    call: HelperCall, *, timeout_seconds: float = HELPER_TIMEOUT_SECONDS
) -> Credential | None:
    """Ask a helper; return None when it knows no credentials for this server.

    Raises AuthError when it is missing, fails, takes too long or answers nonsense. What it printed
    is never shown: it may be a secret.
    """
    if not _NAME.fullmatch(call.name):
        raise _failed(call, "its name is not one of a program")
    try:
        # A session of its own, so that whatever it starts ends with it.
        helper = subprocess.Popen(
            [f"docker-credential-{call.name}", "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise _failed(call, f"it cannot be started ({error.strerror})") from None
    output = _converse(helper, call, timeout_seconds)
    if helper.returncode:
        if _NOT_FOUND in output.decode(errors="replace").lower():
            return None
        raise _failed(call, f"it ended with exit code {helper.returncode}")
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, LookupError, TypeError, RecursionError):
        username = secret = None
    if not isinstance(username, str) or not isinstance(secret, str) or not secret:
        raise _failed(call, "it answered without a user name and a secret")
    return Credential.from_helper(username, secret, f"docker-credential-{call.name}")


def _converse(helper: subprocess.Popen[bytes], call: HelperCall, timeout_seconds: float) -> bytes:
    output = bytearray()

    def read() -> None:
        assert helper.stdout, "it was asked for"
        while len(output) <= MAX_HELPER_OUTPUT_BYTES:
            chunk = os.read(helper.stdout.fileno(), 4096)
            if not chunk:
                return
            output.extend(chunk)

    reader = threading.Thread(target=read, daemon=True)
    with helper:
        try:
            reader.start()
            assert helper.stdin, "it was asked for"
            with suppress(BrokenPipeError), helper.stdin:  # it may not care
                helper.stdin.write(call.server.encode())
            reader.join(timeout_seconds)
            if reader.is_alive():
                raise _failed(call, f"it took longer than {timeout_seconds:g} seconds")
            if len(output) > MAX_HELPER_OUTPUT_BYTES:
                raise _failed(call, f"it printed more than {MAX_HELPER_OUTPUT_BYTES} bytes")
            try:
                helper.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                raise _failed(call, "it closed its output and does not end") from None
        except BaseException:
            os.killpg(helper.pid, signal.SIGKILL)  # not waited for yet, so the group is its own
            reader.join()
            raise
    return bytes(output)


def _failed(call: HelperCall, problem: str) -> AuthError:
    name = call.name if _NAME.fullmatch(call.name) else ascii(call.name[:80])
    return AuthError(
        f"The credential helper docker-credential-{name} failed: {problem}.",
        expected=f"credentials for {call.server}, as {call.place} says",
        hint=f"Mend the helper, take it out of {call.place}, or name another with --authfile.",
    )
