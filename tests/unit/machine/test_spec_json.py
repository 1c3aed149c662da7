"""A machine's specification survives its file, whatever the run asked for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.tether.host_config import HostConfig
from converter.machine.model import RunConfig
from converter.machine.spec_json import read_spec, spec_document

ASKED = HostConfig(
    groups=("audio",),
    limits=(("nofile", 1, -1),),
    add_capabilities=("ALL",),
    tmpfs=(("/run", "size=1m"),),
    sysctls=(("net.a", "1"),),
    hosts=(("a", "::1"),),
    read_only=True,
    oom_score_adj=-5,
    stop_signal="QUIT",
    stop_seconds=-1,
)


@pytest.mark.parametrize("host", [HostConfig(), ASKED], ids=["defaults", "everything"])
def test_a_run_survives_its_file(make_spec, host: HostConfig) -> None:
    spec = make_spec()
    run = RunConfig(args=("a", ""), env=("K=V",), user="u", tty=True, rows=3, host_config=host)
    spec = replace(spec, guest=replace(spec.guest, run=run))
    assert read_spec(json.loads(json.dumps(spec_document(spec)))) == spec


def test_what_is_no_host_config_is_a_value_error(make_spec) -> None:
    document = spec_document(make_spec())
    document["run"]["host_config"] = {"groups": 1}
    with pytest.raises(ValueError, match="groups"):
        read_spec(document)
