"""Turns: fair, within the budget, by one classifier a request, measured."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from tocsin import EventClassifier, Prediction
from tocsin_serving.load import WAITING
from tocsin_serving.schemas import Options
from tocsin_serving.settings import cpu_quotas
from tocsin_serving.work import Pace, WorkQueue


class Classifier:
    """Remembers its turns; a text's answer is the text itself, in the place of the language."""

    def __init__(self, version: str = "1", *, broken: str | None = None) -> None:
        self.version = version
        self.turns: list[list[str]] = []
        self._broken = broken

    def score_batch(self, texts: Sequence[str], *, objective: str) -> Answers:
        self.turns.append(list(texts))
        if self._broken in texts:
            raise RuntimeError("broken")
        return Answers(list(texts), self.version)


class Answers:
    def __init__(self, texts: list[str], version: str) -> None:
        self._texts, self._version = texts, version

    def prediction(self, row: int, *, scores: bool) -> Prediction:
        return Prediction(
            events=(),
            no_event_probability=1,
            needs_review=False,
            review_reason=None,
            truncated=False,
            language=self._texts[row],
            scores={} if scores else None,
            event_type_scores=None,
            model_version=self._version,
        )


def queue(turn_tokens: int = 4) -> WorkQueue:
    return WorkQueue(pace=Pace(1.0, turn_tokens=turn_tokens), turn_tokens=turn_tokens)


async def ask(
    work: WorkQueue,
    classifier: Classifier,
    texts: Sequence[str],
    options: Options | None = None,
    cost: int = 1,
    deadline: float = math.inf,
) -> list[str]:
    costs = [cost] * len(texts)
    given = await work.run(cast("EventClassifier", classifier), options or Options(), texts, costs, deadline=deadline)
    return [f"{prediction.language}{prediction.model_version}" for prediction in given]


def test_one_text_does_not_wait_behind_someones_thousand() -> None:
    async def scenario() -> tuple[list[str], bool]:
        work, classifier = queue(), Classifier()
        long = asyncio.create_task(ask(work, classifier, ["long"] * 1000))
        await asyncio.sleep(0)
        short = await ask(work, classifier, ["short"])
        early = not long.done()
        await long
        return short, early

    assert asyncio.run(scenario()) == (["short1"], True)


def test_requests_share_turns_within_the_budget_and_keep_their_order() -> None:
    async def scenario() -> tuple[list[list[str]], Classifier, int]:
        work, classifier = queue(turn_tokens=4), Classifier()
        wanted = [[f"{name}{number}" for number in range(5)] for name in "abc"]
        answers = await asyncio.gather(*(ask(work, classifier, texts) for texts in wanted))
        return answers, classifier, work.waiting_tokens

    answers, classifier, left = asyncio.run(scenario())
    assert answers == [[f"{name}{number}1" for number in range(5)] for name in "abc"]
    assert classifier.turns[0] == ["a0", "b0", "c0", "a1"]
    assert max(map(len, classifier.turns)) == 4
    assert left == 0


def test_a_request_is_answered_by_one_classifier() -> None:
    async def scenario() -> list[list[str]]:
        work, old, new = queue(), Classifier("old"), Classifier("new")
        return await asyncio.gather(*(ask(work, each, ["x"] * 9) for each in (old, new, old)))

    assert asyncio.run(scenario()) == [["xold"] * 9, ["xnew"] * 9, ["xold"] * 9]


@pytest.mark.parametrize("others", [1, 3])
def test_turns_are_full_and_shared_evenly_whatever_kinds_are_waiting(others: int) -> None:
    async def scenario() -> list[list[str]]:
        work, classifier = queue(turn_tokens=4), Classifier()
        kinds = [Options(objective=name) for name in ("default", "precision")]
        await asyncio.gather(
            ask(work, classifier, ["a"] * 20 * others, kinds[0]),
            *(ask(work, classifier, ["b"] * 20, kinds[1]) for _ in range(others)),
        )
        return classifier.turns

    turns = asyncio.run(scenario())
    assert [len(turn) for turn in turns] == [4] * 10 * others
    assert [turn[0] for turn in turns] == ["a", "b"] * 5 * others


def test_requests_of_another_kind_in_between_keep_their_order() -> None:
    async def scenario() -> list[list[str]]:
        work, classifier = queue(turn_tokens=2), Classifier()
        wanted = [("a", "default"), ("b", "precision"), ("c", "default"), ("d", "precision"), ("e", "default")]
        await asyncio.gather(*(ask(work, classifier, [name], Options(objective=kind)) for name, kind in wanted))
        return classifier.turns

    assert asyncio.run(scenario()) == [["a", "c"], ["b", "d"], ["e"]]


class Clock:
    """Seconds that pass while texts are computed, and no others."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class TimedClassifier(Classifier):
    """Computes 300 texts a second."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def score_batch(self, texts: Sequence[str], *, objective: str) -> Answers:
        self._clock.now += len(texts) / 300
        return super().score_batch(texts, objective=objective)


