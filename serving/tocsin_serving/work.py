"""The work of one worker: texts of all requests, taken in turn, computed in one thread, measured.

BentoML's adaptive batcher counts requests and not texts, and finds out that it is overloaded only when a request has
waited too long. Here every text has a cost in tokens, every turn has a budget of them, requests take turns text by
text, so that one text never waits behind someone's thousand, and the wait is known before a request is taken on: tokens
ahead of it times the measured seconds a token. A request that would come too late at that rate, because ever new ones
take their turns beside it, has every other turn to itself.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tocsin import EventClassifier, Prediction, Scores
from tocsin_serving.load import tell_waiting
from tocsin_serving.schemas import Options

# Share of the newest turn in the estimate, if it was full: after 20 of them an old pace counts for an eighth.
_WEIGHT = 0.1
# A job is urgent when it has no more than so many times the time left that it needs alone: twice, as it gets every
# other turn then, and half as much again, as the pace is an estimate.
_URGENT = 3

Seen = Callable[[EventClassifier, Scores, Sequence[int], str], None]
"""Is told of every turn: the classifier, its answers, the texts' tokens, the objective."""


class Pace:
    """Seconds a token takes, as an exponentially weighted moving average over tokens."""

    def __init__(self, seconds_per_token: float, *, turn_tokens: int) -> None:
        """A first estimate.

        :param turn_tokens: those of a full turn. A smaller one counts for less, or a few lonely texts, for each of
            which a turn takes longer, would stand for all.
        """
        self.seconds_per_token = seconds_per_token
        self._turn_tokens = turn_tokens

    def measured(self, tokens: int, seconds: float) -> None:
        """Take a turn into account."""
        weight = 1 - (1 - _WEIGHT) ** (tokens / self._turn_tokens)
        self.seconds_per_token += weight * (seconds / tokens - self.seconds_per_token)


@dataclass(eq=False)
class Job:
    """The texts of one request; all of them are answered by the classifier it came in with."""

    classifier: EventClassifier
    options: Options
    texts: Sequence[str]
    tokens: Sequence[int]
    done: asyncio.Future[list[Prediction]]
    deadline: float = math.inf
    """When the answer has to be there, by the queue's clock."""
    answers: list[Prediction] = field(default_factory=list)
    taken: int = 0
    size: int = field(init=False)
    """Tokens of all texts."""
    remaining: int = field(init=False)
    """Tokens of the texts not yet taken."""

    def __post_init__(self) -> None:
        self.size = self.remaining = sum(self.tokens)

    @property
    def kind(self) -> tuple[EventClassifier, str]:
        """Jobs of one kind can share a turn."""
        return self.classifier, self.options.objective

    def tokens_of(self, texts: int) -> float:
        """Tokens of so many of its texts, or of all if there are no more, by their mean length."""
        return self.size * min(texts, len(self.texts)) / len(self.texts)

    def take(self) -> str:
        """The next text, for the turn at hand."""
        text = self.texts[self.taken]
        self.remaining -= self.tokens[self.taken]
        self.taken += 1
        return text

    def give(self, answers: Sequence[Prediction]) -> None:
        """Answers of the texts taken last, in their order."""
        self.answers += answers
        if len(self.answers) == len(self.texts) and not self.done.done():
            self.done.set_result(self.answers)


