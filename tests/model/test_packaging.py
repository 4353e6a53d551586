"""The wheel alone, in an empty environment: what a user without this checkout gets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import astuple
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.plugin.interface import BuilderInterface
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from support import ROOT

import tocsin
from tocsin import EventClassifier
from tocsin.release import LAYOUT

HEAVY = ("torch", "transformers", "datasets", "bentoml", "pyarrow", "onnx")


def test_the_library_tells_the_version_that_is_installed() -> None:
    assert tocsin.__version__ == version("tocsin")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], check=True, timeout=300)
    return folder


def test_the_wheel_carries_the_release_and_no_foreign_name(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"tocsin/release/{name}" for name in (*LAYOUT.required, LAYOUT.manifest)} <= set(names)
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tocsin", "tocsin_training", "tocsin_serving"}
    assert all(f"{package}/py.typed" in names for package in ("tocsin", "tocsin_training", "tocsin_serving"))


def test_the_sdist_carries_what_the_wheel_is_built_from(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "constraints.txt",
        "datasets/taxonomy.toml",
        "model/release/model.onnx",
    }
    assert wanted <= names


@pytest.mark.parametrize("builder", [WheelBuilder, SdistBuilder])
def test_no_distribution_carries_what_lies_beside_the_releases_own_files(
    builder: type[BuilderInterface[Any, Any]], tmp_path: Path
) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    release = tmp_path / "model" / "release"
    release.mkdir(parents=True)
    for name in (*astuple(LAYOUT), "notes.txt"):
        (release / name).touch()
    packed = {Path(file.relative_path) for file in builder(str(tmp_path)).recurse_included_files()}
    assert {path.name for path in packed if path.parent.name == "release"} == set(astuple(LAYOUT))


def test_the_wheel_classifies_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = f"{python} -m pip install --quiet --disable-pip-version-check -c {ROOT / 'constraints.txt'}".split()
    subprocess.run([*pip, wheel], check=True, timeout=300, cwd=tmp_path)
    text = "Warplanes bombed a village on Tuesday, killing six people, residents said."
    done = subprocess.run(
        [python.with_name("tocsin"), "classify", "--json", text],
        capture_output=True,
        check=True,
        timeout=60,
        cwd=tmp_path,
    )
    answer = json.loads(done.stdout)
    assert [event["name"] for event in answer["events"]] == ["Airstrike"]
    assert answer["model_version"] == EventClassifier.load().version
    help_text = subprocess.run([python.with_name("tocsin"), "--help"], capture_output=True, check=True, timeout=60)
    assert b"serve" in help_text.stdout and b"train" in help_text.stdout
    probe = f"import importlib.util as u; print([name for name in {HEAVY!r} if u.find_spec(name)])"
    done = subprocess.run([python, "-c", probe], capture_output=True, check=True, timeout=60, cwd=tmp_path)
    assert done.stdout.strip() == b"[]"


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    probe = (
        "import sys; sys.modules['bentoml'] = None\n"
        "from tocsin.cli.main import main; sys.argv = ['tocsin', 'serve']; main()"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert b"pip install -c constraints.txt -e '.[serve]'" in done.stderr
