"""Texts that come again are read once, and the output does not tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support import make_tiny_release

from tocsin import EventClassifier
from tocsin.classifier import Readings
from tocsin.release import read_manifest, write_manifest
from tocsin_serving.batch import score_file
from tocsin_serving.batch.repeats import Memory

TEXTS = ["An airstrike hit the market.", "Nothing happened.", "A peaceful protest.", "Looting in the town."]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release that reads each window on its own, as the shipped one does."""
    folder = make_tiny_release(tmp_path_factory.mktemp("release") / "tiny")
    write_manifest(folder, read_manifest(folder).model_copy(update={"quantization": "int8-dynamic"}))
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that go through the encoder."""
    seen: list[str] = []
    read = EventClassifier.read

    def counted(self: EventClassifier, texts: list[str]) -> Readings:
        seen.extend(texts)
        return read(self, texts)

    monkeypatch.setattr(EventClassifier, "read", counted)
    return seen


def test_a_text_of_an_earlier_chunk_is_not_read_again(
    alone: Path, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, whole = (tmp_path / f"{name}.jsonl" for name in ("in", "out", "whole"))
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS * 5))
    score_file(source, whole, release=alone, scores=True)
    assert sorted(read) == sorted(TEXTS)
    read.clear()
    monkeypatch.setattr("tocsin_serving.batch.jsonl_format.CHUNK_ROWS", 3)
    score_file(source, target, release=alone, scores=True)
    assert sorted(read) == sorted(TEXTS)
    assert target.read_bytes() == whole.read_bytes()


def test_what_is_remembered_is_bounded_and_the_oldest_is_forgotten(alone: Path, read: list[str]) -> None:
    memory = Memory(EventClassifier.load(alone), limit=2)
    for texts in (TEXTS[:2], TEXTS[:1], TEXTS[2:3], TEXTS[:1], TEXTS[1:2]):
        memory.read(texts)
    # The first was met again before the third came, so the second had to go.
    assert read == [TEXTS[0], TEXTS[1], TEXTS[2], TEXTS[1]]
    # More than fit, at once.
    assert len(memory.read(TEXTS).languages) == 4


def test_a_reading_from_memory_is_the_reading(alone: Path) -> None:
    classifier = EventClassifier.load(alone)
    memory, texts = Memory(classifier), [*TEXTS, "an airstrike " * 60, "\ud800 protest"]
    memory.read(texts[::2])
    expected = classifier.read(texts)
    for _ in range(2):
        found = memory.read(texts)
        np.testing.assert_array_equal(found.logits, expected.logits)
        np.testing.assert_array_equal(found.windows, expected.windows)
        assert found.languages == expected.languages
    assert memory.read([]).logits.shape == (0, expected.logits.shape[1])


def test_a_release_whose_last_bits_depend_on_neighbours_is_read_anew(tiny_release: Path, read: list[str]) -> None:
    memory = Memory(EventClassifier.load(tiny_release))
    for _ in range(2):
        memory.read(TEXTS)
    assert read == TEXTS * 2
