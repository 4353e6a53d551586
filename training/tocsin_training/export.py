"""Stage 3: the PyTorch model as an ONNX graph, its int8 form, and the release folder around it.

Two folders come out: the release (int8) and its fp32 twin, alike in all but the graph, so that ``verify`` can compare
the two through the very code that users run.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from tocsin.calibration import Calibration
from tocsin.encoder import open_session
from tocsin.lineage import Lineage
from tocsin.release import LAYOUT, BaseModelInfo, CorpusInfo, Manifest, Quantization, write_manifest
from tocsin.taxonomy import Taxonomy
from tocsin_training.base import BaseModel
from tocsin_training.config import Settings
from tocsin_training.graph import merge_products
from tocsin_training.lineage import lineage
from tocsin_training.model import EventModel, load_tokenizer
from tocsin_training.run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_log = logging.getLogger(__name__)

OPSET = 20
# Half of what verify allows; fusions of all-mpnet-base-v2 reorder sums and move logits by 2e-5 without being wrong.
FUSION_TOLERANCE = 5e-5
# Of different lengths: traced without padding, the exporter takes the mask for all ones and drops it from the graph
# (logits of padded batches were then off by 0.07).
TRACE_TEXTS = ("Shells fell.", "Shells fell on the market before dawn, and residents fled the town for the hills.")
VERSIONED = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "scikit-learn",
    "tocsin",
)


def export_graph(model: EventModel, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Write the model as an fp32 ONNX graph with free batch and sequence dimensions."""
    inputs = tokenizer(list(TRACE_TEXTS), padding=True, return_tensors="pt")
    batch = torch.export.Dim("batch", min=1, max=4096)
    sequence = torch.export.Dim("sequence", min=1, max=512)
    # It would say four times that torchvision, which nothing here needs, is not installed.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch's own exporter still calls what torch deprecates.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model.eval(),
            (inputs["input_ids"], inputs["attention_mask"]),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes={
                "input_ids": {0: batch, 1: sequence},
                "attention_mask": {0: batch, 1: sequence},
            },
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    program.save(str(path))


def fuse_graph(source: Path, target: Path, *, heads: int, hidden: int, vocabulary: int) -> bool:
    """Write the graph with the fusions that make it faster, or unchanged where they would change its answers.

    onnxruntime's own for transformers, but for the sum before a norm: its fused kernel takes five times as long on a
    CPU as a sum and a norm do, so the encoder keeps onnxruntime from making it at load time, too.

    :return: whether the fusions were kept.
    """
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.enable_skip_layer_norm = options.enable_bias_skip_layer_norm = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fused = optimizer.optimize_model(
            str(source), model_type="bert", num_heads=heads, hidden_size=hidden, optimization_options=options
        )
    merge_products(fused.model)
    fused.save_model_to_file(str(target))
    difference = float(np.abs(_probe(source, vocabulary) - _probe(target, vocabulary)).max())
    if difference <= FUSION_TOLERANCE:
        return True
    _log.warning("fusions move logits by %.1e: the graph is left as it was exported", difference)
    shutil.copyfile(source, target)
    return False


