from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tocsin import EventClassifier, Release, ReleaseError
from tocsin.release import LAYOUT, read_manifest, sha256, write_manifest


@pytest.fixture
def copy(tiny_release: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_release, tmp_path / "copy"))


def rehash(folder: Path, name: str) -> None:
    """Make the manifest agree with a changed file, so that only the parts' fit is left to object."""
    path = folder / LAYOUT.manifest
    manifest = json.loads(path.read_text())
    manifest["files"][name] = sha256(folder / name)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", LAYOUT.required)
def test_a_changed_byte_in_any_file_is_refused_by_name(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ReleaseError, match=rf"{name}: content differs"):
        Release.open(copy)


@pytest.mark.parametrize("name", [*LAYOUT.required, LAYOUT.manifest])
def test_a_missing_file_is_refused_by_name(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ReleaseError, match=rf"{name} is missing"):
        Release.open(copy)


def test_labels_in_another_order_are_refused(copy: Path) -> None:
    config = json.loads((copy / LAYOUT.config).read_text())
    labels = config["id2label"]
    labels["0"], labels["1"] = labels["1"], labels["0"]
    (copy / LAYOUT.config).write_text(json.dumps(config))
    rehash(copy, LAYOUT.config)
    with pytest.raises(ReleaseError, match="label order"):
        Release.open(copy)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"id2label": 3}'])
def test_a_config_that_is_none_is_refused(copy: Path, content: str) -> None:
    (copy / LAYOUT.config).write_text(content)
    rehash(copy, LAYOUT.config)
    with pytest.raises(ReleaseError, match=r"config\.json: has no table id2label"):
        Release.open(copy)


def test_a_manifest_that_is_a_folder_is_refused(copy: Path) -> None:
    (copy / LAYOUT.manifest).unlink()
    (copy / LAYOUT.manifest).mkdir()
    with pytest.raises(ReleaseError, match=r"manifest\.json: cannot be read"):
        Release.open(copy)


def test_a_calibration_for_other_labels_is_refused(copy: Path) -> None:
    calibration = json.loads((copy / LAYOUT.calibration).read_text())
    for key in ("scale", "bias", "thresholds"):
        calibration[key] = calibration[key][:-1]
    (copy / LAYOUT.calibration).write_text(json.dumps(calibration))
    rehash(copy, LAYOUT.calibration)
    with pytest.raises(ReleaseError, match="different releases"):
        Release.open(copy)


def test_a_graph_that_is_none_is_refused(copy: Path) -> None:
    (copy / LAYOUT.model).write_bytes(b"no graph")
    rehash(copy, LAYOUT.model)
    with pytest.raises(ReleaseError, match="onnxruntime cannot load it"):
        EventClassifier.load(copy)


def test_a_tokenizer_that_is_none_is_refused(copy: Path) -> None:
    (copy / LAYOUT.tokenizer).write_text("{}")
    rehash(copy, LAYOUT.tokenizer)
    with pytest.raises(ReleaseError, match="not a tokenizer file"):
        EventClassifier.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.pop("seed"), "seed: is missing, and is needed"),
        (lambda manifest: manifest["files"].pop(LAYOUT.model), "does not list model.onnx"),
        (lambda manifest: manifest["files"].update({"../evil": "0"}), "no plain file name"),
        (lambda manifest: manifest.update(window_overlap=31), "window_overlap must be smaller"),
    ],
)
def test_a_broken_manifest_is_refused_by_field(
    copy: Path, change: Callable[[dict[str, object]], object], message: str
) -> None:
    path = copy / LAYOUT.manifest
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ReleaseError, match=message):
        Release.open(copy)


def test_notes_beside_a_release_are_told_and_never_become_part_of_it(copy: Path) -> None:
    before = Release.open(copy)
    assert before.unlisted == ()
    (copy / "notes.txt").write_text("ask Ana about the threshold")
    (copy / ".cache").mkdir()
    write_manifest(copy, read_manifest(copy))
    release = Release.open(copy)
    assert release.unlisted == (".cache", "notes.txt")
    assert (release.manifest, release.size) == (before.manifest, before.size)


def test_no_such_folder_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no such release folder"):
        EventClassifier.load(tmp_path / "nowhere")


def test_an_unknown_store_is_refused() -> None:
    with pytest.raises(ReleaseError, match="neither a folder nor a known store"):
        EventClassifier.load("nostore:tocsin")
