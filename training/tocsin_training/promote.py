"""Make a run's release the shipped one, in one step that either happens or does not."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from tempfile import mkdtemp

from tocsin.release import Release, default_release_folder
from tocsin_training.errors import PromotionError
from tocsin_training.run import Run
from tocsin_training.verify import verified_files

_log = logging.getLogger(__name__)


def promote(run: Run, target: Path) -> Release:
    """Copy a run's release to ``target``, replacing what is there.

    The copy is made and checked beside the target and then renamed, so a failure leaves the target as it was.

    :raises PromotionError: the run was not verified, failed, or was changed since.
    :raises ReleaseError: the copy is no sound release.
    """
    check_verdict(run)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fresh, former = scratch / "new", scratch / "former"
        shutil.copytree(run.release, fresh)
        Release.open(fresh)
        _swap(fresh, target, former)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _log.info("%s is now the release of %s", target, run.folder.name)
    return Release.open(target)


def check_verdict(run: Run) -> None:
    """Refuse a release that ``verify`` did not pass as it is now.

    :raises PromotionError: saying why.
    """
    if not run.verification.is_file():
        raise PromotionError(f"{run.folder}: was never verified; only a run that finished can be promoted")
    verdict = json.loads(run.verification.read_text(encoding="utf-8"))
    if not verdict["passed"]:
        raise PromotionError(f"{run.folder}: failed verification: {'; '.join(verdict['faults'])}")
    if verdict["files"] != verified_files(run.release):
        raise PromotionError(f"{run.release}: changed since it was verified; verify it again")


def _swap(fresh: Path, target: Path, former: Path) -> None:
    """Put ``fresh`` in the place of ``target``; back to the former on failure."""
    replaced = target.exists()
    if replaced:
        target.rename(former)
    try:
        fresh.rename(target)
    except OSError:
        if replaced:
            former.rename(target)
        raise


def main(run_folder: Path, target: Path | None = None) -> Release:
    """Promote a run to the release that this checkout loads by default, or to ``target``."""
    return promote(Run.open(run_folder), default_release_folder() if target is None else target)
