"""The folder of one training run: which file lies where, and the figures that every stage adds to it."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from rich.console import Console
from rich.logging import RichHandler

from tocsin.disk import atomic
from tocsin.errors import UsageError
from tocsin.release import LAYOUT, read_manifest, sha256, write_manifest
from tocsin_training.config import Settings, load_settings, to_toml


@dataclass(frozen=True)
class Run:
    """Paths inside ``runs/<time>-<name>/``."""

    folder: Path

    @property
    def config(self) -> Path:
        """The recipe, with every default written out."""
        return self.folder / "config.toml"

    @property
    def metrics(self) -> Path:
        """Figures, one table per stage."""
        return self.folder / "metrics.json"

    @property
    def log(self) -> Path:
        """What the run said."""
        return self.folder / "train.log"

    @property
    def prepared(self) -> Path:
        """Tokenised splits (Hugging Face ``datasets`` on disk)."""
        return self.folder / "prepared"

    @property
    def base(self) -> Path:
        """Where a randomly initialised base model is put."""
        return self.folder / "base"

    @property
    def trimmed(self) -> Path:
        """What is left of the base model when the recipe takes only a part of it."""
        return self.folder / "trimmed"

    @property
    def warmed_up(self) -> Path:
        """The encoder after a contrastive warm-up, where the recipe asks for one."""
        return self.folder / "warmed-up"

    @property
    def checkpoints(self) -> Path:
        """The trainer's own folder; gone when fine-tuning is done and written down."""
        return self.folder / "checkpoints"

    @property
    def model(self) -> Path:
        """The fine-tuned PyTorch model."""
        return self.folder / "model"

    @property
    def reference(self) -> Path:
        """The fp32 twin of the release: same parts, unquantised graph. For measuring only; never shipped."""
        return self.folder / "release-fp32"

    @property
    def release(self) -> Path:
        """The release folder."""
        return self.folder / "release"

    @property
    def verification(self) -> Path:
        """The verdict of ``verify``."""
        return self.folder / "verify.json"

    @property
    def plots(self) -> Path:
        """PNG files."""
        return self.folder / "plots"

    @classmethod
    def create(cls, settings: Settings, name: str) -> Run:
        """Make ``<runs>/<UTC time>-<name>/`` and write the recipe into it.

        :raises UsageError: the name cannot be part of a folder's name.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise UsageError(f"run name {name!r}: use letters, digits, '.', '_' and '-' only")
        folder = settings.runs / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{name}"
        for attempt in range(100):
            unique = folder if attempt == 0 else folder.with_name(f"{folder.name}-{attempt}")
            try:
                unique.mkdir(parents=True)
            except FileExistsError:
                continue
            run = cls(unique)
            run.config.write_text(to_toml(settings), encoding="utf-8")
            return run
        raise UsageError(f"{folder}: exists a hundred times over; give the run another name")

    @classmethod
    def open(cls, folder: Path) -> Run:
        """An existing run.

        :raises UsageError: the folder is not one.
        """
        run = cls(folder)
        if not run.config.is_file():
            raise UsageError(f"{folder}: not a training run (it has no {run.config.name})")
        return run

    def settings(self) -> Settings:
        """The recipe it was made with."""
        return load_settings(self.config)

    def figures(self) -> dict[str, Any]:
        """All figures so far, by stage."""
        if not self.metrics.is_file():
            return {}
        figures: dict[str, Any] = json.loads(self.metrics.read_text(encoding="utf-8"))
        return figures

    def change_settings(self, settings: Settings) -> None:
        """Replace the recipe, as a search does that found better settings."""
        self.config.write_text(to_toml(settings), encoding="utf-8")

    def amend(self, change: Callable[[Path], object] | None = None, **stated: object) -> None:
        """Change the release and its fp32 twin alike, and write their manifests anew.

        :param change: is given each of the two folders.
        :param stated: fields of the manifest that are other from now on.
        """
        for folder in (self.release, self.reference):
            if change is not None:
                change(folder)
            write_manifest(folder, read_manifest(folder).model_copy(update=stated))

    def discard_checkpoints(self) -> None:
        """Remove them, all or none: a part of one would be gone on from, and in vain."""
        done = self.checkpoints.with_name("checkpoints-done")
        shutil.rmtree(done, ignore_errors=True)
        if self.checkpoints.is_dir():
            self.checkpoints.rename(done)
            shutil.rmtree(done, ignore_errors=True)

    def record(self, stage: str, figures: dict[str, Any]) -> None:
        """Put a stage's figures into metrics.json, in place of its former ones."""
        write_json(self.metrics, self.figures() | {stage: figures})


def verified_files(release: Path) -> dict[str, str]:
    """Hashes of the files that make the answers what they are: a verdict holds for these and no others."""
    names = [LAYOUT.model, LAYOUT.tokenizer, LAYOUT.taxonomy, LAYOUT.calibration]
    if (release / LAYOUT.screen).is_file():
        names.append(LAYOUT.screen)
    return {name: sha256(release / name) for name in names}


def report_folder(folder: Path) -> None:
    """Make a folder for a report, and see that it can be written, before the work that the report is about.

    :raises UsageError: it cannot, or it is a release's or a run's own, whose files the report would replace.
    """
    if (folder / LAYOUT.manifest).exists() or (folder / "config.toml").exists():
        raise UsageError(f"{folder}: is a release's or a run's own folder, and the report would replace its files")
    _check_writable(folder)


def report_file(path: Path) -> None:
    """See that a report can be written into a file, as ``report_folder``; its folder is made.

    :raises UsageError: it cannot.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file")
    # Streams and links, such as /dev/stdout, are written to as they are.
    if not path.is_symlink() and (path.is_file() or not path.exists()):
        _check_writable(path.parent)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix=".writable-"):
            pass
    except OSError as error:
        raise UsageError(f"{folder}: nothing can be written there: {error.strerror or error}") from error


def write_json(path: Path, data: object) -> None:
    """Write JSON for people to read; a file is the old one or the new one, whatever happens meanwhile."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    # Streams and links, such as /dev/stdout, are written to and not replaced.
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_text(text, encoding="utf-8")
        return
    with atomic(path) as file:
        file.write(text.encode())


@contextmanager
def logging_to(run: Run, console: Console) -> Iterator[None]:
    """Send the package's log to the console and to the run's log file while the block runs."""
    logger = logging.getLogger("tocsin_training")
    file = logging.FileHandler(run.log, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handlers: list[logging.Handler] = [file, RichHandler(console=console, show_path=False)]
    level, propagate = logger.level, logger.propagate
    # Some libraries hang a handler on the root logger, which would say everything twice.
    logger.propagate = False
    logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    except Exception:
        # For the file only: the console's copy of the message is the command's business.
        logger.removeHandler(handlers[1])
        logger.exception("stopped")
        raise
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
