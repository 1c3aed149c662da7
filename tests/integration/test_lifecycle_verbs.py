"""The verbs of a machine's life, on machines that run: few boots, many questions to each."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from select import select

import pytest

from tests.images import prepared
from tests.integration.lifecycle import LISTENER, Host, host, until
from tests.schemas import check

pytestmark = [pytest.mark.integration, pytest.mark.vm, pytest.mark.timeout(600)]

Tool = Callable[[str], str]


@pytest.fixture(scope="module")
def here(
    tmp_path_factory: pytest.TempPathFactory, demo_layout: Path, boot_store: Path
) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("host"), demo_layout, boot_store) as made:
        yield made


@pytest.fixture(scope="module")
def web(here: Host) -> str:
    """A machine that runs for all tests that leave it running; returns its id."""
    command = (
        "run",
        "-d",
        "-i",
        "--name",
        "web",
        "-l",
        "tier=front",
        "-e",
        "FROM_RUN=1",
        here.image,
    )
    return here.good(*command, "perl", "-e", LISTENER).strip()


@pytest.mark.verbs("ps", on="qemu")
def test_ps_shows_it(here, web):
    heading, line = here.good("ps").splitlines()
    words = "MACHINE ID IMAGE COMMAND CREATED STATUS PORTS NAMES"
    assert heading.split() == words.split()
    assert line.startswith(web[:12])
    assert line.endswith("web")
    assert " Up " in line
    assert here.good("ps", "-q").strip() == web[:12]
    assert here.good("ps", "-q", "--no-trunc", "--filter", "name=^web$").strip() == web
    assert here.good("ps", "-q", "--filter", f"ancestor={here.image}").strip() == web[:12]
    assert here.good("ps", "-q", "-f", "label=tier=front").strip() == web[:12]
    assert here.good("ps", "-q", "--filter", "status=exited") == ""
    assert here.good("ps", "--format", "{{.Names}} {{.State}}") == "web running\n"
    document = json.loads(here.good("ps", "--format", "json"))
    check("ps", document)
    assert [(m["name"], m["status"]) for m in document["machines"]] == [("web", "running")]
    assert "--filter" in here.refused(2, "ps", "--filter", "colour=red")


@pytest.mark.verbs("inspect", on="qemu")
def test_inspect_tells_all_but_secrets(here, web):
    found = here.inspect("web")
    check("machine", found)
    assert (found["id"], found["status"], found["exit_code"]) == (web, "running", None)
    assert here.inspect(web[:6]) == here.inspect("web")
    [key] = here.state.glob(f"machines/{web}/relay/key")
    shown = here.good("inspect", "web") + json.dumps(found)
    assert key.read_text().strip() not in shown
    assert "status: Up" in shown


def test_who_is_not_there_is_named(here, web):
    verbs = ["start", "stop", "restart", "kill", "wait", "rm", "logs"]
    for verb in verbs:
        assert "nobody" in here.refused(3, verb, "nobody")
    forced = here("rm", "-f", "nobody")
    assert (forced.returncode, forced.stdout) == (0, b"")
    assert b"There is no machine nobody" in forced.stderr
    assert "nobody" in here.refused(125, "attach", "nobody")
    assert "nobody" in here.refused(125, "exec", "nobody", "true")
    assert "nobody" in here.refused(125, "start", "-a", "nobody")
    assert "nobody" in here.refused(3, "cp", "nobody:/etc/passwd", "-")


@pytest.mark.verbs("logs", on="qemu")
def test_logs_tell_the_streams_apart(here, web):
    until(lambda: here.log("web") == "out\n")
    done = here("logs", "web")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    stamped = here("logs", "-t", "web")
    when, text = stamped.stdout.decode().split(" ")
    assert text == "out\n"
    assert when.endswith("Z")
    assert here.good("logs", "--since", when, "--tail", "all", "web") == "out\n"
    assert here.good("logs", "--until", when, "web") == ""
    assert here.good("logs", "--since", "0s", "web") == ""
    assert here.good("logs", "-n", "0", "web") == ""
    assert "no time" in here.refused(2, "logs", "--since", "soon", "web")


@pytest.mark.verbs("exec", on="qemu")
def test_exec_has_the_processes_exit_code_and_streams(here, web):
    done = here("exec", "web", "sh", "-c", "echo $FROM_RUN$ADDED; pwd; id -un >&2; exit 9")
    assert (done.returncode, done.stdout, done.stderr) == (9, b"1\n/var/srv/app\n", b"app\n")
    done = here(
        "exec",
        "-u",
        "0",
        "-w",
        "/tmp",
        "-e",
        "ADDED=2",
        "web",
        "sh",
        "-c",
        "id -u; pwd; echo $ADDED",
    )
    assert (done.returncode, done.stdout) == (0, b"0\n/tmp\n2\n")
    assert "not found" in here.refused(127, "exec", "web", "no-such-program")
    assert "ermission" in here.refused(126, "exec", "web", "/etc/passwd")
    data = os.urandom(300_000)
    done = here("exec", "-i", "web", "sh", "-c", "cat; cat >&2", stdin=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")
    assert here("exec", "web", "cat", stdin=data).stdout == b""  # without -i there is none
    assert here("exec", "web", "sh", "-c", "kill -9 $$").returncode == 137
    assert "terminal" in here.refused(125, "exec", "-it", "web", "sh")


def test_exec_in_the_background_and_variables_from_a_file(here, web, tmp_path):
    (tmp_path / "env").write_text("# mine\nLEVEL=debug\n")
    script = "echo $LEVEL > /tmp/detached"
    here.good("exec", "-d", "--env-file", tmp_path / "env", "web", "sh", "-c", script)
    until(lambda: here("exec", "web", "cat", "/tmp/detached").stdout == b"debug\n")
    assert "not found" in here.refused(127, "exec", "-d", "web", "no-such-program")


@pytest.mark.verbs("attach", on="qemu")
def test_attach_passes_input_and_signals_on_and_can_leave(here, web):
    with here.begin("attach", "web", stdin=True) as client:
        client.stdin.write(b"hello\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"read hello\n"
        client.send_signal(signal.SIGHUP)
        assert client.stdout.readline() == b"hup\n"
        client.kill()
    # The end of a client's input is not the end of the process's.
    with here.begin("attach", "--sig-proxy=false", "web", stdin=True) as client:
        client.stdin.write(b"again\n")
        client.stdin.close()
        assert client.stdout.readline() == b"read again\n"
        client.send_signal(signal.SIGTERM)
        assert client.wait(30) == 128 + signal.SIGTERM
    with here.begin("attach", "--no-stdin", "web", stdin=True) as client:
        _make_it_speak(here, client)
        assert client.stdout.readline() == b"hup\n"
        client.kill()
    assert here.inspect("web")["status"] == "running"


def _make_it_speak(here: Host, client: subprocess.Popen[bytes]) -> None:
    """Have the process print until a client hears of it: before that, it was not attached yet."""
    until(lambda: here.good("kill", "-s", "HUP", "web") and select([client.stdout], [], [], 2)[0])


def test_logs_follow_what_comes(here, web):
    with here.begin("logs", "-f", "--tail", "0", "web") as follower:
        _make_it_speak(here, follower)
        assert follower.stdout.readline() == b"hup\n"
        follower.terminate()


@pytest.mark.verbs("cp", on="qemu")
def test_cp_copies_both_ways(here, web, tmp_path):
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").write_text("data\n")
    sent = here("cp", tmp_path / "tree", "web:/home")
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, b"", b"copied 3 entries, 5 bytes\n")
    here.good("cp", f"{tmp_path}/tree/.", "web:home")
    assert here.inside(web, "cat /home/tree/sub/file /home/sub/file") == "data\n" * 2
    done = here("cp", "web:/home/tree", tmp_path / "back")
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"copied 3 entries" in done.stderr
    assert (tmp_path / "back" / "sub" / "file").read_text() == "data\n"
    assert here("cp", "-q", "web:/home/tree", tmp_path / "quiet").stderr == b""
    stream = here("cp", "web:/etc/passwd", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        assert archive.getnames() == ["passwd"]
    here.good("cp", "-", "web:/home", stdin=stream)
    here.inside(web, "cmp /home/passwd /etc/passwd")
    assert "no folder" in here.refused(1, "cp", "-", "web:/home/passwd", stdin=stream)
    assert "is not there" in here.refused(1, "cp", "web:/none", tmp_path)
    assert "Neither" in here.refused(2, "cp", tmp_path, tmp_path)


@pytest.mark.verbs("run", "stop", "wait", "start", "restart", "kill", "rm", "ps", on="qemu")
def test_its_end_its_next_start_and_its_removal(here):
    command = ("run", "-d", "-i", "--name", "job", here.image, "perl", "-e", LISTENER)
    job = here.good(*command).strip()
    until(lambda: here.log("job") == "out\n")
    here.good("exec", "job", "sh", "-c", "echo kept > /tmp/kept")
    assert "runs" in here.refused(2, "rm", "job")
    with here.begin("wait", "job") as waiting, here.begin("logs", "-f", "job") as follower:
        assert follower.stdout.readline() == b"out\n"
        assert here.good("stop", "job") == "job\n"
        assert waiting.communicate(timeout=60)[0] == b"7\n"
        assert follower.communicate(timeout=60)[0] == b"bye\n"
    assert here.good("stop", "job") == "job\n"  # it has ended, which is what was asked for
    assert here.good("ps", "-q", "--filter", "name=job") == ""
    assert "Exited (7)" in here.good("ps", "-a", "--filter", "name=job")
    assert here.good("ps", "-q", "--filter", "exited=7").strip() == job[:12]
    assert here.good("wait", "job", "job") == "7\n7\n"
    assert here.log("job") == "out\nbye\n"
    for code, *words in (
        (125, "exec", "job", "true"),
        (125, "attach", "job"),
        (2, "cp", "job:/etc/passwd", "-"),
        (2, "kill", "job"),
    ):
        assert "saltflat start job" in here.refused(code, *words)

    assert here.good("start", "job") == "job\n"
    assert here.good("start", "job") == "job\n"  # it runs, which is what was asked for
    assert here.good("exec", "job", "cat", "/tmp/kept") == "kept\n"
    until(lambda: here.log("job") == "out\nbye\nout\n")
    assert here.good("restart", "-t", "30", "job") == "job\n"
    until(lambda: here.log("job") == "out\nbye\nout\nbye\nout\n")
    assert here.good("kill", "job") == "job\n"
    assert here.good("wait", "job") == "137\n"
    assert "Exited (137)" in here.good("ps", "-l")
    assert here.good("rm", "job") == "job\n"
    assert here.good("ps", "-aq", "--filter", "name=job") == ""
    assert list(here.state.glob(f"machines/{job}")) == []


def test_start_attached_is_like_run(here):
    script = 'cat; echo "was $(cat /tmp/n 2>/dev/null)"; echo x >> /tmp/n; echo err >&2; exit 5'
    command = ("run", "-i", "--name", "again", here.image, "sh", "-c", script)
    done = here(*command, stdin=b"first\n")
    assert (done.returncode, done.stdout) == (5, b"first\nwas \n"), done.stderr
    done = here("start", "-ai", "again", stdin=b"second\n")
    assert (done.returncode, done.stdout, done.stderr) == (5, b"second\nwas x\n", b"err\n")
    assert "one MACHINE" in here.refused(125, "start", "-a", "again", "web")


def test_several_at_once(here):
    for name in ("one", "two"):
        here(*("run", "--name", name, here.image, "true"))
    done = here("rm", "one", "nobody", "two")
    assert (done.returncode, done.stdout) == (1, b"one\ntwo\n")
    assert done.stderr.count(b"Error:") == 1
    assert b"nobody" in done.stderr
    assert here.good("ps", "-aq", "--filter", "name=one|two") == ""


def _has_a_socket(pid: int) -> bool:
    """Say whether a process has begun to talk to a relay."""
    try:
        open_files = [file.readlink().name for file in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return any(name.startswith("socket:") for name in open_files)


def test_ctrl_c_while_waiting_ends_the_client_alone(here, web):
    with here.begin("wait", "web") as waiting:
        until(lambda: _has_a_socket(waiting.pid))
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(30) == 130
    assert here.inspect("web")["status"] == "running"


def test_a_shell_completes_names(here, web):
    environment = {
        **here.environment,
        "_SALTFLAT_COMPLETE": "bash_complete",
        "COMP_WORDS": "saltflat logs w",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        prepared.SALTFLAT, env=environment, capture_output=True, timeout=60, check=False
    )
    assert done.stdout == b"plain,web\n"
