from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from tocsin import EventClassifier
from tocsin_training.config import Settings, to_toml
from tocsin_training.corpus import corpus_sha256
from tocsin_training.errors import ConfigError
from tocsin_training.experiment import variant_sha256
from tocsin_training.student_figures import (
    DYNAMIC,
    FP32,
    Entry,
    Student,
    candidates,
    draw,
    front,
    grid,
    int8_grid,
    on_front,
)
from tocsin_training.students import main, measure, missing_graphs

STATIC = "static-percentile"


def student(variant: str = "small", graph: str = DYNAMIC, f1: float = 0.9, **more: object) -> Student:
    fields: dict[str, object] = {
        "seed": 1,
        "recipe_sha256": variant,
        "corpus_sha256": "c",
        "records": 100,
        "epochs": 2.0,
        "minutes": 1.0,
        "parameters": 22_700_000,
        "megabytes": 22.8,
        "macro_f1": f1,
        "weighted_f1": f1,
        "case_weighted_f1": None,
        "texts_per_second": 250.0,
        "speed": 1.0,
        "reference": "shipped-1",
    }
    return Student(variant=variant, graph=graph, **{**fields, **more})  # type: ignore[arg-type]


def entry(rows: Sequence[Student], fp32: float = 0.9) -> Entry:
    reference = [replace(row, graph=FP32, weighted_f1=fp32, macro_f1=fp32) for row in rows]
    return Entry(rows[0].variant, rows[0].graph, rows, reference, allowed_cost=0.005)


def cheap(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "finetune": settings.finetune.model_copy(update={"epochs": 1}),
            "data": settings.data.model_copy(update={"train_records": 80, "test_records": 40}),
        }
    )


@pytest.fixture
def against(tiny_release: Path) -> EventClassifier:
    return EventClassifier.load(tiny_release)


def test_a_student_is_measured_as_a_release_in_fp32_and_every_int8_asked_for(
    settings: Settings, console: Console, against: EventClassifier
) -> None:
    few = cheap(settings)
    fp32, dynamic, static = measure(few, "small", [FP32, DYNAMIC, STATIC], against, console)
    assert [row.graph for row in (fp32, dynamic, static)] == [FP32, DYNAMIC, STATIC]
    assert {(row.variant, row.records, row.epochs, row.reference) for row in (fp32, dynamic, static)} == {
        ("small", 80, 1.0, against.version)
    }
    assert fp32.megabytes > 2.5 * dynamic.megabytes
    assert dynamic.megabytes == pytest.approx(static.megabytes, rel=0.2)
    assert fp32.parameters * 4 == pytest.approx(fp32.megabytes * 1e6, rel=0.1)
    for row in (fp32, dynamic, static):
        assert 0 <= row.weighted_f1 <= 1
        # All three are held against the same turns of the reference.
        assert row.texts_per_second / row.speed == pytest.approx(fp32.texts_per_second / fp32.speed)
    assert not list(few.runs.glob("*-student")), "its run is not kept"


def test_another_int8_of_a_kept_run_takes_no_training(
    settings: Settings, console: Console, against: EventClassifier
) -> None:
    few = cheap(settings)
    first = measure(few, "small", [FP32], against, console, keep=True)
    (left,) = few.runs.glob("*-student")
    second = measure(few, "small", [DYNAMIC], against, console)
    assert second[0].minutes == first[0].minutes
    assert not left.exists()


def test_what_was_measured_is_not_measured_again(settings: Settings) -> None:
    corpus, recipe = corpus_sha256(settings.data.corpus), variant_sha256(settings)
    seed = settings.finetune.seed
    row = student("small", FP32, corpus_sha256=corpus, recipe_sha256=recipe, seed=seed)
    assert missing_graphs([row], "small", settings, [FP32, DYNAMIC]) == [DYNAMIC]
    others = [replace(row, seed=seed + 1), replace(row, recipe_sha256="other"), replace(row, variant="large")]
    assert missing_graphs(others, "small", settings, [FP32]) == [FP32]
    with_benchmark = settings.model_copy(
        update={"data": settings.data.model_copy(update={"benchmark": Path("case.tsv")})}
    )
    assert missing_graphs([row], "small", with_benchmark, [FP32]) == [FP32], "it was made without the benchmark"
    assert missing_graphs([replace(row, case_weighted_f1=0.8)], "small", with_benchmark, [FP32]) == []


def test_on_the_front_is_what_no_other_beats() -> None:
    assert front([(1, 5), (2, 4), (2, 3), (3, 1), (0, 5)]) == [True, True, False, True, False]
    assert front([(1, 1), (1, 1)]) == [True, True], "equals do not beat each other"
    assert front([]) == []


