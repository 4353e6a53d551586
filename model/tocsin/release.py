"""The release folder: everything a prediction depends on, hashed and checked before use.

The ONNX graph takes ``input_ids`` and ``attention_mask``, int64 of shape (batch, sequence), and gives ``logits``,
float32 of shape (batch, labels), in the taxonomy's order. Nothing in a release is code and nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tocsin.calibration import Calibration
from tocsin.drift import Profile
from tocsin.errors import ReleaseError, first_fault
from tocsin.lineage import ForcedPromotion, Lineage
from tocsin.screen import Screen
from tocsin.taxonomy import Taxonomy


@dataclass(frozen=True)
class Layout:
    """Names of a release's files. Whatever else lies in its folder is no part of it."""

    model: str = "model.onnx"
    tokenizer: str = "tokenizer.json"
    tokenizer_config: str = "tokenizer_config.json"
    taxonomy: str = "taxonomy.toml"
    calibration: str = "calibration.json"
    config: str = "config.json"
    card: str = "README.md"
    profile: str = "profile.json"
    manifest: str = "manifest.json"
    screen: str = "screen.npz"
    """A release can do without it."""
    risk_coverage: str = "risk_coverage.png"
    robustness: str = "robustness.png"
    reliability: str = "reliability.png"
    """Pictures of the card."""

    @property
    def required(self) -> tuple[str, ...]:
        """Files a release cannot do without, the manifest apart. Releases made before there were profiles lack one."""
        return (
            self.model,
            self.tokenizer,
            self.tokenizer_config,
            self.taxonomy,
            self.calibration,
            self.config,
            self.card,
        )


LAYOUT = Layout()
_Part = TypeVar("_Part", Calibration, Profile)

Quantization = Literal["fp32", "int8-dynamic", "int8-static"]
_LFS_POINTER = b"version https://git-lfs"


class BaseModelInfo(BaseModel):
    """The pretrained encoder a release was fine-tuned from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="as its makers call it; none when it was made from scratch")
    sha256: str | None = Field(description="of its safetensors file; none when it was made from scratch")


class CorpusInfo(BaseModel):
    """The training data of a release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(description="of every record's split, id, text and labels")
    records: int = Field(ge=0, description="learned from; older releases count texts made of them, too")
    augmented: int = Field(0, ge=0, description="texts made of the records and learned beside them")