def _probe(path: Path, vocabulary: int) -> NDArray[np.float32]:
    """Logits for a padded batch of fixed token ids below ``vocabulary``."""
    session = open_session(path)
    ids = np.random.default_rng(0).integers(vocabulary // 10, vocabulary, size=(4, 24), dtype=np.int64)
    mask = (np.arange(24) < np.array([[24], [11], [5], [17]])).astype(np.int64)
    (logits,) = session.run(["logits"], {"input_ids": ids * mask, "attention_mask": mask})
    result: NDArray[np.float32] = logits
    return result


def quantize_graph(source: Path, target: Path) -> None:
    """Write the graph with int8 weights, a scale for each output channel; activations are quantized as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with with_shapes(source) as inferred:
        quantize_dynamic(str(inferred), str(target), weight_type=QuantType.QInt8, per_channel=True)


@contextmanager
def with_shapes(graph: Path) -> Iterator[Path]:
    """A copy with the shapes that onnxruntime's quantization asks for, or it logs advice through the root logger."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as scratch:
        inferred = Path(scratch) / "inferred.onnx"
        quant_pre_process(str(graph), str(inferred), skip_symbolic_shape=True)
        yield inferred


def assemble(folder: Path, *, graph: Path, model: Path, taxonomy: Path, manifest: Manifest) -> None:
    """Put a release folder together around a graph; uncalibrated, and with a card that says so."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(graph, folder / LAYOUT.model)
    shutil.copyfile(taxonomy, folder / LAYOUT.taxonomy)
    labels = Taxonomy.load(taxonomy).names
    _write_tokenizer(load_tokenizer(str(model)), folder)
    _write_config(model, labels, folder / LAYOUT.config)
    Calibration.identity(len(labels)).save(folder / LAYOUT.calibration)
    (folder / LAYOUT.card).write_text(
        f"# {manifest.name} {manifest.version}\n\nNot calibrated yet.\n", encoding="utf-8"
    )
    write_manifest(folder, manifest)


def _write_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    # Windows are the library's business: cut-off and padding baked into the file would work in silence.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    with TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        for name in (LAYOUT.tokenizer, LAYOUT.tokenizer_config):
            shutil.copyfile(Path(scratch) / name, folder / name)


def _write_config(model: Path, labels: tuple[str, ...], target: Path) -> None:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config |= {
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
        "problem_type": "multi_label_classification",
    }
    config.pop("_name_or_path", None)
    target.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def make_manifest(
    settings: Settings, base: BaseModel, corpus: CorpusInfo, quantization: Quantization, origin: Lineage
) -> Manifest:
    """Where the release comes from; hashes of its files and metrics are added later."""
    return Manifest(
        name=settings.name,
        version=settings.version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        base_model=BaseModelInfo(name=base.name, sha256=base.sha256),
        corpus=corpus,
        seed=settings.finetune.seed,
        quantization=quantization,
        window_tokens=settings.model.max_tokens,
        window_overlap=settings.export.window_overlap,
        languages=settings.export.languages,
        versions=package_versions(),
        lineage=origin,
    )


def package_versions() -> dict[str, str]:
    """Versions of the packages that make a release what it is."""
    found = {}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main(run: Run, base: BaseModel) -> None:
    """Export the run's model and assemble the release and its fp32 twin."""
    settings = run.settings()
    figures = run.figures()["prepare"]
    origin = lineage(settings, figures["corpus_sha256"])
    corpus = CorpusInfo(
        sha256=figures["corpus_sha256"],
        records=origin.data.records["train"],
        # Runs prepared before the two were told apart do not have it.
        augmented=figures.get("augmented", 0),
    )
    with TemporaryDirectory(dir=run.folder) as scratch:
        exported, fp32, int8 = (Path(scratch) / f"{name}.onnx" for name in ("exported", "fp32", "int8"))
        model = EventModel.load(run.model)
        export_graph(model, load_tokenizer(str(run.model)), exported)
        size = model.encoder.config
        fused = settings.export.fuse and fuse_graph(
            exported, fp32, heads=size.num_attention_heads, hidden=size.hidden_size, vocabulary=size.vocab_size
        )
        if not settings.export.fuse:
            shutil.copyfile(exported, fp32)
        quantize_graph(fp32, int8)
        kinds: list[tuple[Path, Path, Quantization]] = [
            (run.reference, fp32, "fp32"),
            (run.release, int8, "int8-dynamic"),
        ]
        for folder, graph, quantization in kinds:
            manifest = make_manifest(settings, base, corpus, quantization, origin)
            # What later stages put into an earlier release belongs to that one.
            shutil.rmtree(folder, ignore_errors=True)
            assemble(folder, graph=graph, model=run.model, taxonomy=settings.data.taxonomy, manifest=manifest)
    sizes = {folder.name: (folder / LAYOUT.model).stat().st_size for folder in (run.reference, run.release)}
    run.record("export", {"fused": fused, "opset": OPSET, "model_bytes": sizes})
    _log.info("exported; int8 graph %.1f MB", sizes[run.release.name] / 1e6)
