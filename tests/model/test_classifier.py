from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support import assert_same_predictions, make_tiny_release

from tocsin import EventClassifier, InputError

TEXTS = [
    "An airstrike was reported in the town on Tuesday.",
    "The minister opened a new school and thanked the teachers.",
    "There was shelling in the morning and an airstrike at night.",
    "A suicide bombing was reported near the gate, officials said.",
    "x " * 200 + "then shelling began",
]


def labels(classifier: EventClassifier, text: str) -> list[str]:
    return [event.label for event in classifier.classify(text).events]


def test_events_carry_the_columns_of_acled(tiny_classifier: EventClassifier) -> None:
    (event,) = tiny_classifier.classify("An airstrike was reported in the town on Tuesday.").events
    assert (event.label, event.name) == ("air_drone_strike", "Airstrike")
    assert (event.sub_event_type, event.event_type) == ("Air/drone strike", "Explosions/Remote violence")
    assert event.disorder_type == "Political violence"


def test_several_events_in_one_text_are_normal_and_none_is_too(tiny_classifier: EventClassifier) -> None:
    assert set(labels(tiny_classifier, TEXTS[2])) == {"air_drone_strike", "shelling_artillery_missile_attack"}
    assert labels(tiny_classifier, TEXTS[1]) == []


def test_one_by_one_and_batched_in_any_order_answer_the_same(tiny_classifier: EventClassifier) -> None:
    alone = [tiny_classifier.classify(text) for text in TEXTS]
    assert_same_predictions(alone, tiny_classifier.classify_batch(TEXTS))
    order = list(range(len(TEXTS))) * 3
    random.Random(0).shuffle(order)
    mixed = tiny_classifier.classify_batch([TEXTS[index] for index in order])
    assert_same_predictions([alone[index] for index in order], mixed)


def test_threads_share_one_classifier(tiny_classifier: EventClassifier) -> None:
    alone = tiny_classifier.classify_batch(TEXTS)
    with ThreadPoolExecutor(8) as pool:
        for answer in pool.map(lambda _: tiny_classifier.classify_batch(TEXTS), range(24)):
            assert_same_predictions(alone, answer)


def test_text_beyond_the_window_is_read_to_its_end_and_said_so(tiny_classifier: EventClassifier) -> None:
    prediction = tiny_classifier.classify(TEXTS[4])
    assert prediction.truncated
    assert [event.label for event in prediction.events] == ["shelling_artillery_missile_attack"]
    assert not tiny_classifier.classify(TEXTS[0]).truncated


@pytest.mark.parametrize("before", range(0, 60, 7))
def test_an_event_is_found_wherever_the_window_ends(tiny_classifier: EventClassifier, before: int) -> None:
    # "Suicide bombing" must stand in one window: the overlap is wider than the phrase.
    text = "the " * before + "suicide bombing" + " the" * 40
    assert "suicide_bomb" in labels(tiny_classifier, text)


def test_an_unsupported_language_is_flagged_and_never_labelled(tiny_classifier: EventClassifier) -> None:
    prediction = tiny_classifier.classify("Le ministre a parlé de la guerre: airstrike, shelling et autres attaques.")
    assert prediction.language == "fr"
    assert prediction.needs_review
    assert prediction.review_reason == "language_not_read"
    assert prediction.events == ()


def test_review_judges_the_first_answer_and_no_other(tiny_classifier: EventClassifier) -> None:
    # Half of the words of "Planted bomb or mine" make it 0.5; the line of the tiny release is 0.6.
    first, second = tiny_classifier.classify("A planted bomb and an airstrike were reported in the town.").events
    alone = tiny_classifier.classify("A planted bomb was reported in the town on Tuesday.")
    assert first.probability > 0.6 > second.probability
    assert not tiny_classifier.classify("A planted bomb and an airstrike were reported in the town.").needs_review
    assert [event.label for event in alone.events] == [second.label] and alone.needs_review
    assert alone.review_reason == "low_probability"


def test_a_reason_for_review_is_given_exactly_where_there_is_one(tiny_classifier: EventClassifier) -> None:
    texts = [*TEXTS, "A planted bomb was reported in the town on Tuesday.", "Le ministre a parlé de la guerre.", "!"]
    predictions = tiny_classifier.classify_batch(texts)
    assert {prediction.review_reason for prediction in predictions} == {None, "low_probability", "language_not_read"}
    for prediction in predictions:
        assert prediction.needs_review == (prediction.review_reason is not None)
        unread = prediction.language not in tiny_classifier.languages
        assert unread == (prediction.review_reason == "language_not_read")


