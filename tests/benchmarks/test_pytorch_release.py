"""The release's weights for others: all of them, and they answer as the release does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from modeling_release import EventsForSequenceClassification
from onnx import TensorProto, helper
from pytorch_release import weights, write_pytorch_release
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

from tocsin import EventClassifier

_TEXTS = (
    "Warplanes struck the market in the town centre on Tuesday, killing nine people.",
    "Thousands marched peacefully through the capital on Friday to demand elections.",
    "The national team won its second match of the tournament by two goals to one.",
    "Gunmen kidnapped three aid workers near the border on Sunday.",
    "A roadside bomb hit a convoy.",
    "Rebels seized the town after two days of clashes with the army, residents said.",
)
# int8 rounds what goes into each product; weights in the wrong place move logits by whole units.
_LOGIT_TOLERANCE = 0.2


@pytest.fixture(scope="module")
def folder(shipped_classifier: EventClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("release")
    write_pytorch_release(shipped_classifier.release, made)
    return made


def test_the_weights_are_all_there_and_answer_as_the_release_does(
    folder: Path, shipped_classifier: EventClassifier
) -> None:
    model = EventsForSequenceClassification(AutoConfig.from_pretrained(folder))
    # As transformers runs this encoder when it loads it by itself: a peer held to a slower kind would flatter us.
    assert model.encoder.config._attn_implementation == "sdpa"
    model.train(False)
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    tokens = AutoTokenizer.from_pretrained(folder)(list(_TEXTS), padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = model(**tokens).logits.numpy()
    expected = shipped_classifier.logits(_TEXTS)
    assert np.abs(found - expected).mean() < _LOGIT_TOLERANCE
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()


def test_the_folder_names_its_class_as_transformers_wants_it(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    module, kind = config.auto_map["AutoModelForSequenceClassification"].split(".")
    assert config.architectures == [kind]
    assert f"class {kind}(" in (folder / f"{module}.py").read_text(encoding="utf-8")


def test_a_product_without_a_bias_is_refused() -> None:
    nodes = [helper.make_node("MatMulInteger", ["a", "b_quantized"], ["product"], "lonely")]
    constants = [
        helper.make_tensor("b_quantized", TensorProto.INT8, [1, 1], [1]),
        helper.make_tensor("b_scale", TensorProto.FLOAT, [1], [0.5]),
        helper.make_tensor("b_zero_point", TensorProto.INT8, [1], [0]),
    ]
    graph = onnx.helper.make_graph(nodes, "one", [], [], constants)
    with pytest.raises(ValueError, match="lonely"):
        weights(helper.make_model(graph), layers=1)


def test_a_graph_with_products_of_another_kind_is_refused(shipped_classifier: EventClassifier) -> None:
    model = onnx.load(shipped_classifier.release.model_path)
    layers = AutoConfig.from_pretrained(shipped_classifier.release.folder).num_hidden_layers
    with pytest.raises(ValueError, match=f"joined products .* for {layers - 1} layers"):
        weights(model, layers - 1)
    last = [node for node in model.graph.node if node.op_type == "MatMulInteger"][-2]
    last.op_type = "DynamicQuantizeMatMul"
    with pytest.raises(ValueError, match=f"layer.{layers - 1}.output.dense.weight: no int8 product"):
        weights(model, layers)
