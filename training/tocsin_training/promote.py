"""Make a release the one that is loaded by default, in one step that either happens or does not, and can be undone.

Every release that was ever in place is kept in the history, a folder of release folders named by what is in them, and
``history.jsonl`` there says which replaced which, and where: several places may share one history. A copy is complete
and on disk before it gets its name, and the swap is one system call where the system has it, so that a power cut at any
moment leaves the former release or the new one.
"""

from __future__ import annotations

import ctypes
import errno
import json
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

from filelock import FileLock, Timeout

from tocsin.disk import sync
from tocsin.errors import ReleaseError
from tocsin.lineage import ForcedPromotion
from tocsin.release import LAYOUT, Manifest, Release, default_release_folder
from tocsin.stores import resolve_release
from tocsin_training.errors import PromotionError
from tocsin_training.run import Run, verified_files

_log = logging.getLogger(__name__)

HISTORY_VARIABLE = "TOCSIN_RELEASES"
# By one of these a damaged release is told from somebody's other work, which may well have a README.md or config.json.
_TELLING = (LAYOUT.manifest, LAYOUT.model, LAYOUT.calibration, LAYOUT.taxonomy, LAYOUT.profile, LAYOUT.screen)
_ADVICE = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "Give --target, and --history if need be, a place you may write to"
    ),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Make room and give the command again"),
}
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

Faults = Callable[[Release, Release], tuple[str, ...]]
"""What is worse about the second release than about the first, in words; see ``compare``."""


@dataclass(frozen=True)
class Entry:
    """A line of the history: what came into place, and what was there before."""

    date: str
    action: Literal["promote", "rollback"]
    release: str
    """Name of its folder in the history."""
    replaced: str | None
    reason: str | None = None
    """Of a forced promotion."""
    target: str | None = None
    """The place, as seen from the history's folder, for the two move together. Lines of 0.5.0 and before do not say."""


