"""`tocsin score --cascade`: in every worker or in none, and never mixed with answers without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import add_settling_screen, make_tiny_release

from tocsin import ReleaseError, UsageError
from tocsin_serving.batch import JobOptions, dry_run_with_estimate, plan, score_file

TEXTS = ["An airstrike hit the market.", "The minister opened a school.", "the town was quiet " * 40 + "an airstrike"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_settling_screen(make_tiny_release(tmp_path_factory.mktemp("release") / "tiny"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


def test_every_worker_scores_in_the_cascade(source: Path, release: Path) -> None:
    outputs = []
    for workers in (1, 2):
        target = source.with_name(f"out-{workers}.jsonl")
        score_file(source, target, release=release, cascade=True, workers=workers)
        outputs.append(target.read_bytes())
    assert outputs[0] == outputs[1]
    rows = [json.loads(line) for line in outputs[0].splitlines()]
    # Settled, settled, and too long to be settled.
    assert [row["label"] for row in rows] == [None, None, "air_drone_strike"]
    assert {row["model_version"] for row in rows} == {"tiny-0+cascade"}
    manifest = json.loads(source.with_name("out-1.jsonl.manifest.json").read_text())
    assert manifest["settings"]["cascade"] is True


def test_without_it_the_encoder_reads_everything(source: Path, release: Path) -> None:
    target = source.with_name("out.jsonl")
    score_file(source, target, release=release)
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["label"] for row in rows] == ["air_drone_strike", None, "air_drone_strike"]
    assert {row["model_version"] for row in rows} == {"tiny-0"}


def test_a_finished_output_of_the_other_kind_is_not_taken_for_this_one(source: Path, release: Path) -> None:
    target = source.with_name("out.jsonl")
    score_file(source, target, release=release)
    with pytest.raises(UsageError, match=r"out\.jsonl exists; --overwrite replaces it"):
        score_file(source, target, release=release, cascade=True, resume=True)


def test_a_release_without_a_screen_is_refused_before_any_work(source: Path, tiny_release: Path) -> None:
    target = source.with_name("out.jsonl")
    with pytest.raises(ReleaseError, match="Leave --cascade out"):
        score_file(source, target, release=tiny_release, cascade=True, workers=2)
    assert not target.exists()
    options = JobOptions(release=str(tiny_release), cascade=True)
    with pytest.raises(ReleaseError, match="Leave --cascade out"):
        dry_run_with_estimate(plan(source, target, None), options)
