"""The file of projects: what it says, and what is wrong in which line."""

from __future__ import annotations

import pytest

from converter.errors import NotFoundError, UsageError
from converter.vsphere.projects import Limits, Project, find_project, parse_projects, read_projects
from converter.vsphere.settings import Wishes

GOOD = b"""\
schema: 1
projects:
  web:
    url: https://vcenter.example
    cluster: prod
    resource-pool: teams/web
    folder: teams/web
    storage-policy: gold
    provisioning: thick
    limits:
      cpu-mhz: 8000
      memory: 32G
  '42': {}
"""


def test_a_project_is_defaults_and_limits():
    found = parse_projects(GOOD, origin="p.yaml")
    assert list(found) == ["web", "42"]
    assert found["web"] == Project(
        name="web",
        url="https://vcenter.example",
        wishes=Wishes(
            cluster="prod",
            resource_pool="teams/web",
            folder="teams/web",
            storage_policy="gold",
            provisioning="thick",
        ),
        limits=Limits(cpu_mhz=8000, memory_bytes=32 << 30),
    )
    assert found["42"] == Project(name="42")
    assert parse_projects(b"schema: 1\n", origin="p.yaml") == {}


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"- a\n", "line 1: projects: lines of NAME"),
        (b"projects: {}\n", "line 1: which schema"),
        (b"schema: 2\n", "line 1: which schema"),
        (b"schema: 1\nproject: {}\n", "line 2: there is no member 'project'"),
        (b"schema: 1\nprojects:\n  web: yes\n", "line 3: the project 'web'"),
        (b"schema: 1\nprojects:\n  web:\n    netwrk: lan\n", "line 4: there is no member 'netwrk'"),
        (b"schema: 1\nprojects:\n  web:\n    host: 7\n", "line 4: host: it has to be a name"),
        (b"schema: 1\nprojects:\n  web:\n    url: ' '\n", "line 4: url: it has to be a name"),
        (b"schema: 1\nprojects:\n  web:\n    url: me:pw@v.example\n", "line 4: url: a password"),
        (b"schema: 1\nprojects:\n  web:\n    provisioning: fat\n", "line 4: provisioning: .* thin"),
        (
            b"schema: 1\nprojects:\n  w:\n    limits:\n      memory: 1k\n",
            "line 5: memory: .* whole",
        ),
        (b"schema: 1\nprojects:\n  w:\n    limits:\n      memory: x\n", "line 5: memory: .* size"),
        (b"schema: 1\nprojects:\n  w:\n    limits:\n      cpu-mhz: 0\n", "line 5: cpu-mhz: .* MHz"),
        (b"schema: 1\nprojects:\n  w:\n    limits:\n      cpus: 1\n", "line 5: there is no member"),
        (b"schema: 1\nprojects:\n  w:\n    limits: 5\n", "line 4: limits: lines of"),
    ],
)
def test_what_is_wrong_has_its_line(raw, says):
    with pytest.raises(UsageError, match=says):
        parse_projects(raw, origin="p.yaml")


def test_a_name_that_is_close_is_offered():
    with pytest.raises(UsageError) as caught:
        parse_projects(b"schema: 1\nprojects:\n  web:\n    netwrk: lan\n", origin="p.yaml")
    assert caught.value.hint == "Is it network that you mean?"


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(NotFoundError, match="no file of projects"):
        read_projects(tmp_path / "none.yaml")
    with pytest.raises(NotFoundError, match="no project 'shop'") as caught:
        find_project(parse_projects(GOOD, origin="p.yaml"), "shop", origin="p.yaml")
    assert caught.value.cause == "no-project"
    assert caught.value.expected == "one of 42, web"
