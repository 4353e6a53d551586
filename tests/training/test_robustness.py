from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT, TAXONOMY

from tocsin import EventClassifier
from tocsin.errors import InputError
from tocsin.taxonomy import Taxonomy
from tocsin_training import probes, robustness
from tocsin_training.probes import ActorFile, Swap
from tocsin_training.run import Run
from tocsin_training.validate import leaks, read_lines

SHIPPED = ROOT / "datasets" / "robustness"
WEATHER: dict[str, Any] = {
    "confusions": [{"name": "weather called harvest", "truth": "Weather", "answer": "Harvest"}],
    "actors": [
        {"name": "the north", "side": "cold", "foe": "the south"},
        {"name": "the south", "side": "warm", "foe": "the north"},
    ],
    "frames": [
        {"text": "{actor} saw a storm over {foe}. {actor} slept.", "labels": ["storm"]},
        {"text": "{actor} saw nothing.", "labels": []},
        {"text": "{actor} took what grew.", "by_side": {"cold": ["wheat"], "warm": ["apple"]}},
    ],
}


def answers(taxonomy: Taxonomy, *labels: tuple[str, ...]) -> np.ndarray:
    given = np.zeros((len(labels), len(taxonomy.labels)), dtype=np.bool_)
    for row, names in enumerate(labels):
        given[row, [taxonomy.index(name) for name in names]] = True
    return given


def test_a_frame_is_filled_with_every_actor_that_it_asks_about_and_sentences_begin_with_capitals() -> None:
    asked = probes.fill(ActorFile.model_validate(WEATHER))
    assert [probe.text for probe in asked[:3]] == [
        "The north saw a storm over the south. The north slept.",
        "The south saw a storm over the north. The south slept.",
        "The north saw nothing.",
    ]
    assert [(probe.side, probe.labels, probe.depends) for probe in asked[4:]] == [
        ("cold", ("wheat",), True),
        ("warm", ("apple",), True),
    ]


def test_flips_and_mistakes_are_counted_by_side(taxonomy_file: Path) -> None:
    taxonomy, file = Taxonomy.load(taxonomy_file), ActorFile.model_validate(WEATHER)
    asked = probes.fill(file)
    # The warm side's storm is called a harvest; both take wheat, though the side decides that.
    given = answers(taxonomy, ("storm",), ("apple",), (), (), ("wheat",), ("wheat",))
    figures = robustness.actor_figures(asked, given, file.confusions, taxonomy)
    sides = figures["sides"]
    assert (sides["right"]["cold"]["share"], sides["right"]["warm"]["share"]) == (1.0, 0.5)
    assert (sides["flipped"]["cold"]["count"], sides["flipped"]["warm"]["count"]) == (0, 1)
    assert figures["frames_read_alike"] == 0.5
    assert sides["right_where_the_side_decides"]["warm"]["share"] == 0.0
    mistaken = figures["confusions"]["weather called harvest"]
    assert (mistaken["warm"]["count"], mistaken["warm"]["texts"]) == (1, 1)
    assert (mistaken["all"]["count"], mistaken["all"]["texts"]) == (1, 2)


def test_frames_that_all_depend_on_the_side_have_no_flips_to_tell_of(taxonomy_file: Path) -> None:
    depending = [frame for frame in WEATHER["frames"] if "by_side" in frame]
    taxonomy, file = Taxonomy.load(taxonomy_file), ActorFile.model_validate(WEATHER | {"frames": depending})
    given = answers(taxonomy, ("wheat",), ("wheat",))
    actors = robustness.actor_figures(probes.fill(file), given, file.confusions, taxonomy)
    figures: dict[str, Any] = {"kinds": {}, "altered": {}, "actors": actors}
    assert "flipped_by_actor" not in robustness.summary(figures)
    (said,) = robustness.cautions(figures)
    assert "it is weakest for `warm`: 0 of 1" in said
    sides = robustness.grids(figures)[2]
    assert "read alike" not in sides.title
    assert [row[0] for row in sides.rows] == ["cold", "warm", "all"]
    assert sides.rows[1][1:6] == ("", "", "", "", "0 of 1")


def test_an_interval_counts_frames_and_not_their_copies() -> None:
    file = ActorFile.model_validate(WEATHER | {"actors": WEATHER["actors"] * 50, "confusions": []})
    asked = [probe for probe in probes.fill(file) if not probe.depends]
    row = robustness._by_side(asked, range(len(asked)), np.zeros(len(asked), dtype=np.bool_))["all"]
    assert (row["texts"], row["frames"]) == (200, 2)
    assert row["high"] > 0.5