class Manifest(BaseModel):
    """Where a release comes from and what it consists of."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    name: str = Field(description="of the model, without its version")
    version: str = Field(min_length=1, description="of the model")
    created: str = Field(description="ISO 8601, UTC")
    base_model: BaseModelInfo = Field(description="the pretrained encoder it was fine-tuned from")
    corpus: CorpusInfo = Field(description="what it learned from")
    seed: int = Field(description="of the training")
    quantization: Quantization = Field(description="numbers in which the graph computes")
    window_tokens: int = Field(ge=8, le=512, description="longest sequence given to the model at once, in tokens")
    window_overlap: int = Field(ge=0, description="tokens shared by neighbouring windows of a longer text")
    languages: tuple[str, ...] = Field(min_length=1, description="ISO 639-1 codes the model was trained on")
    versions: dict[str, str] = Field(default_factory=dict, description="package -> version used in training")
    metrics: dict[str, Any] = Field(default_factory=dict, description="measured on the test split")
    lineage: Lineage | None = Field(None, description="none in releases made before it was recorded")
    forced: ForcedPromotion | None = Field(None, description="only on a release promoted although it was worse")
    files: dict[str, str] = Field(default_factory=dict, description="file name -> sha256")

    @property
    def release_name(self) -> str:
        """Name and version, as predictions carry it in ``model_version``."""
        return f"{self.name}-{self.version}"

    @model_validator(mode="after")
    def _windows_move_on(self) -> Self:
        if self.window_overlap >= self.window_tokens - 2:
            raise ValueError("window_overlap must be smaller than window_tokens less the two special tokens")
        return self


@dataclass(frozen=True)
class Release:
    """A checked release folder."""

    folder: Path
    manifest: Manifest
    taxonomy: Taxonomy
    calibration: Calibration
    screen: Screen | None = None
    """The first look for `--cascade`, in releases that have one."""
    profile: Profile | None = None
    """How it answered the validation split; none in releases made before that was recorded."""

    @classmethod
    def open(cls, folder: Path | str | None = None) -> Release:
        """Check every hash, then that the parts fit each other.

        :param folder: a release folder; none means the one that ships with this installation.
        :raises ReleaseError: naming the file at fault and what to do.
        """
        folder = default_release_folder() if folder is None else Path(folder)
        try:
            return cls._open(folder)
        except OSError as error:
            # Such as a name that is too long, or a file that others may read and this process may not.
            place = error.filename or folder
            reason = error.strerror or error
            raise ReleaseError(f"{place}: cannot be read: {reason}. Give a release folder that can be.") from error

    @classmethod
    def _open(cls, folder: Path) -> Release:
        if not folder.is_dir():
            raise ReleaseError(f"{folder}: no such release folder. Give the path of a folder that `tocsin train` made.")
        manifest = read_manifest(folder)
        _check_files(folder, manifest)
        taxonomy = Taxonomy.load(folder / LAYOUT.taxonomy)
        calibration = _load(Calibration, folder / LAYOUT.calibration)
        profile = _load(Profile, folder / LAYOUT.profile) if LAYOUT.profile in manifest.files else None
        screen = None
        if LAYOUT.screen in manifest.files:
            screen = Screen.load(folder / LAYOUT.screen, labels=len(taxonomy.labels))
        release = cls(folder, manifest, taxonomy, calibration, screen=screen, profile=profile)
        release._check_fit()
        return release

    @property
    def model_path(self) -> Path:
        """Path of the ONNX graph."""
        return self.folder / LAYOUT.model

    @property
    def tokenizer_path(self) -> Path:
        """Path of the tokenizer."""
        return self.folder / LAYOUT.tokenizer

    @property
    def name(self) -> str:
        """Name and version; see `Manifest.release_name`."""
        return self.manifest.release_name

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, which holds that of every other file: two releases of one digest are the same."""
        return sha256(self.folder / LAYOUT.manifest)

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum((self.folder / name).stat().st_size for name in self.files)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all its files, the manifest last."""
        return (*self.manifest.files, LAYOUT.manifest)

    def require_screen(self) -> Screen:
        """The screen, for a cascade.

        :raises ReleaseError: there is none.
        """
        if self.screen is None:
            raise ReleaseError(
                f"{self.folder}: has no {LAYOUT.screen}, so it cannot score in a cascade. Leave --cascade out, or "
                "take a release that has one; `tocsin train` makes it."
            )
        return self.screen

    @property
    def thresholds(self) -> dict[str, dict[str, float]]:
        """Objective -> label -> the probability from which on the label is given."""
        names, calibration = self.taxonomy.names, self.calibration
        return {
            objective: dict(zip(names, calibration.thresholds_of(objective), strict=True))
            for objective in calibration.objective_names
        }

    @property
    def unlisted(self) -> tuple[str, ...]:
        """What else lies in its folder, such as somebody's notes: not checked, and left behind when it is copied."""
        return tuple(sorted({path.name for path in self.folder.iterdir()} - set(self.files)))

    @property
    def batch_invariant(self) -> bool:
        """Whether a text's logits are the same in whatever batch it travels.

        Not so for dynamic int8: onnxruntime takes one activation scale from the whole batch, so that neighbours and
        padding shift every logit (measured on MiniLM: as far as quantization itself does).
        """
        return self.manifest.quantization != "int8-dynamic"

    def _check_fit(self) -> None:
        labels = self.taxonomy.names
        if len(self.calibration.thresholds) != len(labels):
            raise ReleaseError(
                f"{self.folder}: {LAYOUT.calibration} is for {len(self.calibration.thresholds)} labels, "
                f"{LAYOUT.taxonomy} has {len(labels)}. The parts come from different releases."
            )
        if self.profile is not None and self.profile.labels != labels:
            raise ReleaseError(
                f"{self.folder}: {LAYOUT.profile} counts other labels than {LAYOUT.taxonomy} has. "
                "The parts come from different releases."
            )
        ids = _read_id2label(self.folder / LAYOUT.config)
        order = tuple(ids.get(str(index), "") for index in range(len(ids)))
        if order != labels:
            raise ReleaseError(
                f"{self.folder}: the label order in {LAYOUT.config} is not that of {LAYOUT.taxonomy}. "
                "Every answer would carry a wrong label; train or copy the release anew."
            )


