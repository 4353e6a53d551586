from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT

from tocsin.encoder import Window, micro_batches, open_session
from tocsin.release import LAYOUT

WINDOWS = st.lists(st.integers(1, 40), max_size=60).map(
    lambda lengths: [Window(index, [0] * length) for index, length in enumerate(lengths)]
)


@given(WINDOWS, st.integers(0, 200))
def test_micro_batches_lose_nothing_and_keep_to_the_budget(windows: list[Window], budget: int) -> None:
    batches = list(micro_batches(windows, budget))
    assert sorted(window.text_index for batch in batches for window in batch) == list(range(len(windows)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(window.ids) for window in batch) <= budget


@given(WINDOWS)
def test_no_budget_means_one_window_at_a_time(windows: list[Window]) -> None:
    assert all(len(batch) == 1 for batch in micro_batches(windows, 0))


def test_a_session_reads_a_file_and_a_serialised_graph_alike(tiny_release: Path) -> None:
    graph = tiny_release / LAYOUT.model
    feed = {name: np.ones((2, 3), dtype=np.int64) for name in ("input_ids", "attention_mask")}
    from_file, from_bytes = (
        open_session(source, threads=1).run(["logits"], feed)[0] for source in (graph, graph.read_bytes())
    )
    assert np.array_equal(from_file, from_bytes)


def test_nothing_but_the_library_opens_sessions() -> None:
    """One place for options, so that what is verified and timed is what users run."""
    packages = ("model/tocsin", "training/tocsin_training", "serving/tocsin_serving")
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    # Below these lie the environments of the peers that `make bench` measures.
    files += (ROOT / "benchmarks").glob("*.py")
    assert [path.name for path in files if "InferenceSession(" in path.read_text(encoding="utf-8")] == ["encoder.py"]


def test_onnxruntime_leaves_no_identifier_and_no_reports_to_be_sent(tiny_release: Path, tmp_path: Path) -> None:
    script = (
        f"from tocsin import EventClassifier; EventClassifier.load({str(tiny_release)!r}).classify('An airstrike.')"
    )
    # It keeps quiet by itself where it sees that it is being tested.
    seen_as_test = ("CI", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY", "TF_BUILD", "GITHUB_ACTIONS")
    environment = {name: value for name, value in os.environ.items() if name not in seen_as_test}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", script], env=environment | home, check=True)
    assert [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name.lower()] == []