def test_a_document_s_summary_counts_sentences_that_were_not_read(tiny_classifier: EventClassifier) -> None:
    foreign = "Le ministre a parlé de la guerre et des autres attaques."
    summary = tiny_classifier.classify_document(f"An airstrike hit the market on Tuesday.\n\n{foreign}").summary
    assert (summary.sentences, summary.sentences_unread) == (2, 1)
    assert summary.sentences_to_review >= summary.sentences_unread


@pytest.mark.parametrize(
    "text",
    ["\x00", "\ud800 airstrike reported in the town", "🙂🙂🙂", "مرحبا", "<p>airstrike reported</p>", "a" * 100_000],
)
def test_odd_text_is_answered(tiny_classifier: EventClassifier, text: str) -> None:
    prediction = tiny_classifier.classify(text)
    assert 0 <= prediction.no_event_probability <= 1


def test_a_megabyte_of_text_is_read(tiny_classifier: EventClassifier) -> None:
    assert tiny_classifier.classify("the town was quiet " * 52_000 + "until an airstrike").truncated


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_an_empty_text_is_refused_by_position(tiny_classifier: EventClassifier, text: str) -> None:
    with pytest.raises(InputError, match=r"texts\[1\] is empty"):
        tiny_classifier.classify_batch(["fine", text])
    with pytest.raises(InputError, match="document is empty"):
        tiny_classifier.classify_document(text)


@pytest.mark.parametrize("text", [None, 3, b"bytes", ["list"]])
def test_what_is_no_string_is_refused_by_type(tiny_classifier: EventClassifier, text: object) -> None:
    with pytest.raises(InputError, match=f"must be a string, not {type(text).__name__}"):
        tiny_classifier.classify(text)  # type: ignore[arg-type]


def test_no_texts_give_no_answers(tiny_classifier: EventClassifier) -> None:
    assert tiny_classifier.classify_batch([]) == []
    assert len(tiny_classifier.score_batch([])) == 0


def test_a_document_is_rolled_up(tiny_classifier: EventClassifier) -> None:
    document = "An airstrike hit the town. The mayor was away.\n\nIn the evening an airstrike and shelling followed."
    answer = tiny_classifier.classify_document(document)
    assert [document[sentence.start : sentence.end] for sentence in answer.sentences] == [
        sentence.text for sentence in answer.sentences
    ]
    assert [(event.label, event.sentences) for event in answer.summary.events] == [
        ("air_drone_strike", (0, 2)),
        ("shelling_artillery_missile_attack", (2,)),
    ]
    assert (answer.summary.sentences, answer.summary.sentences_with_events) == (3, 2)


def test_offsets_hold_behind_a_lone_surrogate(tiny_classifier: EventClassifier) -> None:
    document = "Odd \ud800 sign. An airstrike hit the town."
    second = tiny_classifier.classify_document(document).sentences[1]
    assert document[second.start : second.end] == "An airstrike hit the town."


def test_scores_and_predictions_agree(tiny_classifier: EventClassifier) -> None:
    scores = tiny_classifier.score_batch(TEXTS)
    for row, prediction in enumerate(scores.predictions()):
        assert prediction.scores is not None and prediction.event_type_scores is not None
        assert list(prediction.scores.values()) == pytest.approx(scores.probabilities[row])
        assert all(
            prediction.event_type_scores[event.event_type] >= event.probability - 1e-6 for event in prediction.events
        )
    assert scores.predictions(scores=False)[0].scores is None


def test_thread_count_changes_nothing(tiny_release: Path, tiny_classifier: EventClassifier) -> None:
    assert_same_predictions(
        tiny_classifier.classify_batch(TEXTS), EventClassifier.load(tiny_release, threads=2).classify_batch(TEXTS)
    )


def test_another_taxonomy_runs_through_the_same_code(tmp_path: Path) -> None:
    taxonomy = tmp_path / "weather.toml"
    taxonomy.write_text(
        '[[event_types]]\nname = "Weather"\n'
        '[[labels]]\nlabel = "hail"\nname = "Hail"\nsub_event_type = "Hail"\nevent_type = "Weather"\n'
        'disorder_type = "None"\ndefinition = "Ice falls."\n',
        encoding="utf-8",
    )
    classifier = EventClassifier.load(make_tiny_release(tmp_path / "release", taxonomy_file=taxonomy))
    prediction = classifier.classify("There was hail in the afternoon near the lake.")
    assert [event.label for event in prediction.events] == ["hail"]
    assert np.allclose(prediction.event_type_scores["Weather"], prediction.scores["hail"])  # type: ignore[index]


def test_token_counts_are_what_the_model_reads(tiny_classifier: EventClassifier) -> None:
    # [CLS] one two [SEP]; a text beyond the window of 32 counts its overlaps too.
    assert tiny_classifier.token_counts(["one two", "\ud800 x"]) == [4, 4]
    (long,) = tiny_classifier.token_counts(["x " * 100])
    assert long > 102