def test_a_swapped_word_keeps_its_capital_and_gets_its_article() -> None:
    swap = Swap(name="x", words=("rebel", "insurgent"))
    assert swap.variants("A rebel fled. Rebel radio said the rebel lived.") == {
        "insurgent": "An insurgent fled. Insurgent radio said the insurgent lived."
    }
    assert swap.variants("Rebels fled.") == {}, "only whole words"
    # The longer of two that begin alike is the one that stands there.
    longer = Swap(name="x", words=("fighters", "freedom fighters"))
    assert longer.variants("Freedom fighters fled.") == {"fighters": "Fighters fled."}
    three = Swap(name="x", words=("rebels", "insurgents", "guerrillas"))
    assert sorted(three.variants("Rebels fled.")) == ["guerrillas", "insurgents"], "every other word is tried"


def test_a_swap_leaves_texts_alone_whose_labels_it_could_make_wrong() -> None:
    swap = Swap(name="x", words=("a", "b"), only=("storm", "frost"))
    assert swap.allows(("storm",))
    assert not swap.allows(("storm", "wheat"))
    assert not swap.allows(())
    assert Swap(name="x", words=("a", "b")).allows(("wheat",))


def test_change_is_a_share_of_texts_and_f1_is_told_before_and_after(taxonomy_file: Path) -> None:
    taxonomy = Taxonomy.load(taxonomy_file)
    truth = answers(taxonomy, ("storm",), ("frost",), (), ())
    after = answers(taxonomy, ("storm",), (), (), ())
    row = robustness.change_figures(truth, after, truth)
    assert (row["changed"], row["weighted_f1_before"], row["weighted_f1"]) == (0.25, 1.0, 0.5)
    assert row["low"] < 0.25 < row["high"]
    # The same four answers to two texts, each read in two ways, are less certain.
    fewer = robustness.change_figures(truth, after, truth, texts=2)
    assert (fewer["texts"], fewer["answers"], fewer["changed"]) == (2, 4, 0.25)
    assert fewer["low"] < row["low"] < row["high"] < fewer["high"]


def test_every_word_of_a_set_is_tried_on_every_text_that_has_one(trained_run: Run) -> None:
    classifier = EventClassifier.load(trained_run.release)
    texts, swap = ["The storm came.", "Rain.", "Frost again."], Swap(name="x", words=("storm", "frost", "wheat"))
    scores = classifier.score_batch(texts)
    truth = answers(classifier.taxonomy, ("storm",), (), ("frost",))
    figures = robustness._swap_figures(classifier, swap, texts, [("storm",), (), ("frost",)], scores, truth)
    assert (figures["texts"], figures["answers"]) == (2, 4)
    assert {word: row["texts"] for word, row in figures["by_word"].items()} == {"storm": 1, "frost": 1, "wheat": 2}
    for row in figures["by_word"].values():
        assert row["low"] <= row["changed"] == row["count"] / row["texts"] <= row["high"]


def test_the_side_that_is_read_worst_and_the_word_that_changes_most_are_said_aloud(taxonomy_file: Path) -> None:
    taxonomy, file = Taxonomy.load(taxonomy_file), ActorFile.model_validate(WEATHER)
    asked = probes.fill(file)
    given = answers(taxonomy, ("storm",), ("apple",), (), (), ("wheat",), ("wheat",))
    words = {
        "hail": {"texts": 20, "count": 9, "changed": 0.45, "low": 0.2, "high": 0.7},
        "sleet": {"texts": 20, "count": 1, "changed": 0.05, "low": 0.0, "high": 0.2},
        "fog": {"texts": 1, "count": 1, "changed": 1.0, "low": 0.2, "high": 1.0},
    }
    swapped = {"words for rain": {"changed": 0.25, "low": 0.1, "high": 0.5, "texts": 20, "by_word": words}}
    actors = robustness.actor_figures(asked, given, file.confusions, taxonomy)
    flips, decides, loaded = robustness.cautions({"actors": actors, "swapped": swapped})
    assert "`warm`" in flips and "1 of 2 (50.0%)" in flips and "0 of 2 (0.0%) where it is `cold`, the least" in flips
    assert "weakest for `warm`: 0 of 1 (0.0%) right" in decides and "copies of 1 sentences" in decides
    assert "swapping words for rain changes 25.0%" in loaded and "`hail` most, 9 of 20 (45.0%)" in loaded
    assert robustness.cautions({"altered": {}}) == []


@pytest.mark.parametrize(
    ("flipped", "said"),
    [
        # All five actors of a side, or one of each.
        ([0, 1, 2, 3, 4], "It does not read every side alike (p = "),
        ([0, 5, 10], "No difference beyond chance was shown (p = 1 "),
        # One name that is read badly in every sentence is no side.
        ([0], "No difference beyond chance was shown (p = 1 "),
    ],
)
def test_sides_are_said_to_differ_where_their_actors_do_by_more_than_chance(
    flipped: list[int], said: str, taxonomy_file: Path
) -> None:
    taxonomy = Taxonomy.load(taxonomy_file)
    actors = [{"name": f"n{number}", "side": f"s{number // 5}", "foe": "x"} for number in range(15)]
    frames = [{"text": f"{{actor}} saw storm {number}.", "labels": ["storm"]} for number in range(20)]
    asked = probes.fill(ActorFile.model_validate({"confusions": [], "actors": actors, "frames": frames}))
    given = answers(taxonomy, *(("frost",) if int(probe.actor[1:]) in flipped else ("storm",) for probe in asked))
    figures = robustness.actor_figures(asked, given, [], taxonomy)
    assert robustness.cautions({"actors": figures})[0].startswith(said)
    # Of figures that an earlier version measured.
    older = {name: value for name, value in figures.items() if name != "sides_differ_p"}
    assert robustness.cautions({"actors": older})[0].startswith("No difference beyond chance was shown between sides:")


