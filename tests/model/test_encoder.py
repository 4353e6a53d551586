from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tocsin.encoder import Window, micro_batches

WINDOWS = st.lists(st.integers(1, 40), max_size=60).map(
    lambda lengths: [Window(index, [0] * length) for index, length in enumerate(lengths)]
)


@given(WINDOWS, st.integers(0, 200))
def test_micro_batches_lose_nothing_and_keep_to_the_budget(windows: list[Window], budget: int) -> None:
    batches = list(micro_batches(windows, budget))
    assert sorted(window.text_index for batch in batches for window in batch) == list(range(len(windows)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(window.ids) for window in batch) <= budget


@given(WINDOWS)
def test_no_budget_means_one_window_at_a_time(windows: list[Window]) -> None:
    assert all(len(batch) == 1 for batch in micro_batches(windows, 0))
