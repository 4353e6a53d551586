"""Changing the release of a running server: the old one or the new one, never something in between."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support import other_version

from tocsin import EventClassifier, ReleaseError
from tocsin.release import read_manifest, write_manifest
from tocsin_serving import releases
from tocsin_serving.releases import ServedRelease


def test_all_workers_and_later_ones_follow(tiny_release: Path, tmp_path: Path) -> None:
    notice = tmp_path / "release.json"
    asked, other = (ServedRelease(str(tiny_release), notice) for _ in range(2))
    new = other_version(tiny_release, tmp_path / "new", "1")

    assert asked.change_to(str(new)).version == "tiny-1"
    assert other.classifier.version == "tiny-0"
    other.follow()
    assert other.classifier.version == "tiny-1"
    assert ServedRelease(str(tiny_release), notice).classifier.version == "tiny-1"
    settled = other.classifier
    other.follow()
    assert other.classifier is settled


@pytest.mark.parametrize("damage", ["missing", "corrupt", "swapped", "no folder"])
def test_a_release_that_is_refused_leaves_the_old_one_serving(tiny_release: Path, tmp_path: Path, damage: str) -> None:
    served = ServedRelease(str(tiny_release), tmp_path / "release.json")
    new = other_version(tiny_release, tmp_path / "new", "1")
    told = {"missing": "tokenizer.json", "corrupt": "model.onnx", "swapped": "config.json", "no folder": "no such"}
    if damage == "missing":
        (new / "tokenizer.json").unlink()
    elif damage == "corrupt":
        (new / "model.onnx").write_bytes(b"x")
    elif damage == "swapped":
        labels = json.loads((new / "config.json").read_text())["id2label"]
        (new / "config.json").write_text(json.dumps({"id2label": dict(zip(labels, reversed(labels.values())))}))  # noqa: B905
        write_manifest(new, read_manifest(new))
    else:
        shutil.rmtree(new)
    with pytest.raises(ReleaseError, match=told[damage]):
        served.change_to(str(new))
    assert served.classifier.version == "tiny-0"
    assert not (tmp_path / "release.json").exists()


def test_a_folder_that_changes_while_it_is_loaded_is_refused(
    tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = other_version(tiny_release, tmp_path / "folder", "1")
    load = EventClassifier.load

    def load_while_someone_copies(source: str) -> EventClassifier:
        classifier = load(source)
        write_manifest(folder, read_manifest(folder).model_copy(update={"version": "2"}))
        return classifier

    monkeypatch.setattr(releases.EventClassifier, "load", load_while_someone_copies)
    with pytest.raises(ReleaseError, match="changed while it was being loaded"):
        releases.load_settled(str(folder))


def test_a_worker_that_cannot_follow_goes_on_and_tries_again(tiny_release: Path, tmp_path: Path) -> None:
    notice = tmp_path / "release.json"
    asked, other = (ServedRelease(str(tiny_release), notice) for _ in range(2))
    new = other_version(tiny_release, tmp_path / "new", "1")
    asked.change_to(str(new))
    new.rename(tmp_path / "away")
    other.follow()
    assert other.classifier.version == "tiny-0"
    assert ServedRelease(str(tiny_release), notice).classifier.version == "tiny-0"
    (tmp_path / "away").rename(new)
    other.follow()
    assert other.classifier.version == "tiny-1"
