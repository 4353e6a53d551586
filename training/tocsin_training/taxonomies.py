"""Other people's labels: a taxonomy made from the labels that stand in data, written as a file, and shown to people.

Deriving decides nothing that the data do not say: spellings that differ only in case and punctuation are one label
under its commonest spelling; ``Parent > Child`` and ``Parent / Child`` (with spaces) put a label under an event type;
every other label stands by itself. What a label means only people know, so the definitions are theirs to write.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import tomli_w
from anyascii import anyascii
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from tocsin.errors import InputError, TaxonomyError, first_fault
from tocsin.taxonomy import Label, Taxonomy
from tocsin.text import fold

_UNDER = re.compile(r"\s*>\s*|\s+/\s+")
_IDENTIFIER_LENGTH = 64


@dataclass(frozen=True)
class _Found:
    """A label as the data spell it, cut at the sign between parent and child."""

    spelling: str
    parent: str | None
    own: str

    @classmethod
    def of(cls, spelling: str) -> _Found:
        parent, *child = _UNDER.split(spelling, maxsplit=1)
        if child and fold(parent) and fold(child[0]):
            return cls(spelling, parent, child[0])
        return cls(spelling, None, spelling)


def derive_taxonomy(label_counts: Mapping[str, int]) -> Taxonomy:
    """A taxonomy of the labels that data use, in alphabetical order: the same labels always give the same taxonomy.

    :param label_counts: label as the data spell it -> how often; what never occurs is left out.
    :raises TaxonomyError: there is no label, or one that nothing could go by, such as "-".
    """
    counts = _merged({label: number for label, number in label_counts.items() if number > 0})
    found = [_Found.of(spelling) for spelling in counts]
    if not found:
        raise TaxonomyError("there is no label to make a taxonomy of")
    over: Counter[str] = Counter()
    for one in found:
        if one.parent is not None:
            over[one.parent] += counts[one.spelling]
    parents = {fold(parent): parent for parent in _merged(over)}
    names = _names(found, parents)
    try:
        return Taxonomy(labels=tuple(_labels(sorted(found, key=_place), names, parents)))
    except ValidationError as error:
        raise TaxonomyError(f"the labels make no taxonomy: {first_fault(error)}") from error


def _merged(counts: Mapping[str, int]) -> dict[str, int]:
    """The commonest spelling of each label with the count of all its spellings."""
    spellings: dict[str, Counter[str]] = {}
    for label, number in counts.items():
        plain = " ".join(label.split())
        if not fold(plain):
            raise TaxonomyError(f"label {label!r} has no letter or digit; leave the cell empty where there is no event")
        spellings.setdefault(fold(plain), Counter())[plain] += number
    # Of equally common spellings the first in the alphabet, whatever order the data come in.
    return {min(found, key=lambda name: (-found[name], name)): found.total() for found in spellings.values()}


def _place(one: _Found) -> tuple[str, str]:
    return fold(one.parent or one.own), fold(one.own)


def _names(found: list[_Found], parents: Mapping[str, str]) -> dict[str, str]:
    """Spelling -> name: a child goes by its own name where no other label and no event type does."""
    owners = Counter(name for one in found for name in {fold(one.own), fold(one.spelling)})
    return {
        one.spelling: one.own
        if one.parent is None or (owners[fold(one.own)] == 1 and fold(one.own) not in parents)
        else f"{parents[fold(one.parent)]}: {one.own}"
        for one in found
    }


def _labels(found: list[_Found], names: Mapping[str, str], parents: Mapping[str, str]) -> Iterator[Label]:
    names_of = {one.spelling: {fold(names[one.spelling]), fold(one.spelling)} for one in found}
    everybodys = set().union(*names_of.values())
    taken: set[str] = set()
    for one in found:
        name = names[one.spelling]
        identifier = _identifier(name, taken, everybodys - names_of[one.spelling])
        taken.add(identifier)
        yield Label(
            label=identifier,
            name=name,
            # A label that is called like a parent belongs to that parent's family.
            event_type=parents.get(fold(one.parent or one.own), name),
            definition=f'What the data call "{one.spelling}".',
            aliases=() if fold(one.spelling) == fold(name) else (one.spelling,),
        )


def _identifier(name: str, taken: set[str], others: set[str]) -> str:
    """A name in lower-case ASCII letters, digits and _, whatever it is written in, that no other label goes by."""
    plain = re.sub(r"[^a-z0-9]+", "_", anyascii(name).lower()).strip("_")
    if not plain[:1].isalpha():
        plain = f"label_{plain}".rstrip("_")
    plain = plain[:_IDENTIFIER_LENGTH].rstrip("_")
    numbered = (plain if number == 1 else f"{plain}_{number}" for number in count(1))
    return next(name for name in numbered if name not in taken and fold(name) not in others)


def to_toml(taxonomy: Taxonomy) -> str:
    """A taxonomy as TOML that ``Taxonomy.load`` reads back to the same; what is so by default is left out."""
    labels = [_entry(label.model_dump(), without={"event_type": label.name}) for label in taxonomy.labels]
    parents = [_entry(parent.model_dump()) for parent in taxonomy.event_types]
    told = Taxonomy(labels=taxonomy.labels).event_types == taxonomy.event_types
    return tomli_w.dumps({"labels": labels} if told else {"event_types": parents, "labels": labels})


def _entry(fields: dict[str, Any], without: Mapping[str, str] | None = None) -> dict[str, Any]:
    order = ("label", "name", "sub_event_type", "event_type", "disorder_type", "definition", "aliases")
    default = without or {}
    return {
        key: list(fields[key]) if key == "aliases" else fields[key]
        for key in order
        if fields.get(key) and fields[key] != default.get(key)
    }


def write_taxonomy(taxonomy: Taxonomy, path: Path, *, header: str = "") -> None:
    """Write a taxonomy file.

    :param header: lines that begin with ``#``.
    :raises InputError: it cannot be written.
    """
    try:
        path.write_text(header + to_toml(taxonomy), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def table(taxonomy: Taxonomy) -> Table:
    """A taxonomy's labels for people."""
    columns = ("label", "name", "event type", *(("ACLED sub-event type",) if taxonomy.has_acled_names else ()))
    shown = Table(*columns)
    for label in taxonomy.labels:
        cells = (label.label, label.name, label.event_type, label.sub_event_type or "-")
        shown.add_row(*map(Text, cells[: len(columns)]))
    return shown


def summary(taxonomy: Taxonomy) -> str:
    """What is to know about a taxonomy in one line."""
    named = sum(bool(label.sub_event_type and label.disorder_type) for label in taxonomy.labels)
    total = len(taxonomy.labels)
    acled = "all with" if named == total else "none with" if not named else f"{named} of them with"
    return f"{total} labels under {len(taxonomy.event_types)} event types, {acled} ACLED's names"
