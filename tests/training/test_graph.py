"""Rewriting a graph changes how it is computed and not what."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tocsin.encoder import Encoder
from tocsin.release import LAYOUT, Release
from tocsin_training.graph import merge_products
from tocsin_training.run import Run

WIDTHS = (6, 6, 4)


def three_products(*, bias: bool = True, second_input: str = "x") -> ModelProto:
    """Products of x with three matrices, each with its bias; the second may read something else."""
    random = np.random.default_rng(0)
    nodes = [helper.make_node("Relu", ["x"], ["other"])]
    constants: list[TensorProto] = []
    for number, width in enumerate(WIDTHS):
        constants.append(numpy_helper.from_array(random.normal(size=(8, width)).astype(np.float32), f"w{number}"))
        constants.append(numpy_helper.from_array(random.normal(size=width).astype(np.float32), f"b{number}"))
        source = second_input if number == 1 else "x"
        product = f"p{number}" if bias else f"y{number}"
        nodes.append(helper.make_node("MatMul", [source, f"w{number}"], [product]))
        if bias:
            nodes.append(helper.make_node("Add", [f"b{number}", product], [f"y{number}"]))
    nodes.append(helper.make_node("Concat", ["y0", "y1", "y2"], ["y"], axis=-1))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "three",
        [value("x", TensorProto.FLOAT, [None, 5, 8])],
        [value("y", TensorProto.FLOAT, [None, 5, sum(WIDTHS)])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answers(model: ModelProto) -> NDArray[np.float32]:
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=(2, 5, 8)).astype(np.float32)
    result: NDArray[np.float32] = session.run(["y"], {"x": x})[0]
    return result


def kinds(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_products_of_one_input_become_one_and_answer_the_same() -> None:
    model = three_products()
    before = answers(model)
    assert merge_products(model) == 1
    assert kinds(model) == {"Relu": 1, "MatMul": 1, "Add": 1, "Split": 1, "Concat": 1}
    assert {tensor.name[:6] for tensor in model.graph.initializer} == {"merged"}
    assert answers(model) == pytest.approx(before, abs=1e-6)


def test_only_products_of_the_same_input_are_merged() -> None:
    model = three_products(second_input="other")
    before = answers(model)
    assert merge_products(model) == 1
    assert kinds(model)["MatMul"] == 2
    assert answers(model) == pytest.approx(before, abs=1e-6)


def test_products_without_a_bias_are_left_alone() -> None:
    model = three_products(bias=False)
    before = model.SerializeToString()
    assert merge_products(model) == 0
    assert model.SerializeToString() == before


def test_a_product_that_someone_else_reads_too_is_left_alone() -> None:
    model = three_products()
    model.graph.node.append(helper.make_node("Relu", ["p0"], ["seen"]))
    model.graph.output.append(helper.make_tensor_value_info("seen", TensorProto.FLOAT, None))
    assert merge_products(model) == 1
    assert kinds(model)["MatMul"] == 2


def test_every_layer_of_a_release_multiplies_query_key_and_value_at_once(trained_run: Run) -> None:
    layers = json.loads((trained_run.model / "config.json").read_text())["num_hidden_layers"]
    for folder, product in ((trained_run.reference, "MatMul"), (trained_run.release, "MatMulInteger")):
        graph = onnx.load(folder / LAYOUT.model).graph
        constants = {tensor.name for tensor in graph.initializer}
        products = [node for node in graph.node if node.op_type == product and node.input[1] in constants]
        # Query, key and value; what comes out of attention; the two of the layer's middle.
        # int8 makes a product of the head, too.
        assert len(products) in (4 * layers, 4 * layers + 1)
        assert not any(node.op_type == "SkipLayerNormalization" for node in graph.node)


def test_the_library_runs_a_release_without_the_slow_norm(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime would put it back at load time."""
    path = tmp_path / "as-run.onnx"
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    monkeypatch.setattr(ort, "SessionOptions", lambda: options)
    Encoder(Release.open(trained_run.release), threads=1)
    run = {node.op_type for node in onnx.load(path).graph.node}
    assert "LayerNormalization" in run
    assert "SkipLayerNormalization" not in run
