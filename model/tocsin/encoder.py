"""From texts to logits: tokens, windows, micro-batches, the ONNX session. It knows nothing about labels.

Everything here is shared by one text, a batch, a batch job and the service, so that all of them answer the same.
"""

from __future__ import annotations

import os

# Before onnxruntime is imported, which decides then: since 1.29 its wheels report models and use to Microsoft, with an
# identifier of the machine, unless told not to (its docs/Privacy.md). Here nothing is sent anywhere.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tocsin.errors import ReleaseError
from tocsin.release import LAYOUT, Release
from tocsin.screen import Screen

# For a program that had imported onnxruntime before; what it told when it was imported is out by then.
ort.disable_telemetry_events()
# Tokens, padding included, that go through the graph in one run when a batch's make-up does not matter.
_MICRO_BATCH_TOKENS = 2048
_TEXTS_AT_ONCE = 1024
# Its CPU kernel goes element by element and takes five times as long as the sum and the norm that it replaces.
_SLOWER_FUSIONS = ("SkipLayerNormFusion",)


@dataclass(frozen=True, slots=True)
class Window:
    """A run of tokens, special tokens included, that belongs to one text."""

    text_index: int
    ids: list[int]


class Encoder:
    """A release's tokenizer and ONNX session.

    Thread-safe: onnxruntime sessions and tokenizers may be used from several threads, and nothing else is kept.
    """

    def __init__(self, release: Release, *, threads: int) -> None:
        self._tokenizer = load_tokenizer(release)
        self._session = _load_session(release, threads)
        self._micro_batch_tokens = _MICRO_BATCH_TOKENS if release.batch_invariant else 0
        self._labels = len(release.taxonomy.labels)

    def logits(
        self, texts: Sequence[str], screen: Screen | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Logits of every text and in how many windows it was read.

        A long text's logit is the largest over its windows: an event told anywhere in it is told.

        :param screen: what it settles is not read: no window, and logits of minus infinity.
        :return: logits of shape (texts, labels); windows of shape (texts,).
        """
        logits = np.full((len(texts), self._labels), -np.inf, dtype=np.float32)
        windows_per_text = np.zeros(len(texts), dtype=np.intp)
        for begin in range(0, len(texts), _TEXTS_AT_ONCE):
            windows = self._windows(texts[begin : begin + _TEXTS_AT_ONCE], begin)
            if screen is not None:
                windows = unsettled(windows, screen)
            for batch in micro_batches(windows, self._micro_batch_tokens):
                rows = np.array([window.text_index for window in batch])
                np.maximum.at(logits, rows, self._run(batch))
                np.add.at(windows_per_text, rows, 1)
        return logits, windows_per_text

    @property
    def reads_alone(self) -> bool:
        """Whether each window goes through the graph on its own, so that its neighbours cannot change its last bits."""
        return self._micro_batch_tokens == 0

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens that go through the graph for each text, special tokens and overlaps included: what it costs."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [sum(len(part.ids) for part in (encoding, *encoding.overflowing)) for encoding in encodings]

    def _windows(self, texts: Sequence[str], offset: int) -> list[Window]:
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [
            Window(offset + index, part.ids)
            for index, encoding in enumerate(encodings)
            for part in (encoding, *encoding.overflowing)
        ]

    def _run(self, batch: Sequence[Window]) -> NDArray[np.float32]:
        width = max(len(window.ids) for window in batch)
        input_ids = np.zeros((len(batch), width), dtype=np.int64)
        attention_mask = np.zeros_like(input_ids)
        for row, window in enumerate(batch):
            input_ids[row, : len(window.ids)] = window.ids
            attention_mask[row, : len(window.ids)] = 1
        (logits,) = self._session.run(["logits"], {"input_ids": input_ids, "attention_mask": attention_mask})
        result: NDArray[np.float32] = logits
        return result


def unsettled(windows: Sequence[Window], screen: Screen) -> list[Window]:
    """The windows that the encoder must read: those of texts that the screen leaves open or that take several."""
    counts = Counter(window.text_index for window in windows)
    # An event is easily lost among a long text's words.
    single = [window for window in windows if counts[window.text_index] == 1]
    settled = screen.settles([window.ids for window in single])
    gone = {window.text_index for window, is_settled in zip(single, settled, strict=True) if is_settled}
    return [window for window in windows if window.text_index not in gone]


def micro_batches(windows: Sequence[Window], token_budget: int) -> Iterator[list[Window]]:
    """Windows sorted by length and cut so that none exceeds the budget, padding included.

    Every batch holds at least one window, so a budget of 0 runs each window on its own.
    """
    batch: list[Window] = []
    for window in sorted(windows, key=lambda window: len(window.ids)):
        # Sorted, so the newest window is the widest and sets the padded width.
        if batch and (len(batch) + 1) * len(window.ids) > token_budget:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def load_tokenizer(release: Release) -> Tokenizer:
    """A release's tokenizer, which cuts texts into the release's windows and adds no padding.

    :raises ReleaseError: its file is none.
    """
    try:
        tokenizer = Tokenizer.from_file(str(release.tokenizer_path))
    except Exception as error:  # the Rust side raises plain Exception
        raise ReleaseError(f"{release.tokenizer_path}: not a tokenizer file: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(release.manifest.window_tokens, stride=release.manifest.window_overlap)
    return tokenizer


def open_session(graph: Path | bytes, *, threads: int = 1) -> ort.InferenceSession:
    """An ONNX session on the CPU, the way everything in this project runs one.

    :param graph: a file, or a serialised model.
    :param threads: inside one run; runs side by side are the caller's business.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Errors only: its warnings are advice to people who build graphs.
    options.log_severity_level = 3
    model = graph if isinstance(graph, bytes) else str(graph)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER_FUSIONS)


def _load_session(release: Release, threads: int) -> ort.InferenceSession:
    try:
        session = open_session(release.model_path, threads=threads)
    except Exception as error:  # onnxruntime has no common error class
        raise ReleaseError(f"{release.model_path}: onnxruntime cannot load it: {error}") from error
    _check_graph(session, release)
    return session


def _check_graph(session: ort.InferenceSession, release: Release) -> None:
    inputs = {node.name for node in session.get_inputs()}
    outputs: dict[str, Any] = {node.name: node.shape for node in session.get_outputs()}
    labels = len(release.taxonomy.labels)
    if inputs != {"input_ids", "attention_mask"} or "logits" not in outputs:
        raise ReleaseError(f"{release.model_path}: the graph must map input_ids and attention_mask to logits")
    if outputs["logits"][-1] != labels:
        raise ReleaseError(
            f"{release.folder}: {LAYOUT.model} gives {outputs['logits'][-1]} logits, "
            f"{LAYOUT.taxonomy} has {labels} labels. The parts come from different releases."
        )
