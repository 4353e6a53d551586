"""Where a release comes from: what it was trained on, by which code, with which settings, and how it got promoted.

It travels in the manifest. Releases made before these fields existed simply lack them.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataFile(_Section):
    """A file that was imported."""

    name: str = Field(description="without its folder")
    layout: str = Field(description="what it was read as")
    rows: int = Field(ge=0, description="that it holds")
    sha256: str = Field(description="of its bytes")


class DataLineage(_Section):
    """The records a release was trained and measured on."""

    name: str = Field(description="of the corpus folder or the files; their paths are nobody's business")
    description: str | None = Field(None, description="what the corpus is, as the recipe states it")
    files: tuple[DataFile, ...] = Field((), description="somebody's own that it was imported from")
    options: dict[str, Any] | None = Field(
        None, description="of their import, those not at their defaults, paths cut to names; none: not recorded"
    )
    rows_used: int | None = Field(None, ge=0, description="of such files, repetitions included; none: not recorded")
    rows_dropped: dict[str, int] | None = Field(None, description="reason -> rows of such files; none: not recorded")
    mixed: int = Field(0, ge=0, description="training records that came from the recipe's corpus beside such files")
    sha256: str = Field(description="of every record's split, id, text and labels")
    records: dict[str, int] = Field(description="split -> records used")
    labels: dict[str, int] = Field(description="label -> training records that have it")
    without_event: int = Field(ge=0, description="training records without a label")
    first: str | None = Field(description="earliest date or decade that a training record gives")
    last: str | None = Field(description="latest date or decade that a training record gives")
    undated: int | None = Field(None, ge=0, description="imported training records without a date; none: not counted")
    licence: str | None = Field(description="as the recipe states it; none: not stated")


class StartLineage(_Section):
    """A trained model that a training went on from, as far as the folder that it lay in told."""

    sha256: str = Field(description="of its encoder's weights")
    corpus_sha256: str | None = Field(description="of the corpus that it was last trained on; none: not told")
    records: dict[str, int] | None = Field(description="split -> records of that corpus that were used; none: not told")
    licence: str | None = Field(description="of that corpus, as its recipe stated it; none: not stated")


class CodeLineage(_Section):
    """The code that trained a release."""

    version: str = Field(description="of the package")
    commit: str | None = Field(description="git commit of the checkout; none where it was no checkout")
    modified: bool | None = Field(description="whether files differed from that commit; none where it is unknown")


class Lineage(_Section):
    """Everything needed to judge a release's origin, and to make it again from the same data."""

    data: DataLineage = Field(description="what it learned from and was measured on")
    started_from: StartLineage | None = Field(
        None, description="the trained model that it went on from; none: it did not"
    )
    code: CodeLineage = Field(description="what trained it")
    settings: dict[str, Any] = Field(description="the recipe with every default written out, paths cut to their names")


class ForcedPromotion(_Section):
    """A promotion against the advice of the comparison with the release it replaced."""

    reason: str = Field(min_length=1, description="what the person who forced it said")
    worse: tuple[str, ...] = Field(description="each margin that was missed, or why nothing was compared, in words")
    replaced: str = Field(description="name and version of the release before")
    date: str = Field(description="ISO 8601, UTC")
