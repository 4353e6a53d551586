"""The job on a Ray cluster: the local engine's bytes, a machine lost on the way, and messages for people."""

from __future__ import annotations

import csv
import gzip
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tocsin import InputError, Release, ReleaseError, TocsinError, UsageError
from tocsin_serving.batch import FileSummary, JobOptions, job, plan
from tocsin_serving.batch.chunks import Chunk
from tocsin_serving.batch.outputs import MANIFEST_SUFFIX

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

ray = pytest.importorskip("ray", reason="needs tocsin[ray]")

pytestmark = [
    pytest.mark.ray,
    # Ray leaves sockets and processes to be collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

# Some 25 chunks, whose answers are too large to travel beside Ray's object store.
ROWS = 12_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head on which the command runs and two more machines, all of them here."""
    from ray.cluster_utils import Cluster

    memory = 200 * 1024 * 1024
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": memory, "include_dashboard": False}
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=memory)
    ray.init(cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large file with bad rows and a small one."""
    folder = tmp_path_factory.mktemp("input")
    texts = ["An airstrike hit the market", "Nothing happened", " ", "A peaceful protest and looting"]
    for name, rows in (("a.csv", ROWS), ("b.csv", 10)):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            cells = ([number, texts[number % 4] + (f" {number}" if number % 4 != 2 else "")] for number in range(rows))
            csv.writer(file).writerows([["id", "text"], *cells])
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """What a folder holds, less the manifests of jobs, which tell the time."""
    files = (path for path in sorted(folder.iterdir()) if not path.name.endswith(f".csv{MANIFEST_SUFFIX}"))
    return {path.name: path.read_bytes() for path in files}


def counts(summaries: list[FileSummary]) -> list[tuple[object, ...]]:
    return [(one.rows_read, one.rows_scored, one.rows_rejected, one.tally, one.reject_reasons) for one in summaries]


def test_a_cluster_that_loses_a_machine_gives_the_local_engines_bytes(
    cluster: Cluster, folder: Path, tmp_path: Path, tiny_release: Path
) -> None:
    lost = [*cluster.worker_nodes][-1]
    alive = len(cluster.list_all_nodes())  # type: ignore[no-untyped-call]

    def lose_a_machine(summary: FileSummary, share: float) -> None:
        if lost in cluster.worker_nodes and summary.rows_read > ROWS / 10:
            cluster.remove_node(lost, allow_graceful=False)

    options = JobOptions(release=str(tiny_release), scores=True)
    local = job.run(plan(folder, tmp_path / "local"), options)
    distributed = job.run(
        plan(folder, tmp_path / "ray"),
        JobOptions(release=str(tiny_release), scores=True, engine="ray", workers=None),
        lose_a_machine,
    )
    assert len(cluster.list_all_nodes()) == alive - 1  # type: ignore[no-untyped-call]
    assert counts(distributed) == counts(local)
    assert local[0].rows_rejected == ROWS // 4
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


@pytest.mark.parametrize("looked_through", [True, False])
def test_damaged_files_keep_no_other_from_being_scored_as_on_the_local_engine(
    looked_through: bool,
    cluster: Cluster,
    folder: Path,
    tmp_path: Path,
    tiny_release: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found beforehand, or only while it is read: as if they had been damaged in between."""
    mixed = tmp_path / "in"
    mixed.mkdir()
    for name in ("a.csv", "d.csv"):
        shutil.copy(folder / "b.csv", mixed / name)
    (mixed / "b.csv.gz").write_bytes(gzip.compress((folder / "a.csv").read_bytes())[:-20])
    pq.write_table(pa.table({"text": [f"An airstrike {number}." for number in range(5000)]}), mixed / "c.parquet")
    content = bytearray((mixed / "c.parquet").read_bytes())
    content[1000:3000] = bytes(2000)
    (mixed / "c.parquet").write_bytes(content)
    if not looked_through:
        monkeypatch.setattr(job.Reading, "check", lambda reading: None)
    options = JobOptions(release=str(tiny_release))
    local = job.run(plan(mixed, tmp_path / "local"), options)
    distributed = job.run(plan(mixed, tmp_path / "ray"), replace(options, engine="ray", workers=None))
    assert [type(summary.failure) for summary in local] == [type(None), InputError, InputError, type(None)]
    assert [str(summary.failure) for summary in distributed] == [str(summary.failure) for summary in local]
    assert counts(distributed) == counts(local)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert not [name for name in contents(tmp_path / "ray") if not name.startswith(("a.csv", "d.csv"))]


def test_events_and_sentences_come_back_in_place(cluster: Cluster, folder: Path, tmp_path: Path, release: Path) -> None:
    engines: tuple[Literal["local", "ray"], ...] = ("local", "ray")
    for number, engine in enumerate(engines):
        options = JobOptions(
            release=str(release), split_sentences=True, acled=True, engine=engine, workers=1, prefix="x_"
        )
        job.run(plan(folder / "b.csv", tmp_path / f"{number}.csv"), options)
    assert (tmp_path / "0.csv").read_bytes() == (tmp_path / "1.csv").read_bytes()


def test_a_machine_that_joins_later_scores_too(
    cluster: Cluster, folder: Path, tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tocsin_serving.batch import ray_engine

    marks, machines = tmp_path / "machines", int(ray.cluster_resources()["CPU"])
    marks.mkdir()
    until = time.time() + 300

    class Waiting(ray_engine._Worker):
        """Leaves its machine's mark, and scores when there is one more than there were machines."""

        def __call__(self, chunks: pa.Table) -> pa.Table:
            (marks / ray.get_runtime_context().get_node_id()).touch()
            while len(list(marks.iterdir())) <= machines and time.time() < until:
                time.sleep(0.1)
            return super().__call__(chunks)

    monkeypatch.setattr(ray_engine, "_Worker", Waiting)
    options = JobOptions(release=str(tiny_release), engine="ray", workers=None)
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(job.run, plan(folder / "a.csv", tmp_path / "out.csv"), options)
        while len(list(marks.iterdir())) < machines and time.time() < until:
            time.sleep(0.1)
        cluster.add_node(num_cpus=1, object_store_memory=200 * 1024 * 1024)
        running.result()
    assert len(list(marks.iterdir())) == machines + 1


def test_a_release_that_was_altered_on_a_machine_is_not_used(
    cluster: Cluster, folder: Path, tmp_path: Path, tiny_release: Path
) -> None:
    from tocsin import Release
    from tocsin_serving.batch.ray_engine import PackedRelease

    packed = PackedRelease.of(Release.open(tiny_release))
    unpacked = packed.unpack(tmp_path)
    assert contents(unpacked) == contents(tiny_release)
    assert [packed.unpack(tmp_path), *tmp_path.iterdir()] == [unpacked, unpacked]
    manifest = unpacked / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(ReleaseError, match="not the release that was sent"):
        packed.unpack(tmp_path)
    shutil.rmtree(unpacked)
    assert Release.open(packed.unpack(tmp_path)).manifest == Release.open(tiny_release).manifest


def test_an_input_that_changes_meanwhile_gives_no_output(
    cluster: Cluster, folder: Path, tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Here other chunks than in the cluster: as if the file had been written anew in between.
    monkeypatch.setattr("tocsin_serving.batch.csv_format.CHUNK_ROWS", 7)
    options = JobOptions(release=str(tiny_release), engine="ray")
    with pytest.raises(TocsinError, match="the input changed while the job ran"):
        job.run(plan(folder / "b.csv", tmp_path / "out.csv"), options)
    assert list(tmp_path.iterdir()) == []


def test_answers_to_chunks_that_a_file_lost_are_not_taken_for_the_next_file_s() -> None:
    chunk = Chunk(None, ["a"], np.array([1], dtype=np.int64), [], 1)
    from tocsin_serving.batch import ray_engine

    lost, own = object(), object()
    answers = iter([(ray_engine._key(0, 2, chunk), lost), (ray_engine._key(1, 0, chunk), own)])
    assert list(ray_engine._paired(1, [chunk], answers)) == [(chunk, own)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("in.csv: its bytes are no text"), r"^in\.csv: its bytes are no text$"),
        (ValueError("out of reach"), r"^The job failed on Ray: ValueError: out of reach\. No output was written"),
    ],
)
def test_an_error_in_the_cluster_is_told_in_a_line(
    error: Exception, message: str, cluster: Cluster, tiny_release: Path
) -> None:
    from tocsin_serving.batch.ray_engine import ray_scoring

    def broken() -> Iterator[Chunk]:
        raise error

    chunk = Chunk(None, ["An airstrike hit the market."], np.array([1]), [], 1)
    with (
        pytest.raises(TocsinError, match=message),
        ray_scoring(Release.open(tiny_release), JobOptions().shape, [broken], address=None, workers=1) as score,
    ):
        list(score([chunk], broken))


def test_a_client_connection_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tiny_release: Path) -> None:
    from tocsin_serving.batch import ray_engine

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with (
        pytest.raises(UsageError, match="ray job submit"),
        ray_engine.ray_scoring(
            Release.open(tiny_release), JobOptions().shape, [], address="ray://head:10001", workers=1
        ),
    ):
        pass
