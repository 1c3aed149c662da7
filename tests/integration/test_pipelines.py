"""The pipelines in docs/pipelines: their own commands, run as each system would run them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.images.cache import ROOT
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration

FOLDER = ROOT / "docs" / "pipelines"
POLICY = "saltflat-policy.yaml"


def _yaml(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


@dataclass(frozen=True, slots=True)
class Job:
    """A folder that outlives runs, as a system's cache does, and an image in a registry."""

    folder: Path
    image: str
    environment: Mapping[str, str]

    @property
    def target(self) -> str:
        """The image's repository."""
        return self.image.rpartition(":")[0]

    def shell(self, *command: str, body: str, **settings: str) -> None:
        """Run a body of shell as `command`, which it is the last argument of."""
        done = subprocess.run(
            [*command, body],
            cwd=self.folder,
            env={**self.environment, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{body}\n{done.stdout}{done.stderr}"


@pytest.fixture
def job(
    saltflat: Saltflat,
    registry: str,
    push: Callable[..., str],
    corner_layout: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Job:
    """Return a job whose policy allows the tests' registry, and nothing else."""
    policy = _yaml(POLICY)
    policy["registries"] = [registry]
    (tmp_path / POLICY).write_text(yaml.safe_dump(policy))
    name = request.node.name.replace("_", "-")
    image = push(corner_layout, "prefix-1", f"pipelines/{name}:1")
    environment = {
        **saltflat.whole_environment,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",  # saltflat is installed: pip has nothing to fetch
        "SALTFLAT_PLAIN_HTTP": "1",
        "SALTFLAT_STORE": str(tmp_path / ".saltflat"),
    }
    return Job(tmp_path, image, environment)


def _judge(saltflat: Saltflat, job: Job, tool: Callable[[str], str]) -> None:
    """Check that the disk is one, and that the chain is where others find it by the image."""
    disk = job.folder / "disk.vmdk"
    subprocess.run([tool("qemu-img"), "info", disk], check=True, capture_output=True, timeout=60)
    store = job.folder / "elsewhere"
    saltflat.good("pull", "--plain-http", "--store", store, job.image)
    made, pulled = (
        {file.name for file in each.glob("links/*.vmdk")}
        for each in (
            job.folder / ".saltflat",
            store,
        )
    )
    assert made == pulled != set()


def test_github_actions(saltflat: Saltflat, job: Job, tool: Callable[[str], str]) -> None:
    (work,) = _yaml("github-actions.yaml")["jobs"].values()
    assert set(work["env"]) == {"IMAGE", "TARGET", "SALTFLAT_STORE"}
    steps = [step for step in work["steps"] if "run" in step]
    outputs = job.folder / "outputs"

    def run() -> list[str]:
        outputs.write_text("")
        ran = []
        for step in steps:
            said = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
            if "if" in step:
                assert step["if"] == "steps.convert.outputs.changed == 'true'"
                if said["changed"] != "true":
                    continue
            values = {"${{ steps.convert.outputs.digest }}": said.get("digest", "")}
            job.shell(
                *("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"),
                body=step["run"],
                IMAGE=job.image,
                TARGET=job.target,
                GITHUB_OUTPUT=str(outputs),
                **{name: values[value] for name, value in step.get("env", {}).items()},
            )
            ran.append(step["name"])
        return ran

    assert run() == ["Install", "Convert", "Export and push"]
    _judge(saltflat, job, tool)
    assert run() == ["Install", "Convert"]


def test_gitlab_ci(saltflat: Saltflat, job: Job, tool: Callable[[str], str]) -> None:
    work = _yaml("gitlab-ci.yaml")["saltflat"]
    variables = work["variables"]
    settings = {"CI_PROJECT_DIR": str(job.folder), "CI_REGISTRY_USER": "ali"}
    for name, value in variables.items():
        settings[name] = settings.get(value.removeprefix("$"), value)
    settings |= {"IMAGE": job.image, "TARGET": job.target, "CI_REGISTRY_PASSWORD": "secret"}
    settings["SALTFLAT_STORE"] = str(job.folder / ".saltflat")
    body = "\n".join([*work["before_script"], *work["script"]])
    job.shell("bash", "-eo", "pipefail", "-c", body=body, **settings)
    _judge(saltflat, job, tool)
    for file in work["artifacts"]["paths"]:
        assert (job.folder / file).is_file()


def test_tekton(saltflat: Saltflat, job: Job, tool: Callable[[str], str]) -> None:
    spec = _yaml("tekton-task.yaml")["spec"]
    values = {
        "$(params.image)": job.image,
        "$(params.target)": job.target,
        "$(workspaces.work.path)": str(job.folder),
        "$(workspaces.policy.path)": str(job.folder),
        "$(workspaces.dockerconfig.path)": "",
        "$(results.digest.path)": str(job.folder / "digest"),
        "$(results.changed.path)": str(job.folder / "changed"),
    }
    assert {f"$(params.{each['name']})" for each in spec["params"]} <= values.keys()
    assert {f"$(results.{each['name']}.path)" for each in spec["results"]} <= values.keys()
    settings = {}
    for variable in spec["stepTemplate"]["env"]:
        value = variable["value"]
        for written, meant in values.items():
            value = value.replace(written, meant)
        assert "$" not in value
        settings[variable["name"]] = value
    # An earlier run got no further than this: it is made up for, though nothing has changed since.
    saltflat.good("convert", "--plain-http", "--store", job.folder / ".saltflat", job.image)
    for step in spec["steps"]:
        script = job.folder / step["name"]
        script.write_text(step["script"])
        script.chmod(0o755)
        job.shell("sh", "-c", body=str(script), **settings)
    _judge(saltflat, job, tool)
    (job.folder / "disk.vmdk").unlink()
    job.shell("sh", "-c", body=str(script), **settings)
    assert not (job.folder / "disk.vmdk").exists()  # it is pushed already
    policy, empty = job.folder / "small.yaml", job.folder / "empty"
    policy.write_text("schema: 1\nmax-disk-size: 100k\n")
    refused = saltflat("pull", "--plain-http", "--store", empty, "--policy", policy, job.image)
    assert refused.returncode == 7
    assert not list((empty / "links").iterdir())  # the chain's own record tells its size
    result = json.loads((job.folder / "result.json").read_text())
    assert (job.folder / "digest").read_text() == result["digest"]
    assert (job.folder / "changed").read_text() == "false"


def test_a_job_ends_where_the_policy_refuses(job: Job) -> None:
    shutil.copy(FOLDER / POLICY, job.folder)  # as it is, it does not know the tests' registry
    (work,) = _yaml("github-actions.yaml")["jobs"].values()
    body = next(step["run"] for step in work["steps"] if step.get("id") == "convert")
    with pytest.raises(AssertionError, match='"cause": "registries"'):
        job.shell(
            *("bash", "-eo", "pipefail", "-c"),
            body=body,
            IMAGE=job.image,
            GITHUB_OUTPUT=str(job.folder / "outputs"),
        )
    assert not (job.folder / "outputs").exists()
