from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from rich.console import Console
from support import assert_same_predictions, make_tiny_release
from typer.testing import CliRunner, Result

from tocsin import EventClassifier
from tocsin.errors import ReleaseError
from tocsin.release import LAYOUT, CorpusInfo, Manifest, Release, read_manifest, write_manifest
from tocsin_training import cli
from tocsin_training import promote as module
from tocsin_training.config import CompareSettings, Settings, to_toml
from tocsin_training.corpus import corpus_sha256
from tocsin_training.errors import PromotionError
from tocsin_training.pipeline import recalibrate
from tocsin_training.promote import History, default_history, open_candidate, promote, rollback
from tocsin_training.run import Run

TEXTS = ["An airstrike on the market.", "Shelling of the village.", "The minister spoke."]


def make(folder: Path, version: str, review_below: float) -> Release:
    """A release of its own version with answers of its own."""
    make_tiny_release(folder)
    calibration = folder / LAYOUT.calibration
    calibration.write_text(calibration.read_text().replace('"review_below": 0.6', f'"review_below": {review_below}'))
    write_manifest(folder, read_manifest(folder).model_copy(update={"version": version}))
    return Release.open(folder)


@pytest.fixture
def releases(tmp_path: Path) -> list[Release]:
    return [make(tmp_path / name, name, 0.1 * number) for number, name in enumerate("abc", 1)]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model" / "release"


def no_worse(_: Release, __: Release) -> tuple[str, ...]:
    return ()


def worse(_: Release, __: Release) -> tuple[str, ...]:
    return ("weighted F1 0.9 -> 0.1, allowed loss 0.005",)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_promotion_replaces_the_release_and_leaves_nothing_but_the_history(
    releases: list[Release], target: Path
) -> None:
    for release in releases[:2]:
        assert promote(release, target, faults=no_worse).digest == release.digest
        assert contents(target) == contents(release.folder)
    assert sorted(path.name for path in target.parent.iterdir()) == ["release", "releases"]
    assert [path.name[:6] for path in sorted(default_history(target).iterdir())] == [
        ".lock",
        "histor",
        "tiny-a",
        "tiny-b",
    ]


def test_a_worse_release_is_refused_and_nothing_changes(releases: list[Release], target: Path) -> None:
    promote(releases[0], target, faults=worse)
    before = contents(target)
    with pytest.raises(PromotionError, match=r"weighted F1 0\.9 -> 0\.1"):
        promote(releases[1], target, faults=worse)
    assert contents(target) == before
    assert len(History(target).entries()) == 1


def test_a_forced_promotion_is_told_by_the_manifest_for_good(releases: list[Release], target: Path) -> None:
    promote(releases[0], target, faults=worse)
    release = promote(releases[1], target, faults=worse, force="new labels from the field office")
    forced = release.manifest.forced
    assert forced is not None
    assert (forced.reason, forced.replaced) == ("new labels from the field office", "tiny-a")
    assert forced.worse == worse(release, release)
    assert releases[1].manifest.forced is None
    rollback(target)
    assert rollback(target, "b").manifest.forced == forced


def test_force_says_nothing_where_nothing_is_worse(releases: list[Release], target: Path) -> None:
    promote(releases[0], target, faults=no_worse)
    assert promote(releases[1], target, faults=no_worse, force="to be sure").manifest.forced is None


def test_rollback_restores_folder_and_answers_exactly(releases: list[Release], target: Path) -> None:
    promote(releases[0], target, faults=no_worse)
    before, answers = contents(target), EventClassifier.load(target).classify_batch(TEXTS)
    promote(releases[1], target, faults=no_worse)
    assert EventClassifier.load(target).classify_batch(TEXTS) != answers
    rollback(target)
    assert contents(target) == before
    assert_same_predictions(answers, EventClassifier.load(target).classify_batch(TEXTS), tolerance=0)


def test_rollback_goes_back_step_by_step_and_by_name(releases: list[Release], target: Path) -> None:
    for release in releases:
        promote(release, target, faults=no_worse)
    assert [rollback(target).manifest.version for _ in range(2)] == ["b", "a"]
    with pytest.raises(
        PromotionError, match=f"of no release before tiny-a.* tocsin rollback --target {target} VERSION"
    ):
        rollback(target)
    names = {"c": "c", "tiny-b": "b", f"tiny-c-{releases[2].digest[:12]}": "c", releases[0].digest[:12]: "a"}
    for name, version in names.items():
        assert rollback(target, name).manifest.version == version
    with pytest.raises(PromotionError, match=f"keeps no release '9' of {target}; it keeps: tiny-"):
        rollback(target, "9")


