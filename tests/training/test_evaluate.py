from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.table import Table

from tocsin import EventClassifier
from tocsin.errors import InputError
from tocsin.lineage import DataFile, Lineage, StartLineage
from tocsin.release import LAYOUT, CorpusInfo, Manifest, read_manifest
from tocsin.taxonomy import Taxonomy
from tocsin_training.benchmark import NO_EVENT, Benchmark
from tocsin_training.card import PICTURES, render_card, write_evaluation
from tocsin_training.corpus import label_matrix, load_corpus
from tocsin_training.distil import mean_of, text_hash
from tocsin_training.errors import BaseModelError, ConfigError
from tocsin_training.evaluate import (
    CASE,
    HEADLINES,
    case_figures,
    case_grid,
    evaluate,
    rivals_grid,
    split_figures,
    tables,
)
from tocsin_training.lineage import lineage
from tocsin_training.report import Grid, percent
from tocsin_training.run import Run


def test_a_release_folder_alone_gives_the_figures_of_its_run(trained_run: Run, tmp_path: Path) -> None:
    figures = evaluate(
        trained_run.release, trained_run.settings().data, plot_folder=tmp_path / "plots", bootstrap_samples=100
    )
    assert json.loads(json.dumps(figures)) == trained_run.figures()["evaluate"]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "confusion_matrix.png",
        "reliability.png",
        "risk_coverage.png",
        "robustness.png",
    ]


