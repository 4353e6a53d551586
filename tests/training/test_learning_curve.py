from __future__ import annotations

from pathlib import Path

from PIL import Image

from tocsin_training import plots
from tocsin_training.config import Settings
from tocsin_training.learning_curve import part


def test_a_part_learns_from_its_share_of_the_records_and_from_no_teacher(settings: Settings, tmp_path: Path) -> None:
    taught = settings.model_copy(
        update={"finetune": settings.finetune.model_copy(update={"teacher_logits": tmp_path / "teacher.parquet"})}
    )
    quarter = part(taught, 0.25, 320, 3)
    assert quarter.data.train_records == 80
    assert quarter.finetune.teacher_logits is None
    assert quarter.finetune.seed == 3


def test_the_curve_is_drawn_over_what_was_measured(tmp_path: Path) -> None:
    plots.learning_curve({"macro F1": [(100, 0.7), (100, 0.8), (200, None)]}, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.size == (720, 480)
