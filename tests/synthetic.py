"""Coded notes of our own making, in the layouts people have theirs in: no word of anybody's data."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TAXONOMY = ROOT / "datasets" / "taxonomy.toml"
# Sub-event type -> event type, disorder type and what such a note says.
KINDS = {
    "Armed clash": (
        ("Battles", "Political violence"),
        ("exchanged machine-gun fire with soldiers", "ambushed an army patrol", "fought a rival column for two hours"),
    ),
    "Air/drone strike": (
        ("Explosions/Remote violence", "Political violence"),
        ("were hit by a drone strike", "came under bombs from two warplanes", "were struck from a helicopter"),
    ),
    "Attack": (
        ("Violence against civilians", "Political violence"),
        ("shot dead three farmers", "killed a shopkeeper at home", "beat and stabbed two drivers"),
    ),
    "Peaceful protest": (
        ("Protests", "Demonstrations"),
        ("marched with banners against the fuel price", "held a sit-in for unpaid wages", "rallied and sang for peace"),
    ),
    "Mob violence": (
        ("Riots", "Political violence"),
        ("lynched an alleged thief", "stoned a suspected sorcerer", "brawled with sticks and set a stall on fire"),
    ),
    "Looting/property destruction": (
        ("Strategic developments", "Strategic developments"),
        ("burned down the empty granary", "looted the pharmacy and left", "smashed the pumps of the water tower"),
    ),
}
_WHO = "Herders|Students|Market women|Gunmen on motorbikes|Militiamen|Teachers|Miners|Fighters of a splinter group"
_WHO += "|Residents|Youths|Dock workers|Men in uniform|Members of a self-defence group|Nurses|Truckers|Villagers"
_WHERE = "Arbala|Besso|Cantari|Doumel|Erevan Hill|Fontro|Gashaba|Hollin|Irrem|Jabat|Kourou Bay|Lemdi|Mottan|Nasr Ford"
_WHERE += "|Ostrel|Parrak|Quenda|Rimbey|Sallow|Terrik|Umbro|Vastra|Wendi|Xarim|Yol|Zemmar"
_AFTER = (
    "An elder counted the injured|The road stayed shut until noon|Shops reopened the next day|A clinic took in eight"
)
_AFTER += "|Phones were down for hours|Nobody claimed it|The prefect appealed for calm|A curfew followed at dusk"
_AFTER += "|Two houses were damaged|Families fled across the river|The council met in haste|A witness filmed it"
WHO, WHERE, AFTER = (words.split("|") for words in (_WHO, _WHERE, _AFTER))
_FIRST_DAY = date(2023, 1, 1)
COUNTRIES = ("Northland", "Eastmark", "Southey", "Westria")


def notes(number: int, *, seed: int = 5) -> Iterator[dict[str, Any]]:
    """Rows in ACLED's present layout, dated in their order."""
    rng = random.Random(seed)
    for position in range(number):
        kind = rng.choice(list(KINDS))
        (event_type, disorder), done = KINDS[kind]
        day = _FIRST_DAY + timedelta(days=position // 4)
        numbers = rng.sample(range(2, 90), 3)
        yield {
            "event_id_cnty": f"NOR{position:06}",
            "event_date": day.isoformat(),
            "year": day.year,
            "disorder_type": disorder,
            "event_type": event_type,
            "sub_event_type": kind,
            "country": rng.choice(COUNTRIES),
            "source": rng.choice(("Radio Arbala", "The Besso Post", "Local observer")),
            "notes": (
                f"On {day.day} {day:%B %Y}, {rng.choice(WHO).lower()} {rng.choice(done)} near {rng.choice(WHERE)} "
                f"{numbers[0]} km from {rng.choice(WHERE)}, {numbers[1]} people said. {rng.choice(AFTER)} after "
                f"{numbers[2]} minutes. {rng.choice(AFTER)} in {rng.choice(WHERE)}."
            ),
            "fatalities": rng.randrange(4),
        }


def write_csv(path: Path, rows: Sequence[dict[str, Any]], *, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    """Rows of the same columns as a CSV file."""
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def old_layout(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same notes as ACLED laid them out before 2019: nine event types, capital columns, no sub-event types."""
    types = {
        "Armed clash": "Battle-No change of territory",
        "Air/drone strike": "Remote violence",
        "Attack": "Violence against civilians",
        "Peaceful protest": "Riots/Protests",
        "Mob violence": "Riots/Protests",
        "Looting/property destruction": "Strategic development",
    }
    return [
        {
            "EVENT_ID_CNTY": row["event_id_cnty"],
            "EVENT_DATE": f"{date.fromisoformat(row['event_date']):%d-%B-%Y}",
            "EVENT_TYPE": types[row["sub_event_type"]],
            "COUNTRY": row["country"],
            "NOTES": row["notes"],
        }
        for row in rows
    ]
