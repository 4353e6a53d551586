"""The labels: which there are, how ACLED spells them, what they mean.

A taxonomy is data (``taxonomy.toml``); no code knows a label by name, so a model trained on another codebook's labels
runs through the same code. The order of the labels is the order of the model's logits.
Source of the shipped one: ACLED Codebook (2024), https://acleddata.com/methodology/acled-codebook.
"""

from __future__ import annotations

import re
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tocsin.errors import TaxonomyError

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class EventType(BaseModel):
    """A parent of labels, such as "Battles"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()


class Label(BaseModel):
    """One thing the model can report, with its three columns in ACLED's files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(description="identifier, in snake_case")
    name: str = Field(min_length=1, description="what people say")
    sub_event_type: str = Field(min_length=1, description="ACLED's string")
    event_type: str = Field(min_length=1, description="ACLED's string; one of the taxonomy's event types")
    disorder_type: str = Field(min_length=1, description="ACLED's string; two are joined by '; '")
    definition: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _label_is_an_identifier(self) -> Self:
        if not _NAME.fullmatch(self.label):
            raise ValueError(f"label {self.label!r} must be snake_case: lower-case letters, digits and _")
        return self


class Taxonomy(BaseModel):
    """Labels in the order of the model's logits, under their event types."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    event_types: tuple[EventType, ...] = Field(min_length=1)
    labels: tuple[Label, ...] = Field(min_length=1)

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
        known = {parent.name for parent in self.event_types}
        for label in self.labels:
            if label.event_type not in known:
                raise ValueError(
                    f"label {label.label!r} has the unknown event_type {label.event_type!r}; "
                    f"declare it under [[event_types]] or use one of: {', '.join(sorted(known))}"
                )
        self._aliases_are_unambiguous()
        return self

    def _aliases_are_unambiguous(self) -> None:
        owner: dict[str, str] = {}
        for label in self.labels:
            for alias in {_fold(alias) for alias in (*label.aliases, label.name, label.label)}:
                if owner.setdefault(alias, label.label) != label.label:
                    raise ValueError(f"alias {alias!r} belongs to both {owner[alias]!r} and {label.label!r}")

    @classmethod
    def load(cls, path: Path | str) -> Taxonomy:
        """Read and check a taxonomy file.

        :raises TaxonomyError: the file is missing, is not TOML, or breaks a rule; the message names the entry.
        """
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise TaxonomyError(f"{path}: cannot read the taxonomy: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TaxonomyError(f"{path}: not a TOML file: {error}") from error
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise TaxonomyError(f"{path}: {_explain(error, data)}") from error

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Label identifiers, in the order of the logits."""
        return tuple(label.label for label in self.labels)

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
            table |= {_fold(alias): label for alias in label.aliases}
        for label in reversed(self.labels):
            table[_fold(label.sub_event_type)] = label
        for label in self.labels:
            table[_fold(label.name)] = label
        for label in self.labels:
            table[_fold(label.label)] = label
        return table

    def find(self, text: str) -> Label:
        """Look a label up by identifier, plain name, ACLED sub-event type or alias, whatever its case and punctuation.

        :raises TaxonomyError: nothing goes by that name.
        """
        try:
            return self._lookup[_fold(text)]
        except KeyError:
            raise TaxonomyError(f"no label goes by {text!r}; labels are: {', '.join(self.names)}") from None

    def find_event_type(self, text: str) -> EventType:
        """Look an event type up by ACLED's name or an alias, whatever its case and punctuation.

        :raises TaxonomyError: nothing goes by that name.
        """
        for parent in self.event_types:
            if _fold(text) in {_fold(name) for name in (parent.name, *parent.aliases)}:
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


def _fold(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def _explain(error: ValidationError, data: dict[str, object]) -> str:
    """The first broken rule in words, with the entry it stands in."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    match first["loc"]:
        case (str(table), int(position), *rest):
            entries = data.get(table)
            entry = entries[position] if isinstance(entries, list) else {}
            name = entry.get("label") or entry.get("name") if isinstance(entry, dict) else None
            field = f", field {rest[0]!r}" if rest else ""
            return f"[[{table}]] entry {position + 1} ({name or 'unnamed'}){field}: {message}"
        case (str(table), *_):
            return f"[[{table}]]: {message}"
        case _:
            return message