def test_the_smaller_of_two_alike_is_on_the_front_of_size() -> None:
    found = [entry([student("wide", megabytes=50.0, speed=2.0)]), entry([student("narrow", megabytes=20.0, speed=1.0)])]
    assert on_front(found, "megabytes", "weighted_f1") == [False, True]
    assert on_front(found, "speed", "weighted_f1") == [True, False]


def test_of_a_student_the_fastest_int8_within_the_allowed_cost_would_ship() -> None:
    costly = entry([student(graph="static-minmax", f1=0.89, speed=2.0)])
    fast, slow = entry([student(graph=STATIC, f1=0.896, speed=1.2)]), entry([student(f1=0.9, speed=1.0)])
    fp32 = entry([student(graph=FP32, speed=9.0)])
    assert candidates([fp32, costly, slow, fast]) == [fast]
    assert candidates([fp32, costly]) == [], "a release of it would be refused"
    hardly_faster = entry([student(graph=STATIC, f1=0.896, speed=1.04)])
    assert candidates([slow, hardly_faster]) == [slow], "as fast, and more accurate"


def test_int8s_cost_is_taken_seed_by_seed() -> None:
    """The seeds are ten points apart, and int8 always loses two thousandths."""
    rows = [student(seed=1, f1=0.798), student(seed=2, f1=0.898)]
    fp32 = [student(graph=FP32, seed=1, f1=0.8), student(graph=FP32, seed=2, f1=0.9)]
    found = Entry("small", DYNAMIC, rows, fp32, allowed_cost=0.005)
    assert "-0.002 ± 0.000" in int8_grid([found]).rows[0]
    assert found.holds


def test_the_students_stand_by_speed_and_say_how_they_were_made() -> None:
    found = [entry([student("slow")]), entry([student("fast", f1=0.8, speed=1.5, epochs=0.5)], fp32=0.8)]
    table = grid(found)
    assert [list(row[:4]) for row in table.rows] == [["fast", "100", "0.5", "1"], ["slow", "100", "2", "1"]]
    assert [row[-1] for row in table.rows] == ["speed", "speed, size"]
    assert "shipped-1" in table.title


@pytest.mark.parametrize(("case", "height"), [(None, 708), (0.8, 1368)])
def test_the_picture_has_a_row_for_each_accuracy_that_was_measured(
    tmp_path: Path, case: float | None, height: int
) -> None:
    found = [
        entry([student(f"student {number}", f1=0.9 - 0.01 * number, speed=1 + number / 9, case_weighted_f1=case)] * 2)
        for number in range(3)
    ]
    draw([*found, entry([student("student 1", "static-minmax", 0.5, case_weighted_f1=case)])], tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (1800, height)


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["students", *map(str, arguments)])
    main()


def test_the_command_measures_what_is_missing_and_draws_all_it_has(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out.json"
    recipe.write_text(to_toml(settings))
    (tmp_path / "students.toml").write_text('["dropped".model]\ndropout = 0.5\n["other".model]\ndropout = 0.6\n')
    asked: list[tuple[str, int, list[str]]] = []

    def measured(
        settings: Settings, variant: str, graphs: Sequence[str], *_: object, keep: bool = False
    ) -> list[Student]:
        asked.append((variant, settings.finetune.seed, list(graphs)))
        made: dict[str, Any] = {
            "recipe_sha256": variant_sha256(settings),
            "corpus_sha256": corpus_sha256(settings.data.corpus),
        }
        return [student(variant, graph, seed=settings.finetune.seed, **made) for graph in graphs]

    monkeypatch.setattr("tocsin_training.students.measure", measured)
    shared = [recipe, out, "--only", "dropped", "--epochs", 1]
    with pytest.raises(SystemExit, match="holds none of these students"):
        run_main(monkeypatch, *shared, "--seeds")
    run_main(monkeypatch, *shared, "--seeds", 1)
    run_main(monkeypatch, *shared, "--seeds", 1, 2, "--int8", DYNAMIC, STATIC)
    graphs = [FP32, DYNAMIC]
    first, again = [("the recipe", 1, graphs), ("dropped", 1, graphs)], [FP32, DYNAMIC, STATIC]
    assert asked == [
        *first,
        ("the recipe", 1, [STATIC]),
        ("dropped", 1, [STATIC]),
        ("the recipe", 2, again),
        ("dropped", 2, again),
    ]
    run_main(monkeypatch, *shared, "--seeds")
    assert len(asked) == 6, "without seeds nothing is measured"
    assert "dropped" in capsys.readouterr().out
    assert (tmp_path / "out.png").is_file()
    assert len(json.loads(out.read_text())) == 12


def test_a_file_of_another_kind_is_refused(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out.json"
    recipe.write_text(to_toml(settings))
    (tmp_path / "students.toml").write_text("")
    out.write_text(json.dumps([{k: v for k, v in asdict(student()).items() if k != "speed"}]))
    with pytest.raises(ConfigError, match=r"out\.json: holds no students"):
        run_main(monkeypatch, recipe, out)
