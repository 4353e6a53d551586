"""The labels: which there are, how a codebook spells them, what they mean.

A taxonomy is data (``taxonomy.toml``); no code knows a label by name, so a model trained on another codebook's labels
runs through the same code. The order of the labels is the order of the model's logits. There are two levels, labels
under event types, and a taxonomy may be flat: then each label is an event type of its own. ACLED's columns are there
where the labels have ACLED's names.
Source of the shipped one: ACLED Codebook (2024), https://acleddata.com/methodology/acled-codebook.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tocsin.errors import TaxonomyError, in_words
from tocsin.text import fold
from tocsin.toml import read_toml

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
# Tabs and line ends would break tables, cards and logs.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _findable(name: str) -> str:
    if not fold(name):
        raise ValueError(f"{name!r} has no letter or digit, so that nothing can go by it")
    if _CONTROL.search(name):
        raise ValueError(f"{name!r} holds a line end, a tab or another control character")
    return name


Name = Annotated[str, AfterValidator(_findable)]


class EventType(BaseModel):
    """A parent of labels, such as "Battles"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="as the codebook spells it")
    aliases: tuple[Name, ...] = Field((), description="what else people call it")


class Label(BaseModel):
    """One thing the model can report; its columns in ACLED's files where it has ACLED's names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(description="identifier, in snake_case")
    name: Name = Field(description="what people say")
    sub_event_type: str | None = Field(None, min_length=1, description="ACLED's string; none outside its codebook")
    event_type: str = Field(
        default_factory=lambda fields: str(fields.get("name", "")),
        min_length=1,
        description="one of the taxonomy's event types; by default the label's own name",
    )
    disorder_type: str | None = Field(
        None, min_length=1, description="ACLED's string; two are joined by '; '; none outside its codebook"
    )
    definition: str = Field(min_length=1, description="what is reported where it is given, in words")
    aliases: tuple[Name, ...] = Field((), description="what else people call it")

    @field_validator("label")
    @classmethod
    def _label_is_an_identifier(cls, label: str) -> str:
        if not _IDENTIFIER.fullmatch(label):
            raise ValueError(
                f"label {label!r} must be snake_case: lower-case letters a to z, digits and _, a letter first"
            )
        return label


class Taxonomy(BaseModel):
    """Labels in the order of the model's logits, under their event types."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    # The labels first: they tell the event types where none are declared.
    labels: tuple[Label, ...] = Field(min_length=1, description="in the order of the model's logits")
    event_types: tuple[EventType, ...] = Field((), validate_default=True, description="the parents of the labels")

    @field_validator("event_types")
    @classmethod
    def _undeclared_event_types(cls, declared: tuple[EventType, ...], info: ValidationInfo) -> tuple[EventType, ...]:
        """Add the types of labels without a parent; where none are declared, all that the labels name."""
        names = {parent.name for parent in declared}
        labels: tuple[Label, ...] = info.data.get("labels", ())
        told = (label.event_type for label in labels if not declared or label.event_type == label.name)
        return (*declared, *(EventType(name=name) for name in dict.fromkeys(told) if name not in names))

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        for what, names in (
            ("event type", [parent.name for parent in self.event_types]),
            ("label", [label.label for label in self.labels]),
            ("name", [label.name for label in self.labels]),
        ):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"{what} given more than once: {', '.join(repeated)}")
        self._parents_are_known_and_used()
        self._parents_have_no_parent()
        _refuse_ambiguity({label.label: (*label.aliases, label.name, label.label) for label in self.labels})
        _refuse_ambiguity({parent.name: (*parent.aliases, parent.name) for parent in self.event_types})
        return self

    def _parents_are_known_and_used(self) -> None:
        known, used = {parent.name for parent in self.event_types}, {label.event_type for label in self.labels}
        for label in self.labels:
            if label.event_type not in known:
                raise ValueError(
                    f"label {label.label!r} has the unknown event_type {label.event_type!r}; "
                    f"declare it under [[event_types]] or use one of: {', '.join(sorted(known))}"
                )
        if empty := sorted(known - used):
            raise ValueError(f"event type without a label: {', '.join(empty)}; give it one or take it out")

    def _parents_have_no_parent(self) -> None:
        """Two levels: a chain, and so a circle, of parents has no meaning here."""
        above = {fold(label.name): label for label in self.labels}
        for label in self.labels:
            parent = above.get(fold(label.event_type))
            if parent is not None and fold(parent.event_type) != fold(label.event_type):
                told = _circle({fold(each.name): each.event_type for each in self.labels}, label.name)
                raise ValueError(
                    f"label {label.label!r} stands under {label.event_type!r}, which is itself a label under "
                    f"{parent.event_type!r}{told}; {_TWO_LEVELS}: take event_type out of one of them, or give both an "
                    "event type that is no label"
                )

    @classmethod
    def load(cls, path: Path | str) -> Taxonomy:
        """Read and check a taxonomy file.

        :raises TaxonomyError: the file is missing, is not TOML, or breaks a rule; the message names the entry.
        """
        path = Path(path)
        data = read_toml(path, "the taxonomy", error=TaxonomyError)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise TaxonomyError(f"{path}: {_explain(error, data)}") from error

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Label identifiers, in the order of the logits."""
        return tuple(label.label for label in self.labels)

    @cached_property
    def has_acled_names(self) -> bool:
        """Whether every label has ACLED's names, so that answers can be given in ACLED's columns."""
        return all(label.sub_event_type and label.disorder_type for label in self.labels)

    @cached_property
    def parents(self) -> NDArray[np.intp]:
        """Index of each label's event type, shape (labels,)."""
        position = {parent.name: index for index, parent in enumerate(self.event_types)}
        return np.array([position[label.event_type] for label in self.labels], dtype=np.intp)

    @cached_property
    def _lookup(self) -> dict[str, Label]:
        # Later entries win, so identifiers beat plain names, which beat ACLED's strings, which beat aliases. Of labels
        # that share an ACLED string the first one declared owns it.
        table: dict[str, Label] = {}
        for label in reversed(self.labels):
            table |= {fold(alias): label for alias in label.aliases}
        for label in reversed(self.labels):
            if label.sub_event_type:
                table[fold(label.sub_event_type)] = label
        for label in self.labels:
            table[fold(label.name)] = label
        for label in self.labels:
            table[fold(label.label)] = label
        return table

    def find(self, text: str) -> Label:
        """Look a label up by identifier, plain name, ACLED sub-event type or alias, whatever its case and punctuation.

        :raises TaxonomyError: nothing goes by that name.
        """
        try:
            return self._lookup[fold(text)]
        except KeyError:
            raise TaxonomyError(f"no label goes by {text!r}; labels are: {', '.join(self.names)}") from None

    def find_event_type(self, text: str) -> EventType:
        """Look an event type up by its name or an alias, whatever its case and punctuation.

        :raises TaxonomyError: nothing goes by that name.
        """
        for parent in self.event_types:
            if fold(text) in {fold(name) for name in (parent.name, *parent.aliases)}:
                return parent
        known = ", ".join(parent.name for parent in self.event_types)
        raise TaxonomyError(f"no event type goes by {text!r}; event types are: {known}")

    def index(self, label: str) -> int:
        """Position of a label identifier among the logits.

        :raises TaxonomyError: no label has this identifier.
        """
        try:
            return self.names.index(label)
        except ValueError:
            raise TaxonomyError(f"no label {label!r}; labels are: {', '.join(self.names)}") from None


