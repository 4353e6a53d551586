"""What a job's answers say in figures: counted where the texts are scored, added up where the job runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Tally:
    """Counts over scored texts, or over sentences where they are scored one by one."""

    scored: int = 0
    with_event: int = 0
    unread: int = 0
    """In a language that the release does not read: without event whatever they report, so not counted as that."""
    to_review: int = 0
    truncated: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    """Events by label; a text may have several."""
    event_types: Counter[str] = field(default_factory=Counter)
    """Texts by event type: one with two kinds of protest is one text with protests."""
    languages: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, columns: pa.Table, languages: Sequence[str]) -> Self:
        """Count answers.

        :param columns: at least those of `ANSWER_FIELDS`, a row per text.
        :param languages: those that the release reads.
        """
        events = columns.column("events").combine_chunks()
        found = events.flatten()
        types = pa.table({"row": pc.list_parent_indices(events), "type": pc.struct_field(found, "event_type")})
        found_languages = _counted(columns.column("language"))
        return cls(
            scored=columns.num_rows,
            with_event=pc.sum(pc.greater(pc.list_value_length(events), 0)).as_py() or 0,
            unread=sum(count for language, count in found_languages.items() if language not in languages),
            to_review=pc.sum(columns.column("needs_review")).as_py() or 0,
            truncated=pc.sum(columns.column("truncated")).as_py() or 0,
            labels=_counted(pc.struct_field(found, "label")),
            event_types=_counted(types.group_by(["row", "type"]).aggregate([]).column("type")),
            languages=found_languages,
        )

    @property
    def without_event(self) -> int:
        """Texts that were read and report none."""
        return self.scored - self.with_event - self.unread

    def to_json(self) -> str:
        """For a journey to another machine."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        values = json.loads(text).items()
        fields: dict[str, Any] = {name: Counter(value) if isinstance(value, dict) else value for name, value in values}
        return cls(**fields)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.scored + other.scored,
            self.with_event + other.with_event,
            self.unread + other.unread,
            self.to_review + other.to_review,
            self.truncated + other.truncated,
            self.labels + other.labels,
            self.event_types + other.event_types,
            self.languages + other.languages,
        )


def _counted(column: pa.Array | pa.ChunkedArray) -> Counter[str]:
    return Counter({item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()})
