from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from tocsin import EventClassifier
from tocsin.release import LAYOUT, Release, read_manifest, write_manifest
from tocsin_training.run import Run
from tocsin_training.static_int8 import Ranges, TextReader, quantize_statically


@pytest.mark.parametrize("ranges", ["minmax", "percentile"])
def test_static_int8_answers_like_fp32_whatever_the_batch(
    trained_run: Run, test_texts: list[str], tmp_path: Path, ranges: Ranges
) -> None:
    folder = Path(shutil.copytree(trained_run.reference, tmp_path / "static"))
    quantize_statically(trained_run.reference, folder / LAYOUT.model, test_texts[:20], ranges=ranges)
    write_manifest(folder, read_manifest(folder).model_copy(update={"quantization": "int8-static"}))
    fp32, int8 = EventClassifier.load(trained_run.reference), EventClassifier.load(folder)
    together = int8.logits(test_texts)
    alone = np.concatenate([int8.logits([text]) for text in test_texts[:10]])
    assert np.abs(together[:10] - alone).max() <= 1e-4
    assert ((fp32.logits(test_texts) > 0) == (together > 0)).mean() > 0.97
    assert not np.array_equal(fp32.logits(test_texts), together), "or nothing was quantized"


def test_what_dynamic_int8_quantizes_is_quantized(trained_run: Run, test_texts: list[str], tmp_path: Path) -> None:
    quantize_statically(trained_run.reference, tmp_path / "static.onnx", test_texts[:5], ranges="minmax")
    sizes = [path.stat().st_size for path in (tmp_path / "static.onnx", trained_run.release / LAYOUT.model)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)
    graph = onnx.load(tmp_path / "static.onnx").graph
    products = [node for node in onnx.load(trained_run.release / LAYOUT.model).graph.node if "MatMul" in node.op_type]
    # The head, which dynamic int8 makes a product like the others, stays as it is.
    assert sum(node.op_type in {"MatMul", "Gemm"} for node in graph.node) == len(products), "none is lost or doubled"


def test_texts_are_measured_one_by_one_without_padding(trained_run: Run) -> None:
    reader = TextReader(Release.open(trained_run.reference), ["Storm.", "The river rose over the old bridge."])
    assert len(reader) == 2
    reader.set_range(1, 2)
    batch = reader.get_next()
    assert batch is not None
    assert batch["input_ids"].shape[0] == 1
    assert batch["attention_mask"].all()
    assert reader.get_next() is None
