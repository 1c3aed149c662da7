"""saltflat as a library: what docs/library.md shows does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import converter
from converter.errors import PolicyError
from converter.events import Monitor, StepFinished
from tests.images.cache import ROOT

pytestmark = pytest.mark.integration

EXAMPLES = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_importing_it_costs_nothing() -> None:
    program = (
        "import sys, converter; print(*(name for name in sys.modules if 'converter' in name))\n"
        "converter.convert; assert 'converter.pipeline' in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    assert done.stdout.split() == [b"converter"]


def test_no_module_takes_a_public_name_for_itself() -> None:
    # Importing converter.NAME would put the module where the function was.
    modules = {path.stem for path in (ROOT / "converter").iterdir()}
    assert modules & set(converter.__all__) == set()


def test_every_public_name_is_there_and_told_of() -> None:
    page = (ROOT / "docs" / "library.md").read_text()
    for name in converter.__all__:
        assert getattr(converter, name) is not None
        assert name in page or name in {"__version__", "Chain", "Limits", "Platform", "Watched"}
    with pytest.raises(AttributeError):
        converter.nothing  # noqa: B018 - it is what is tested


def test_the_documented_programs(
    corner_layout: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    programs = EXAMPLES.findall((ROOT / "docs" / "library.md").read_text())
    (tmp_path / "layout").symlink_to(corner_layout)
    said = []
    for program in programs:
        exec(program.replace(":1.0", ":prefix-1"), {})  # a user would run it
        said.append(capsys.readouterr().out.splitlines())
    links, bundle, checks, events = said
    assert bundle == ["made anew"]
    assert [line.split()[0] for line in checks][-2:] == ["file", "tree"]
    assert events[0] == "layer 1/1 cached"
    assert events[-1].startswith("sha256:")
    (link,) = links
    assert Path(link.split()[1]) == tmp_path / "store" / "links" / f"{link.split()[0]}.vmdk"


def test_what_nobody_watches_any_more_goes_on_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converter.watching._MOST_WAITING", 1)
    ended = threading.Event()

    def call(monitor: Monitor) -> str:
        with ThreadPoolExecutor(1) as threads:  # as layers are fetched; a program waits for these
            for number in range(4):
                threads.submit(monitor, StepFinished(str(number))).result()
        ended.set()
        return "whole"

    work = converter.watch(call)
    for event in work:
        assert event == StepFinished("0")
        break
    assert ended.wait(60)
    assert work.result() == "whole"


def test_what_is_left_early_can_be_gone_on_with(corner_layout: Path, tmp_path: Path) -> None:
    source, store = f"oci:{corner_layout}:prefix-2", tmp_path / "store"

    with converter.watch(
        lambda monitor: converter.convert(source, store=store, monitor=monitor)
    ) as work:
        for event in work:
            if isinstance(event, StepFinished):
                break
    whole = converter.convert(source, store=store, bundle=converter.BundleTarget(tmp_path / "b"))
    assert len(whole.chain.links) == 2
    subjects = [
        check.subject for check in converter.verify(tmp_path / "b", image=source, store=store)
    ]
    assert subjects[-1] == "tree"
    again = converter.convert(source, store=store, if_changed=True)
    assert again == converter.Converted(whole.chain, changed=False)
    options = converter.ConvertOptions(policy=converter.Policy(max_layers=1))
    with pytest.raises(PolicyError):
        converter.convert(source, store=store, options=options)
