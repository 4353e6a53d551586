"""What a user can say about files to be imported; each field is an option of `tocsin data` and `train --data`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

NO_MIX = "none"


class ImportOptions(BaseModel):
    """How files are read, labels understood and splits made. The descriptions are the command line's help."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text_column: str | None = Field(None, description="Column with the text, where the layout is none that is known.")
    label_column: tuple[str, ...] = Field(
        (), description="Column with one label or several; repeat it for columns that hold 0 or 1, one a label."
    )
    separator: str | None = Field(
        None, min_length=1, description="Between several labels of a cell; `;` and `|` by default."
    )
    date_column: str | None = Field(None, description="Column with the date; one called date or event_date by default.")
    dates: Literal["day-first", "month-first"] | None = Field(
        None, description="How 05/08/2024 is meant, where no date of the file tells."
    )
    names: Path | None = Field(
        None, description='TOML file whose table `labels` has "your name" = "label", or "" for no event.'
    )
    no_event: tuple[str, ...] = Field(
        ("none", "no event", "not an event", "nothing"), description="Names that mean no event; repeat for several."
    )
    empty: Literal["drop", "no-event"] = Field("drop", description="An empty label cell: not coded, or no event.")
    strip_openings: bool = Field(False, description="Take openings such as `On 5 August 2024,` off the texts.")
    encoding: str | None = Field(None, description="Of what is not UTF-8 in CSV files, such as cp1252.")
    delimiter: str | None = Field(None, description="Of CSV files; told from the header by default.")
    sheet: str | None = Field(None, description="Of Excel files; the first by default.")
    split_by: str | None = Field(
        None, description="`date` (the newest rows are the test) or a column whose values stay in one split."
    )
    held_out: float = Field(0.2, ge=0.02, le=0.8, description="Share kept from training, half of it to test.")
    mix: str = Field(NO_MIX, description="Share of training texts to take from the recipe's own corpus, or `none`.")
    bad_rows: float = Field(0.05, ge=0, le=1, description="Go on though this share of rows cannot be used.")
    near_duplicates: bool = Field(True, description="Keep texts that are nearly the same in one split.")
    label_errors: bool = Field(True, description="Look for suspected label errors (with `tocsin[label-errors]`).")

    @field_validator("mix")
    @classmethod
    def _is_a_share(cls, value: str) -> str:
        if value != NO_MIX:
            try:
                share = float(value)
            except ValueError:
                share = -1.0
            if not 0 < share < 1:
                raise ValueError(f"{value!r} is neither `none` nor a share between 0 and 1, such as 0.3")
        return value

    def is_given(self, name: str) -> bool:
        """Whether an option is not what it is by itself."""
        return bool(getattr(self, name) != type(self).model_fields[name].default)

    @property
    def mix_share(self) -> float:
        """The share as a number; 0 for none."""
        return 0.0 if self.mix == NO_MIX else float(self.mix)

    def mixed_with(self, texts: int) -> int:
        """How many records make up the share beside so many texts."""
        return round(texts * self.mix_share / (1 - self.mix_share))
