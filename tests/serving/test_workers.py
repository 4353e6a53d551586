"""Worker processes: one copy of the release, answers in order, and a plain word when they are gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from tocsin import Release, TocsinError
from tocsin_serving.batch.columns import Shape
from tocsin_serving.batch.scoring import ChunkScorer
from tocsin_serving.batch.workers import Workers, WorkerSource

TEXTS = [["An airstrike hit the market."], ["Nothing happened.", "A peaceful protest."]]


def source(folder: Path) -> WorkerSource:
    return WorkerSource(folder, Release.open(folder).manifest, cascade=False)


def ask(workers: Workers, texts: list[str]) -> None:
    workers.ask(texts, np.arange(len(texts)) + 1)


@pytest.fixture
def workers(tiny_release: Path) -> Iterator[Workers]:
    with Workers(source(tiny_release), partial(ChunkScorer, shape=Shape()), 2) as workers:
        yield workers


def test_answers_come_in_the_order_of_the_texts_until_a_worker_dies(workers: Workers) -> None:
    for _ in range(2):
        for texts in TEXTS:
            ask(workers, texts)
        assert [workers.answer().columns.num_rows for _ in TEXTS] == [1, 2]
    loader = psutil.Process(workers._process.pid)
    scorers = loader.children()
    assert len(scorers) == 2
    # What schedulers and terminals send to all: stopping them is the job's work.
    for one in (loader, *scorers):
        one.send_signal(signal.SIGTERM)
        one.send_signal(signal.SIGINT)
    ask(workers, TEXTS[0])
    assert workers.answer().columns.num_rows == 1
    scorers[0].kill()
    with pytest.raises(TocsinError, match="A worker process died"):
        for _ in range(3):
            ask(workers, TEXTS[0])
            workers.answer()
    _, alive = psutil.wait_procs([loader, *scorers], timeout=20)
    assert alive == []


def test_a_program_without_a_guard_is_told_of_it(tmp_path: Path, tiny_release: Path) -> None:
    (tmp_path / "in.csv").write_text("text\nAn airstrike hit the market.\n")
    (tmp_path / "careless.py").write_text(
        "import sys\nfrom tocsin_serving.batch import score_file\n"
        'score_file("in.csv", "out.csv", workers=2, release=sys.argv[1])\n'
    )
    ended = subprocess.run(
        [sys.executable, "careless.py", tiny_release], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert 'if __name__ == "__main__":' in last
    assert "memory" not in last


def test_a_start_that_the_system_ends_is_told_as_want_of_memory(tiny_release: Path) -> None:
    with Workers(source(tiny_release), partial(ChunkScorer, shape=Shape()), 2) as workers:
        workers._process.kill()
        with pytest.raises(TocsinError, match="want of memory"):
            ask(workers, TEXTS[0])
            workers.answer()


def test_a_fault_of_ours_keeps_the_worker_s_traceback(workers: Workers) -> None:
    ask(workers, [1])  # type: ignore[list-item]
    with pytest.raises(pa.ArrowException) as found:
        workers.answer()
    assert "in _columns" in found.value.__notes__[0]


_PRIVATE = """
import os, sys
from functools import partial
from pathlib import Path
import numpy as np
import psutil
from tocsin import Release
from tocsin_serving.batch.columns import Shape
from tocsin_serving.batch.scoring import ChunkScorer
from tocsin_serving.batch.workers import Workers, WorkerSource

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    source = WorkerSource(folder, Release.open(folder).manifest, cascade=False)
    with Workers(source, partial(ChunkScorer, shape=Shape()), 2) as workers:
        for number in range(4):
            workers.ask([f"Rebels shelled the town {number}."] * 2, np.arange(2) + 1)
        for number in range(4):
            workers.answer()
        (loader,) = (one for one in psutil.Process().children() if one.children())
        own = [one.memory_full_info() for one in loader.children()]
        print(max(one.uss for one in own), min(one.rss for one in own))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers share nothing")
def test_a_worker_holds_less_of_its_own_than_the_weights_alone(release: Path, tmp_path: Path) -> None:
    (tmp_path / "private.py").write_text(_PRIVATE)
    told = subprocess.check_output([sys.executable, tmp_path / "private.py", release], env=os.environ, text=True)
    own, all_pages = map(int, told.split())
    weights = (release / "model.onnx").stat().st_size
    # Of its some 150 MB; a copy of its own would be the weights, their packed form and the packages.
    assert own < 2 * weights
    assert all_pages > 3 * weights
