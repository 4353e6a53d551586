"""Text made for measuring one weakness each: ``datasets/robustness``, never trained on.

``actors.toml`` holds frames, sentences with a place for who did it (``{actor}``) and against whom (``{foe}``), and the
actors to put there, each of one side. Most frames must be read alike whoever acts; of some the right label depends on
the side, and they say so. ``swaps.toml`` holds words that may stand for each other in any text. ``no_event.jsonl``
holds text of plain domains in which nothing is to be found.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tocsin.errors import InputError, first_fault
from tocsin.toml import read_toml

_ACTORS, _SWAPS, _NO_EVENT = "actors.toml", "swaps.toml", "no_event.jsonl"
_SLOT = re.compile(r"\{(actor|foe)\}")
_Kind = TypeVar("_Kind", bound=BaseModel)


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Actor(_Entry):
    """Somebody with arms, as a plural noun that can open a sentence once its first letter is raised."""

    name: str = Field(min_length=1)
    side: str = Field(min_length=1)
    foe: str = Field(min_length=1, description="the armed people this actor would fight")


class Frame(_Entry):
    """A sentence with places for the actor and, where it needs one, the foe."""

    text: str
    labels: tuple[str, ...] | None = Field(None, description="right whoever acts; empty: no event")
    by_side: dict[str, tuple[str, ...]] | None = Field(None, description="right for these sides, and asked of no other")

    @model_validator(mode="after")
    def _one_kind_of_truth(self) -> Self:
        if (self.labels is None) == (self.by_side is None):
            raise ValueError("a frame has either labels or by_side")
        if "{actor}" not in self.text:
            raise ValueError("the text has no {actor}")
        return self

    def truth(self, side: str) -> tuple[str, ...] | None:
        """The right labels when this side acts; none where the frame does not ask."""
        return self.labels if self.by_side is None else self.by_side.get(side)


class Confusion(_Entry):
    """An error with a name: a text whose events are of one type is given a label of another."""

    name: str
    truth: str = Field(description="event type")
    answer: str = Field(description="event type")


class ActorFile(_Entry):
    """All of ``actors.toml``."""

    confusions: tuple[Confusion, ...] = ()
    actors: tuple[Actor, ...] = Field(min_length=2)
    frames: tuple[Frame, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _sides_are_known(self) -> Self:
        sides = {actor.side for actor in self.actors}
        for frame in self.frames:
            if unknown := sorted(set(frame.by_side or ()) - sides):
                raise ValueError(f"{frame.text!r} speaks of a side that no actor has: {', '.join(unknown)}")
        return self


@dataclass(frozen=True)
class Probe:
    """A frame with its places filled."""

    text: str
    labels: tuple[str, ...]
    frame: int
    actor: str
    side: str
    depends: bool
    """Whether the right labels depend on the side."""


class Swap(_Entry):
    """Words that may stand for each other."""

    name: str
    words: tuple[str, ...] = Field(min_length=2)
    only: tuple[str, ...] = Field((), description="labels that no swap makes wrong; none: every text may be swapped")

    def allows(self, labels: tuple[str, ...]) -> bool:
        """Whether a text with these labels keeps them when words are swapped."""
        return not self.only or (bool(labels) and set(labels) <= set(self.only))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.words, key=len, reverse=True)
        return re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)

    def variants(self, text: str) -> dict[str, str]:
        """Each other word -> the text with the first of the words in it replaced by that one, wherever it stands.

        :return: none where the text has no such word.
        """
        found = self._pattern.search(text)
        if found is None:
            return {}
        old = found.group()
        # With the article before it, if there is one; whole words only.
        place = re.compile(rf"\b(?P<article>an? )?(?P<word>{re.escape(old)})\b", re.IGNORECASE)
        others = (word for word in self.words if word.casefold() != old.casefold())
        return {new: place.sub(partial(_in_place_of, new=new), text) for new in others}


def _in_place_of(match: re.Match[str], *, new: str) -> str:
    article, old = match["article"] or "", match["word"]
    if article:
        article = article[0] + ("n " if new[0] in "aeioAEIO" else " ")
    return article + (_capital(new) if old[0].isupper() else new)


@dataclass(frozen=True)
class PlainText:
    """Text without any event, and what it is about."""

    text: str
    domain: str


@dataclass(frozen=True)
class ProbeSets:
    """All sets of a folder."""

    actors: ActorFile
    swaps: tuple[Swap, ...]
    no_event: list[PlainText]


def read_sets(folder: Path) -> ProbeSets:
    """All sets of a folder.

    :raises InputError: one is missing or breaks a rule; the message names it.
    """
    return ProbeSets(actors=read_actors(folder), swaps=read_swaps(folder), no_event=read_no_event(folder))


def read_actors(folder: Path) -> ActorFile:
    """``actors.toml`` of a folder.

    :raises InputError: it is missing or breaks a rule; the message names the entry.
    """
    return _validated(folder / _ACTORS, ActorFile)


def read_swaps(folder: Path) -> tuple[Swap, ...]:
    """``swaps.toml`` of a folder; errors as with ``read_actors``."""
    return _validated(folder / _SWAPS, _SwapFile).swaps


class _SwapFile(_Entry):
    swaps: tuple[Swap, ...]


def _validated(path: Path, kind: type[_Kind]) -> _Kind:
    data = read_toml(path, "the set of sentences")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}") from error


def read_no_event(folder: Path) -> list[PlainText]:
    """``no_event.jsonl`` of a folder.

    :raises InputError: naming the line at fault.
    """
    path = folder / _NO_EVENT
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    return [_plain_text(path, number, line) for number, line in enumerate(lines, 1)]


def _plain_text(path: Path, number: int, line: str) -> PlainText:
    try:
        row = json.loads(line)
        return PlainText(str(row["text"]), str(row["domain"]))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}:{number}: not an object with text and domain ({error})") from error


def fill(file: ActorFile) -> list[Probe]:
    """Every frame with every actor that it asks about."""
    return [
        Probe(_filled(frame.text, actor), truth, number, actor.name, actor.side, frame.by_side is not None)
        for number, frame in enumerate(file.frames)
        for actor in file.actors
        if (truth := frame.truth(actor.side)) is not None
    ]


def _filled(text: str, actor: Actor) -> str:
    names = {"actor": actor.name, "foe": actor.foe}
    filled = _SLOT.sub(lambda match: names[match.group(1)], text)
    return ". ".join(map(_capital, filled.split(". ")))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
