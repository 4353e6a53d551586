from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from tocsin import InputError
from tocsin.calibration import Calibration, union, union_by_parent

PROBABILITIES = arrays.arrays(np.float32, (4, 6), elements=st.floats(0, 1, width=32))


@given(PROBABILITIES)
def test_a_parent_is_at_least_its_likeliest_child_and_at_most_their_sum(probabilities: np.ndarray) -> None:
    either = union(probabilities)
    assert np.all(either >= probabilities.max(axis=-1) - 1e-6)
    assert np.all(either <= np.minimum(1.0, probabilities.sum(axis=-1)) + 1e-6)


@given(PROBABILITIES)
def test_no_parent_exceeds_the_union_of_all(probabilities: np.ndarray) -> None:
    parents = np.array([0, 0, 1, 1, 1, 2])
    assert np.all(union_by_parent(probabilities, parents, 3) <= union(probabilities)[:, None] + 1e-6)


@given(arrays.arrays(np.float32, (3, 2), elements=st.floats(-1e6, 1e6, width=32)))
def test_probabilities_stay_finite_and_keep_the_order_of_logits(logits: np.ndarray) -> None:
    calibration = Calibration(scale=(0.7, 2.0), bias=(0.1, -3.0), thresholds=(0.5, 0.5), review_below=0.0)
    probabilities = calibration.probabilities(logits)
    assert np.all((probabilities >= 0) & (probabilities <= 1))
    for column in range(2):
        order = np.argsort(logits[:, column])
        assert np.all(np.diff(probabilities[order, column]) >= 0)


def test_confidence_is_that_of_the_first_event_or_of_no_event() -> None:
    calibration = Calibration.identity(2)
    confidence = calibration.confidence(np.array([[0.9, 0.6], [0.2, 0.1]]))
    assert confidence == pytest.approx([0.9, 0.8 * 0.9])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": (1.0,)}, "one entry per label"),
        ({"scale": (1.0, -1.0)}, "positive"),
        ({"thresholds": (0.5, 1.0)}, "between 0 and 1"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    fields = Calibration.identity(2).model_dump() | changes
    with pytest.raises(ValidationError, match=message):
        Calibration.model_validate(fields)


def test_an_objective_decides_by_its_own_thresholds_and_an_unknown_one_is_refused() -> None:
    calibration = Calibration.identity(2).model_copy(update={"objectives": {"precision": (0.9, 0.4)}})
    probabilities = np.array([[0.8, 0.45]], dtype=np.float32)
    assert calibration.objective_names == ("default", "precision")
    assert calibration.decide(probabilities).tolist() == [[True, False]]
    assert calibration.decide(probabilities, "precision").tolist() == [[False, True]]
    assert calibration.confidence(probabilities, "precision") == pytest.approx(0.45)
    with pytest.raises(InputError, match="default, precision"):
        calibration.decide(probabilities, "recall")


@pytest.mark.parametrize("objectives", [{"precision": (0.5,)}, {"precision": (0.5, 1.0)}, {"default": (0.5, 0.5)}])
def test_thresholds_that_do_not_fit_are_refused(objectives: dict[str, tuple[float, ...]]) -> None:
    fields = Calibration.identity(2).model_dump()
    with pytest.raises(ValidationError, match=r"threshold|objective"):
        Calibration.model_validate({**fields, "objectives": objectives})


def test_a_target_without_its_objective_is_refused() -> None:
    fields = Calibration.identity(2).model_dump() | {"objective_targets": {"precision": 0.95}}
    with pytest.raises(ValidationError, match="target"):
        Calibration.model_validate(fields)
