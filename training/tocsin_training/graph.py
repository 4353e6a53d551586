"""Rewrites of an exported ONNX graph that onnxruntime's own optimizers lack; the answers stay the same.

Query, key and value are three products of one input. As one product of their joined weights, int8 quantizes the input
once and its kernel runs wide instead of three times narrow (docs/experiments.md, "where the time goes").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_Message = TypeVar("_Message", NodeProto, TensorProto)


@dataclass(frozen=True)
class _Linear:
    """A product with constant weights and the constant bias that is added to it."""

    product: NodeProto
    addition: NodeProto
    weights: NDArray[np.float32]
    """Shape (inputs, outputs)."""
    bias: NDArray[np.float32]
    """Shape (outputs,)."""


def merge_products(model: ModelProto) -> int:
    """Make one product of those that share their input, and split its result; changes the model in place.

    Only products with constant weights and biases are merged, so that nothing is computed in another order.

    :return: how many groups were merged.
    """
    groups = _groups(model)
    if not groups:
        return 0
    merged = {group[0].product.output[0]: _merged(model, group, f"merged_{n}") for n, group in enumerate(groups)}
    gone = {name for group in groups for one in group for name in (*one.product.output, *one.addition.output)}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        # In the place of the first: the input is there by then, and nobody wants a result before that.
        nodes += merged.get(node.output[0], [])
        if node.output[0] not in gone:
            nodes.append(_copy(node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _drop_unused_initializers(model)
    return len(groups)


def _groups(model: ModelProto) -> list[list[_Linear]]:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    users: dict[str, list[NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            users[name].append(node)
    found: dict[tuple[str, int], list[_Linear]] = defaultdict(list)
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in constants:
            continue
        weights = numpy_helper.to_array(constants[node.input[1]])
        bias = _added_bias(users[node.output[0]], node.output[0], constants)
        if weights.ndim == 2 and bias is not None and bias[1].shape == weights.shape[1:]:
            found[node.input[0], len(weights)].append(_Linear(node, bias[0], weights, bias[1]))
    return [group for group in found.values() if len(group) > 1]


def _added_bias(
    users: Sequence[NodeProto], product: str, constants: dict[str, TensorProto]
) -> tuple[NodeProto, NDArray[np.float32]] | None:
    """The addition that is all that becomes of a product, with the constant it adds."""
    if len(users) != 1 or users[0].op_type != "Add":
        return None
    others = [name for name in users[0].input if name != product]
    if len(others) != 1 or others[0] not in constants:
        return None
    return users[0], numpy_helper.to_array(constants[others[0]])


def _merged(model: ModelProto, group: Sequence[_Linear], name: str) -> list[NodeProto]:
    """The nodes that take a group's place; their constants are added to the graph."""
    constants = {
        f"{name}.weights": np.concatenate([linear.weights for linear in group], axis=1),
        f"{name}.bias": np.concatenate([linear.bias for linear in group]),
        f"{name}.widths": np.array([len(linear.bias) for linear in group], dtype=np.int64),
    }
    model.graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in constants.items())
    weights, bias, widths = constants
    product, total = f"{name}.product", f"{name}.sum"
    results = [linear.addition.output[0] for linear in group]
    return [
        helper.make_node("MatMul", [group[0].product.input[0], weights], [product], f"{name}.matmul"),
        helper.make_node("Add", [product, bias], [total], f"{name}.add"),
        helper.make_node("Split", [total, widths], results, f"{name}.split", axis=-1),
    ]


def _drop_unused_initializers(model: ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [_copy(tensor) for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _copy(message: _Message) -> _Message:
    """What is in a list that is emptied and filled again must not be the list's own."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