class History:
    """The releases that are or were in a place. One process at a time may change it.

    :param target: the place. Others may share the folder; what was only in those is not found.
    :param folder: where it is kept; see ``default_history``.
    """

    def __init__(self, target: Path, folder: Path | None = None) -> None:
        self.folder = default_history(target) if folder is None else folder
        self._target = target
        self._log = self.folder / "history.jsonl"

    @property
    def place(self) -> str:
        """How a line names the place."""
        # Not where a link leads: a promotion puts a folder in the link's place, which is to keep its name.
        folder, name = os.path.split(self._target.absolute())
        return os.path.relpath(Path(os.path.realpath(folder), name), os.path.realpath(self.folder))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else promotes or rolls back while the block runs.

        :raises PromotionError: somebody else does so now.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            # The system lets go of it when the process ends, however it ends.
            lock.acquire(blocking=False)
        except Timeout:
            raise PromotionError(f"{self.folder}: another promotion is going on; try again when it is over") from None
        try:
            yield
        finally:
            lock.release()

    def keep(self, release: Release) -> str:
        """Keep a copy of a release under a name made of its own and its digest; no work if it is kept already."""
        name = f"{release.name}-{release.digest[:12]}"
        if not (self.folder / name).is_dir():
            with scratch_beside(self.folder / name) as scratch:
                copy_release(release, scratch / "copy").rename(self.folder / name)
                sync(self.folder)
        return name

    def set_aside(self, release: Release) -> None:
        """Copy what people put beside a release that is to go: it is theirs, and no copy of the release has it.

        Before it goes and not after: whatever fails from then on, nothing of theirs is lost.
        """
        if not (names := release.unlisted):
            return
        kept = self.folder / f"beside-{release.name}-{_stamp()}"
        with scratch_beside(kept) as scratch:
            copy = scratch / "copy"
            copy.mkdir()
            for name in names:
                _copy(release.folder / name, copy / name)
            _sync_all(copy)
            copy.rename(kept)
            sync(self.folder)
        _log.warning("no part of the release that was in place, kept in %s: %s", kept, ", ".join(names))

    def entries(self) -> list[Entry]:
        """All lines, oldest first, whatever place they are about; one that a power cut left half written is none."""
        if not self._log.is_file():
            return []
        lines = self._log.read_text(encoding="utf-8").splitlines()
        return [entry for line in lines if (entry := _entry(line)) is not None]

    def note(self, entry: Entry) -> None:
        """Add a line, which begins anew where a power cut left one half written."""
        torn = self._log.is_file() and not self._log.read_bytes().endswith(b"\n")
        with self._log.open("a", encoding="utf-8") as stream:
            stream.write(("\n" if torn else "") + json.dumps(asdict(entry), ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def find(self, version: str) -> str:
        """The kept release of a version, name and version, or folder name; the latest in place if several match.

        :raises PromotionError: none such was in this place; the message lists those that were.
        """
        kept = self._kept(self._own())
        if found := _named(version, kept):
            return found
        said = f"{self.folder}: keeps no release {version!r} of {self._target}; it keeps: {', '.join(kept) or 'none'}"
        if elsewhere := _named(version, self._kept(self.entries())):
            said += (
                f". {elsewhere} was in another place; to put it into this one: "
                f"tocsin promote {self.folder / elsewhere} --target {self._target}"
            )
        raise PromotionError(said)

    def before(self, current: str) -> str:
        """The release that ``current`` replaced when it was promoted to this place.

        :raises PromotionError: the history knows of none.
        """
        for entry in reversed(self._own()):
            if entry.action == "promote" and entry.release == current and entry.replaced not in (None, current):
                return str(entry.replaced)
        raise PromotionError(
            f"{self.folder}: knows of no release before {current} in {self._target}; "
            f"name one: {rollback_command(self._target)} VERSION"
        )

    def _own(self) -> list[Entry]:
        """Lines about this place, and those that do not say which they are about."""
        places = (None, self.place)
        return [entry for entry in self.entries() if entry.target in places]

    def _kept(self, entries: list[Entry]) -> list[str]:
        """The releases of these lines that are still there, the latest first."""
        names = [name for entry in entries for name in (entry.replaced, entry.release) if name is not None]
        return [name for name in dict.fromkeys(reversed(names)) if (self.folder / name).is_dir()]


def _named(version: str, kept: list[str]) -> str | None:
    for name in kept:
        release, _, digest = name.rpartition("-")
        if version in (name, release, digest) or release.endswith(f"-{version}"):
            return name
    return None


def _entry(line: str) -> Entry | None:
    try:
        return Entry(**json.loads(line))
    except (ValueError, TypeError):
        return None


def default_history(target: Path) -> Path:
    """$TOCSIN_RELEASES, or ``releases`` beside the folder that is promoted to."""
    chosen = os.environ.get(HISTORY_VARIABLE)
    return Path(chosen) if chosen else target.parent / "releases"


def promote(
    release: Release, target: Path, *, faults: Faults, force: str | None = None, history: Path | None = None
) -> Release:
    """Put a copy of a release in the place of ``target``.

    :param faults: says what would get worse; asked only where a release is in place that can be opened.
    :param force: why it is to be promoted though worse; the manifest of the promoted copy keeps it.
    :raises PromotionError: it is worse than what is there and no reason was given, what is there is no release, or the
        disk refuses.
    :raises ReleaseError: the copy is no sound release.
    """
    kept = History(target, history)
    with _told(target), kept.locked():
        champion = _in_place(target, damaged_is_none=force is not None)
        worse = () if champion is None or champion.digest == release.digest else faults(champion, release)
        if worse and force is None:
            raise PromotionError(
                f"{release.name} does not replace {champion.name if champion else 'nothing'}:\n  "
                + "\n  ".join(worse)
                + '\n`tocsin compare` shows it all; --force "REASON" promotes it all the same.'
            )
        forced = None
        if worse and force is not None and champion is not None:
            forced = ForcedPromotion(reason=force, worse=worse, replaced=champion.name, date=_now())
        _put(release, target, kept, champion, action="promote", forced=forced)
    _log.info("%s is now %s", target, release.name)
    return Release.open(target)


def rollback_command(target: Path) -> str:
    """What undoes a promotion to this place, for people to type."""
    named = "" if target == default_release_folder() else f" --target {shlex.quote(str(target))}"
    return f"tocsin rollback{named}"


def rollback(target: Path, version: str | None = None, *, history: Path | None = None) -> Release:
    """Bring back a release that was in place before, byte for byte.

    :param version: which; none for the one that the present release replaced.
    :raises PromotionError: the history has no such release, or the disk refuses.
    """
    kept = History(target, history)
    with _told(target), kept.locked():
        champion = _in_place(target, damaged_is_none=version is not None)
        name = kept.find(version) if version is not None else _before(champion, target, kept)
        _put(Release.open(kept.folder / name), target, kept, champion, action="rollback", forced=None)
    return Release.open(target)


@contextmanager
def _told(target: Path) -> Iterator[None]:
    """What the disk refuses, as a message for people.

    :raises PromotionError: naming the file, if the system does, and what to do.
    """
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "When that is mended, give the command again")
        raise PromotionError(
            f"{target}: cannot be replaced ({_refusal(error)}). {advice}; `tocsin info --release {target}` says which "
            "release is in place."
        ) from error


def _refusal(error: OSError) -> str:
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        # Of a folder that was copied: what went wrong with each file.
        return "; ".join(str(why) for *_, why in error.args[0])
    path = error.filename2 or error.filename
    return f"{'' if path is None else f'{path}: '}{error.strerror or error}"


def _in_place(target: Path, *, damaged_is_none: bool) -> Release | None:
    """The release that is in the target, if any.

    :raises PromotionError: what is there is no release, whatever ``damaged_is_none`` says, or a damaged one.
    """
    if os.path.lexists(target) and not target.is_dir():
        raise PromotionError(f"{target}: is no folder, so it is left as it is; give the place of a release")
    if is_free(target):
        return None
    if not any((target / name).is_file() for name in _TELLING):
        raise PromotionError(f"{target}: is no release folder, so it is left as it is; give the place of a release")
    try:
        return Release.open(target)
    except ReleaseError as error:
        if damaged_is_none:
            return None
        raise PromotionError(f'the release in place is damaged ({error}); --force "REASON" replaces it') from error


def is_free(target: Path) -> bool:
    """Nothing is in this place yet."""
    return not target.exists() or not any(target.iterdir())


def _before(champion: Release | None, target: Path, history: History) -> str:
    if champion is None:
        raise PromotionError(
            f"{target}: no release is in place to go back from; say which: {rollback_command(target)} VERSION"
        )
    return history.before(history.keep(champion))


def _put(
    release: Release,
    target: Path,
    history: History,
    champion: Release | None,
    *,
    action: Literal["promote", "rollback"],
    forced: ForcedPromotion | None,
) -> None:
    with scratch_beside(target) as scratch:
        fresh = copy_release(release, scratch / "new")
        if forced is not None:
            _state(fresh, release.manifest.model_copy(update={"forced": forced}))
        copy = Release.open(fresh)
        replaced = None if champion is None else history.keep(champion)
        if champion is not None:
            history.set_aside(champion)
        # Noted before it happens: a line about a promotion that a power cut prevented misleads nobody, for what is in
        # place is told by its own digest; a promotion without its line could not be undone.
        reason = None if forced is None else forced.reason
        history.note(Entry(_now(), action, history.keep(copy), replaced, reason, history.place))
        if champion is None and not is_free(target):
            _keep_damaged(target, history.folder / f"damaged-{_stamp()}")
        swap(fresh, target, scratch / "former")
        sync(target.parent)


def _keep_damaged(target: Path, place: Path) -> None:
    """Keep a folder that cannot be opened as a release: what is in it may be mended, or was never one's to delete."""
    shutil.move(target, place)
    sync(place.parent)
    _log.warning("what was in %s cannot be opened as a release; it is kept in %s", target, place)


def _state(folder: Path, manifest: Manifest) -> None:
    path = folder / LAYOUT.manifest
    path.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    sync(path)


def _copy(one: Path, other: Path) -> None:
    """Copy a file, a link or a folder with all that is in it; a link stays a link."""
    if one.is_dir() and not one.is_symlink():
        shutil.copytree(one, other, symlinks=True)
    else:
        shutil.copy2(one, other, follow_symlinks=False)


def _sync_all(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            sync(path)


def copy_release(release: Release, folder: Path) -> Path:
    """Copy a release's own files, byte for byte, into a new folder and onto the disk."""
    folder.mkdir()
    for name in release.files:
        shutil.copyfile(release.folder / name, folder / name)
        sync(folder / name)
    sync(folder)
    return folder


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """A folder that dies with the block, on the same disk as ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def swap(fresh: Path, target: Path, former: Path) -> None:
    """Put ``fresh`` in the place of ``target``, which goes to ``former``."""
    if not target.exists():
        fresh.rename(target)
    elif _exchange(fresh, target):
        fresh.rename(former)
    else:
        _swap_in_two_steps(fresh, target, former)


def _exchange(one: Path, other: Path) -> bool:
    """Swap the names of two folders in one step (Linux, renameat2); false where the system or the disk cannot."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    if ctypes.get_errno() in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))


def _swap_in_two_steps(fresh: Path, target: Path, former: Path) -> None:
    """Between the two renames nothing is in place; a power cut there is mended by `tocsin rollback VERSION`."""
    target.rename(former)
    try:
        fresh.rename(target)
    except OSError:
        former.rename(target)
        raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _stamp() -> str:
    """Of now, for a folder's name that no other has."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"


def check_verdict(run: Run) -> None:
    """Refuse a release that ``verify`` did not pass as it is now, and one whose run did not come to its end.

    :raises PromotionError: saying why.
    """
    if not run.verification.is_file():
        raise PromotionError(
            f"{run.folder}: was never verified; only a run that finished can be promoted, and "
            f"`tocsin train --resume {run.folder}` goes on with one that was stopped"
        )
    verdict: dict[str, Any] = json.loads(run.verification.read_text(encoding="utf-8"))
    if not verdict["passed"]:
        raise PromotionError(f"{run.folder}: failed verification: {'; '.join(verdict['faults'])}")
    # A run that is calibrated again has the verdict on its former release until it comes to verify.
    if "card" not in run.figures().get("minutes", {}):
        raise PromotionError(
            f"{run.folder}: was stopped before its end, so its release lacks figures or has those of another; "
            f"`tocsin train --resume {run.folder}` goes on"
        )
    if verdict["files"] != verified_files(run.release):
        raise PromotionError(f"{run.release}: changed since it was verified; verify it again")


def open_candidate(source: str) -> Release:
    """The release of a run that passed its verification, of a release folder, or of ``store:name``.

    :raises PromotionError: the run was not verified, failed, did not come to its end, or was changed since.
    :raises ReleaseError: it is no sound release.
    """
    run = Run(Path(source))
    if run.config.is_file():
        check_verdict(run)
        return Release.open(run.release)
    return Release.open(resolve_release(source))
