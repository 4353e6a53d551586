"""What people call a label, as the taxonomy's label: by a file of their own, by any of its names, by old names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tocsin.errors import InputError, TaxonomyError
from tocsin.taxonomy import Taxonomy
from tocsin.text import fold
from tocsin.toml import read_toml
from tocsin_training.importing.layouts import UNSOUND
from tocsin_training.importing.tables import Problem, shown

UNKNOWN_NAME = "unknown label"
"""Kind of rows with a name that is no label's."""
_KNOWN = Path(__file__).with_name("known_names.toml")
_MARKS = (",", "/", "+", "&", "\n")
"""What people put between several names, besides what a cell is cut at anyway."""
_LIKE = 80
"""Similarity (0 to 100) from which one spelling is suggested for another."""


@dataclass(frozen=True)
class Meaning:
    """What a name stands for."""

    label: str | None = None
    """None: no event, unless there is a problem."""
    problem: str | None = None
    undecided: bool = False
    """The problem is that it may be several labels."""


def own_names(path: Path) -> dict[str, str]:
    """What a user's file says of names: each, folded, with its label as the file spells that, or "" for no event.

    :raises InputError: the file cannot be used.
    """
    table = read_toml(path, "the list of names").get("labels")
    if not isinstance(table, dict) or not all(isinstance(label, str) for label in table.values()):
        raise InputError(f'{path}: needs a table [labels] of lines such as "Air raid" = "air_drone_strike"')
    return {fold(name): label for name, label in table.items()}


class NameFinder:
    """Finds the label of a name.

    :param own: a TOML file whose table [labels] gives a label, or "" for no event, to each name.
    :raises InputError: that file cannot be used.
    """

    def __init__(self, taxonomy: Taxonomy, own: Path | None = None) -> None:
        self._taxonomy = taxonomy
        self._own = {} if own is None else self._read_own(own)
        known = read_toml(_KNOWN, "the list of old names")
        self._old = {fold(name): label for name, label in known["labels"].items() if label in taxonomy.names}
        self._undecided = {fold(name): reason for name, reason in known["undecided"].items()}

    def _read_own(self, path: Path) -> dict[str, str]:
        try:
            return {name: label and self._taxonomy.find(label).label for name, label in own_names(path).items()}
        except TaxonomyError as error:
            raise InputError(f"{path}: {error}") from error

    def find(self, name: str) -> Meaning:
        """The label that a name stands for."""
        folded = fold(name)
        if folded in self._own:
            return Meaning(self._own[folded] or None)
        try:
            return Meaning(self._taxonomy.find(name).label)
        except TaxonomyError:
            pass
        if folded in self._old:
            return Meaning(self._old[folded])
        if folded in self._undecided:
            return Meaning(problem=f"'{shown(name)}' may be several labels: {self._undecided[folded]}", undecided=True)
        return Meaning(problem=f"no label goes by '{shown(name)}'")

    def why_undecided(self, name: str) -> str | None:
        """Why a name may be several labels; none where it is none of those that may."""
        return self._undecided.get(fold(name)) if self.find(name).undecided else None

    def labels(self, names: Iterable[str]) -> tuple[str, ...] | Problem:
        """The labels of all names of a text, each once; or why it cannot be used, for one bad name spoils it."""
        meanings = [self.find(name) for name in names]
        faulty = [meaning for meaning in meanings if meaning.problem is not None]
        if not faulty:
            return tuple(dict.fromkeys(meaning.label for meaning in meanings if meaning.label))
        worst = next((meaning for meaning in faulty if not meaning.undecided), faulty[0])
        return Problem(UNSOUND if worst.undecided else UNKNOWN_NAME, str(worst.problem))

    def name_at_fault(self, names: Iterable[str], problem: Problem) -> str:
        """Which of some names the problem is about that they cannot be used for."""
        return next(name for name in names if self.find(name).problem == problem.reason)


def separator_of(unknown: Mapping[str, int], finder: NameFinder) -> str | None:
    """The mark at which most of the texts with unknown names have several known ones; none where none is such.

    :param unknown: name -> texts.
    """

    def come_apart(mark: str) -> int:
        cut = {name: [part for part in name.split(mark) if part.strip()] for name in unknown}
        return sum(
            unknown[name]
            for name, parts in cut.items()
            if len(parts) > 1 and all(finder.find(part.strip()).problem is None for part in parts)
        )

    best = max(_MARKS, key=come_apart)
    return best if 2 * come_apart(best) > sum(unknown.values()) else None


def suggest(unknown: Iterable[str], taxonomy: Taxonomy) -> dict[str, str]:
    """For names that no label goes by, the label with the most similar name, where one is similar enough."""
    from rapidfuzz import fuzz, process

    # An ACLED string that two labels share is the first one's.
    spellings = {
        spelling: taxonomy.find(spelling).label
        for label in taxonomy.labels
        for spelling in (*label.aliases, label.sub_event_type, label.name, label.label)
        if spelling
    }
    best = {
        name: process.extractOne(name, list(spellings), scorer=fuzz.ratio, processor=fold, score_cutoff=_LIKE)
        for name in unknown
    }
    return {name: spellings[found[0]] for name, found in best.items() if found is not None}


def suggest_merges(counts: Mapping[str, int]) -> dict[str, str]:
    """Rarer spellings with the commoner one that each may be meant for, among names that are no taxonomy's."""
    from rapidfuzz import fuzz, process

    kept: list[str] = []
    merges = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        best = process.extractOne(name, kept, scorer=fuzz.ratio, processor=fold, score_cutoff=_LIKE)
        if best is None:
            kept.append(name)
        else:
            merges[name] = best[0]
    return merges


def told_spellings(counts: Mapping[str, int]) -> str | None:
    """That some labels of a taxonomy made from data may be spellings of others, and what to do; none where none may."""
    merges = suggest_merges({name: count for name, count in counts.items() if count})
    if not merges:
        return None
    shown = ", ".join(f"{rare} ({counts[rare]:,}) of {common} ({counts[common]:,})" for rare, common in merges.items())
    return (
        f"each of these labels is learned by itself and may be only another spelling: {shown}; make them one in the "
        "data, or write the labels with `tocsin taxonomy derive`, move the rarer spelling to the `aliases` of the "
        "other there, and give that file as --taxonomy"
    )


def as_names_file(suggestions: Mapping[str, str], undecided: Mapping[str, str] | None = None) -> str:
    """A file for `--names` that a person can check and complete.

    :param undecided: names that nothing is suggested for, each with what is to know about it, or nothing.
    """
    lines = ["# Check every line; a name without a label is still to be decided.", "[labels]"]
    lines += [f"{_quoted(name)} = {_quoted(label)}" for name, label in sorted(suggestions.items())]
    lines += [f"# {_quoted(name)} = {f'  # {why}' if why else ''}" for name, why in sorted((undecided or {}).items())]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", " ", escaped) + '"'
