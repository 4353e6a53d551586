"""A small corpus with labels of its own and a tiny model trained on it once per session."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tocsin_training.config import Settings
from tocsin_training.pipeline import train
from tocsin_training.run import Run

# Labels that no shipped file names: the rooms must not know any by heart.
TAXONOMY = """
[[event_types]]
name = "Weather"
[[event_types]]
name = "Harvest"
"""
LABEL = """
[[labels]]
label = "{label}"
name = "{label}"
sub_event_type = "{label} type"
event_type = "{parent}"
disorder_type = "None"
definition = "A text that says {label}."
"""
LABELS = {"storm": "Weather", "frost": "Weather", "wheat": "Harvest", "apple": "Harvest"}
_WORDS = """
the town people river morning said after road hill north several market officials quiet school evening near house south
bridge old local water field reported two three group late week station village small office many letter through valley
council member home garden winter summer friend paper early square radio number light street
"""
WORDS = _WORDS.split()


def pytest_configure(config: pytest.Config) -> None:
    # Third parties' own business.
    for line in (
        "ignore::DeprecationWarning:torch",
        "ignore::FutureWarning:torch",
        "ignore::DeprecationWarning:onnxscript",
        "ignore::DeprecationWarning:datasets",
        "ignore::DeprecationWarning:multiprocess",
        "ignore::DeprecationWarning:mlflow",
    ):
        config.addinivalue_line("filterwarnings", line)


def make_record(number: int, batch: str, rng: random.Random) -> dict[str, Any]:
    """A record whose labels are exactly the label words that its text holds."""
    labels = sorted(rng.sample(sorted(LABELS), rng.choice((0, 1, 1, 2))))
    words = rng.sample(WORDS, 10)
    for label in labels:
        words.insert(rng.randrange(len(words)), label)
    record: dict[str, Any] = {
        "id": f"{batch}-{number:04}",
        "text": " ".join(words).capitalize() + ".",
        "labels": labels,
        "register": "wire",
        "country": "XXX",
        "decade": "2020s",
        "batch": batch,
        "annotations": {"writer": labels, "second": labels},
    }
    return record if labels else record | {"reason": rng.choice(("sport", "planned"))}


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


@pytest.fixture(scope="session")
def taxonomy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("taxonomy") / "taxonomy.toml"
    path.write_text(TAXONOMY + "".join(LABEL.format(label=label, parent=LABELS[label]) for label in LABELS))
    return path


@pytest.fixture(scope="session")
def sound_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    sizes = {"train/one": 160, "train/two": 160, "validation/three": 100, "test/four": 100}
    rng = random.Random(7)
    for name, size in sizes.items():
        batch = name.partition("/")[2]
        write_jsonl(folder / f"{name}.jsonl", [make_record(number, batch, rng) for number in range(1, size + 1)])
    return folder


@pytest.fixture
def corpus(sound_corpus: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(sound_corpus, tmp_path / "corpus"))


@pytest.fixture(scope="session")
def settings(sound_corpus: Path, taxonomy_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.model_validate(
        {
            "name": "toy",
            "runs": tmp_path_factory.mktemp("runs"),
            "data": {"corpus": sound_corpus, "taxonomy": taxonomy_file},
            "model": {"base": "tiny", "max_tokens": 32},
            "export": {"window_overlap": 8},
            "finetune": {
                "epochs": 8,
                "batch_size": 16,
                "learning_rate": 5e-3,
                "head_learning_rate_multiple": 3,
                "freeze_word_embeddings": False,
                "threads": 1,
                "device": "cpu",
            },
            "screen": {"events_lost": 0.1},
            "verify": {"int8_f1_cost": 0.05},
            "evaluate": {"bootstrap_samples": 100, "threads": 1},
        }
    )


@pytest.fixture(scope="session")
def console() -> Console:
    return Console(stderr=True)


@pytest.fixture(scope="session")
def trained_run(settings: Settings, console: Console) -> Run:
    """The whole chain, run once. Read only; `run_copy` is for tests that change something."""
    return train(settings, "toy", console)


@pytest.fixture
def run_copy(trained_run: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(trained_run.folder, tmp_path / "run")))


@pytest.fixture
def test_texts(trained_run: Run) -> list[str]:
    lines = (trained_run.settings().data.corpus / "test" / "four.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.fixture
def edit_line() -> Callable[..., None]:
    """Change fields of one record (numbered from 1) in a JSONL file; a value of ... takes the field away."""

    def edit(path: Path, number: int, **changes: object) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        record = json.loads(lines[number - 1]) | changes
        lines[number - 1] = json.dumps({key: value for key, value in record.items() if value is not ...})
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    return edit


@pytest.fixture
def save_model() -> Callable[..., Path]:
    """Write a tiny model with weights of its own into a folder, as a run's model/ is."""
    import torch

    from tocsin_training.base import resolve_base
    from tocsin_training.model import EventModel, load_encoder, load_tokenizer

    def save(folder: Path, seed: int, labels: int = 3) -> Path:
        base = resolve_base("tiny", scratch=folder / "base")
        torch.manual_seed(seed)
        model = EventModel(encoder=load_encoder(base.path), labels=labels)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        model.save(folder)
        load_tokenizer(base.path).save_pretrained(folder)
        return folder

    return save
