from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from rich.console import Console

from tocsin_training import plots
from tocsin_training.config import Settings
from tocsin_training.learning_curve import Point, measure, table


def test_a_point_is_learned_from_its_share_of_the_records_only(settings: Settings, console: Console) -> None:
    few = settings.model_copy(update={"finetune": settings.finetune.model_copy(update={"epochs": 1})})
    point = measure(few, 0.25, 3, console)
    assert (point.share, point.seed, point.records) == (0.25, 3, 80)
    assert 0 <= point.macro_f1 <= 1
    assert point.case_weighted_f1 is None
    assert not list(settings.runs.glob("*-curve-0.25-3")), "its run is not kept"


def test_the_table_tells_mean_and_spread_of_the_seeds(tmp_path: Path) -> None:
    points = [
        Point(share=0.5, seed=seed, records=100, corpus_sha256="c", macro_f1=f1, weighted_f1=f1, case_weighted_f1=None)
        for seed, f1 in ((1, 0.70), (2, 0.72), (3, 0.74))
    ]
    console = Console(file=io.StringIO(), width=100)
    console.print(table(points))
    assert isinstance(console.file, io.StringIO)
    assert "0.720 ± 0.020" in console.file.getvalue()
    plots.learning_curve({"macro F1": [(100, 0.7), (100, 0.8), (200, None)]}, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.size == (720, 480)
