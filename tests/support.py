"""What the tests of all rooms share: a tiny release made on the spot, and the one assertion about equal answers."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tocsin import Prediction, Taxonomy
from tocsin.calibration import Calibration
from tocsin.release import LAYOUT, BaseModelInfo, CorpusInfo, Manifest, read_manifest, write_manifest
from tocsin.screen import Screen

ROOT = Path(__file__).resolve().parents[1]
TAXONOMY = ROOT / "datasets" / "taxonomy.toml"


def make_tiny_release(
    folder: Path, *, taxonomy_file: Path = TAXONOMY, window_tokens: int = 32, window_overlap: int = 8
) -> Path:
    """A complete release without training: a text gets the labels whose plain names' words it holds.

    Its graph has no activations to quantize, so answers are exact and independent of the batch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taxonomy = Taxonomy.load(taxonomy_file)
    tokenizer = _tokenizer(taxonomy)
    tokenizer.save(str(folder / LAYOUT.tokenizer))
    onnx.save(_keyword_graph(taxonomy, tokenizer), folder / LAYOUT.model)
    shutil.copy(taxonomy_file, folder / LAYOUT.taxonomy)
    calibration = Calibration.identity(len(taxonomy.labels)).model_copy(update={"review_below": 0.6})
    calibration.save(folder / LAYOUT.calibration)
    _write_json(folder / LAYOUT.config, {"id2label": {str(i): name for i, name in enumerate(taxonomy.names)}})
    _write_json(folder / LAYOUT.tokenizer_config, {"model_max_length": window_tokens})
    (folder / LAYOUT.card).write_text("# A keyword model for tests\n", encoding="utf-8")
    manifest = Manifest(
        name="tiny",
        version="0",
        created="2026-01-01T00:00:00Z",
        base_model=BaseModelInfo(name="none", sha256=None),
        corpus=CorpusInfo(sha256="0" * 64, records=0),
        seed=0,
        quantization="fp32",
        window_tokens=window_tokens,
        window_overlap=window_overlap,
        languages=("en",),
    )
    write_manifest(folder, manifest)
    return folder


def add_settling_screen(folder: Path) -> Path:
    """Give a tiny release a screen that settles every text of one window, with 0.001 for every label."""
    rates = np.full(len(Taxonomy.load(folder / LAYOUT.taxonomy).labels), 0.001, dtype=np.float32)
    Screen(-np.ones(64, dtype=np.float32), 0.0, 0.0, rates).save(folder / LAYOUT.screen)
    write_manifest(folder, read_manifest(folder))
    return folder


def other_version(source: Path, target: Path, version: str) -> Path:
    """A copy of a release under another version."""
    shutil.copytree(source, target)
    write_manifest(target, read_manifest(target).model_copy(update={"version": version}))
    return target


def assert_same_predictions(
    reference: Sequence[Prediction], candidate: Sequence[Prediction], tolerance: float = 1e-6
) -> None:
    """Same labels in the same order, same flags, probabilities within the tolerance."""
    assert len(reference) == len(candidate)
    for left, right in zip(reference, candidate, strict=True):
        assert [event.label for event in left.events] == [event.label for event in right.events]
        assert (left.needs_review, left.truncated, left.language) == (
            right.needs_review,
            right.truncated,
            right.language,
        )
        assert left.model_version == right.model_version
        assert abs(left.no_event_probability - right.no_event_probability) <= tolerance
        for one, other in zip(left.events, right.events, strict=True):
            assert abs(one.probability - other.probability) <= tolerance
        if left.scores is not None and right.scores is not None:
            assert left.scores.keys() == right.scores.keys()
            assert all(abs(left.scores[name] - right.scores[name]) <= tolerance for name in left.scores)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What a batch job wrote, of whatever format; events and scores, JSON text in CSV, as elsewhere."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist(maps_as_pydicts="strict")
        return rows
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_bytes().splitlines()]
    with path.open(newline="") as file:
        return [
            {name: json.loads(cell) if name.endswith(("events", "scores")) else cell for name, cell in row.items()}
            for row in csv.DictReader(file)
        ]


def _words(text: str) -> list[str]:
    words = pre_tokenizers.Whitespace().pre_tokenize_str(text.lower())
    return [word for word, _ in words if word.isalnum()]


def _tokenizer(taxonomy: Taxonomy) -> Tokenizer:
    words = sorted({word for label in taxonomy.labels for word in _words(f"{label.name} {label.definition}")})
    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _keyword_graph(taxonomy: Taxonomy, tokenizer: Tokenizer) -> onnx.ModelProto:
    """logits = 8 * (share of the name's words found) - 4, computed as an embedding, a mask and a sum."""
    table = np.zeros((tokenizer.get_vocab_size(), len(taxonomy.labels)), dtype=np.float32)
    for column, label in enumerate(taxonomy.labels):
        words = _words(label.name)
        for word in words:
            table[tokenizer.token_to_id(word), column] += 8.0 / len(words)
    axis = numpy_helper.from_array(np.array([1], dtype=np.int64), "axis")
    last = numpy_helper.from_array(np.array([2], dtype=np.int64), "last")
    offset = numpy_helper.from_array(np.array(-4.0, dtype=np.float32), "offset")
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask_column"]),
        helper.make_node("Mul", ["embedded", "mask_column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "axis"], ["summed"], keepdims=0),
        helper.make_node("Add", ["summed", "offset"], ["logits"]),
    ]
    ids, mask = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(taxonomy.labels)])
    initializers = [numpy_helper.from_array(table, "table"), axis, last, offset]
    graph = helper.make_graph(nodes, "keywords", [ids, mask], [logits], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