@pytest.mark.parametrize("objective", ["default", "precision"])
def test_a_long_request_is_done_in_time_beside_ever_new_short_ones(objective: str) -> None:
    """At its place in the round alone the long one would take three minutes (61 texts a round, a thousand rounds)."""
    cost, turn_tokens = 30, 1_024
    clock = Clock()
    waits: list[float] = []

    async def scenario() -> float:
        pace = Pace(1 / 300 / cost, turn_tokens=turn_tokens)
        work = WorkQueue(pace=pace, turn_tokens=turn_tokens, clock=clock)
        classifier = TimedClassifier(clock)
        options = Options(objective=objective)
        long = asyncio.create_task(ask(work, classifier, ["long"] * 1_000, options, cost=cost, deadline=60))

        async def caller() -> None:
            while not long.done():
                begun = clock()
                await ask(work, classifier, ["short"], cost=cost)
                waits.append(clock() - begun)

        await asyncio.sleep(0)
        callers = [asyncio.create_task(caller()) for _ in range(60)]
        await long
        done = clock()
        await asyncio.gather(*callers)
        return done

    assert asyncio.run(scenario()) < 60
    # A round is two turns, a turn 35 texts; every other one may be the long request's.
    assert max(waits) < 6 * 35 / 300


def test_options_travel_with_each_request() -> None:
    async def scenario() -> list[list[Prediction]]:
        work, classifier = queue(), cast("EventClassifier", Classifier())
        wanted = (Options(scores=True), Options())
        return await asyncio.gather(*(work.run(classifier, each, ["x"], [1]) for each in wanted))

    (with_scores,), (without,) = asyncio.run(scenario())
    assert (with_scores.scores, without.scores) == ({}, None)


def test_a_failure_reaches_those_concerned_and_the_queue_goes_on() -> None:
    async def scenario() -> tuple[Any, list[str], int]:
        work, classifier = queue(turn_tokens=1), Classifier(broken="bad")
        failed = asyncio.create_task(ask(work, classifier, ["bad", "never"]))
        fine = await ask(work, classifier, ["fine"])
        (error,) = await asyncio.gather(failed, return_exceptions=True)
        return error, fine, work.waiting_tokens

    error, fine, left = asyncio.run(scenario())
    assert isinstance(error, RuntimeError)
    assert fine == ["fine1"]
    assert left == 0


def test_texts_of_a_client_who_left_are_not_computed() -> None:
    async def scenario() -> tuple[Classifier, int]:
        work, classifier = queue(turn_tokens=1), Classifier()
        leaver = asyncio.create_task(ask(work, classifier, ["x"] * 100))
        await ask(work, classifier, ["y"])
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        await ask(work, classifier, ["z"])
        return classifier, work.waiting_tokens

    classifier, left = asyncio.run(scenario())
    assert sum(turn.count("x") for turn in classifier.turns) < 10
    assert left == 0


def test_the_wait_counts_no_more_of_anothers_texts_than_one_has_oneself() -> None:
    async def scenario() -> tuple[float, float, float]:
        work, classifier = queue(), Classifier()
        work.pace.seconds_per_token = 0.5
        waiting = [asyncio.create_task(ask(work, classifier, ["x"] * 10)) for _ in range(3)]
        await asyncio.sleep(0)
        # Nothing is computed yet: the queue's own task has not had its turn.
        told = work.seconds_ahead(1), work.seconds_ahead(100), work.seconds_waiting
        await asyncio.gather(*waiting)
        return told

    assert asyncio.run(scenario()) == (1.5, 15.0, 15.0)


def test_the_wait_counts_on_others_to_follow_those_who_are_nearly_done() -> None:
    """Or, as long as there is more to do than can be done, everyone would wait twice what was reckoned."""

    async def scenario() -> tuple[float, float]:
        work, classifier = queue(turn_tokens=1), Classifier()
        work.pace = Pace(0.5, turn_tokens=10**9)
        long = asyncio.create_task(ask(work, classifier, ["x"] * 10))
        await asyncio.sleep(0)
        fresh = work.seconds_ahead(100)
        while len(classifier.turns) < 8:
            await asyncio.sleep(0)
        nearly_done = work.seconds_ahead(100)
        await long
        return fresh, nearly_done

    fresh, nearly_done = asyncio.run(scenario())
    assert fresh == 5.0
    assert nearly_done == pytest.approx(5.5), "and the turn under way"


def test_the_wait_counts_anothers_texts_with_their_own_length() -> None:
    async def scenario() -> tuple[float, float]:
        work, classifier = queue(), Classifier()
        waiting = asyncio.create_task(ask(work, classifier, ["x"] * 10, cost=100))
        await asyncio.sleep(0)
        told = work.seconds_ahead(1), work.seconds_ahead(3)
        await waiting
        return told

    assert asyncio.run(scenario()) == (100.0, 300.0)


