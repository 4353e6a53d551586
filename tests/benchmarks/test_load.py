"""The load benchmark: what counts as the library's answer, and that its rate waits for nobody."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import load
import pytest
import wrk
from load import Checked, Outcome, row, same, wrk_row

_TEXT = "Warplanes struck the market in the town centre on Tuesday, killing nine people."


@pytest.fixture(scope="module")
def checked() -> Checked:
    return Checked([_TEXT])


def answer(checked: Checked) -> Any:  # noqa: ANN401  JSON
    return copy.deepcopy(checked._answers[_TEXT])


def other_probability(prediction: dict[str, Any]) -> None:
    prediction["events"][0]["probability"] -= 0.001


@pytest.mark.parametrize(
    "spoil",
    [
        lambda prediction: prediction.update(needs_review=not prediction["needs_review"]),
        lambda prediction: prediction.update(model_version="another"),
        lambda prediction: prediction.update(no_event_probability=prediction["no_event_probability"] + 0.001),
        lambda prediction: prediction.update(events=[]),
        lambda prediction: prediction.pop("language"),
        other_probability,
    ],
)
def test_an_answer_that_differs_in_any_field_ends_the_run(
    checked: Checked, spoil: Callable[[dict[str, Any]], object]
) -> None:
    wrong = answer(checked)
    spoil(wrong)
    before = checked.compared
    with pytest.raises(SystemExit, match="wrong answer to: Warplanes"):
        checked.check([_TEXT], [wrong])
    assert checked.compared == before


def test_answers_are_counted_by_texts(checked: Checked) -> None:
    before = checked.compared
    checked.check([_TEXT, _TEXT], [answer(checked), answer(checked)])
    assert checked.compared == before + 2
    with pytest.raises(ValueError, match="shorter"):
        checked.check([_TEXT, _TEXT], [answer(checked)])


def test_numbers_are_the_same_within_rounding() -> None:
    assert same({"a": [0.5, None, 1]}, {"a": [0.5 + 1e-7, None, 1]})
    assert not same({"a": [0.5]}, {"a": [0.5, 0.5]})
    assert not same(0.5, None)
    assert not same(True, False)


class Unchecked:
    """Asks without looking at the answers."""

    def request(self, number: int, size: int) -> list[str]:
        return [str(number)] * size

    def body(self, texts: Sequence[str]) -> dict[str, Any]:
        return {"texts": list(texts)}

    def check(self, texts: Sequence[str], answer: object) -> None:
        pass


def test_the_rate_is_kept_whatever_becomes_of_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived: list[float] = []

    async def slow(request: httpx.Request) -> httpx.Response:
        arrived.append(time.perf_counter())
        await asyncio.sleep(0.5)
        if json.loads(request.content)["texts"][0] == "3":
            return httpx.Response(503, headers={"Retry-After": "30"})
        return httpx.Response(200, json=[])

    transport = httpx.MockTransport(slow)
    monkeypatch.setattr(load, "many_connections", lambda _: httpx.AsyncClient(base_url="http://x", transport=transport))
    outcome, rate = asyncio.run(load.offer(Unchecked(), rate=50, size=2, seconds=0.4))
    assert len(arrived) == 20
    assert arrived[-1] - arrived[0] < 0.5, "none waits for an answer"
    assert rate == pytest.approx(50, rel=0.2)
    assert (len(outcome.latencies), len(outcome.refusals), outcome.texts) == (19, 1, 38)
    assert min(outcome.latencies) >= 0.5


def test_a_row_says_how_many_requests_were_answered() -> None:
    found = row("eight", Outcome([0.1] * 1234, [0.2] * 3, Counter({"500": 2}), texts=2468, seconds=2.0))
    assert found == ("eight", "1,234", "617.0 / 1234", "100 / 100 ms", "3 in 200 / 200 ms", "2 x 500")


def test_what_wrk_was_refused_is_not_counted_as_answered() -> None:
    counts = {"requests": 30, "seconds": 2.0, "refused": 8, "bad": 9, "broken": 1, "p50": 0.1, "p99": 0.2}
    found = wrk.read(f"Running 2s test\n\n{json.dumps(counts)}\n")
    assert wrk_row("one", found, 64) == ("one", "20", "10.0 / 640", "100 / 200 ms", "8", "2 failed")


def test_a_wrk_that_does_not_measure_is_told_of() -> None:
    with pytest.raises(SystemExit, match="unable to connect"):
        wrk.read("", "unable to connect to 127.0.0.1")
