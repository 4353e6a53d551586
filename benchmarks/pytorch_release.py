"""The shipped release as PyTorch weights that transformers loads, for peers whose answers are held against ours.

Each int8 weight times its scale: the same weights, so that all that differs is a peer's arithmetic, fp32 where the
release rounds what goes into a product to int8.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper
from safetensors.numpy import save_file

from tocsin import Release

Weights = dict[str, NDArray[np.float32]]

# Not imported: it is for those who have torch.
_CLASS_FILE = Path(__file__).with_name("modeling_release.py")
_CLASS = "EventsForSequenceClassification"
_QUANTIZED = "_quantized"
# What quantization and onnxruntime's fusions leave between a product and its bias.
_ON_THE_WAY = ("Cast", "Mul")
_ADDS_BIAS = ("Add", "BiasGelu")
_QUERY_KEY_VALUE = ("query", "key", "value")
_LAYER_PRODUCTS = (
    *(f"attention.self.{name}" for name in _QUERY_KEY_VALUE),
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


def write_pytorch_release(release: Release, folder: Path) -> None:
    """Write what transformers wants of a model into a folder: configuration, tokenizer, weights, and their class.

    :raises ValueError: the graph is not as `tocsin train` exports it, so that a weight's name cannot be told.
    """
    config = json.loads((release.folder / "config.json").read_text(encoding="utf-8"))
    found = weights(onnx.load(release.model_path), config["num_hidden_layers"])
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(_CLASS_FILE, folder)
    config |= {
        "architectures": [_CLASS],
        "auto_map": {"AutoModelForSequenceClassification": f"{_CLASS_FILE.stem}.{_CLASS}"},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(release.folder / name, folder)


def weights(model: ModelProto, layers: int) -> Weights:
    """The parameters of `EventsForSequenceClassification` by their PyTorch names, in PyTorch's shapes.

    Embeddings, norms and biases kept their names through the export; a product's weights are called after the bias that
    is added to them, and those of query, key and value, which the release joined, are taken apart again.

    :raises ValueError: a product has no bias to be called after, or the products are not those of so many layers.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {name: value for name, value in constants.items() if _is_parameter(name)}
    for name in constants:
        stem = name.removesuffix(_QUANTIZED)
        if name != stem and _is_parameter(stem):
            found[stem] = _dequantized(constants, name)
    layer = 0
    for product in model.graph.node:
        if product.op_type != "MatMulInteger":
            continue
        bias = _bias(model, product, constants)
        values = _dequantized(constants, product.input[1]).T
        if bias in found:
            found[bias.removesuffix("bias") + "weight"] = values
        else:
            found |= _attention(layer, values, constants[bias])
            layer += 1
    _check_products(found, layers, joined=layer)
    # A transposed view would be written in the order of its memory.
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in found.items()}


def _check_products(found: Weights, layers: int, *, joined: int) -> None:
    """Products of another kind than this export's would be passed over, and who loads the rest is given random ones."""
    expected = {f"encoder.encoder.layer.{layer}.{part}.weight" for layer in range(layers) for part in _LAYER_PRODUCTS}
    missing = sorted((expected | {"head.weight"}) - found.keys())
    if missing:
        raise ValueError(f"{missing[0]}: no int8 product in the graph is it, nor of {len(missing) - 1} other weights")
    if joined != layers:
        raise ValueError(f"{joined} joined products of query, key and value in the graph, for {layers} layers")


def _is_parameter(name: str) -> bool:
    return name.startswith(("encoder.", "head.")) and name.endswith((".weight", ".bias"))


def _dequantized(constants: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.float32]:
    """(number - zero point) * scale; of products, a scale for each column."""
    stem = name.removesuffix(_QUANTIZED)
    scale, zero = constants[f"{stem}_scale"], constants[f"{stem}_zero_point"]
    result: NDArray[np.float32] = (constants[name].astype(np.float32) - zero.astype(np.float32)) * scale
    return result


def _bias(model: ModelProto, product: NodeProto, constants: Mapping[str, NDArray[Any]]) -> str:
    """The name of the constant that is added to a product."""
    users: dict[str, list[NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            users[name].append(node)
    node = product
    while len(users[node.output[0]]) == 1:
        (node,) = users[node.output[0]]
        if node.op_type in _ADDS_BIAS:
            return _only([name for name in node.input if name in constants], node)
        if node.op_type not in _ON_THE_WAY:
            break
    raise ValueError(f"{product.name}: nothing that is known as a bias is added to this product")


def _only(names: Sequence[str], node: NodeProto) -> str:
    if len(names) != 1:
        raise ValueError(f"{node.name}: adds {len(names)} constants, and not one bias")
    return names[0]


def _attention(layer: int, values: NDArray[np.float32], bias: NDArray[np.float32]) -> Weights:
    """Query, key and value of a layer out of their joined product, of shape (3 * hidden, hidden).

    Where only the first token asks, the query's product is one of its own.
    """
    found: Weights = {}
    count = values.shape[0] // values.shape[1]
    parts = zip(_QUERY_KEY_VALUE[-count:], np.split(values, count), np.split(bias, count), strict=True)
    for name, part, part_bias in parts:
        place = f"encoder.encoder.layer.{layer}.attention.self.{name}"
        found |= {f"{place}.weight": part, f"{place}.bias": part_bias}
    return found
