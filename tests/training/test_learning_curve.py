from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from PIL import Image
from rich.console import Console
from support import ROOT

from tocsin.errors import UsageError
from tocsin_training.config import Settings, load_settings, to_toml
from tocsin_training.corpus import corpus_sha256
from tocsin_training.errors import ConfigError
from tocsin_training.learning_curve import (
    Point,
    curve_sha256,
    curves,
    draw,
    grid,
    main,
    measure,
    measure_rows,
    minutes_left,
    read_points,
)
from tocsin_training.own_rows import write_table
from tocsin_training.run import Run


@pytest.fixture
def one_epoch(settings: Settings) -> Settings:
    return settings.model_copy(update={"finetune": settings.finetune.model_copy(update={"epochs": 1})})


@contextmanager
def stopped_in(function: str) -> Iterator[None]:
    """The user's Ctrl-C at the moment that a function is called."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"tocsin_training.{function}", Mock(side_effect=KeyboardInterrupt))
        yield


def test_a_point_is_learned_from_its_share_of_the_records_only(one_epoch: Settings, console: Console) -> None:
    point = measure(one_epoch, 0.25, 3, console)
    assert (point.share, point.seed, point.records) == (0.25, 3, 80)
    assert 0 <= point.macro_f1 <= 1
    assert point.case_weighted_f1 is None
    assert not list(one_epoch.runs.glob("*-curve-0.25-3")), "its run is not kept"


def point(share: float, seed: int, f1: float = 0.7, **more: object) -> Point:
    fields = {"records": round(200 * share), "corpus_sha256": "c", "macro_f1": f1, "weighted_f1": f1}
    return Point(**{"share": share, "seed": seed, "case_weighted_f1": None, **fields, **more})  # type: ignore[arg-type]


def test_a_point_goes_on_where_its_run_was_stopped(one_epoch: Settings, console: Console) -> None:
    with stopped_in("experiment.figures_of"):
        measure(one_epoch, 0.25, 4, console)
    (left,) = one_epoch.runs.glob("*-curve-0.25-4")
    begun = Run(left).figures()["minutes"]
    assert set(begun) == {"prepare", "finetune"}, "nothing that a curve does not need"
    assert measure(one_epoch, 0.25, 4, console).minutes == begun["finetune"], "not trained again"
    assert not left.exists()


def test_the_table_tells_mean_and_spread_of_the_seeds(tmp_path: Path) -> None:
    points = [point(0.5, seed, f1) for seed, f1 in ((1, 0.70), (2, 0.72), (3, 0.74))]
    assert grid(points).rows == [("50%", "100", "3", "0.720 ± 0.020", "0.720 ± 0.020", "")]
    draw(points, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.size == (720, 480)


def test_the_forecast_goes_by_the_time_a_share_took() -> None:
    assert minutes_left([], [(0.5, 1)]) is None
    assert minutes_left([point(0.5, 1, minutes=10.0)], [(1.0, 1), (0.25, 2)]) == 25.0


def test_a_file_that_is_no_curve_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "curve.json"
    assert read_points(path) == []
    for broken in ("{", '[{"share": 1}]'):
        path.write_text(broken)
        with pytest.raises(ConfigError, match=r"curve\.json: holds no points of a learning curve"):
            read_points(path)


def test_without_seeds_nothing_is_measured_and_only_like_points_are_drawn(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "curve.json"
    recipe.write_text(to_toml(settings))
    here = {
        "corpus_sha256": corpus_sha256(settings.data.corpus),
        "recipe_sha256": curve_sha256(load_settings(recipe)),
        "epochs": settings.finetune.epochs,
        "augmented": False,
    }
    others = [point(1.0, 2, 0.1, **{**here, "epochs": 1.0}), point(1.0, 3, 0.1, **{**here, "recipe_sha256": "other"})]
    points = [point(0.5, 1, 0.6, **here), point(1.0, 1, 0.8, **here), *others]
    out.write_text(json.dumps([asdict(one) for one in points]))
    monkeypatch.setattr(sys, "argv", ["learning_curve", str(recipe), str(out), "--seeds"])
    main()
    printed = capsys.readouterr().out
    assert "0.800" in printed
    assert "±" not in printed.partition("share")[2], "points of fewer epochs or another recipe are on other curves"
    assert sorted(map(str, read_points(out))) == sorted(map(str, points)), "none is thrown away"
    assert (tmp_path / "curve.png").is_file()


def test_measuring_another_curve_keeps_every_point_that_was_there(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "curve.json"
    recipe.write_text(to_toml(settings))
    here = {"corpus_sha256": corpus_sha256(settings.data.corpus), "recipe_sha256": curve_sha256(settings)}
    before = [point(share, seed, 0.7, epochs=8.0, augmented=False, **here) for share in (0.5, 1.0) for seed in (1, 2)]
    out.write_text(json.dumps([asdict(one) for one in before]))

    def measured(settings: Settings, share: float, seed: int, _: object) -> Point:
        made = {**here, "recipe_sha256": curve_sha256(settings)}
        return point(share, seed, 0.5, epochs=settings.finetune.epochs, augmented=False, **made)

    monkeypatch.setattr("tocsin_training.learning_curve.measure", measured)
    arguments = ["learning_curve", str(recipe), str(out), "--epochs", "1", "--shares", "0.5", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    main()
    kept, new = curves(read_points(out))
    assert kept == before
    assert [(one.share, one.seed, one.epochs) for one in new] == [(0.5, 1, 1.0)]


def test_a_curve_is_of_one_recipe_whatever_its_share_seed_and_machine(settings: Settings) -> None:
    def changed(section: str, **values: object) -> Settings:
        return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})

    same = curve_sha256(settings)
    alike: list[tuple[str, dict[str, object]]] = [
        ("finetune", {"seed": 9}),
        ("finetune", {"device": "auto"}),
        ("finetune", {"teacher_logits": Path("teacher.parquet")}),
        ("data", {"train_records": 80}),
        ("data", {"benchmark": Path("case.tsv")}),
    ]
    for section, values in alike:
        assert curve_sha256(changed(section, **values)) == same, values
    assert curve_sha256(changed("finetune", learning_rate=1e-5)) != same
    assert curve_sha256(changed("model", dropout=0.2)) != same


def test_rows_are_trained_on_as_their_owner_would_and_measured_on_the_corpus_s_own_test(
    one_epoch: Settings, console: Console
) -> None:
    point = measure_rows(one_epoch, 80, 3, console)
    assert (point.rows, point.mix, point.seed, point.share) == (80, "none", 3, 0.25)
    assert 50 < point.records < 80, "a share is held out"
    for figure in (point.macro_f1, point.weighted_f1, point.false_alarms, point.sent_to_review):
        assert figure is not None and 0 <= figure <= 1
    assert not list(one_epoch.runs.glob("*-rows-80-3")) and not list(one_epoch.runs.glob("own-rows/*"))
    mixed = measure_rows(one_epoch, 80, 3, console, mix="0.5")
    assert mixed.records == 2 * point.records
    assert mixed.made != point.made, "another curve"


def test_a_try_of_rows_goes_on_where_it_was_stopped(one_epoch: Settings, console: Console) -> None:
    with stopped_in("own_rows.release_figures"):
        measure_rows(one_epoch, 90, 4, console)
    (left,) = one_epoch.runs.glob("*-rows-90-4")
    begun = Run(left).figures()["minutes"]
    assert "evaluate" not in begun, "nothing that a curve does not need"
    assert measure_rows(one_epoch, 90, 4, console).minutes == sum(begun.values()), "not trained again"


def test_a_seed_draws_its_own_rows_and_always_the_same(settings: Settings) -> None:
    def rows(seed: int) -> list[str]:
        return write_table(settings, 60, seed).read_text().splitlines()

    assert rows(1) == rows(1)
    assert set(rows(1)) != set(rows(2))
    assert len(set(rows(1))) == 61
    with pytest.raises(UsageError, match=r"has 320 texts to draw from, so --rows 321 is too many"):
        write_table(settings, 321, 1)


def test_a_curve_over_rows_stands_beside_one_over_shares(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "curve.json"
    recipe.write_text(to_toml(settings))
    here: dict[str, Any] = {
        "corpus_sha256": corpus_sha256(settings.data.corpus),
        "recipe_sha256": curve_sha256(load_settings(recipe)),
    }
    before = point(1.0, 1, epochs=8.0, augmented=False, **here)
    out.write_text(json.dumps([asdict(before)]))

    def measured(settings: Settings, rows: int, seed: int, _: object, *, mix: str) -> Point:
        more = {"epochs": 8.0, "augmented": False, "sent_to_review": 0.25, **here}
        return point(rows / 320, seed, 0.5, rows=rows, mix=mix, **more)

    monkeypatch.setattr("tocsin_training.learning_curve.measure_rows", measured)
    command = ["learning_curve", str(recipe), str(out), "--rows", "80", "160", "--seeds", "1", "2"]
    monkeypatch.setattr(sys, "argv", command)
    main()
    main()
    shares, rows = curves(read_points(out))
    assert shares == [before]
    assert [(one.rows, one.seed) for one in rows] == [(80, 1), (160, 1), (80, 2), (160, 2)], "none measured twice"
    assert grid(rows).rows[0] == ("80", "50", "2", *("0.500 ± 0.000",) * 2, "", "", "0.250 ± 0.000")
    assert grid(rows).heads[0] == "labelled rows"
    assert "labelled" in capsys.readouterr().out, "the head may be broken in two on a narrow terminal"


@pytest.mark.parametrize("more", [["--mix", "0.3"], ["--rows", "80", "--mix", "2"], ["--rows", "80", "--shares", "1"]])
def test_options_of_a_curve_that_make_no_sense_are_refused(more: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["learning_curve", "recipe.toml", "curve.json", *more])
    with pytest.raises(SystemExit, match="2"):
        main()


def test_the_page_on_retraining_has_the_figures_that_were_measured() -> None:
    page = (ROOT / "docs" / "retraining.md").read_text(encoding="utf-8")
    for rows, records, _, *figures in grid(read_points(ROOT / "docs" / "own-rows.json")).rows:
        # The share that goes to review is written out there.
        assert f"| {' | '.join((rows, records, *figures[:-1]))} |" in page, rows
