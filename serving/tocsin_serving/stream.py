"""Long lists as lines of JSON (application/x-ndjson): one line in, one line out, in order, in bounded memory.

No more lines are read than one turn of work holds until their answers are sent, so a stream may be endless. A client
has to read while it sends, as `curl -T` does; one that sends everything first fills the buffers in between, and is cut
off after `idle_seconds`, as is one that completes no line for so long. A line that cannot be used is answered in its
place with what is wrong with it; a stream of nothing else ends after `max_bad_lines`, for it is some other kind of
file, or someone's way of keeping a worker busy. Whatever makes the service end a stream is told in a last line.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field

from starlette.types import Receive, Send

from tocsin import Prediction
from tocsin_serving.body import Inbox, parsed_or_problem
from tocsin_serving.desk import Desk, Ticket, count_tokens
from tocsin_serving.lines import LineCutter, line_groups
from tocsin_serving.refusal import ClientGoneError, RefusedError, fault
from tocsin_serving.request_log import Exchange
from tocsin_serving.schemas import FieldProblem, Line, LineProblem, Problem
from tocsin_serving.settings import Settings
from tocsin_serving.shares import Account

NDJSON = "application/x-ndjson"


@dataclass
class Chunk:
    """Lines that are answered together: texts to classify, and problems that stand for their answers."""

    lines: list[str | LineProblem] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    """Cost of each line."""
    cost: int = 0
    """Of all lines together."""

    def add(self, line: str | LineProblem, cost: int) -> None:
        """Put a line behind the others."""
        self.lines.append(line)
        self.tokens.append(cost)
        self.cost += cost

    @property
    def texts(self) -> list[str]:
        """Lines that can be classified."""
        return [line for line in self.lines if isinstance(line, str)]

    def answered(self, predictions: Sequence[Prediction]) -> bytes:
        """Lines of JSON, one for each of the chunk's lines."""
        rest = iter(predictions)
        answers = (next(rest) if isinstance(line, str) else line for line in self.lines)
        return b"".join(answer.model_dump_json().encode() + b"\n" for answer in answers)


