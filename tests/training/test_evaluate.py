from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from tocsin.errors import InputError
from tocsin.lineage import DataFile
from tocsin.release import LAYOUT, CorpusInfo, Manifest, read_manifest
from tocsin.taxonomy import Taxonomy
from tocsin_training.card import render_card
from tocsin_training.evaluate import evaluate, tables
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
    for name in ("weighted_f1", "macro_f1", "micro_f1", "exact_match", "ece", "ece_no_event", "top_answer_accuracy"):
        assert 0 <= figures[name] <= 1
    for name in ("weighted_f1", "macro_f1"):
        low, high = figures["intervals"][name]
        assert low <= figures[name] <= high
    assert sum(row["support"] for row in figures["labels"].values()) > 50
    assert figures["false_alarms"]["all"]["texts"] == figures["texts_without_event"]


def test_an_unknown_split_is_refused(trained_run: Run) -> None:
    with pytest.raises(InputError, match="no split 'dev'"):
        evaluate(trained_run.release, trained_run.settings().data, split="dev")


def test_evaluation_needs_no_torch(trained_run: Run) -> None:
    code = """
import sys
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
    assert isinstance(alarms, Table)
    assert summary.row_count > 8
    assert list(labels.columns[0].cells) == ["storm", "frost", "wheat", "apple"]
    assert {"all", "sport", "planned"} == set(alarms.columns[0].cells)


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
        assert row == pytest.approx(measured[name], abs=1e-4)


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


def render_as(run: Run, *, data: dict[str, object] | None = None, **changed: object) -> str:
    """The card of a run whose manifest said something else, of its data too."""
    figures, manifest = run.figures(), read_manifest(run.release)
    assert manifest.lineage is not None
    told = manifest.lineage.data.model_copy(update=data or {})
    lineage = manifest.lineage.model_copy(update={"data": told})
    other = manifest.model_copy(update={"lineage": lineage, **changed})
    taxonomy = Taxonomy.load(run.release / LAYOUT.taxonomy)
    return render_card(other, taxonomy, figures["evaluate"], figures["verify"], size=10**6)


@pytest.mark.parametrize("counts", [{"records": 320, "augmented": 112}, {"records": 432}])
def test_the_card_counts_records_and_names_what_was_made_of_them_apart(
    counts: dict[str, int], trained_run: Run
) -> None:
    card = render_as(trained_run, corpus=CorpusInfo(sha256="0" * 64, **counts))
    assert "320 records of" in card and "112 more texts were made of them" in card
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


def test_the_weakest_labels_are_among_those_that_were_measured(trained_run: Run) -> None:
    figures, taxonomy = trained_run.figures(), Taxonomy.load(trained_run.release / LAYOUT.taxonomy)
    labels = dict(figures["evaluate"]["labels"])
    labels["storm"] = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0.0}
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


def test_the_card_speaks_of_the_benchmark_only_when_it_was_measured(trained_run: Run) -> None:
    figures = trained_run.figures()
    manifest = Manifest.model_validate_json((trained_run.release / LAYOUT.manifest).read_bytes())
    taxonomy = Taxonomy.load(trained_run.release / LAYOUT.taxonomy)
    case = {"texts": 7, "forced_weighted_f1": 0.811, "abstaining_weighted_f1": 0.7, "no_event_recall": 0.9}
    without = render_card(manifest, taxonomy, figures["evaluate"], figures["verify"], size=10**6)
    with_case = render_card(manifest, taxonomy, figures["evaluate"] | {"case2021": case}, figures["verify"], size=10**6)
    assert "CASE" not in without
    assert "0.811" in with_case
