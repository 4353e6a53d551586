"""Options of `tocsin score` that would be without effect are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tocsin import UsageError
from tocsin.cli.main import app
from tocsin_serving.batch import JobOptions, score_file


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text("when,text\n2026-01-02,An airstrike hit.\n")
    return path


def score(source: Path, release: Path, *options: str, **env: str) -> Path:
    """:raises UsageError: the options do not go together."""
    target = source.with_name("out.csv")
    done = CliRunner().invoke(
        app, ["score", str(source), str(target), "--workers", "1", "--release", str(release), *options], env=env
    )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return target


def test_an_address_of_ray_without_ray_is_refused(source: Path, tiny_release: Path) -> None:
    with pytest.raises(UsageError, match="add --engine ray"):
        score(source, tiny_release, "--ray-address", "auto")
    with pytest.raises(UsageError, match="add --engine ray"):
        score_file(source, source.with_name("out.csv"), release=tiny_release, ray_address="auto")
    assert not source.with_name("out.csv").exists()


def test_an_address_that_is_set_for_all_is_no_mistake(source: Path, tiny_release: Path) -> None:
    assert score(source, tiny_release, RAY_ADDRESS="10.0.0.1:6379").exists()


def test_an_address_with_ray_is_taken() -> None:
    assert JobOptions(engine="ray", ray_address="auto").ray_address == "auto"


def test_a_column_of_dates_without_a_report_is_refused(source: Path, tiny_release: Path) -> None:
    with pytest.raises(UsageError, match="--date-column is for the report: add --report"):
        score(source, tiny_release, "--date-column", "when")
    assert not source.with_name("out.csv").exists()