class LineStream:
    """One request that is answered line by line."""

    def __init__(self, desk: Desk, ticket: Ticket, settings: Settings, exchange: Exchange, send: Send) -> None:
        """A stream about to start.

        :param ticket: classifier and options; its texts, if any, are those of a request that came as one body.
        """
        self._desk = desk
        self._ticket = ticket
        self._settings = settings
        self._exchange = exchange
        self._send_message = send
        self._read = 0
        """Lines taken from the request."""
        self._answered = 0
        """Lines whose answers are sent."""
        self._bad_lines = 0
        """Lines in a row, up to the newest, that could not be used."""

    async def answer_texts(self) -> None:
        """Answer the ticket's own texts.

        :raises ClientGoneError: it reads nothing.
        """
        tokens = self._ticket.tokens
        begin = 0
        async with self._from_start_to_end():
            for end in _turn_ends(tokens, self._settings.batch_tokens):
                costs = list(tokens[begin:end])
                await self._answer(Chunk(list(self._ticket.texts[begin:end]), costs, sum(costs)))
                begin = end

    async def answer_lines(self, receive: Receive, memory: Account) -> None:
        """Answer the lines of a body while it comes in.

        :param memory: counts what is held of lines that are not complete or not answered.
        :raises ClientGoneError: it hung up, or reads nothing.
        :raises RefusedError: 400, too many lines in a row could not be used; 408, no line came in time; 429 or 503, too
            many bytes are held.
        """
        async with self._from_start_to_end():
            with (
                closing(LineCutter(self._settings.max_line_bytes, memory)) as cutter,
                closing(Inbox(receive, memory)) as inbox,
            ):
                groups = line_groups(inbox.receive, cutter, self._settings.idle_seconds)
                async for chunk in self._chunks(groups, inbox):
                    await self._answer(chunk)
                    # Problems are answered without anything to wait for; other requests have to get a turn.
                    await asyncio.sleep(0)

    @asynccontextmanager
    async def _from_start_to_end(self) -> AsyncIterator[None]:
        """The headers, and the end; where the block fails, a last line that says why, and no proper end."""
        await self._start()
        try:
            yield
        except ClientGoneError:
            raise
        except RefusedError as refused:
            await self._tell_end(refused)
            raise
        except Exception:
            await self._tell_end(fault())
            raise
        await self._send(b"", more=False)

    async def _tell_end(self, refused: RefusedError) -> None:
        # Whether or not the client still reads, what ended the stream is what is to be counted.
        with suppress(ClientGoneError):
            await self._send(self._last_words(refused), more=True)

    async def _chunks(self, groups: AsyncIterator[Iterable[bytes | None]], inbox: Inbox) -> AsyncIterator[Chunk]:
        """What is complete is answered at once: a client may wait for an answer before its next line.

        :raises ClientGoneError: it hung up with more than a turn's lines to be answered.
        :raises RefusedError: 400, too many lines in a row could not be used.
        """
        async for lines in groups:
            chunk = Chunk()
            for line in lines:
                self._read += 1
                await self._put(chunk, line)
                hopeless = self._bad_lines >= self._settings.max_bad_lines
                if hopeless or chunk.cost >= self._settings.batch_tokens:
                    yield chunk
                    chunk = Chunk()
                    # One part may hold many turns' lines.
                    inbox.check()
                if hopeless:
                    raise RefusedError(400, f"{self._bad_lines:,} lines in a row could not be used.")
            if chunk.lines:
                yield chunk

    async def _put(self, chunk: Chunk, line: bytes | None) -> None:
        text = self._text_of(line)
        if isinstance(text, Problem):
            # Problems are answers too: a stream of nothing else must not gather in memory.
            self._bad_lines += 1
            chunk.add(LineProblem(line=self._read, error=text.error, detail=text.detail), 1)
        else:
            self._bad_lines = 0
            (cost,) = await count_tokens(self._ticket.classifier, [text])
            chunk.add(text, cost)

    def _text_of(self, line: bytes | None) -> str | Problem:
        if line is None:
            message = f"is longer than {self._settings.max_line_bytes:,} bytes"
            return Problem(error="The line is too long.", detail=[FieldProblem(field="line", message=message)])
        found = parsed_or_problem(Line, line)
        return found if isinstance(found, Problem) else found[0].text

    def _last_words(self, refused: RefusedError) -> bytes:
        """A line after the answers that says why there are no more."""
        problem = refused.problem
        last = LineProblem(
            line=self._answered + 1, error=f"{problem.error} The stream ends here.", detail=problem.detail
        )
        return last.model_dump_json().encode() + b"\n"

    async def _answer(self, chunk: Chunk) -> None:
        texts = chunk.texts
        self._exchange.saw(texts)
        costs = (cost for line, cost in zip(chunk.lines, chunk.tokens, strict=True) if isinstance(line, str))
        work = Ticket(self._ticket.classifier, self._ticket.options, texts, list(costs))
        predictions = await self._desk.answer(work) if texts else []
        await self._send(chunk.answered(predictions), more=True)
        self._answered += len(chunk.lines)

    async def _start(self) -> None:
        headers = [(b"content-type", NDJSON.encode())]
        await self._send_message({"type": "http.response.start", "status": 200, "headers": headers})

    async def _send(self, body: bytes, *, more: bool) -> None:
        try:
            async with asyncio.timeout(self._settings.idle_seconds):
                await self._send_message({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            raise ClientGoneError from None


def _turn_ends(tokens: Sequence[int], budget: int) -> list[int]:
    """Where to cut a list so that each piece but the last reaches the budget and no sooner."""
    ends, held = [], 0
    for position, cost in enumerate(tokens, 1):
        held += cost
        if held >= budget or position == len(tokens):
            ends.append(position)
            held = 0
    return ends
