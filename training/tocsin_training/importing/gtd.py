"""The Global Terrorism Database: summaries with coded attack, weapon and target types (https://www.start.umd.edu/gtd).

``gtd.toml`` says which combinations soundly are a label of the shipped taxonomy. The rest is left out, with the reason
given there: GTD codes attacks by what was attempted, and what ACLED would make of many cannot be told. An attack has up
to three types, a bombing and the assault that followed it; the rules are asked of each, and all must have a label.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tocsin.toml import read_toml
from tocsin_training.importing.layouts import NO_TEXT, UNSOUND, Columns, Draft, Layout, Read, cell
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.tables import Problem

_TYPES = ("attacktype1_txt", "attacktype2_txt", "attacktype3_txt")
_RULES = Path(__file__).with_name("gtd.toml")


class Rule(BaseModel):
    """What rows of some codes are; the first rule that fits a row decides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: dict[str, tuple[str, ...]]
    """Column -> the values that fit."""
    label: str | None = None
    reason: str | None = None
    """Why there is none."""


@cache
def rules() -> tuple[Rule, ...]:
    """The rules of ``gtd.toml``, in order."""
    data = read_toml(_RULES, "the list of rules")
    return tuple(Rule.model_validate(rule) for rule in data["rules"])


def _told_by(columns: Columns) -> bool:
    return {"eventid", "attacktype1_txt", "summary"} <= columns.folded


def _reader(columns: Columns, options: ImportOptions) -> Read:
    text = columns.find("summary")
    year, month, day = (columns.find(name) for name in ("iyear", "imonth", "iday"))
    known = {name: columns.find(name) for rule in rules() for name in rule.when}
    types = [columns.find(name) for name in _TYPES]

    def read(cells: dict[str, Any]) -> Draft | Problem:
        if not (summary := cell(cells, text)):
            return NO_TEXT
        codes = {name: cell(cells, column).removesuffix(".0") for name, column in known.items()}
        # Some releases write a point where there is no second or third type.
        attacks = [attack for column in types if (attack := cell(cells, column)) not in ("", ".")]
        labels = []
        for attack in attacks or [""]:
            rule = _rule(codes | {_TYPES[0]: attack})
            if rule is None or rule.label is None:
                what = (rule and rule.reason) or "its attack type is none of GTD's"
                return Problem(UNSOUND, f"{attack or 'no attack type'}: {what}")
            labels.append(rule.label)
        # GTD writes 0 for a day or month that is not known.
        parts = [cell(cells, part).removesuffix(".0") for part in (year, month, day)]
        date = "-".join(parts) if all(parts) and "0" not in parts else ""
        return Draft(summary, tuple(dict.fromkeys(labels)), date=date)

    return read


def _rule(codes: dict[str, str]) -> Rule | None:
    return next((rule for rule in rules() if all(codes[name] in rule.when[name] for name in rule.when)), None)


LAYOUT = Layout("GTD", _told_by, _reader, ignores=("separator", "empty"))