@dataclass
class Turn:
    """Texts that are computed together, with the job of each."""

    items: list[tuple[Job, str]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    """Tokens of each text."""
    tokens: int = 0

    def takes(self, job: Job) -> bool:
        """Whether a job can share the turn."""
        return not self.items or job.kind == self.items[0][0].kind

    def add(self, job: Job) -> None:
        """Take a job's next text."""
        self.lengths.append(job.tokens[job.taken])
        self.tokens += self.lengths[-1]
        self.items.append((job, job.take()))

    def compute(self, seen: Seen | None) -> dict[Job, list[Prediction]]:
        """Answers by job, each in the order of its texts. Runs in the computing thread."""
        classifier, objective = self.items[0][0].kind
        scores = classifier.score_batch([text for _, text in self.items], objective=objective)
        if seen is not None:
            seen(classifier, scores, self.lengths, objective)
        answers: dict[Job, list[Prediction]] = {}
        for row, (job, _) in enumerate(self.items):
            prediction = scores.prediction(row, scores=job.options.scores)
            answers.setdefault(job, []).append(job.options.narrowed(prediction))
        return answers


class WorkQueue:
    """Jobs that take turns; belongs to one event loop."""

    def __init__(
        self,
        *,
        pace: Pace,
        turn_tokens: int,
        seen: Seen | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """An empty queue.

        :param turn_tokens: a turn ends with the text that reaches it, and holds at least one text.
        :param seen: told of every turn, in the computing thread.
        :param clock: seconds, by which jobs have their deadlines and the pace is measured.
        """
        self.pace = pace
        self.clock = clock
        self._seen = seen
        self.waiting_tokens = 0
        """Tokens of all texts not yet answered."""
        self._turn_tokens = turn_tokens
        self._jobs: deque[Job] = deque()
        self._turn = Turn()
        self._turn_begun = -math.inf
        self._was_urgent = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tocsin-compute")
        self._working: asyncio.Task[None] | None = None
        self._closed = False
        tell_waiting(0.0)

    def seconds_ahead(self, texts: int) -> float:
        """How long a request of so many texts would be held up by others, if more come as others are answered.

        Requests take turns text by text, so another one holds it up by no more than so many texts of its own, reckoned
        by their mean length; and by the turn under way. What another one has already been given does not count: once
        it is answered, the next one takes its turns.
        """
        ahead = sum(job.tokens_of(texts) for job in self._jobs) + self._turn.tokens
        return ahead * self.pace.seconds_per_token

    def seconds_to_answer(self, texts: int, tokens: int) -> float:
        """How long a request would take: its own work, what holds it up, and what the urgent ones do in between.

        They have every other turn, so that it takes twice as long for as long as there are any.

        :param tokens: those of all its texts.
        """
        alone = tokens * self.pace.seconds_per_token
        in_turn = alone + self.seconds_ahead(texts)
        urgent = sum(job.remaining for job in self._urgent()) * self.pace.seconds_per_token
        return in_turn + min(in_turn, urgent)

    @property
    def seconds_waiting(self) -> float:
        """How long all the work at hand is measured to take."""
        return self.waiting_tokens * self.pace.seconds_per_token

    def is_alive(self, patience: float) -> bool:
        """Whether texts that are put here get computed. However many are waiting, that is not counted against it.

        :param patience: longest time for one turn, in seconds.
        """
        stranded = bool(self._jobs) and (self._working is None or self._working.done())
        stuck = bool(self._turn.items) and self.clock() - self._turn_begun > patience
        return not (self._closed or stranded or stuck)

    async def run(
        self,
        classifier: EventClassifier,
        options: Options,
        texts: Sequence[str],
        tokens: Sequence[int],
        *,
        deadline: float = math.inf,
    ) -> list[Prediction]:
        """Answers to some texts, in their order. Cancelling it takes the texts not yet computed out of the queue.

        :param tokens: cost of each text.
        :param deadline: when the answers have to be there, by `clock`.
        """
        job = self.put(classifier, options, texts, tokens, deadline=deadline)
        try:
            return await job.done
        finally:
            self.drop(job)

    def put(
        self,
        classifier: EventClassifier,
        options: Options,
        texts: Sequence[str],
        tokens: Sequence[int],
        *,
        deadline: float = math.inf,
    ) -> Job:
        """Queue some texts, whose answers are awaited by `job.done`; whoever puts a job drops it in the end."""
        done: asyncio.Future[list[Prediction]] = asyncio.get_running_loop().create_future()
        job = Job(classifier, options, texts, tokens, done, deadline)
        self._jobs.append(job)
        self._count(job.remaining)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return job

    def drop(self, job: Job) -> None:
        """Take out what is not yet computed of a job that is answered or that nobody waits for any more."""
        self._forget(job)
        if not job.done.done():
            job.done.cancel()
        elif not job.done.cancelled():
            job.done.exception()  # seen, or asyncio would complain that nobody looked

    def close(self) -> None:
        """Let the computing thread end."""
        self._closed = True
        self._thread.shutdown(wait=False)

    def _forget(self, job: Job) -> None:
        if job in self._jobs:
            self._jobs.remove(job)
            self._count(-job.remaining)

    def _count(self, tokens: int) -> None:
        self.waiting_tokens += tokens
        tell_waiting(self.seconds_waiting)

    async def _work(self) -> None:
        while self._jobs:
            self._turn = self._next_turn()
            try:
                await self._compute(self._turn)
            finally:
                self._count(-self._turn.tokens)
                self._turn = Turn()

    async def _compute(self, turn: Turn) -> None:
        self._turn_begun = self.clock()
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, turn.compute, self._seen)
        except Exception as error:
            for job, _ in turn.items:
                self._forget(job)
                if not job.done.done():
                    job.done.set_exception(error)
            return
        # Measured here and not in the thread: what the event loop costs is part of the wait.
        self.pace.measured(turn.tokens, self.clock() - self._turn_begun)
        for job, given in answers.items():
            job.give(given)

    def _next_turn(self) -> Turn:
        turn = Turn()
        # Not twice running: the others go on, at half their rate.
        urgent = None if self._was_urgent else self._most_urgent()
        self._was_urgent = urgent is not None
        if urgent is not None:
            self._fill_with(turn, urgent)
        self._go_round(turn)
        return turn

    def _most_urgent(self) -> Job | None:
        """Of the jobs that could come too late, the one that has to be done first."""
        return min(self._urgent(), key=lambda job: job.deadline, default=None)

    def _urgent(self) -> list[Job]:
        """The jobs that could come too late if they only took their turns."""
        now, pace = self.clock(), self.pace.seconds_per_token
        # A turn on top, for the one that comes in between.
        return [job for job in self._jobs if job.deadline - now <= _URGENT * (job.remaining + self._turn_tokens) * pace]

    def _fill_with(self, turn: Turn, job: Job) -> None:
        """As many of one job's texts as the budget allows."""
        while job.taken < len(job.texts) and turn.tokens < self._turn_tokens:
            turn.add(job)
        if job.taken == len(job.texts):
            self._jobs.remove(job)

    def _go_round(self, turn: Turn) -> None:
        """One text of each job in turn until the budget is reached; those of another kind keep their place."""
        passed = []
        while self._jobs and turn.tokens < self._turn_tokens:
            job = self._jobs.popleft()
            if not turn.takes(job):
                passed.append(job)
                continue
            turn.add(job)
            if job.taken < len(job.texts):
                self._jobs.append(job)
        self._jobs.extendleft(reversed(passed))
