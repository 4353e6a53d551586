"""Real people in invented text: a list of well-known names, and when naming one is more than naming in passing.

A list knows only the names it holds, so this finds the famous and no private persons. Heads of state and of government
may be named in passing ("forces loyal to Gaddafi"); words or deeds of their own may not be put on them. Nobody else
on the list may be named at all. Streets, airports and prizes named after a person are no person.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tocsin.toml import read_toml

_LIST = Path(__file__).with_name("people.toml")

_OFFICE = "(?:Presidents?|Prime Minister|Premier|Chancellor|King|Queen|Emperor|Emir|Sultan|Chairman) "
_BETWEEN = r",|who|also|again|has|had|have|later|then|yesterday|himself|herself|\w+ly|on \w+day"
_TOLD_BY = re.compile(
    r"\b(?:said|says|told|according to|quoted|quoting|ordered by|signed by|speech by|statement by)\s$"
)

# "Rebels of Charles Taylor held the town": what follows is the rebels' deed.
_OTHERS_ACT = re.compile(r"\b(?:of|to|under|against|with|for|from|behind)\s$")


@dataclass(frozen=True)
class _Person:
    name: str
    is_head: bool
    pattern: re.Pattern[str]
    stands_alone: bool
    """Whether the surname by itself means this person."""
    last_words: frozenset[str]
    """Of each spelling of the surname."""


@dataclass(frozen=True)
class Naming:
    """One place where a text names a person of the list."""

    name: str
    is_head: bool
    in_passing: bool
    """No words or deeds are put on the person here."""

    @property
    def allowed(self) -> bool:
        """Whether the guidelines let it stand."""
        return self.is_head and self.in_passing


def namings(text: str) -> Iterator[Naming]:
    """Every naming of a person of the list, person by person."""
    plain = _without_accents(text)
    for person in _candidates(plain):
        for found in person.pattern.finditer(plain):
            before, after = plain[: found.start()], plain[found.end() :]
            if _is_place(before, after) or (found["given"] is None and not _means(person, before)):
                continue
            led_to = re.sub(rf"{_OFFICE}$", "", before)
            acts = _did().match(after) and not _OTHERS_ACT.search(led_to)
            yield Naming(person.name, person.is_head, not (acts or _TOLD_BY.search(led_to)))


def _means(person: _Person, before: str) -> bool:
    """Whether a surname without a given name means this person: another given name before it makes another person."""
    if re.search(rf"{_OFFICE}$", before) and person.is_head:
        return True
    if not person.stands_alone:
        return False
    word = re.search(r"([\w'’.-]+) $", before)
    return word is None or not word[1][0].isupper() or word[1].strip(".").casefold() in _words("before")


def _is_place(before: str, after: str) -> bool:
    if before.casefold().endswith("dera "):
        return True
    words = re.match(r" (?:International )?([A-Z]\w+)", after)
    return words is not None and words[1].casefold() in _words("places")


def _candidates(plain: str) -> list[_Person]:
    """People of the list whose surname's last word is in the text: hundreds of patterns a text would take minutes."""
    words = {word.casefold() for word in re.findall(r"\w+", plain)}
    numbers = {number for word in words & _index().keys() for number in _index()[word]}
    return [_people()[number] for number in sorted(numbers)]


@cache
def _index() -> dict[str, set[int]]:
    """Last word of a surname -> numbers of those who bear it."""
    index: dict[str, set[int]] = {}
    for number, person in enumerate(_people()):
        for word in person.last_words:
            index.setdefault(word, set()).add(number)
    return index


@cache
def _did() -> re.Pattern[str]:
    return re.compile(rf"^(?:,? (?:{_BETWEEN}))* (?:{'|'.join(sorted(_words('deeds')))})\b")


@cache
def _words(kind: str) -> frozenset[str]:
    return frozenset(_table()["words"][kind].split())


@cache
def _table() -> dict[str, dict[str, str]]:
    """Group -> kind -> lines."""
    return read_toml(_LIST, "the list of people")


@cache
def _people() -> tuple[_Person, ...]:
    return tuple(
        _person(line, is_head=group == "heads", stands_alone=key == "surname")
        for group in ("heads", "others")
        for key, lines in _table()[group].items()
        for line in lines.split("\n")
        if line
    )


def _person(line: str, *, is_head: bool, stands_alone: bool) -> _Person:
    surnames, given = ([part.strip() for part in half.split(",") if part.strip()] for half in line.split(":"))
    first = "|".join(_spelled(name) for name in given) or r"(?!)"
    last = "|".join(_spelled(name) for name in surnames)
    pattern = re.compile(rf"(?<![\w'’])(?P<given>(?:{first}) (?:\w+ )?)?(?:[Aa]l-|[Ee]l-)?(?:{last})(?!\w|-[A-Z])")
    return _Person(
        name=f"{given[0]} {surnames[0]}" if given else surnames[0],
        is_head=is_head,
        pattern=pattern,
        stands_alone=stands_alone or not given,
        last_words=frozenset(re.findall(r"\w+", name)[-1].casefold() for name in surnames),
    )


def _spelled(name: str) -> str:
    """As the list has it, or in capitals as headlines have it."""
    return f"{re.escape(name)}|{re.escape(name.upper())}"


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
