from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tocsin.errors import TaxonomyError
from tocsin.taxonomy import Taxonomy
from tocsin_training.config import Settings
from tocsin_training.corpus import SPLITS, corpus_sha256, label_matrix, limit, load_corpus, load_split
from tocsin_training.errors import CorpusError


def test_every_record_is_loaded_into_the_split_it_lies_in(sound_corpus: Path) -> None:
    loaded = load_corpus(sound_corpus)
    for split in SPLITS:
        lines = [line for path in sorted((sound_corpus / split).iterdir()) for line in path.read_text().splitlines()]
        assert list(loaded[split]["id"]) == [json.loads(line)["id"] for line in lines]
        assert list(loaded[split]["labels"]) == [json.loads(line)["labels"] for line in lines]


def test_a_split_is_read_without_the_files_of_the_others(settings: Settings, corpus: Path) -> None:
    (corpus / "train" / "one.jsonl").write_text("not json\n")
    data = settings.data.model_copy(update={"corpus": corpus, "test_records": 7, "new_batches": ("two",)})
    assert len(load_split(data, "test")) == 7
    with pytest.raises(CorpusError, match="corpus check"):
        load_split(data, "train")


def test_split_membership_and_order_do_not_depend_on_the_file_system(sound_corpus: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for path in sorted(sound_corpus.rglob("*.jsonl"), reverse=True):
        target = copy / path.relative_to(sound_corpus)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    ids = [{split: list(load_corpus(folder)[split]["id"]) for split in SPLITS} for folder in (sound_corpus, copy)]
    assert ids[0] == ids[1]
    assert corpus_sha256(copy) == corpus_sha256(sound_corpus)


def test_the_hash_changes_with_a_text_a_label_or_a_move_and_not_with_a_remark(corpus: Path) -> None:
    path = corpus / "train" / "two.jsonl"
    hashes = [corpus_sha256(corpus)]
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for change in ({"register": "post"}, {"text": "Something else happened."}, {"labels": ["other"]}):
        records[0] |= change
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        hashes.append(corpus_sha256(corpus))
    path.rename(corpus / "test" / "two.jsonl")
    hashes.append(corpus_sha256(corpus))
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


def test_optional_fields_missing_from_a_whole_file_are_null(corpus: Path) -> None:
    path = corpus / "validation" / "three.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({k: v for k, v in r.items() if k != "country"}) + "\n" for r in records))
    assert set(load_corpus(corpus)["validation"]["country"]) == {None}


def test_a_corpus_that_is_not_json_is_refused_with_a_hint(corpus: Path) -> None:
    (corpus / "train" / "one.jsonl").write_text("not json\n")
    with pytest.raises(CorpusError, match="corpus check"):
        load_corpus(corpus)


def test_label_matrix_has_the_taxonomy_s_columns(taxonomy_file: Path) -> None:
    taxonomy = Taxonomy.load(taxonomy_file)
    matrix = label_matrix([["apple", "storm"], []], taxonomy)
    assert matrix.dtype == np.bool_
    assert [taxonomy.names[column] for column in np.flatnonzero(matrix[0])] == ["storm", "apple"]
    assert not matrix[1].any()
    with pytest.raises(TaxonomyError, match="hail"):
        label_matrix([["hail"]], taxonomy)


def test_new_batches_are_read_whole_and_of_the_others_a_share_that_stays_the_same(
    settings: Settings, corpus: Path
) -> None:
    def read(**choice: object) -> list[str]:
        data = settings.data.model_copy(update={"corpus": corpus, **choice})
        return list(limit(load_corpus(corpus), data)["train"]["id"])

    chosen = read(new_batches=("two",), replay_share=0.25)
    replayed = [identifier for identifier in chosen if identifier.startswith("one-")]
    assert sum(identifier.startswith("two-") for identifier in chosen) == 160
    assert 20 < len(replayed) < 60
    assert read(new_batches=("two",), replay_share=0.0) == [each for each in chosen if each.startswith("two-")]
    assert read(new_batches=("two",), replay_share=0.25, replay_seed=1) != chosen
    assert len(read(replay_share=0.25)) == 320, "without new batches all are"
    assert set(replayed) < set(read(new_batches=("two",), replay_share=0.5))
    path = corpus / "train" / "one.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[5:]))
    left = set(read(new_batches=("two",), replay_share=0.25))
    assert left == {each for each in chosen if each not in {f"one-{number:04}" for number in range(1, 6)}}


def test_a_new_batch_that_there_is_not_is_refused_by_name(settings: Settings) -> None:
    data = settings.data.model_copy(update={"new_batches": ("two", "nine")})
    with pytest.raises(CorpusError, match=r"no batch nine among its training records \(data.new_batches\)"):
        limit(load_corpus(data.corpus), data)