def test_lengths_stand_from_the_shortest_to_the_longest_and_no_region_is_called_nowhere(taxonomy_file: Path) -> None:
    bands, nothing = ["41-75", "to 10", "26-40", "11-25"], np.zeros((4, 4), dtype=np.bool_)
    found = robustness.kind_figures("words", bands, nothing, nothing, ["sport"] * 4, samples=10)
    assert list(found) == ["to 10", "11-25", "26-40", "41-75"]
    regions = robustness.kind_figures("region", ["Nowhere", "Asia"] * 2, nothing, nothing, ["sport"] * 4, samples=10)
    shown = [row[1] for row in robustness._kinds_grid({"region": regions}).rows]
    assert shown == ["Asia", "no country"]


def test_every_text_has_its_place_in_each_kind(trained_run: Run) -> None:
    figures = trained_run.figures()["evaluate"]["robustness"]
    for kind in ("register", "region", "words"):
        assert sum(row["texts"] for row in figures["kinds"][kind].values()) == 100
    assert figures["altered"]["lower case"]["changed"] < 0.05, (
        "the tokenizer reads lower case; the language check may not"
    )
    assert {"swapped", "actors", "no_event"}.isdisjoint(figures), "they need a folder"


def test_hand_written_sets_of_labels_that_a_release_lacks_are_left_out(
    trained_run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    from tocsin_training.corpus import label_matrix, load_corpus

    classifier = EventClassifier.load(trained_run.release)
    records = load_corpus(trained_run.settings().data.corpus)["test"].select(range(20))
    scores = classifier.score_batch(list(records["text"]))
    truth = label_matrix(list(records["labels"]), classifier.taxonomy)
    sets = probes.read_sets(SHIPPED)
    figures = robustness.measure_robustness(classifier, records, scores, truth, sets=sets, bootstrap_samples=10)
    assert "actors" not in figures
    assert "no label" in caplog.text
    assert figures["no_event"]["all"]["texts"] == len(sets.no_event)
    assert robustness.grids(figures)


def test_the_shipped_sets_are_sound() -> None:
    taxonomy = Taxonomy.load(TAXONOMY)
    file, plain = probes.read_actors(SHIPPED), probes.read_no_event(SHIPPED)
    asked = probes.fill(file)
    named = {name for probe in asked for name in probe.labels}
    named |= {name for swap in probes.read_swaps(SHIPPED) for name in swap.only}
    assert named <= set(taxonomy.names)
    assert {parent for confusion in file.confusions for parent in (confusion.truth, confusion.answer)} <= {
        parent.name for parent in taxonomy.event_types
    }
    assert len(file.frames) >= 60 and len({actor.side for actor in file.actors}) >= 5
    assert len({text.text for text in plain}) == len(plain) >= 300
    assert min([text.domain for text in plain].count(domain) for domain in {text.domain for text in plain}) >= 30


def test_nothing_of_the_shipped_sets_is_in_the_corpus() -> None:
    lines, _ = read_lines(ROOT / "datasets" / "corpus")
    filled = (probe.text for probe in probes.fill(probes.read_actors(SHIPPED)))
    texts = list(dict.fromkeys((*filled, *(plain.text for plain in probes.read_no_event(SHIPPED)))))
    assert list(leaks(lines, texts)) == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("actors = [", "not a TOML file"),
        ("frames = []\nactors = []", "actors"),
        (
            '[[actors]]\nname = "a"\nside = "s"\nfoe = "f"\n[[actors]]\nname = "b"\nside = "s"\nfoe = "f"\n'
            '[[frames]]\ntext = "Nobody."\nlabels = []\n',
            "no {actor}",
        ),
        (
            '[[actors]]\nname = "a"\nside = "s"\nfoe = "f"\n[[actors]]\nname = "b"\nside = "s"\nfoe = "f"\n'
            '[[frames]]\ntext = "{actor} left."\n[frames.by_side]\nt = []\n',
            "side that no actor has: t",
        ),
    ],
)
def test_a_faulty_set_is_refused_by_the_name_of_its_fault(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "actors.toml").write_text(content)
    with pytest.raises(InputError, match=complaint):
        probes.read_actors(tmp_path)


def test_a_faulty_line_of_plain_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "no_event.jsonl").write_text(json.dumps({"text": "Rain.", "domain": "weather"}) + "\n{}\n")
    with pytest.raises(InputError, match=r"no_event\.jsonl:2"):
        probes.read_no_event(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        probes.read_no_event(tmp_path / "none")