def test_rollback_of_what_never_was_is_refused(target: Path) -> None:
    with pytest.raises(PromotionError, match="no release is in place"):
        rollback(target)


def test_places_that_share_a_history_go_back_each_its_own_way(releases: list[Release], tmp_path: Path) -> None:
    staging, production = tmp_path / "model" / "staging", tmp_path / "model" / "production"
    a, b, c = releases
    for release, place in ((a, staging), (b, staging), (c, staging), (a, production), (c, production)):
        promote(release, place, faults=no_worse)
    assert rollback(staging).manifest.version == "b"
    assert rollback(production).manifest.version == "a"
    with pytest.raises(PromotionError, match=f"keeps no release 'b' of {production}; it keeps: tiny-"):
        rollback(production, "b")
    assert rollback(staging, "c").digest == c.digest


def test_a_version_brings_back_what_was_in_the_place_and_no_other_model_of_that_version(tmp_path: Path) -> None:
    ours, hazards = tmp_path / "our-release", tmp_path / "hazards"
    first, second, other = (make(tmp_path / name, name, 0.1 * n) for n, name in enumerate(("0.1", "0.2", "x"), 1))
    write_manifest(other.folder, other.manifest.model_copy(update={"name": "hazards", "version": "0.1"}))
    for folder, place in ((first.folder, ours), (second.folder, ours), (other.folder, hazards)):
        promote(Release.open(folder), place, faults=no_worse)
    assert rollback(ours, "0.1").digest == first.digest
    with pytest.raises(
        PromotionError, match=r"hazards-0\.1-.* was in another place; to put it .* tocsin promote .* --target"
    ):
        rollback(ours, "hazards-0.1")


