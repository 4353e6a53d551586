"""Static int8: the scales of activations are fixed beforehand, from what some training texts do to them (QDQ).

What a release ships quantizes activations as they come, a scale for each text read alone. Fixed scales save looking for
them and make answers independent of the batch, but must fit the widest text. Only what dynamic quantization quantizes
is quantized here, too: products with constant weights, and the table of words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from os import devnull
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static

from tocsin.encoder import load_tokenizer
from tocsin.release import Release
from tocsin_training.export import with_shapes

Ranges = Literal["minmax", "percentile"]

PERCENTILE = 99.99
"""Of a tensor's values, how many lie within its range; what sticks out is cut off."""
_METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}


class TextReader(CalibrationDataReader):  # type: ignore[misc]
    """Hands onnxruntime's calibration one text after another, each alone: padding would be measured with them."""

    def __init__(self, release: Release, texts: Sequence[str]) -> None:
        encodings = load_tokenizer(release).encode_batch_fast(list(texts))
        self._ids = [np.array([encoding.ids], dtype=np.int64) for encoding in encodings]
        self._rest: Iterator[NDArray[np.int64]] = iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with these texts."""
        self._rest = iter(self._ids[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.int64]] | None:
        """The inputs of the next run; none after the last."""
        ids = next(self._rest, None)
        return None if ids is None else {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def quantize_statically(reference: Path, target: Path, texts: Sequence[str], *, ranges: Ranges) -> None:
    """Write the int8 graph of a release folder that holds an fp32 one.

    :param texts: to find the ranges of activations with; from the training split, never from what is measured on.
    :param ranges: how far a range reaches: to the least and greatest value met, or over ``PERCENTILE`` of the values.
    """
    release = Release.open(reference)
    options: dict[str, Any] = {
        # The next step is not quantized, so a product's result need not be.
        "OpTypesToExcludeOutputQuantization": ["MatMul"],
        # Text by text, so that nothing of all of them is kept.
        "CalibStridedMinMax": 1,
        # Of the percentile only: its own default takes one range for both signs.
        **({"CalibTensorRangeSymmetric": False, "CalibPercentile": PERCENTILE} if ranges == "percentile" else {}),
    }
    # It prints a line for each text and tensor.
    with with_shapes(release.model_path) as inferred, Path(devnull).open("w") as nowhere, redirect_stdout(nowhere):
        quantize_static(
            inferred,
            target,
            TextReader(release, texts),
            calibrate_method=_METHODS[ranges],
            op_types_to_quantize=["MatMul", "Gather"],
            nodes_to_quantize=_with_constants(inferred),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options=options,
        )


def _with_constants(path: Path) -> list[str]:
    """Names of the products with constant weights, and of look-ups in a constant table; attention's own are not."""
    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    tables = {"MatMul": 1, "Gather": 0}
    return [
        node.name for node in graph.node if node.op_type in tables and node.input[tables[node.op_type]] in constants
    ]
