"""A real batch tells of itself: lines by the schema, a page and metrics, all of the same batch."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.images.raw_layout import PLAIN, RawLayer, write_layout
from tests.images.workload import WorkImage, work_layers
from tests.integration.conftest import Saltflat

pytestmark = pytest.mark.integration

SVG = "{http://www.w3.org/2000/svg}"


def test_a_batch_with_a_broken_image_is_told_of_in_every_form(
    saltflat: Saltflat, tmp_path: Path
) -> None:
    names = ("flavour-base-9", "flavour-a-3")
    layers = work_layers([WorkImage("good", "1", names)])
    base, top = (layers[name] for name in names)
    good = write_layout(tmp_path / "good", (base, top))
    broken = write_layout(tmp_path / "broken", (base, RawLayer(b"no archive", kind=PLAIN)))
    batch = tmp_path / "nightly.jsonl"
    batch.write_text(f"{json.dumps(good)}\n{json.dumps(broken)}\n")
    report, metrics = tmp_path / "out.html", tmp_path / "saltflat.prom"
    done = saltflat(
        *("--progress", "json", "batch", batch, "--format", "json", "--keep-going"),
        *("--store", tmp_path / "store", "--report", report, "--prometheus", metrics),
    )
    result = json.loads(done.stdout)  # held to its schema by `saltflat`, as each line is
    assert done.returncode == result["exit_code"] != 0
    states = {image["reference"]: image["state"] for image in result["images"]}
    assert states == {good: "done", broken: "failed"}
    # The links of the good one; of the broken one there is none but the base.
    assert [image["new_links"] for image in result["images"]] == [2, 1]
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert (events[0]["event"], events[-1]["event"]) == ("batch-planned", "batch-finished")
    finished = [event for event in events if event["event"] == "task-finished"]
    work = sum(event["at_seconds"] - event["started_seconds"] for event in finished)
    assert sum(image["work_seconds"] for image in result["images"]) == pytest.approx(work, abs=0.02)
    page = ET.parse(report).getroot()
    words = "".join(page.itertext())
    assert "nightly" in words
    assert "1 done, 1 failed" in words
    assert result["images"][1]["failure"]["what"] in words
    titles = [rect.findtext(f"{SVG}title") for rect in page.iter(f"{SVG}rect")]
    drawn = [title for title in titles if title is not None]
    assert sum(title.endswith(", failed") for title in drawn) == 1
    assert sum(title.startswith("link ") for title in drawn) == 3
    samples = {
        (sample.name, sample.labels.get("state", "")): sample
        for family in text_string_to_metric_families(metrics.read_text())
        for sample in family.samples
    }
    assert samples["saltflat_batch_images", "failed"].value == 1
    assert samples["saltflat_batch_exit_code", ""].value == result["exit_code"]
    assert samples["saltflat_batch_exit_code", ""].labels == {"batch": "nightly"}
    assert ("saltflat_batch_last_success_timestamp_seconds", "") not in samples