def test_a_request_beside_an_urgent_one_takes_as_long_as_reckoned() -> None:
    """Twice as long as with turns alone, which is what could be reckoned more simply."""
    cost, turn_tokens = 30, 1_024
    clock = Clock()

    async def scenario() -> tuple[float, float, float]:
        work = WorkQueue(pace=Pace(1 / 300 / cost, turn_tokens=turn_tokens), turn_tokens=turn_tokens, clock=clock)
        classifier = TimedClassifier(clock)
        urgent = asyncio.create_task(ask(work, classifier, ["long"] * 1_000, cost=cost, deadline=6))
        await asyncio.sleep(0)
        simply = work.seconds_ahead(300) + 1
        reckoned = work.seconds_to_answer(300, 300 * cost)
        await ask(work, classifier, ["new"] * 300, cost=cost, deadline=60)
        taken = clock()
        await urgent
        return simply, reckoned, taken

    simply, reckoned, taken = asyncio.run(scenario())
    assert taken == pytest.approx(reckoned, rel=0.1)
    assert taken > 1.5 * simply


def test_the_pace_follows_what_is_measured() -> None:
    pace = Pace(1.0, turn_tokens=10)
    for _ in range(100):
        pace.measured(10, 20.0)
    assert pace.seconds_per_token == pytest.approx(2.0, abs=1e-3)


def test_turns_count_for_the_pace_by_their_tokens() -> None:
    whole, in_tenths = Pace(1.0, turn_tokens=100), Pace(1.0, turn_tokens=100)
    whole.measured(100, 200.0)
    for _ in range(10):
        in_tenths.measured(10, 20.0)
    assert in_tenths.seconds_per_token == pytest.approx(whole.seconds_per_token)
    assert whole.seconds_per_token == pytest.approx(1.1)


def test_the_work_at_hand_is_told_and_is_none_in_the_end() -> None:
    told: list[float] = []

    async def scenario() -> None:
        work = queue(turn_tokens=1)
        asking = asyncio.create_task(ask(work, Classifier(), ["a", "b"], cost=3))
        await asyncio.sleep(0)
        told.append(waiting())
        await asking
        told.append(waiting())

    asyncio.run(scenario())
    assert told == [6.0, 0.0]


def waiting() -> float:
    return REGISTRY.get_sample_value(WAITING) or 0.0


@pytest.mark.parametrize(
    ("limits", "cores"),
    [({"": "max 100000"}, []), ({"": "200000 100000"}, [2]), ({"": "150000 100000"}, [2]), ({"": "5000 100000"}, [1])],
)
def test_a_containers_cpu_limit_counts_as_cores_rounded_up(
    tmp_path: Path, limits: dict[str, str], cores: list[int]
) -> None:
    assert cpu_quotas(cgroups(tmp_path, limits), membership(tmp_path, "/")) == cores


def test_the_limits_of_outer_groups_hold_too(tmp_path: Path) -> None:
    root = cgroups(tmp_path, {"a": "400000 100000", "a/b": "max 100000"})
    assert cpu_quotas(root, membership(tmp_path, "/a/b")) == [4]


def test_without_cgroups_there_is_no_limit(tmp_path: Path) -> None:
    assert cpu_quotas(tmp_path, tmp_path / "none") == []


def cgroups(folder: Path, limits: dict[str, str]) -> Path:
    for place, limit in limits.items():
        group = folder / "cgroup" / place
        group.mkdir(parents=True, exist_ok=True)
        (group / "cpu.max").write_text(limit + "\n")
    return folder / "cgroup"


def membership(folder: Path, place: str) -> Path:
    (folder / "membership").write_text(f"0::{place}\n")
    return folder / "membership"


def test_a_queue_is_alive_unless_a_turn_does_not_end_or_nobody_takes_turns() -> None:
    class Held(Classifier):
        """Holds its turns until it is let go."""

        def __init__(self) -> None:
            super().__init__()
            self.entered, self.gate = threading.Event(), threading.Event()

        def score_batch(self, texts: Sequence[str], *, objective: str) -> Answers:
            self.entered.set()
            assert self.gate.wait(20)
            return super().score_batch(texts, objective=objective)

    async def scenario() -> None:
        now = 100.0
        work = WorkQueue(pace=Pace(1.0, turn_tokens=4), turn_tokens=4, clock=lambda: now)
        assert work.is_alive(60)
        held = Held()
        waiting = [asyncio.create_task(ask(work, held, [str(number)] * 50)) for number in range(10)]
        await asyncio.to_thread(held.entered.wait, 20)
        now += 60
        assert work.is_alive(60), "however much is waiting"
        now += 1
        assert not work.is_alive(60)
        held.gate.set()
        await asyncio.gather(*waiting)
        assert work.is_alive(60)

        stranded = asyncio.create_task(ask(work, held, ["a"]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(work, "_next_turn", lambda: 1 / 0)
            await asyncio.sleep(0.05)
        assert not work.is_alive(60)
        stranded.cancel()
        assert await ask(work, held, ["b"]) == ["b1"]
        assert work.is_alive(60)

        work.close()
        assert not work.is_alive(60)

    asyncio.run(scenario())
