"""Changing the release of a running server: the old one or the new one, never something in between."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest
from support import other_version

from tocsin import EventClassifier, Prediction, ReleaseError, TaxonomyError, TocsinError, release
from tocsin.release import read_manifest, write_manifest
from tocsin_serving import releases
from tocsin_serving.releases import Notice, ServedRelease


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


@pytest.mark.parametrize("version", ["第一版", "1\nX-Other: 1", "1 ", "é"])
def test_a_name_that_no_header_can_carry_is_refused_before_it_serves(
    tiny_release: Path, tmp_path: Path, version: str
) -> None:
    new = other_version(tiny_release, tmp_path / "new", version)
    served = ServedRelease(str(tiny_release), tmp_path / "release.json")
    with pytest.raises(ReleaseError, match=r"manifest\.json: .* no name to serve by"):
        served.change_to(str(new))
    assert served.classifier.version == "tiny-0"
    with pytest.raises(ReleaseError, match="no name to serve by"):
        ServedRelease(str(new), tmp_path / "release.json")


def test_a_folder_that_changes_while_it_is_loaded_is_refused(
    tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = other_version(tiny_release, tmp_path / "folder", "1")
    load = EventClassifier.load

    def load_while_someone_copies(source: str) -> EventClassifier:
        classifier = load(source)
        write_manifest(folder, read_manifest(folder).model_copy(update={"version": "2"}))
        return classifier

    monkeypatch.setattr(EventClassifier, "load", load_while_someone_copies)
    with pytest.raises(ReleaseError, match="changed while it was being loaded"):
        releases.load_settled(str(folder))


def test_a_worker_that_cannot_follow_goes_on_and_tries_again(tiny_release: Path, tmp_path: Path) -> None:
    now = 0.0
    notice = tmp_path / "release.json"
    asked, other = (ServedRelease(str(tiny_release), notice, clock=lambda: now) for _ in range(2))
    new = other_version(tiny_release, tmp_path / "new", "1")
    asked.change_to(str(new))
    new.rename(tmp_path / "away")
    other.follow()
    assert other.classifier.version == "tiny-0"
    assert ServedRelease(str(tiny_release), notice).classifier.version == "tiny-0"
    (tmp_path / "away").rename(new)
    now += 1
    other.follow()
    assert other.classifier.version == "tiny-1"


def test_a_worker_that_cannot_follow_tries_ever_more_seldom_and_another_change_at_once(
    tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    notice = tmp_path / "release.json"
    served = ServedRelease(str(tiny_release), notice, clock=lambda: now)
    tries: list[float] = []

    def refuse(source: str | None) -> EventClassifier:
        tries.append(now)
        raise TaxonomyError(f"{source}: breaks a rule")

    monkeypatch.setattr(releases, "load_settled", refuse)
    notice.write_text(Notice(change=1, release="bad").model_dump_json())
    for _ in range(600):
        served.follow()
        now += 1
    assert tries[:6] == [0, 1, 3, 7, 15, 31]
    assert tries[-1] - tries[-2] == 60
    notice.write_text(Notice(change=2, release="other").model_dump_json())
    served.follow()
    assert tries[-1] == now
    assert served.classifier.version == "tiny-0"


@pytest.mark.parametrize(
    "source", ["a" * 4000, "a:" + "b" * 4000, "bentoml:../x", "bentoml:x:../y", "bentoml:" + "z" * 99]
)
def test_what_can_be_no_release_is_refused_in_words(tiny_release: Path, tmp_path: Path, source: str) -> None:
    served = ServedRelease(str(tiny_release), tmp_path / "release.json")
    with pytest.raises(ReleaseError):
        served.change_to(source)
    assert served.classifier.version == "tiny-0"


def test_a_file_that_may_not_be_read_is_refused_by_name(
    tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    served = ServedRelease(str(tiny_release), tmp_path / "release.json")
    monkeypatch.setattr(release, "sha256", forbid)
    with pytest.raises(ReleaseError, match=r"tiny.*: cannot be read: Permission denied"):
        served.change_to(None)


@pytest.mark.parametrize("error", [TaxonomyError("breaks a rule"), ValueError("no shape"), RuntimeError("no kernel")])
def test_a_release_that_cannot_answer_leaves_a_later_worker_on_the_source(
    tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    new = other_version(tiny_release, tmp_path / "new", "1")
    notice = tmp_path / "release.json"
    notice.write_text(Notice(change=1, release=str(new)).model_dump_json())
    answer = EventClassifier.classify_batch

    def fail(self: EventClassifier, texts: list[str]) -> list[Prediction]:
        if self.version == "tiny-1":
            raise error
        return answer(self, texts)

    monkeypatch.setattr(EventClassifier, "classify_batch", fail)
    assert ServedRelease(str(tiny_release), notice).classifier.version == "tiny-0"
    with pytest.raises(TocsinError, match=str(error)):
        ServedRelease(str(tiny_release), tmp_path / "none.json").change_to(str(new))


@pytest.mark.parametrize("content", ["", "{", '{"change": "x"}'])
def test_a_notice_that_cannot_be_read_keeps_no_worker_from_starting(
    tiny_release: Path, tmp_path: Path, content: str
) -> None:
    notice = tmp_path / "release.json"
    notice.write_text(content)
    assert ServedRelease(str(tiny_release), notice).classifier.version == "tiny-0"


def test_a_release_that_the_other_workers_cannot_be_told_of_is_not_served(tiny_release: Path, tmp_path: Path) -> None:
    served = ServedRelease(str(tiny_release), tmp_path / "gone" / "release.json")
    new = other_version(tiny_release, tmp_path / "new", "1")
    with pytest.raises(ReleaseError, match="cannot be told"):
        served.change_to(str(new))
    assert served.classifier.version == "tiny-0"
