"""Where a request becomes work: counted in tokens, taken on or turned away, and answered."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass

from tocsin import DocumentPrediction, EventClassifier, Prediction
from tocsin.sentences import split_sentences
from tocsin.text import replace_lone_surrogates
from tocsin_serving.refusal import RefusedError, overloaded, too_long
from tocsin_serving.releases import ServedRelease, measured_seconds_per_token
from tocsin_serving.schemas import ClassifyRequest, DocumentRequest, FieldProblem, Options
from tocsin_serving.settings import Settings
from tocsin_serving.work import Job, Pace, Seen, WorkQueue

# Shorter texts are counted on the spot: a few tenths of a millisecond, less than a thread costs.
_QUICK_CHARACTERS = 10_000
# Fewer than words have (four to five), so that who is refused before being counted would be so after it.
_CHARACTERS_A_TOKEN = 3
# Of a burst of long requests few are counted in vain; enough that a very long one holds up none of the others.
_COUNTED_AT_ONCE = 4


@dataclass
class Ticket:
    """A request that was taken on; its classifier answers all of it, whatever is loaded meanwhile."""

    classifier: EventClassifier
    options: Options
    texts: Sequence[str]
    tokens: Sequence[int]
    finish: Callable[[list[Prediction]], DocumentPrediction] | None = None
    """For a document: its answer from those of its sentences."""
    deadline: float = math.inf
    """When the answer has to be there, by the queue's clock."""
    job: Job | None = None
    """Its work, once that is queued."""
    fault: Exception | None = None
    """What went wrong while the service's method answered it: for the guard, which tells it with the request's id."""


ADMITTED: ContextVar[Ticket] = ContextVar("ADMITTED")
"""The ticket of the request at hand, from the guard to the service's method, with BentoML in between."""