def default_release_folder() -> Path:
    """The release in the wheel, or in a checkout the one beside the library's folder."""
    here = Path(__file__).resolve().parent
    packaged = here / "release"
    return packaged if packaged.is_dir() else here.parent / "release"


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Hash a release's files into the manifest and write it, last, so that its presence means the release is complete.

    Only files that the layout names, for notes that were put beside them are not to travel with it.

    :raises ReleaseError: a required file is missing.
    """
    for name in LAYOUT.required:
        if not (folder / name).is_file():
            raise ReleaseError(f"{folder}: {name} is missing; the release is not complete")
    complete = manifest.model_copy(update={"files": {name: sha256(folder / name) for name in parts(folder)}})
    (folder / LAYOUT.manifest).write_text(complete.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return complete


def parts(folder: Path) -> tuple[str, ...]:
    """Names of a release's files that a folder holds, the manifest apart."""
    return tuple(sorted(name for name in astuple(LAYOUT) if name != LAYOUT.manifest and (folder / name).is_file()))


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_id2label(path: Path) -> dict[str, str]:
    try:
        ids = json.loads(path.read_bytes())["id2label"]
        return {str(index): str(label) for index, label in ids.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReleaseError(f"{path}: has no table id2label of label names; copy the release folder again") from error


def read_manifest(folder: Path) -> Manifest:
    """A release folder's manifest, its fields checked but no hashes.

    :raises ReleaseError: it is missing, cannot be read, or breaks a rule; the message names the field.
    """
    path = folder / LAYOUT.manifest
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        said = f"{folder}: {LAYOUT.manifest} is missing, so this is no complete release folder"
        if (folder / LAYOUT.config).is_file():
            said += (
                ". A model folder that transformers' save_pretrained or the like wrote lacks what a release needs: "
                "copy the release folder as it is, file by file."
            )
        raise ReleaseError(said) from None
    except OSError as error:
        raise ReleaseError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ReleaseError(f"{path}: {first_fault(error)}") from error


def _load(kind: type[_Part], path: Path) -> _Part:
    try:
        return kind.load(path)
    except ValidationError as error:
        raise ReleaseError(f"{path}: {first_fault(error)}") from error


def _check_files(folder: Path, manifest: Manifest) -> None:
    for name in LAYOUT.required:
        if name not in manifest.files:
            raise ReleaseError(f"{folder}: {LAYOUT.manifest} does not list {name}, which every release needs")
    for name, expected in manifest.files.items():
        if Path(name).name != name:
            raise ReleaseError(f"{folder}: {LAYOUT.manifest} lists {name!r}, which is no plain file name")
        path = folder / name
        if not path.is_file():
            raise ReleaseError(f"{folder}: {name} is missing. Copy the whole release folder again.")
        if sha256(path) != expected:
            raise ReleaseError(f"{path}: content differs from the manifest's sha256. {_why_other(path)}")


def _why_other(path: Path) -> str:
    """What a file most likely is that is not the release's, and what to do."""
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            return "It is the pointer that Git LFS puts in its place: run `git lfs pull` there, and try again."
    if path.name in (LAYOUT.config, LAYOUT.tokenizer, LAYOUT.tokenizer_config):
        return "transformers' save_pretrained and the like write it their own way: copy the release folder as it is."
    return "Copy the release folder again."
