from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tocsin.errors import first_fault


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    shares: list[float] = Field(default=[0.5])
    count: int = Field(1, ge=1)
    kind: Literal["a", "b"] = "a"

    @model_validator(mode="after")
    def _adds_up(self) -> Part:
        if sum(self.shares) > 1:
            raise ValueError("the shares are more than the whole")
        return self


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"shares": [0.1, "many"]}, "shares.1: must be a number"),
        ({"share": 1}, "share: is no field that is known; check its spelling"),
        ({"count": 0}, "count: must be 1 or more"),
        ({"count": 2.5}, "count: must be a whole number"),
        ({"kind": "c"}, "kind: must be 'a' or 'b'"),
        ({"shares": [0.6, 0.6]}, "the shares are more than the whole"),
    ],
)
def test_a_fault_is_told_with_its_field_where_it_stands_in_one(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        Part.model_validate(data)
    assert first_fault(error.value).startswith(message)
