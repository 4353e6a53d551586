"""What docs/distributed.md tells people to run."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from support import ROOT
from typer.testing import CliRunner

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import SparkSession

PAGE = ROOT / "docs" / "distributed.md"
TEXTS = ["Rebels shelled the town overnight.", None, "The minister spoke.", "Police arrested nine people."] * 50


@pytest.fixture
def java() -> None:
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")


@pytest.fixture
def spark(java: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SparkSession]:
    sql = pytest.importorskip("pyspark.sql", reason="needs tocsin[spark]")
    # Of Java's process too, which stays in the folder it was started in.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(ROOT / room) for room in ("model", "serving")))
    builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.warehouse.dir", str(tmp_path / "warehouse")).getOrCreate()
    yield session
    session.stop()


@pytest.mark.spark
@pytest.mark.filterwarnings("ignore")
def test_the_spark_recipe_gives_the_librarys_answers(spark: SparkSession) -> None:
    from tocsin_serving.batch import score_table

    table = pa.table({"id": range(len(TEXTS)), "text": TEXTS})
    pq.write_table(table, "reports.parquet")
    (recipe,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(recipe, str(PAGE), "exec"), {"__name__": "__main__"})
    assert_scored(pq.read_table("labelled.parquet"), score_table(table))


@pytest.mark.spark
@pytest.mark.filterwarnings("ignore")
def test_frames_of_pandas_give_the_same_in_spark(spark: SparkSession) -> None:
    from tocsin_serving.batch import score_table

    def score(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            yield score_table(frame).to_pandas()

    table = pa.table({"id": range(len(TEXTS)), "text": TEXTS})
    reports = spark.createDataFrame(table)
    schema = spark.createDataFrame(score_table(table.slice(0, 1))).schema
    assert_scored(reports.mapInPandas(score, schema).toArrow(), score_table(table))


def assert_scored(labelled: pa.Table, expected: pa.Table) -> None:
    """The same rows, in whatever order."""
    assert labelled.column_names == expected.column_names
    labelled = labelled.sort_by("id")
    for name in ("label", "event_type", "probability", "needs_review", "reject_reason", "text_sha256"):
        assert labelled.column(name).to_pylist() == expected.column(name).to_pylist()
    assert [len(events or ()) for events in labelled.column("events").to_pylist()] == [
        len(events or ()) for events in expected.column("events").to_pylist()
    ]


def test_the_manifest_for_kubernetes_is_a_ray_job_of_the_same_ray() -> None:
    job = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "ray-job.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert f"rayproject/ray:{cluster['rayVersion']}-" in PAGE.read_text(encoding="utf-8")
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {container["image"] for group in groups for container in group["template"]["spec"]["containers"]}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert images == {f"registry.example/tocsin-ray:{version}"}
    for group in groups:
        # KubeRay hands these to `ray start`, which takes text.
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        spec = group["template"]["spec"]
        mounted = {mount["name"] for one in spec["containers"] for mount in one.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in spec.get("volumes", [])}
    if not cluster.get("enableInTreeAutoscaling"):
        sizes = [[group[name] for name in ("replicas", "minReplicas", "maxReplicas")] for group in groups[1:]]
        # Nothing would use the room between the last two.
        assert all(len(set(size)) == 1 for size in sizes)


def test_the_manifests_command_has_only_options_there_are() -> None:
    from tocsin.cli.main import app

    job = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "ray-job.yaml").read_text(encoding="utf-8"))
    program, *arguments = job["spec"]["entrypoint"].split()
    assert program == "tocsin"
    shown = CliRunner().invoke(app, [arguments[0], "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert option in re.sub(r"\x1b\[[0-9;]*m", "", shown.output)


def test_a_job_that_is_applied_again_goes_on_where_it_stopped() -> None:
    job = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "ray-job.yaml").read_text(encoding="utf-8"))
    assert "--resume" in job["spec"]["entrypoint"].split()
