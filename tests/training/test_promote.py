from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tocsin.errors import ReleaseError, UsageError
from tocsin.release import LAYOUT, Manifest, Release, write_manifest
from tocsin_training.errors import PromotionError
from tocsin_training.promote import main, promote
from tocsin_training.run import Run


@pytest.fixture
def target(tmp_path: Path, trained_run: Run) -> Path:
    """A shipped release with a file that only it has."""
    folder = Path(shutil.copytree(trained_run.release, tmp_path / "model" / "release"))
    (folder / "former.txt").write_text("former")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_promotion_replaces_the_release_and_leaves_nothing_else(trained_run: Run, target: Path) -> None:
    release = promote(trained_run, target)
    assert release.folder == target
    assert contents(target) == contents(trained_run.release)
    assert [path.name for path in target.parent.iterdir()] == ["release"]


def test_promotion_to_a_place_where_nothing_is(trained_run: Run, tmp_path: Path) -> None:
    target = tmp_path / "new" / "release"
    main(trained_run.folder, target)
    assert Release.open(target).manifest.name == "toy"


def test_a_run_never_verified_is_refused(run_copy: Run, target: Path) -> None:
    before = contents(target)
    run_copy.verification.unlink()
    with pytest.raises(PromotionError, match="never verified"):
        promote(run_copy, target)
    assert contents(target) == before


def test_a_run_that_failed_verification_is_refused_with_its_faults(run_copy: Run, target: Path) -> None:
    before = contents(target)
    verdict = json.loads(run_copy.verification.read_text()) | {"passed": False, "faults": ["int8: 9, allowed 1"]}
    run_copy.verification.write_text(json.dumps(verdict))
    with pytest.raises(PromotionError, match="int8: 9, allowed 1"):
        promote(run_copy, target)
    assert contents(target) == before


def test_a_release_changed_since_it_was_verified_is_refused(run_copy: Run, target: Path) -> None:
    calibration = run_copy.release / LAYOUT.calibration
    calibration.write_text(calibration.read_text() + "\n")
    write_manifest(run_copy.release, Manifest.model_validate_json((run_copy.release / LAYOUT.manifest).read_bytes()))
    with pytest.raises(PromotionError, match="changed since"):
        promote(run_copy, target)


def test_an_unsound_release_leaves_the_target_as_it_was(run_copy: Run, target: Path) -> None:
    before = contents(target)
    (run_copy.release / LAYOUT.card).write_text("altered")
    with pytest.raises(ReleaseError, match=LAYOUT.card):
        promote(run_copy, target)
    assert contents(target) == before
    assert [path.name for path in target.parent.iterdir()] == ["release"]


def test_a_failure_half_way_brings_the_former_release_back(
    trained_run: Run, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(target)
    rename = Path.rename

    def fail_for_the_new_one(self: Path, to: Path) -> Path:
        if self.name == "new":
            raise OSError("disk full")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(OSError, match="disk full"):
        promote(trained_run, target)
    monkeypatch.undo()
    assert contents(target) == before
    assert [path.name for path in target.parent.iterdir()] == ["release"]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a training run"):
        main(tmp_path, tmp_path / "release")
