"""Prepared splits, kept by the hash of all that they are made of: a second run neither augments nor tokenises.

They hold the texts, so they lie with the runs and are readable by their owner alone. A run has them by hard links,
which cost no room and outlive what is thrown away here: all but the few that were used last.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from tocsin_training.run import write_json

FOLDER = "prepared"
"""Beside the runs."""
MOST_KEPT = 4
"""Two corpora with two encoders, say; of the project's own corpus each takes some 70 MB."""
_ABANDONED = 24 * 3600
"""Seconds: no preparing takes so long."""
_SPLITS, _FIGURES, _LOCK, _SCRATCH = "splits", "figures.json", ".lock", ".making-"


class Kept:
    """What has been prepared for the runs of a folder."""

    def __init__(self, runs: Path) -> None:
        self.folder = runs / FOLDER

    def take(self, key: str, target: Path) -> dict[str, Any] | None:
        """Put splits into a run; the figures that go with them, or none where they are not kept.

        :param target: replaced, if it is there.
        """
        entry = self.folder / key
        with self._locked():
            if not (entry / _FIGURES).is_file():
                return None
            # What was used last is thrown away last.
            os.utime(entry)
            _put(entry / _SPLITS, target)
            figures: dict[str, Any] = json.loads((entry / _FIGURES).read_text(encoding="utf-8"))
            return figures

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder on the same disk to make splits in; gone when the block ends.

        Those that a killed process left behind are gone then, too.
        """
        self._make()
        for left in self.folder.glob(f"{_SCRATCH}*"):
            if left.stat().st_mtime < time.time() - _ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
        with TemporaryDirectory(prefix=_SCRATCH, dir=self.folder) as folder:
            yield Path(folder)

    def keep(self, key: str, splits: Path, figures: dict[str, Any], target: Path) -> None:
        """Take over splits that were made in ``scratch`` and put them into a run.

        What has not been used for longest is thrown away.
        """
        _put(splits, target)
        whole = splits.with_name(f"{splits.name}-whole")
        whole.mkdir()
        splits.rename(whole / _SPLITS)
        # Last of all: an entry is whole if it has figures.
        write_json(whole / _FIGURES, figures)
        with self._locked():
            if not (self.folder / key).exists():
                whole.rename(self.folder / key)
            entries = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
            for old in sorted(entries, key=lambda path: path.stat().st_mtime_ns, reverse=True)[MOST_KEPT:]:
                shutil.rmtree(old)

    def size(self) -> int:
        """Bytes of all that is kept."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._make()
        with FileLock(self.folder / _LOCK):
            yield


def key_of(**parts: object) -> str:
    """Hash of all that splits are made of; whatever is not in it must not change them."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _put(splits: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(splits, target, copy_function=_link)


def _link(source: str, target: str) -> None:
    """A second name for the same file, or a copy where there can be none."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        shutil.copyfile(source, target)