_TWO_LEVELS = "there are two levels only, labels under event types"


def _circle(parents: Mapping[str, str], start: str) -> str:
    """That the parents of a name lead back to it, with the way; nothing where they do not.

    :param parents: folded name -> parent.
    """
    way = [start]
    while (parent := parents.get(fold(way[-1]))) is not None and len(way) <= len(parents):
        way.append(parent)
        if fold(parent) == fold(start):
            return f" (a circle: {' -> '.join(way)})"
    return ""


def _refuse_ambiguity(names: Mapping[str, Iterable[str]]) -> None:
    owner: dict[str, str] = {}
    for entry, aliases in names.items():
        for alias in {fold(alias) for alias in aliases}:
            if owner.setdefault(alias, entry) != entry:
                raise ValueError(f"alias {alias!r} belongs to both {owner[alias]!r} and {entry!r}")


_NEEDED = {
    "definition": "every label needs one; write a sentence of what counts as it",
    "name": "it needs one; write what people call it",
    "label": "every label needs one; write an identifier of lower-case letters, digits and _, such as air_strike",
}
"""Field of an entry -> what to write, where it is missing or empty."""


def _parent_of_a_parent(name: str, entries: object) -> str:
    """What to do about an event type that is given an event type."""
    parents = {
        fold(str(entry.get("name"))): str(entry["event_type"])
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and "event_type" in entry
    }
    return f"event types stand under nothing{_circle(parents, name)}; {_TWO_LEVELS}: take event_type out"


def _explain(error: ValidationError, data: dict[str, object]) -> str:
    """The first broken rule in words, with the entry it stands in."""
    first = error.errors()[0]
    message = in_words(first)
    match first["loc"]:
        case (str(table), int(position), *rest):
            entries = data.get(table)
            entry = entries[position] if isinstance(entries, list) else {}
            name = entry.get("label") or entry.get("name") if isinstance(entry, dict) else None
            field = f", field {rest[0]!r}" if rest else ""
            if table == "event_types" and rest == ["event_type"]:
                message = _parent_of_a_parent(str(name), entries)
            elif rest and first["type"] == "extra_forbidden" and "parent" in str(rest[0]):
                message = f"a label's parent is called event_type, and {_TWO_LEVELS}"
            elif rest and first["type"] in ("missing", "string_too_short"):
                message = _NEEDED.get(str(rest[0]), message)
            return f"[[{table}]] entry {position + 1} ({name or 'unnamed'}){field}: {message}"
        case (str(table), *_) if first["type"] in ("missing", "too_short"):
            return f"holds no [[{table}]], and a taxonomy needs at least one"
        case (str(table), *_):
            return f"[[{table}]]: {message}"
        case _:
            return message
