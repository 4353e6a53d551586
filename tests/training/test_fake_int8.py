from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from tocsin.encoder import open_session
from tocsin_training.fake_int8 import learn_with_int8, rounded_activations, rounded_weights


def quantized_by_onnxruntime(values: torch.Tensor) -> torch.Tensor:
    """What dynamic int8 makes of a tensor, taken back to fp32."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    graph = helper.make_graph(nodes, "round", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (found,) = open_session(model.SerializeToString()).run(None, {"x": values.numpy()})
    return torch.from_numpy(np.asarray(found))


@pytest.mark.parametrize("shift", [0.0, 30.0, -30.0])
def test_a_text_is_rounded_as_onnxruntime_rounds_it_alone(shift: float) -> None:
    texts = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [[[1.0]], [[9.0]], [[0.1]]]
    )
    rounded = rounded_activations(texts + shift)
    for text, found in zip(texts + shift, rounded, strict=True):
        torch.testing.assert_close(found, quantized_by_onnxruntime(text))


def test_an_empty_text_stays_zero() -> None:
    assert not rounded_activations(torch.zeros(2, 3, 4)).any()


def test_each_output_has_its_own_steps() -> None:
    weights = torch.tensor([[1.0, -127.0, 0.4], [0.001, -0.127, 0.0004]])
    torch.testing.assert_close(rounded_weights(weights), torch.tensor([[1.0, -127.0, 0.0], [0.001, -0.127, 0.0]]))


def test_only_learning_is_rounded_and_the_weights_keep_their_names() -> None:
    encoder = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 4))
    names, texts = list(encoder.state_dict()), torch.randn(2, 5, 16)
    exact = encoder(texts)
    learn_with_int8(encoder)
    assert list(encoder.state_dict()) == names
    assert torch.equal(encoder.eval()(texts), exact)
    rounded = encoder.train()(texts)
    assert 0 < (rounded - exact).abs().max() < 0.1


def test_gradients_pass_through_the_rounding() -> None:
    layer, texts = nn.Linear(16, 4), torch.randn(2, 5, 16, requires_grad=True)
    learn_with_int8(nn.Sequential(layer))
    layer(texts).sum().backward()
    assert texts.grad is not None
    # Of a sum, an input's gradient is the sum of its weights, as they were when they were multiplied: rounded.
    expected = rounded_weights(layer.weight).sum(dim=0).expand_as(texts)
    torch.testing.assert_close(texts.grad, expected)
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().min() > 0