def test_history_and_release_may_be_moved_together(
    releases: list[Release], target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for release in releases[:2]:
        promote(release, target, faults=no_worse)
    moved = target.parent.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(moved)
    (tmp_path / "link").symlink_to(moved)
    assert rollback(tmp_path / "link" / "release").manifest.version == "a"
    assert rollback(Path("release"), "b").manifest.version == "b"


def test_lines_that_name_no_place_count_for_any(releases: list[Release], target: Path) -> None:
    """As they were written before places could be told apart."""
    for release in releases[:2]:
        promote(release, target, faults=no_worse)
    log = default_history(target) / "history.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps({k: v for k, v in line.items() if k != "target"}) + "\n" for line in lines))
    assert rollback(target).manifest.version == "a"
    assert rollback(target, "b").manifest.version == "b"


# What the child does before every step that touches the disk: count down, and die at once when it is its turn.
_DYING_CHILD = """
import os, sys
from pathlib import Path
from tocsin.release import Release
from tocsin_training import promote as module
left = int(sys.argv[3])
def deadly(function):
    def step(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return function(*arguments, **options)
    return step
module.sync, module._exchange = deadly(module.sync), deadly(module._exchange)
Path.rename = deadly(Path.rename)
module.promote(Release.open(sys.argv[1]), Path(sys.argv[2]), faults=lambda old, new: ())
"""


def test_a_power_cut_at_any_step_leaves_the_old_release_or_the_new_one(
    releases: list[Release], target: Path, tmp_path: Path
) -> None:
    old, new = releases[:2]
    found = set()
    for step in (0, 9, 17, 19, 20, 21, 22, 23, 24, 40):
        shutil.rmtree(target.parent, ignore_errors=True)
        promote(old, target, faults=no_worse)
        command = [sys.executable, "-c", _DYING_CHILD, str(new.folder), str(target), str(step)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode in (0, 9), done.stderr
        found.add((Release.open(target).digest, done.returncode))
        promote(new, target, faults=no_worse)
        rollback(target, "a")
        assert contents(target) == contents(old.folder)
    assert {(old.digest, 9), (new.digest, 9), (new.digest, 0)} <= found


def test_a_line_half_written_does_not_spoil_the_history(releases: list[Release], target: Path) -> None:
    promote(releases[0], target, faults=no_worse)
    with (default_history(target) / "history.jsonl").open("a") as stream:
        stream.write('{"date": "2026-')
    promote(releases[1], target, faults=no_worse)
    assert rollback(target).manifest.version == "a"


def test_two_promotions_at_once_refuse_each_other(releases: list[Release], target: Path) -> None:
    with History(target).locked(), pytest.raises(PromotionError, match="another promotion"):
        promote(releases[0], target, faults=no_worse)


def test_a_failure_half_way_brings_the_former_release_back(
    releases: list[Release], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(releases[0], target, faults=no_worse)
    before = contents(target)
    rename = Path.rename

    def fail_for_the_new_one(self: Path, to: Path) -> Path:
        if self.name == "new":
            raise OSError("disk full")
        return rename(self, to)

    monkeypatch.setattr(module, "_exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(PromotionError, match="disk full"):
        promote(releases[1], target, faults=no_worse)
    monkeypatch.undo()
    assert contents(target) == before


def test_what_the_disk_refuses_is_a_message(
    releases: list[Release], target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PromotionError, match=r"cannot be replaced \(.*file/releases: Not a directory\)"):
        promote(releases[0], target, faults=no_worse, history=tmp_path / "file" / "releases")
    promote(releases[0], target, faults=no_worse)
    before = contents(target)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target.parent))

    monkeypatch.setattr(module, "mkdtemp", read_only)
    with pytest.raises(PromotionError, match=rf"\({target.parent}: Read-only file system\)\. Give --target"):
        promote(releases[1], target, faults=no_worse)
    with pytest.raises(PromotionError, match="Read-only file system"):
        rollback(target, "a")
    assert contents(target) == before


def test_where_names_cannot_be_exchanged_two_renames_do(
    releases: list[Release], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_exchange", lambda *_: False)
    for release in releases:
        promote(release, target, faults=no_worse)
    assert contents(target) == contents(releases[2].folder)


@pytest.mark.parametrize("force", [None, "the new codings cover the south"])
def test_a_folder_that_is_no_release_is_not_replaced_even_by_force(
    releases: list[Release], target: Path, force: str | None
) -> None:
    target.mkdir(parents=True)
    (target / "thesis.txt").write_text("years of work")
    (target / LAYOUT.card).write_text("of the thesis")
    with pytest.raises(PromotionError, match="no release folder"):
        promote(releases[0], target, faults=no_worse, force=force)
    assert contents(target) == {"thesis.txt": b"years of work", LAYOUT.card: b"of the thesis"}


@pytest.mark.parametrize("force", [None, "the new codings cover the south"])
def test_a_file_is_not_replaced_and_no_folder(releases: list[Release], target: Path, force: str | None) -> None:
    target.parent.mkdir()
    target.write_text("years of work")
    with pytest.raises(PromotionError, match="no folder"):
        promote(releases[0], target, faults=no_worse, force=force)
    target.rename(target.with_name("moved"))
    target.symlink_to(target.with_name("gone"))
    with pytest.raises(PromotionError, match="no folder"):
        promote(releases[0], target, faults=no_worse, force=force)


def test_notes_beside_a_release_do_not_travel_with_it(releases: list[Release], target: Path) -> None:
    own = contents(releases[0].folder)
    (releases[0].folder / "notes.txt").write_text("not for everybody")
    promote(releases[0], target, faults=no_worse)
    assert contents(target) == own
    assert Release.open(target).digest == releases[0].digest


def test_notes_beside_a_release_that_goes_are_kept(
    releases: list[Release], target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    promote(releases[0], target, faults=no_worse)
    (target / "notes.txt").write_text("ask Ana")
    (target / "pictures").mkdir()
    promote(releases[1], target, faults=no_worse)
    assert contents(target) == contents(releases[1].folder)
    (kept,) = default_history(target).glob("beside-tiny-a-*")
    assert (kept / "notes.txt").read_text() == "ask Ana" and (kept / "pictures").is_dir()
    assert f"kept in {kept}: notes.txt, pictures" in caplog.text


def test_where_notes_beside_a_release_cannot_be_kept_it_stays_and_so_do_they(
    releases: list[Release], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(releases[0], target, faults=no_worse)
    (target / "notes.txt").write_text("ask Ana")
    before = contents(target)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("move", "copy2"):
        monkeypatch.setattr(shutil, name, full)
    with pytest.raises(PromotionError, match=r"No space left.*Make room"):
        promote(releases[1], target, faults=no_worse)
    assert contents(target) == before
    assert not list(default_history(target).glob("beside-*"))


def test_folders_and_links_beside_a_release_are_kept_as_they_are(releases: list[Release], target: Path) -> None:
    promote(releases[0], target, faults=no_worse)
    (target / "notes" / "deep").mkdir(parents=True)
    (target / "notes" / "deep" / "ana.txt").write_text("ask Ana")
    (target / "link").symlink_to("notes/deep/ana.txt")
    (target / "gone").symlink_to("nowhere")
    promote(releases[1], target, faults=no_worse)
    (kept,) = default_history(target).glob("beside-*")
    assert (kept / "link").is_symlink() and (kept / "link").read_text() == "ask Ana"
    assert (kept / "gone").is_symlink()


def test_a_damaged_release_in_place_is_replaced_only_by_force_or_a_named_rollback(
    releases: list[Release], target: Path
) -> None:
    promote(releases[0], target, faults=no_worse)
    (target / LAYOUT.card).write_text("altered")
    with pytest.raises(PromotionError, match="damaged"):
        promote(releases[1], target, faults=no_worse)
    assert rollback(target, "a").digest == releases[0].digest
    (target / LAYOUT.model).unlink()
    (target / "notes.txt").write_text("ask Ana")
    damaged = contents(target)
    assert promote(releases[1], target, faults=no_worse, force="the old one is damaged").manifest.version == "b"
    altered, emptied = sorted(default_history(target).glob("damaged-*"))
    assert (altered / LAYOUT.card).read_text() == "altered"
    assert contents(emptied) == damaged
    assert contents(target) == contents(releases[1].folder)


def test_an_unsound_release_is_no_candidate(releases: list[Release]) -> None:
    (releases[0].folder / LAYOUT.card).write_text("altered")
    with pytest.raises(ReleaseError, match=LAYOUT.card):
        open_candidate(str(releases[0].folder))


def test_a_run_never_verified_is_refused(run_copy: Run) -> None:
    run_copy.verification.unlink()
    with pytest.raises(PromotionError, match=f"never verified.*`tocsin train --resume {run_copy.folder}` goes on"):
        open_candidate(str(run_copy.folder))


def test_a_run_that_failed_verification_is_refused_with_its_faults(run_copy: Run) -> None:
    verdict = json.loads(run_copy.verification.read_text()) | {"passed": False, "faults": ["int8: 9, allowed 1"]}
    run_copy.verification.write_text(json.dumps(verdict))
    with pytest.raises(PromotionError, match="int8: 9, allowed 1"):
        open_candidate(str(run_copy.folder))


def test_a_run_that_was_stopped_behind_its_verification_is_refused(run_copy: Run) -> None:
    minutes = run_copy.figures()["minutes"]
    run_copy.record("minutes", {stage: minutes[stage] for stage in minutes if stage not in ("evaluate", "card")})
    with pytest.raises(PromotionError, match=f"stopped before its end.*--resume {run_copy.folder}"):
        open_candidate(str(run_copy.folder))


def test_a_run_that_is_being_calibrated_again_is_refused(
    run_copy: Run, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest has the new version and settings already, and its thresholds are still the old ones."""

    def killed(_: Run) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tocsin_training.calibrate.main", killed)
    with pytest.raises(KeyboardInterrupt):
        recalibrate(run_copy, run_copy.settings(), console, version="9")
    assert read_manifest(run_copy.release).version == "9"
    with pytest.raises(PromotionError, match="stopped before its end"):
        open_candidate(str(run_copy.folder))


def test_a_run_is_an_unfinished_one_before_its_manifest_is_changed(
    run_copy: Run, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "amend", killed)
    with pytest.raises(KeyboardInterrupt):
        recalibrate(run_copy, run_copy.settings(), console, version="9")
    assert list(run_copy.figures()["minutes"])[-1] == "export"


def test_a_release_changed_since_it_was_verified_is_refused(run_copy: Run) -> None:
    calibration = run_copy.release / LAYOUT.calibration
    calibration.write_text(calibration.read_text() + "\n")
    write_manifest(run_copy.release, Manifest.model_validate_json((run_copy.release / LAYOUT.manifest).read_bytes()))
    with pytest.raises(PromotionError, match="changed since"):
        open_candidate(str(run_copy.folder))


def test_releases_go_to_bentoml_s_store_and_back(releases: list[Release], target: Path, tmp_path: Path) -> None:
    """In a process of its own: bentoml reads where its store is when it is imported."""
    code = """
import sys
from pathlib import Path
from tocsin.release import Release
from tocsin.stores import find_store
from tocsin_training.promote import open_candidate, promote
store, name = find_store("bentoml:tiny:7")
assert store.save(Release.open(sys.argv[1]), name) == "tiny:7"
try:
    store.save(Release.open(sys.argv[1]), name)
except Exception as error:
    print(type(error).__name__)
assert not (store.folder("tiny:7") / "notes.txt").exists()
promote(open_candidate("bentoml:tiny:7"), Path(sys.argv[2]), faults=lambda old, new: ())
"""
    own = contents(releases[0].folder)
    (releases[0].folder / "notes.txt").write_text("not for everybody")
    command = [sys.executable, "-c", code, str(releases[0].folder), str(target)]
    environment = {**os.environ, "BENTOML_HOME": str(tmp_path / "bentoml")}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ReleaseError"
    assert contents(target) == own


class Shelf:
    """A store of releases in a folder."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def folder(self, name: str) -> Path:
        return self._place / name


Command = Callable[..., Result]


@pytest.fixture
def command(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `tocsin promote` or `compare` where a store `shelf` and a default recipe of other labels are."""
    shelf = Shelf(tmp_path / "shelf")
    monkeypatch.setattr("tocsin.stores.find_store", lambda address: (shelf, address.partition(":")[2]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "training").mkdir()
    easy = CompareSettings(speed=100, size=100)
    (tmp_path / "training" / "train.toml").write_text(to_toml(settings.model_copy(update={"compare": easy})))
    app = typer.Typer()
    for each in (cli.promote, cli.compare):
        app.command()(each)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_release_from_a_store_replaces_another_on_text_that_is_named_or_by_force(
    tmp_path: Path, command: Command
) -> None:
    for number, version in enumerate("ab", 1):
        make(tmp_path / "shelf" / version, version, 0.1 * number)
    (tmp_path / "own.csv").write_text("text,labels\nAn airstrike hit a town.,Airstrike\nThe minister spoke.,\n")
    place = tmp_path / "place"
    assert command("promote", "shelf:a", "--target", place).exit_code == 0

    for refused in (
        command("promote", "shelf:b", "--target", place),
        command("compare", place, "shelf:b"),
    ):
        assert "tiny-b comes without its run" in str(refused.exception) and "--data FILE" in str(refused.exception)
    other = command("promote", "shelf:b", "--target", place, "--config", "training/train.toml")
    assert "the held-out text has other labels than the releases" in str(other.exception)
    assert read_manifest(place).version == "a"

    named = command("promote", "shelf:b", "--target", place, "--data", "own.csv")
    assert named.exit_code == 0, named.exception
    assert (read_manifest(place).version, read_manifest(place).forced) == ("b", None)
    for options in ((), ("--config", "training/train.toml")):
        rollback(place, "a")
        forced = command("promote", "shelf:b", "--target", place, "--force", "read by Ana", *options)
        assert forced.exit_code == 0, forced.exception
        told = read_manifest(place).forced
        assert told is not None and told.reason == "read by Ana" and len(told.worse) == 1
        assert str(tmp_path) not in told.worse[0]


def test_a_release_trained_on_the_default_recipe_s_corpus_is_judged_on_that(
    tmp_path: Path, taxonomy_file: Path, settings: Settings, command: Command
) -> None:
    for version in "ab":
        folder = make_tiny_release(tmp_path / "shelf" / version, taxonomy_file=taxonomy_file)
        corpus = CorpusInfo(sha256=corpus_sha256(settings.data.corpus), records=320)
        write_manifest(folder, read_manifest(folder).model_copy(update={"version": version, "corpus": corpus}))
    for version in "ab":
        done = command("promote", f"shelf:{version}", "--target", tmp_path / "place")
        assert done.exit_code == 0, done.exception
    assert read_manifest(tmp_path / "place").version == "b"


def test_the_latest_run_is_that_of_the_recipe_and_else_of_the_default_one(
    tmp_path: Path, settings: Settings, command: Command
) -> None:
    recipe = tmp_path / "training" / "train.toml"
    for name, path in {"usual": recipe, "other": tmp_path / "other.toml"}.items():
        path.write_text(to_toml(settings.model_copy(update={"runs": tmp_path / name})))
        for run in ("20260101T000000-a", "20260102T000000-b"):
            (tmp_path / name / run).mkdir(parents=True)
            shutil.copy(path, tmp_path / name / run / "config.toml")
    for arguments in (["promote", "latest"], ["compare", "shipped", "latest"], ["compare", "latest", "shipped"]):
        for options, name in ({(): "usual", ("--config", "other.toml"): "other"}).items():
            said = str(command(*arguments, *options).exception)
            assert f"{tmp_path / name / '20260102T000000-b'}" in said, arguments
    recipe.unlink()
    assert "runs holds no run" in str(command("promote", "latest").exception)


def test_a_copy_that_the_hub_s_client_made_is_promoted(releases: list[Release], target: Path, tmp_path: Path) -> None:
    """Its cache: links into a folder of blobs, the hub's own file beside them, its notes in a hidden folder."""
    snapshot, blobs = tmp_path / "hub" / "snapshots" / "3f1c", tmp_path / "hub" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name, content in contents(releases[0].folder).items():
        (blobs / name).write_bytes(content)
        (snapshot / name).symlink_to(Path("..", "..", "blobs", name))
    (snapshot / ".gitattributes").write_text("*.onnx filter=lfs diff=lfs merge=lfs -text\n")
    (snapshot / ".cache" / "huggingface").mkdir(parents=True)
    promote(open_candidate(str(snapshot)), target, faults=no_worse)
    assert contents(target) == contents(releases[0].folder)
    assert not any(path.is_symlink() for path in target.iterdir())
    left, right = (EventClassifier.load(folder).classify_batch(TEXTS) for folder in (releases[0].folder, target))
    assert_same_predictions(left, right)


def test_a_clone_without_its_large_files_is_refused_with_the_command_that_brings_them(releases: list[Release]) -> None:
    model = releases[0].folder / LAYOUT.model
    model.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n")
    with pytest.raises(ReleaseError, match=r"model\.onnx: content differs .*pointer .*`git lfs pull`"):
        open_candidate(str(releases[0].folder))


def test_what_transformers_saved_is_no_release_and_it_is_told(trained_run: Run, target: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    saved, over = tmp_path / "saved", Path(shutil.copytree(trained_run.release, tmp_path / "over"))
    for folder in (saved, over):
        AutoConfig.from_pretrained(trained_run.release).save_pretrained(folder)
        AutoTokenizer.from_pretrained(trained_run.release).save_pretrained(folder)
    with pytest.raises(ReleaseError, match=r"saved: manifest\.json is missing, .*save_pretrained .*: copy the release"):
        open_candidate(str(saved))
    with pytest.raises(ReleaseError, match=r"over/.*: content differs .*save_pretrained .*: copy the release"):
        open_candidate(str(over))
    with pytest.raises(ReleaseError, match=r"model: manifest\.json is missing"):
        open_candidate(str(trained_run.model))
    assert not target.exists()
    plain = Path(shutil.copytree(trained_run.release, tmp_path / "plain"))
    assert contents(promote(open_candidate(str(plain)), target, faults=no_worse).folder) == contents(plain)


def test_a_release_folder_is_a_hugging_face_folder(trained_run: Run, test_texts: list[str]) -> None:
    """What optimum does with it: configuration and tokenizer by transformers, the graph by onnxruntime."""
    import numpy as np
    import onnxruntime as ort
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(trained_run.reference)
    tokenizer = AutoTokenizer.from_pretrained(trained_run.reference)
    classifier = EventClassifier.load(trained_run.reference)
    assert [config.id2label[index] for index in range(4)] == list(classifier.taxonomy.names)
    assert config.problem_type == "multi_label_classification"
    session = ort.InferenceSession(str(trained_run.reference / LAYOUT.model), providers=["CPUExecutionProvider"])
    tokens = tokenizer(test_texts, padding=True, return_tensors="np", return_token_type_ids=False)
    (logits,) = session.run(["logits"], {name: np.asarray(ids, dtype=np.int64) for name, ids in tokens.items()})
    np.testing.assert_allclose(logits, classifier.logits(test_texts), atol=1e-4)
