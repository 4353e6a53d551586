from __future__ import annotations

import numpy as np

from tocsin.taxonomy import Taxonomy
from tocsin_training.baselines import keyword_rules, measure_baselines, tfidf_svm
from tocsin_training.config import Settings
from tocsin_training.corpus import label_matrix, load_corpus


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