class Desk:
    """Takes on what can be answered in time."""

    def __init__(self, releases: ServedRelease, settings: Settings, *, seen: Seen | None = None) -> None:
        """An open desk.

        :param seen: told of all answers; see `WorkQueue`.
        """
        self.releases = releases
        self._settings = settings
        pace = Pace(measured_seconds_per_token(releases.classifier), turn_tokens=settings.batch_tokens)
        self.queue = WorkQueue(pace=pace, turn_tokens=settings.batch_tokens, seen=seen)
        self._counting = asyncio.Semaphore(_COUNTED_AT_ONCE)

    def check_capacity(self, texts: int = 1, tokens: int = 1) -> None:
        """Turn a request away when it would wait too long for others, or they would make it come too late.

        How much work there is in all does not matter: someone's thousand texts must not keep others' single ones out.

        :param texts: how many it has; 1, and as many tokens, while that is not known.
        :raises RefusedError: 503 with the time after which the work at hand is done.
        """
        queue = self.queue
        # Nothing ahead, nothing late: refusing what nothing holds up would refuse it for ever.
        late = (
            queue.seconds_ahead(texts) > 0 and queue.seconds_to_answer(texts, tokens) > self._settings.timeout_seconds
        )
        if self._crowded(texts, tokens) or late:
            raise overloaded(queue.seconds_waiting)

    def _crowded(self, texts: int, tokens: int) -> bool:
        """Whether others would hold a request up for longer than the limit and than it takes by itself.

        Twice their own time is no surprise to those who ask for much, and they would be refused beside their like.
        """
        own = tokens * self.queue.pace.seconds_per_token
        return self.queue.seconds_ahead(texts) > max(self._settings.max_wait_ms / 1000, own)

    async def _count(self, ticket: Ticket) -> None:
        """Count the tokens of a ticket's texts, unless it will be refused anyway.

        Counting is most of what a refusal costs, in time that those who are served have to wait. Of requests that come
        together, those that are next once others have filled the queue are refused without it.

        :raises RefusedError: 503, as `check_capacity`.
        """
        async with nullcontext() if is_quick(ticket.texts) else self._counting:
            if self._crowded(len(ticket.texts), sum(map(len, ticket.texts)) // _CHARACTERS_A_TOKEN):
                raise overloaded(self.queue.seconds_waiting)
            ticket.tokens = await count_tokens(ticket.classifier, ticket.texts)

    async def admit(self, request: ClassifyRequest | DocumentRequest, *, in_lines: bool = False) -> Ticket:
        """Take a request on; nothing may be awaited between this and `start`, or others get in before it.

        Cutting a document and counting tokens take their time: call it within the time for the answer.

        :param in_lines: it is answered turn by turn, as a stream is, for as long as it takes.
        :raises RefusedError: 400, the release has no such objective; 413, it would take longer than there is time for
            an answer, whoever else is there; 503, there is too much work.
        """
        deadline = self.queue.clock() + self._settings.timeout_seconds
        classifier = self.releases.classifier
        check_objective(classifier, request)
        ticket = await _uncounted(classifier, request)
        ticket.deadline = deadline
        if in_lines:
            ticket.tokens = await count_tokens(classifier, ticket.texts)
            self.check_capacity()
        else:
            await self._count(ticket)
            self._check_length(ticket)
            self.check_capacity(len(ticket.texts), sum(ticket.tokens))
        return ticket

    def _check_length(self, ticket: Ticket) -> None:
        tokens, limit = sum(ticket.tokens), self._settings.timeout_seconds
        seconds = tokens * self.queue.pace.seconds_per_token
        # What is one turn's work, or cannot be parted, is always tried: else a pace that was measured in a bad moment
        # would never be measured again.
        if seconds > limit and len(ticket.texts) > 1 and tokens > self._settings.batch_tokens:
            raise too_long("texts" if ticket.finish is None else "document", seconds, limit)

    @contextmanager
    def start(self, ticket: Ticket) -> Iterator[None]:
        """Queue a ticket's work, so that the next request's wait counts it; what is left of it after the block goes."""
        texts, tokens = ticket.texts, ticket.tokens
        ticket.job = self.queue.put(ticket.classifier, ticket.options, texts, tokens, deadline=ticket.deadline)
        try:
            yield
        finally:
            self.queue.drop(ticket.job)

    async def answer(self, ticket: Ticket) -> list[Prediction]:
        """Answers to the ticket's texts, in their order."""
        if ticket.job is not None:
            return await ticket.job.done
        return await self.queue.run(ticket.classifier, ticket.options, ticket.texts, ticket.tokens)

    async def answer_document(self, ticket: Ticket) -> DocumentPrediction:
        """The answer to a ticket that is a document's."""
        if ticket.finish is None:
            raise TypeError("the ticket is not a document's")
        predictions = await self.answer(ticket)
        return await asyncio.to_thread(ticket.finish, predictions)


def check_objective(classifier: EventClassifier, options: Options) -> None:
    """Refuse thresholds that the release does not carry.

    :raises RefusedError: 400 naming those it does.
    """
    if options.objective not in classifier.objectives:
        known = ", ".join(classifier.objectives)
        message = f"{options.objective!r} is not one of the objectives of {classifier.version}, which are: {known}"
        raise RefusedError(400, f"objective: {message}", FieldProblem(field="objective", message=message))


async def count_tokens(classifier: EventClassifier, texts: Sequence[str]) -> list[int]:
    """Cost of each text."""
    if is_quick(texts):
        return classifier.token_counts(texts)
    return await asyncio.to_thread(classifier.token_counts, texts)


def is_quick(texts: Sequence[str]) -> bool:
    """Whether texts are counted on the spot."""
    return sum(map(len, texts)) <= _QUICK_CHARACTERS


async def _uncounted(classifier: EventClassifier, request: ClassifyRequest | DocumentRequest) -> Ticket:
    """The ticket of a request whose tokens are yet to be counted."""
    if isinstance(request, ClassifyRequest):
        return Ticket(classifier, request, request.texts, [])
    document = replace_lone_surrogates(request.document)
    sentences = await asyncio.to_thread(split_sentences, document)
    texts = [sentence.text for sentence in sentences]
    return Ticket(
        classifier,
        request,
        texts,
        [],
        finish=lambda predictions: classifier.roll_up(document, sentences, predictions),
    )