def test_every_figure_is_within_its_bounds(trained_run: Run) -> None:
    figures = trained_run.figures()["evaluate"]
    for name in HEADLINES:
        assert 0 <= figures[name] <= 1
    values = figures | figures["review"] | {"review_share": figures["review"]["share"]}
    # Where there is no foreign text, its share is none and every share is possible.
    values |= {"own_flagged_as_other": figures["language"]["own_flagged_as_other"], "other_flagged": 0.0}
    for name, (low, high) in figures["intervals"].items():
        assert 0 <= low <= values[name] <= high <= 1, name
    for row in figures["objectives"].values():
        for name in ("recall", "false_alarms"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert {*HEADLINES, "review_share", "accuracy_of_the_others"} <= figures["intervals"].keys()
    for row in figures["labels"].values():
        assert row["low"] <= row["f1"] <= row["high"]
        for name in ("precision", "recall"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert sum(row["support"] for row in figures["labels"].values()) > 50
    assert figures["false_alarms"]["all"]["texts"] == figures["texts_without_event"]


def test_the_card_tells_what_is_answered_where_a_text_has_several_events(trained_run: Run) -> None:
    figures = trained_run.figures()["evaluate"]
    records = load_corpus(trained_run.settings().data.corpus)["test"]
    found = figures["several_events"]
    assert found["texts"] == sum(len(labels) > 1 for labels in records["labels"]) > 0
    first = f"the record names first in {percent(found['main_first']['value'])}"
    assert first in card_with(trained_run, **figures)
    # Of a run that was measured before this was.
    assert "several events, the first answer" not in card_with(trained_run, **figures | {"several_events": None})


def test_what_calibration_does_is_told_of_the_same_answers(trained_run: Run) -> None:
    figures = trained_run.figures()["evaluate"]
    summary = tables(figures)[0]
    assert isinstance(summary, Table)
    rows = dict(zip(summary.columns[0].cells, summary.columns[1].cells, strict=True))
    assert rows["ece of the same labels, uncalibrated"] == f"{figures['calibration']['uncalibrated']['ece']:.3f}"
    assert figures["calibration"]["calibrated"]["ece"] == pytest.approx(figures["ece"], abs=1e-6)
    # Of a run that was measured before this was.
    older = tables({name: value for name, value in figures.items() if name != "calibration"})[0]
    assert isinstance(older, Table) and older.row_count == summary.row_count - 3


def test_the_bins_of_the_picture_are_written_and_make_the_calibration_errors(trained_run: Run) -> None:
    figures = trained_run.figures()["evaluate"]
    errors = (figures[name] for name in ("ece", "ece_event_types", "ece_no_event"))
    for (name, rows), error in zip(figures["reliability"].items(), errors, strict=True):
        texts = sum(row["n"] for row in rows)
        assert sum(row["n"] * abs(row["stated"] - row["held"]) for row in rows) / texts == pytest.approx(error), name
        assert all(row["low"] <= row["held"] <= row["high"] for row in rows)


def test_an_event_type_is_held_against_whether_any_of_its_labels_is_true(trained_run: Run) -> None:
    classifier = EventClassifier.load(trained_run.release)
    told = classifier.score_batch(["The storm came.", "Wheat grew."])
    # Storm is given where frost is true, of one event type; where wheat is given nothing of the kind is.
    given = label_matrix([["storm"], ["wheat"]], classifier.taxonomy)
    truth = label_matrix([["frost"], ["storm"]], classifier.taxonomy)
    stated = np.array([[0.9, 0.1], [0.1, 0.6]], dtype=np.float32)
    scores = replace(told, given=given, event_type_probabilities=stated)
    figures = split_figures(scores, truth, [None, None], bootstrap_samples=10)
    assert figures["ece_event_types"] == pytest.approx((0.1 + 0.6) / 2)


def test_an_unknown_split_is_refused(trained_run: Run) -> None:
    with pytest.raises(InputError, match="no split 'dev'"):
        evaluate(trained_run.release, trained_run.settings().data, split="dev")


def test_evaluation_needs_no_torch(trained_run: Run) -> None:
    code = """
import sys
from collections.abc import Callable, Sequence
from tocsin_training.config import load_settings
from tocsin_training.evaluate import evaluate
data = load_settings(sys.argv[1]).data
print(evaluate(sys.argv[2], data, bootstrap_samples=10)["texts"], {"torch", "transformers"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(trained_run.config), str(trained_run.release)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "100 set()", done.stderr


def test_tables_show_every_label_and_reason(trained_run: Run) -> None:
    summary, labels, alarms, *_ = tables(trained_run.figures()["evaluate"])
    assert isinstance(summary, Table)
    assert isinstance(labels, Table)
    assert isinstance(alarms, Grid)
    assert summary.row_count > 8
    assert list(labels.columns[0].cells) == ["storm", "frost", "wheat", "apple"]
    assert {"all", "sport", "planned"} == {row[0] for row in alarms.rows}


def test_the_card_has_a_hugging_face_header_and_the_measured_figures(trained_run: Run) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(trained_run.release / LAYOUT.card)
    figures = trained_run.figures()["evaluate"]
    assert card.data.license == "other", "nobody stated the data's licence"
    assert card.data.language == ["en"]
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.base_model == "tiny-random-bert"
    assert card.data.eval_results[0].metric_value == pytest.approx(figures["weighted_f1"], abs=1e-4)
    for said in (f"{figures['weighted_f1']:.3f}", f"{figures['ece']:.3f}", "`storm`", "English"):
        assert said in card.text


def test_the_manifest_has_the_figures_of_every_label(trained_run: Run) -> None:
    recorded = read_manifest(trained_run.release).metrics["labels"]
    measured = trained_run.figures()["evaluate"]["labels"]
    assert recorded.keys() == measured.keys()
    for name, row in recorded.items():
        assert {"precision", "recall", "f1", "support"} == row.keys()
        assert row == pytest.approx({key: measured[name][key] for key in row}, abs=1e-4)


def test_the_card_says_of_the_data_what_the_recipe_states_and_no_more(trained_run: Run) -> None:
    figures = trained_run.figures()
    manifest = Manifest.model_validate_json((trained_run.release / LAYOUT.manifest).read_bytes())
    taxonomy = Taxonomy.load(trained_run.release / LAYOUT.taxonomy)
    assert manifest.lineage is not None
    silent = render_card(manifest, taxonomy, figures["evaluate"], figures["verify"], size=10**6)
    assert "320 records of" in silent and "none stated" in silent
    assert "language models" not in silent
    told = manifest.lineage.data.model_copy(update={"description": "Songs of the sea.", "licence": "CC0"})
    stated = manifest.model_copy(update={"lineage": manifest.lineage.model_copy(update={"data": told})})
    card = render_card(stated, taxonomy, figures["evaluate"], figures["verify"], size=10**6)
    assert "Songs of the sea." in card and "CC0" in card


def test_the_card_of_a_model_that_went_on_tells_what_was_learned_before(
    trained_run: Run, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    manifest, settings = read_manifest(trained_run.release), trained_run.settings()
    assert manifest.lineage is not None and manifest.lineage.started_from is None

    def gone_on(start: Path) -> tuple[Lineage, str]:
        model = settings.model.model_copy(update={"start": start})
        origin = lineage(settings.model_copy(update={"model": model}), manifest.corpus.sha256)
        return origin, render_as(trained_run, lineage=origin)

    origin, card = gone_on(trained_run.model)
    assert origin.started_from is not None
    assert origin.started_from.records == {"train": 320, "validation": 100, "test": 100}
    assert f"had read 320 records when it was last trained (corpus sha256 `{manifest.corpus.sha256}`" in card
    _, card = gone_on(save_model(tmp_path / "bare" / "model", 0))
    assert "went on from a trained model; what that had learned from is not recorded" in card
    assert "went on" not in render_as(trained_run)


def render_as(
    run: Run, *, data: dict[str, object] | None = None, recipe: dict[str, Any] | None = None, **changed: object
) -> str:
    """The card of a run whose manifest said something else, of its data and its recipe too."""
    figures, manifest = run.figures(), read_manifest(run.release)
    assert manifest.lineage is not None
    told = manifest.lineage.data.model_copy(update=data or {})
    settings = manifest.lineage.settings | (recipe or {})
    lineage = manifest.lineage.model_copy(update={"data": told, "settings": settings})
    other = manifest.model_copy(update={"lineage": lineage, **changed})
    taxonomy = Taxonomy.load(run.release / LAYOUT.taxonomy)
    return render_card(other, taxonomy, figures["evaluate"], figures["verify"], size=10**6)


@pytest.mark.parametrize("counts", [{"records": 320, "augmented": 112}, {"records": 432}])
def test_the_card_counts_records_and_names_what_was_made_of_them_apart(
    counts: dict[str, int], trained_run: Run
) -> None:
    card = render_as(trained_run, corpus=CorpusInfo(sha256="0" * 64, **counts))
    assert "320 records of" in card and "112 more texts were made of them and learned too" in card
    recipe: dict[str, object] = {"augment": {"joined_share": 0.1, "slips_share": 0.0, "cut_share": 0.2, "seed": 3}}
    told = render_as(trained_run, recipe=recipe, corpus=CorpusInfo(sha256="0" * 64, **counts))
    assert "112 more texts were made of them (two joined, cut off) and learned too" in told
    assert "more texts" not in render_as(trained_run), "nothing was augmented"


@pytest.mark.parametrize(
    ("licence", "said"),
    [("CC-BY-4.0", "apache-2.0"), ("our own reports, not to be shared", "other"), ("CC-BY-SA-4.0", "other")],
)
def test_the_weights_are_ours_to_license_only_where_the_data_s_licence_allows_it(
    licence: str, said: str, trained_run: Run
) -> None:
    own = render_as(trained_run, data={"licence": licence})
    assert f"license: {said}\n" in own
    file = DataFile(name="own.csv", layout="ACLED", rows=9, sha256="0" * 64)
    assert "license: other\n" in render_as(trained_run, data={"licence": licence, "files": (file,)})


@pytest.mark.parametrize(("licence", "said"), [("CC-BY-4.0", "apache-2.0"), ("CC-BY-NC-4.0", "other"), (None, "other")])
def test_nor_are_weights_that_went_on_from_a_model_whose_data_s_licence_does_not(
    licence: str | None, said: str, trained_run: Run
) -> None:
    origin = read_manifest(trained_run.release).lineage
    assert origin is not None
    data = origin.data.model_copy(update={"licence": "CC-BY-4.0"})
    start = StartLineage(sha256="0" * 64, corpus_sha256=None, records=None, licence=licence)
    origin = origin.model_copy(update={"data": data, "started_from": start})
    assert f"license: {said}\n" in render_as(trained_run, lineage=origin)


def test_the_weakest_labels_are_among_those_that_were_measured(trained_run: Run) -> None:
    figures, taxonomy = trained_run.figures(), Taxonomy.load(trained_run.release / LAYOUT.taxonomy)
    labels = dict(figures["evaluate"]["labels"])
    labels["storm"] = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "low": 0.0, "high": 1.0, "support": 0.0}
    manifest, changed = read_manifest(trained_run.release), figures["evaluate"] | {"labels": labels}
    card = render_card(manifest, taxonomy, changed, figures["verify"], size=10**6)
    (said,) = (line for line in card.splitlines() if line.startswith("Weakest labels"))
    assert "`storm`" not in said and "`apple`" in said
    none = {name: row | {"support": 0.0} for name, row in labels.items()}
    changed = figures["evaluate"] | {"labels": none}
    assert "Weakest labels" not in render_card(manifest, taxonomy, changed, figures["verify"], size=10**6)


def test_the_card_names_the_languages_of_the_release(trained_run: Run) -> None:
    assert "Reads news text in English and says" in render_as(trained_run)
    other = render_as(trained_run, languages=("fr", "es"))
    assert "Reads news text in French and Spanish and says" in other and "French and Spanish only" in other


def snippets(taxonomy: Taxonomy) -> Benchmark:
    """Texts that say a label's word, and two that say nothing, in a taxonomy that is not ACLED's."""
    said = [(f"The {label.label} came to town.", label.sub_event_type or "", None) for label in taxonomy.labels]
    return Benchmark(*zip(*(said * 5 + [("Quiet school street.", NO_EVENT, "DIPLO")] * 2), strict=True))


@pytest.fixture(scope="module")
def case(trained_run: Run) -> dict[str, Any]:
    classifier = EventClassifier.load(trained_run.release)
    return case_figures(classifier, snippets(classifier.taxonomy), bootstrap_samples=50)


def card_with(run: Run, **figures: object) -> str:
    measured, manifest = run.figures(), read_manifest(run.release)
    taxonomy = Taxonomy.load(run.release / LAYOUT.taxonomy)
    return render_card(manifest, taxonomy, measured["evaluate"] | figures, measured["verify"], size=10**6)


def test_the_card_says_what_happens_on_real_news_where_it_was_measured(trained_run: Run, case: dict[str, Any]) -> None:
    card = card_with(trained_run, case2021=case)
    assert case_grid(case).markdown() in card
    assert (
        f"name: {CASE}" in card.partition("\n---\n")[0] and CASE not in card_with(trained_run).partition("\n---\n")[0]
    )
    low, high = case["intervals"]["forced_weighted_f1"]
    assert f"| {case['forced_weighted_f1']:.3f} | {low:.3f} - {high:.3f} |" in card
    promised, _, _ = card.partition("## Robustness")
    assert f"On {CASE}: " in promised.partition("## Texts not sent to review")[2], "the promise is held against it"
    limits = card.partition("## Limits")[2].partition("## By label")[0]
    assert f"{case['reviewed_share']:.1%} of texts go to review" in limits
    assert f"{1 - case['accuracy_of_the_others']:.1%} of first answers among the others" in limits
    assert "not measured" not in limits


def test_what_is_told_of_real_news_by_kind_and_by_type_is_in_the_tables(trained_run: Run, case: dict[str, Any]) -> None:
    assert case["false_alarms"]["DIPLO"]["texts"] == 2
    mistaken = {"count": 3, "texts": 10, "share": 0.3, "low": 0.1, "high": 0.6}
    measured = case | {"confusions": {"frost first answered as storm": mistaken}}
    rows = {name: cells for name, *cells in case_grid(measured).rows}
    assert "given a label, of 2 texts that the file calls DIPLO" in rows
    assert rows["frost first answered as storm: 3 of 10 texts"] == ["0.300", "0.100 - 0.600"]
    figures = trained_run.figures()["evaluate"]
    by_type = tables(figures | {"case2021": case})[-1]
    assert isinstance(by_type, Table)
    assert set(by_type.columns[0].cells) == {f"{label} type" for label in ("storm", "frost", "wheat", "apple")} | {
        NO_EVENT
    }
    # Of manifests and runs that were measured before this was.
    older = {name: value for name, value in case.items() if name not in ("false_alarms", "confusions", "labels")}
    assert len(case_grid(older).rows) == len(case_grid(measured).rows) - 2
    assert len(tables(figures | {"case2021": older})) == len(tables(figures | {"case2021": case})) - 1


def test_the_card_claims_nothing_of_answers_that_were_all_sent_to_review(
    trained_run: Run, case: dict[str, Any]
) -> None:
    intervals = {name: ends for name, ends in case["intervals"].items() if name != "accuracy_of_the_others"}
    sent = case | {"reviewed_share": 1.0, "accuracy_of_the_others": None, "intervals": intervals}
    limits = card_with(trained_run, case2021=sent).partition("## Limits")[2].partition("## By label")[0]
    said = f"{case['mean_confidence']:.2f} on average are right in {case['read_accuracy']:.2f}."
    assert f"100.0% of texts go to review, and first answers that say {said}" in limits
    assert ("first answers right among the others", "there are none", "") in case_grid(sent).rows


def test_a_table_has_no_interval_where_all_texts_go_to_review(trained_run: Run) -> None:
    classifier, data = EventClassifier.load(trained_run.release), trained_run.settings().data
    records = load_corpus(data.corpus)["test"]
    truth = label_matrix(list(records["labels"]), classifier.taxonomy)
    scores = replace(classifier.score_batch(records["text"]), needs_review=np.ones(len(truth), dtype=np.bool_))
    figures = split_figures(scores, truth, records["reason"], bootstrap_samples=10)
    assert "accuracy_of_the_others" not in figures["intervals"]
    whole = trained_run.figures()["evaluate"] | figures
    summary = tables(whole)[0]
    assert isinstance(summary, Table)
    row = list(summary.columns[0].cells).index("first answer right among the others")
    assert [list(column.cells)[row] for column in summary.columns[1:]] == ["there are none", ""]
    assert "All texts are sent to review." in card_with(trained_run, **whole)


def test_the_card_says_so_where_real_news_was_not_measured(trained_run: Run) -> None:
    card = card_with(trained_run)
    assert f"On {CASE}" not in card and "the best one forced" not in card
    assert "Not measured on real news" in card
    assert "is not measured" in card.partition("## Limits")[2]
    assert "likely to be missed" in card


def test_the_pictures_that_a_card_shows_lie_beside_it(trained_run: Run) -> None:
    shown = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (trained_run.release / LAYOUT.card).read_text())
    assert sorted(shown) == sorted(PICTURES)
    for name in shown:
        assert (trained_run.release / name).read_bytes().startswith(b"\x89PNG")
        assert name in read_manifest(trained_run.release).files


def test_the_card_has_false_alarms_by_reason_and_an_interval_to_every_figure(trained_run: Run) -> None:
    card, figures = card_with(trained_run), trained_run.figures()["evaluate"]
    for reason in ("sport", "planned"):
        row = figures["false_alarms"][reason]
        assert f"| {reason} | {row['share']:.1%} | {row['low']:.1%} - {row['high']:.1%} | {row['texts']} |" in card
    table = card.partition("## Figures")[2].partition("Intervals are")[0]
    assert len(re.findall(r"\d\.\d{3} - \d\.\d{3} \|", table)) == len(HEADLINES)


@pytest.mark.parametrize(("split", "said"), [("train", "learned from these very texts"), ("validation", "were fitted")])
def test_a_card_of_another_split_says_what_that_split_is(split: str, said: str, trained_run: Run) -> None:
    assert said in card_with(trained_run, split=split)


def test_an_evaluation_writes_figures_and_a_card_that_a_release_alone_gives(trained_run: Run, tmp_path: Path) -> None:
    figures = trained_run.figures()["evaluate"]
    write_evaluation(tmp_path, trained_run.release, figures)
    assert json.loads((tmp_path / "metrics.json").read_text()) == figures
    cost = read_manifest(trained_run.release).metrics["int8_f1_cost"]
    assert f"cost {cost:.4f} in weighted F1 when it was verified" in (tmp_path / "README.md").read_text()


def write_teacher(path: Path, run: Run, *, texts: int | None = None) -> None:
    """A teacher without a mistake, of so many texts of the test split."""
    import pyarrow as pa
    import pyarrow.parquet

    records = load_corpus(run.settings().data.corpus)["test"].select(range(texts or 100))
    truth = label_matrix(list(records["labels"]), Taxonomy.load(run.settings().data.taxonomy))
    table = pa.table(
        {
            "id": list(records["id"]),
            "text_hash": pa.array(map(text_hash, records["text"]), pa.uint64()),
            "logits": list(np.where(truth, 5.0, -5.0).astype(np.float16)),
        }
    )
    pyarrow.parquet.write_table(table, path)


def test_what_distillation_costs_is_measured_where_the_teacher_has_read_the_texts(
    trained_run: Run, tmp_path: Path
) -> None:
    write_teacher(tmp_path / "teacher.parquet", trained_run)
    write_teacher(tmp_path / "part.parquet", trained_run, texts=50)
    data = trained_run.settings().data
    figures = evaluate(
        trained_run.release, data, bootstrap_samples=50, teacher_logits=tmp_path / "teacher.parquet", rivals=True
    )
    teacher = figures["teacher"]
    assert teacher["weighted_f1"] == 1.0 and teacher["false_alarms"] == 0.0
    assert teacher["weighted_f1_cost"] == pytest.approx(1 - figures["weighted_f1"])
    assert teacher["weighted_f1_cost_low"] <= teacher["weighted_f1_cost"] <= teacher["weighted_f1_cost_high"]
    names = [row[0] for row in rivals_grid(figures).rows]
    assert names[0] == figures["model_version"] and len(figures["rivals"]) == 3 and "the teacher" in names[-1]
    card = card_with(trained_run, teacher=teacher, rivals=figures["rivals"])
    assert "against the teacher's 1.000" in card and "TF-IDF, linear SVM" in card
    for lacking in (tmp_path / "part.parquet", tmp_path / "none.parquet"):
        assert "teacher" not in evaluate(trained_run.release, data, bootstrap_samples=10, teacher_logits=lacking)


def test_a_fault_in_what_it_is_measured_on_is_told_before_anything_is_scored(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EventClassifier, "read", lambda *_: pytest.fail("read"))
    data = trained_run.settings().data.model_copy(update={"robustness": tmp_path / "none"})
    with pytest.raises(InputError, match="none"):
        evaluate(trained_run.release, data)


def test_a_teacher_that_cannot_be_held_against_the_release_is_told_before_anything_is_scored(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EventClassifier, "read", lambda *_: pytest.fail("read"))
    data, broken = trained_run.settings().data, tmp_path / "teacher.parquet"
    broken.write_bytes(b"no Parquet")
    with pytest.raises(ConfigError, match="cannot be read as a teacher's logits"):
        evaluate(trained_run.release, data, teacher_logits=broken)
    three = mean_of([trained_run.model], 3, max_tokens=32)
    with pytest.raises(BaseModelError, match="answers with 4 labels; the taxonomy has 3"):
        evaluate(trained_run.release, data, teacher_model=three)
    head, *labels = data.taxonomy.read_text(encoding="utf-8").split("[[labels]]")
    turned = tmp_path / "turned.toml"
    turned.write_text("[[labels]]".join([head, *reversed(labels)]), encoding="utf-8")
    other, four = data.model_copy(update={"taxonomy": turned}), mean_of([trained_run.model], 4, max_tokens=32)
    with pytest.raises(InputError, match="or not in its order"):
        evaluate(trained_run.release, other, teacher_model=four)


def test_the_teacher_s_model_answers_the_benchmark_which_its_file_does_not(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, case = (
        trained_run.settings().data,
        Benchmark(("A storm.", "Some wheat."), ("storm type", "wheat type"), (None, None)),
    )
    names = Taxonomy.load(data.taxonomy).names

    def answers(texts: Sequence[str]) -> NDArray[np.float32]:
        """One for every label whose name stands in a text."""
        return np.array([[1 if name in text.lower() else -1 for name in names] for text in texts], dtype=np.float32)

    monkeypatch.setattr("tocsin_training.evaluate._benchmark", lambda data, classifier: case)
    figures = evaluate(trained_run.release, data, bootstrap_samples=10, teacher_model=answers)
    assert figures["teacher"]["weighted_f1"] == figures["teacher"]["case_weighted_f1"] == 1.0
    assert rivals_grid(figures).rows[-1] == ("the teacher", "1.000", "1.000", "0.000", "1.000")
    write_teacher(tmp_path / "teacher.parquet", trained_run)
    from_file = evaluate(trained_run.release, data, bootstrap_samples=10, teacher_logits=tmp_path / "teacher.parquet")
    name, *cells = rivals_grid(from_file).rows[-1]
    assert "CASE takes its model: --teacher-model" in name and cells[-1] == ""
