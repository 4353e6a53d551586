"""Texts are tokenised once for all runs that need them so, and however many there are, few are in memory."""

from __future__ import annotations

import gc
import os
import shutil
import stat
import tracemalloc
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from rich.console import Console

from tocsin.taxonomy import Taxonomy
from tocsin_training import prepare, prepared
from tocsin_training._datasets import load_from_disk
from tocsin_training.augment import Example, augment
from tocsin_training.base import minilm_folder
from tocsin_training.config import AugmentSettings, Settings
from tocsin_training.corpus import SPLITS, learned_records
from tocsin_training.experiment import run_until
from tocsin_training.finetune import _inputs
from tocsin_training.prepared import MOST_KEPT, Kept
from tocsin_training.run import Run

AUGMENTED = AugmentSettings(joined_share=0.5, slips_share=0.2)


@pytest.fixture
def recipe(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"runs": tmp_path / "runs", "augment": AUGMENTED})


@pytest.fixture
def tokenised(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Counts how often texts are made ready."""
    counted = Mock(side_effect=prepare.prepare)
    monkeypatch.setattr(prepare, "prepare", counted)
    return counted


def made(settings: Settings) -> Run:
    run = Run.create(settings, "made")
    prepare.main(run, str(minilm_folder()))
    return run


def rows(run: Run) -> list[object]:
    splits = load_from_disk(run.prepared)
    return [splits[split].features for split in SPLITS] + [list(splits[split]) for split in SPLITS]


def test_the_second_run_has_the_splits_of_the_first_and_tokenises_nothing(recipe: Settings, tokenised: Mock) -> None:
    first, second = made(recipe), made(recipe)
    assert tokenised.call_count == 1
    assert rows(first) == rows(second)
    assert first.figures()["prepare"] == second.figures()["prepare"]
    assert first.figures()["prepare"]["augmented"] == 160 + 64


def test_what_the_splits_are_made_of_makes_them_anew(
    recipe: Settings, corpus: Path, tokenised: Mock, edit_line: Callable[..., None]
) -> None:
    def changed(section: str, **values: object) -> Settings:
        return recipe.model_copy(update={section: getattr(recipe, section).model_copy(update=values)})

    own = changed("data", corpus=corpus)
    made(own)
    made(changed("finetune", epochs=1.0, seed=3))
    assert tokenised.call_count == 1, "the same texts in another place, learned in another way"
    made(changed("model", max_tokens=16))
    made(changed("augment", seed=5))
    made(changed("data", train_records=300))
    assert tokenised.call_count == 4
    # It is not joined with others any more, though the corpus's hash goes by texts and labels alone.
    lines = (corpus / "train" / "one.jsonl").read_text(encoding="utf-8").splitlines()
    without = next(number for number, line in enumerate(lines, 1) if '"labels": []' in line)
    edit_line(corpus / "train" / "one.jsonl", without, reason="foreign_language")
    made(own)
    assert tokenised.call_count == 5


def test_texts_are_made_anew_by_code_that_was_changed(
    recipe: Settings, tmp_path: Path, tokenised: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_ROOM", Path(shutil.copytree(prepare._ROOM, tmp_path / "room")))
    made(recipe)
    made(recipe)
    assert tokenised.call_count == 1
    for count, name in enumerate(("augment.py", "corpus.py", "gazetteer.toml"), 2):
        with (tmp_path / "room" / name).open("a") as file:
            file.write("# Otherwise.\n")
        made(recipe)
        assert tokenised.call_count == count


def test_what_was_not_used_for_longest_is_thrown_away_and_the_run_keeps_its_own(
    recipe: Settings, tokenised: Mock
) -> None:
    def other(seed: int) -> Run:
        return made(recipe.model_copy(update={"augment": AugmentSettings(slips_share=0.1, seed=seed)}))

    first = other(0)
    for seed in range(1, MOST_KEPT):
        other(seed)
    other(0)
    other(MOST_KEPT)
    kept = [path for path in Kept(recipe.runs).folder.iterdir() if not path.name.startswith(".")]
    assert len(kept) == MOST_KEPT
    other(0)
    assert tokenised.call_count == MOST_KEPT + 1, "the second was thrown away, not the first"
    other(1)
    assert tokenised.call_count == MOST_KEPT + 2
    assert len(load_from_disk(first.prepared)["train"]) == 352


def test_kept_texts_are_their_owner_s_and_cost_a_run_no_room(recipe: Settings) -> None:
    run, kept = made(recipe), Kept(recipe.runs)
    assert stat.S_IMODE(kept.folder.stat().st_mode) == 0o700
    files = [path for path in run.prepared.rglob("*.arrow")]
    assert files and all(path.stat().st_nlink == 2 for path in files)
    assert kept.size() >= sum(path.stat().st_size for path in files)


def test_where_no_link_can_be_made_there_is_a_copy(recipe: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = rows(made(recipe))
    monkeypatch.setattr("os.link", Mock(side_effect=OSError(18, "Invalid cross-device link")))
    assert rows(made(recipe)) == plain


def test_a_preparation_that_was_stopped_leaves_nothing(recipe: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(prepared, "write_json", Mock(side_effect=OSError("no space left")))
        made(recipe)
    folder = Kept(recipe.runs).folder
    assert [path.name for path in folder.iterdir() if path.name != ".lock"] == []
    # One that was killed could not clear up.
    (folder / ".making-killed" / "texts").mkdir(parents=True)
    os.utime(folder / ".making-killed", (0, 0))
    assert len(rows(made(recipe))) == 6
    assert not list(folder.glob(".making-*"))


def test_records_read_from_files_are_those_of_memory(recipe: Settings, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for limit in (None, 300):
        data = recipe.data.model_copy(update={"train_records": limit})
        here, there = learned_records(data, AUGMENTED), learned_records(data, AUGMENTED, scratch)
        assert [list(here[split]) for split in SPLITS] == [list(there[split]) for split in SPLITS]
        own = [Example(row["id"], row["text"], tuple(row["labels"])) for row in here["train"]][: limit or 320]
        more = [Example(row["id"], row["text"], tuple(row["labels"])) for row in here["train"]][limit or 320 :]
        assert list(augment(own, AUGMENTED)) == more, "the same as of a list in memory"


def test_memory_does_not_grow_with_the_texts(recipe: Settings, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own; what Arrow maps from files the system takes back when it needs it."""
    # It holds every record of the project's own corpus; an imported one goes by its hash.
    monkeypatch.setattr(prepare, "check_corpus", lambda *_: [])
    own = recipe.model_copy(update={"data": recipe.data.model_copy(update={"corpus": corpus})})
    with (corpus / "train" / "one.jsonl").open(encoding="utf-8") as file:
        lines = list(file)
    sizes = []
    # The first imports what the others find.
    for name, number in {"warm": 1, "some": 1_000, "more": 3_000}.items():
        (corpus / "train" / f"{name}.jsonl").write_text("".join(islice(cycle(lines), number)), encoding="utf-8")
        gc.collect()
        tracemalloc.start()
        made(own)
        sizes.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert sizes[2] < 1.3 * sizes[1]


def test_a_teacher_s_answers_and_weights_are_columns_of_floats(recipe: Settings, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    from tocsin_training.distil import text_hash
    from tocsin_training.loss import record_weights

    splits = load_from_disk(made(recipe).prepared)
    ids, texts = list(splits["train"]["id"]), list(splits["train"]["text"])
    logits = np.random.default_rng(0).normal(size=(len(ids), 4)).astype(np.float16)
    columns = {"id": ids, "text_hash": pa.array(map(text_hash, texts), pa.uint64()), "logits": list(logits)}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "teacher.parquet")
    wanted = recipe.finetune.model_copy(update={"teacher_logits": tmp_path / "teacher.parquet", "label_balance": 0.5})
    inputs = _inputs(splits, "train", wanted, 4)
    assert np.array_equal(np.array(list(inputs["teacher"])), logits.astype(np.float64))
    targets = np.array(list(splits["train"]["labels"]), dtype=np.float32)
    assert np.array_equal(np.array(list(inputs["weight"]), dtype=np.float32), record_weights(targets, 0.5))


def test_a_run_that_was_not_to_be_finished_names_no_release(recipe: Settings, console: Console) -> None:
    run = run_until("prepare", recipe, "part", console)
    log = run.log.read_text(encoding="utf-8")
    assert "up to prepare" in log and "has no release yet" in log and str(run.release) not in log


def test_the_most_important_label_is_kept_for_a_recipe_that_asks_for_it(recipe: Settings) -> None:
    run, taxonomy = made(recipe), Taxonomy.load(recipe.data.taxonomy)
    train = load_from_disk(run.prepared)["train"]
    records = learned_records(recipe.data, recipe.augment)["train"]
    several = [names for names in records["labels"] if len(names) > 1]
    assert any(taxonomy.index(names[0]) != min(map(taxonomy.index, names)) for names in several), (
        "order tells something"
    )
    assert train["main"] == [taxonomy.index(names[0]) if names else 0 for names in records["labels"]]

    asked = recipe.finetune.model_copy(update={"main_share": 0.75})
    labels = len(taxonomy.labels)
    splits = load_from_disk(run.prepared)
    assert "main" in _inputs(splits, "train", asked, labels).column_names
    assert "main" not in _inputs(splits, "train", recipe.finetune, labels).column_names
