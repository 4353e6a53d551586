from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray
from support import TAXONOMY

from tocsin.taxonomy import Taxonomy
from tocsin_training._datasets import Dataset
from tocsin_training.baselines import keyword_rules, measure_baselines, measure_teacher, tfidf_svm
from tocsin_training.benchmark import Benchmark
from tocsin_training.config import Settings
from tocsin_training.corpus import label_matrix, load_corpus
from tocsin_training.distil import text_hash


def test_keywords_are_whole_words_in_any_case_and_number(settings: Settings) -> None:
    taxonomy = Taxonomy.load(settings.data.taxonomy)
    scores = keyword_rules(taxonomy)(["STORMS over the hill", "a brainstorm", "apple and apple"])
    assert scores[0].nonzero()[0].tolist() == [taxonomy.index("storm")]
    assert not scores[1].any()
    assert scores[2, taxonomy.index("apple")] == 2


def test_tfidf_learns_the_words_that_make_a_label() -> None:
    texts = ["hail fell", "hail again", "corn grew", "corn again"] * 3
    truth = np.array([[True, False], [True, False], [False, True], [False, True]] * 3)
    assert (tfidf_svm(texts, truth)(["more hail", "more corn"]) > 0).tolist() == [[True, False], [False, True]]


def test_every_rival_is_measured_on_the_texts_of_the_test_split(settings: Settings) -> None:
    taxonomy = Taxonomy.load(settings.data.taxonomy)
    corpus = load_corpus(settings.data.corpus)
    truth = {name: label_matrix(list(corpus[name]["labels"]), taxonomy) for name in ("train", "test")}
    figures = list(measure_baselines(corpus["train"], truth["train"], corpus["test"], truth["test"], taxonomy, None))
    assert len(figures) == 3
    keywords, tfidf, frozen = figures
    # A record's labels are exactly the label words in it.
    assert keywords.weighted_f1 == 1.0
    assert keywords.false_alarms == 0.0
    assert tfidf.weighted_f1 > 0.9
    assert 0 < frozen.macro_f1 < 1
    assert keywords.case_weighted_f1 is None


def test_the_teacher_s_figure_on_the_benchmark_takes_its_model(tmp_path: Path) -> None:
    taxonomy = Taxonomy.load(TAXONOMY)
    case = Benchmark(("Shells fell.", "Men marched."), ("Armed clash", "Peaceful protest"))
    truth = np.zeros((2, len(taxonomy.labels)), dtype=np.bool_)
    truth[0, taxonomy.index("armed_clash")] = True
    test = Dataset.from_dict({"id": ["a", "b"], "text": ["It began.", "It ended."], "reason": [None, "past"]})

    def answers(texts: Sequence[str]) -> NDArray[np.float32]:
        """Armed clash for every first text, peaceful protest for every second."""
        logits = np.full((len(texts), len(taxonomy.labels)), -1, dtype=np.float32)
        logits[0, taxonomy.index("armed_clash")] = 1
        logits[1, taxonomy.index("peaceful_protest")] = 1
        return logits

    found = measure_teacher(test, truth, taxonomy, case, answers)
    assert (found.name, found.false_alarms, found.case_weighted_f1) == ("the teacher", 1.0, 1.0)
    path = tmp_path / "teacher.parquet"
    rows = {"id": ["a", "b"], "text_hash": pa.array(map(text_hash, test["text"]), pa.uint64())}
    pyarrow.parquet.write_table(pa.table(rows | {"logits": list(answers(test["text"]))}), path)
    assert measure_teacher(test, truth, taxonomy, case, path) == replace(found, case_weighted_f1=None)
