"""The service under load beside what people would otherwise serve the same weights with, all in one run.

    python benchmarks/load_peers.py [--seconds 5] [--overload-seconds 10] [--patience 60] [--save]

On the same cores, one after another: our service; a plain FastAPI application around the Hugging Face pipeline (fp32,
PyTorch), a uvicorn worker a core with one thread each; infinity-emb's server with its /classify, as it comes. The
others run the release's weights in fp32 (see pytorch_release.py) and are installed into virtual environments of their
own (gigabytes, and minutes the first time; see peers.py). The same texts are asked of all, by 1, 8 and 64 clients with
1 and 64 texts a request, and then by more than any of them can serve.

Every answer of ours must be the library's, or the run ends. Of the others the table says how often their first label,
or that there is none, is the one we answer: int8, and our calibrated thresholds, make some texts differ. One that
differs much does not run these weights, and is not measured; Ctrl-C leaves out the one that is being measured. The
clients share the cores with the servers. `--save` writes the table to benchmarks/load_peers.md.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from load import (
    DISTINCT_TEXTS,
    LOADS,
    PATIENCE_SECONDS,
    Checked,
    Json,
    Outcome,
    Questions,
    check_open_files,
    load,
    percentiles,
    say,
)
from peer_servers import SERVERS, PeerServer
from peers import reason
from pytorch_release import write_pytorch_release
from rich.console import Console
from rich.table import Table
from servers import ServerError, service
from speed import CORES, ROOT, as_made, corpus_texts, cpu_name

from tocsin import Release

OVERLOAD = (256, 64)
"""Clients at once that are more than any of them can serve, and texts in each of their requests."""
OURS = f"Tocsin, {CORES} workers"
# int8 and calibration change a few answers in a hundred, other weights nearly all.
_SAME_MODEL = 0.9
_WARM_UP_SECONDS = 1.0
_COLUMNS = (
    "who asks",
    "server",
    "requests / texts a second",
    "latency p50 / p99",
    "ours / theirs: texts a second",
    "ours / theirs: p50",
    "not answered",
)

Row = tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """How long everything takes, in seconds."""

    seconds: float
    overload_seconds: float
    patience: float
    """After which a client beyond capacity hangs up: proxies commonly give a server a minute."""


@dataclass(frozen=True)
class Measured:
    """What a server did."""

    server: str
    outcomes: Mapping[tuple[int, int], Outcome]
    """By clients at once and texts a request; `OVERLOAD` among them."""
    agreement: str
    """In words, how far its answers are ours."""


@dataclass(frozen=True)
class NotMeasured:
    """A server that could not be measured."""

    server: str
    why: str


class Compared:
    """The same questions to another server, and how often its first label is ours."""

    def __init__(self, checked: Checked, peer: PeerServer) -> None:
        self._checked = checked
        self._peer = peer
        self.texts = 0
        self.alike = 0

    def request(self, number: int, size: int) -> list[str]:
        """What the service is asked."""
        return self._checked.request(number, size)

    def body(self, texts: Sequence[str]) -> dict[str, Any]:
        """The same texts in the peer's words."""
        return self._peer.question(texts)

    def check(self, texts: Sequence[str], answer: Json) -> None:
        """Count the answers.

        :raises ServerError: they cannot be read, are too few, or are not this model's.
        """
        found = self._peer.first(answer)
        if len(found) != len(texts):
            raise ServerError(f"{len(found)} answers to {len(texts)} texts")
        self.texts += len(texts)
        self.alike += sum(self._checked.first(text) == label for text, label in zip(texts, found, strict=True))
        # Of a handful of texts the rate says nothing.
        if self.texts >= DISTINCT_TEXTS and self.alike < _SAME_MODEL * self.texts:
            raise ServerError(f"not the same model: {self}")

    def __str__(self) -> str:
        share = self.alike / self.texts if self.texts else 0.0
        return f"its first label, or none, is ours for {share:.1%} of {self.texts:,} texts asked"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="length of each measurement")
    parser.add_argument("--overload-seconds", type=float, default=10, help="length of that beyond capacity")
    parser.add_argument("--patience", type=float, default=60, help="seconds after which one of those hangs up")
    parser.add_argument("--save", action="store_true", help="write benchmarks/load_peers.md")
    arguments = parser.parse_args()
    plan = Plan(arguments.seconds, arguments.overload_seconds, arguments.patience)
    check_open_files(OVERLOAD[0])
    checked = Checked(corpus_texts(DISTINCT_TEXTS))
    # The model first: what cannot be written is to be known before minutes are spent on measuring.
    with pytorch_release() as model:
        ours = measure_ours(checked, plan)
        peers = [measure_peer(peer, model, checked, plan) for peer in SERVERS]
    report(ours, peers, plan, arguments.save)


@contextmanager
def pytorch_release() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        # Infinity takes the last part for the module's name, which must be one.
        model = Path(folder) / "release"
        model.mkdir()
        write_pytorch_release(Release.open(), model)
        yield model


def measure_ours(checked: Checked, plan: Plan) -> Measured:
    say(f"measuring {OURS}")
    with service():
        outcomes = asyncio.run(measure(checked, plan))
    return Measured(OURS, outcomes, "every answer is the library's")


def measure_peer(peer: PeerServer, model: Path, checked: Checked, plan: Plan) -> Measured | NotMeasured:
    """What another server does, or the reason why that is not known; nothing that befalls it ends the run."""
    say(f"measuring {peer.name} (installed first, if it is not)")
    compared = Compared(checked, peer)
    try:
        with peer.running(model):
            outcomes = asyncio.run(measure(compared, plan))
    except ServerError as error:
        return NotMeasured(peer.name, str(error))
    except KeyboardInterrupt:
        return NotMeasured(peer.name, "interrupted")
    except Exception as error:  # other people's servers fail in ways nobody can list
        return NotMeasured(peer.name, f"{type(error).__name__}: {reason(error)}"[:200])
    if not compared.texts:
        return NotMeasured(peer.name, f"not one answer: {lost(outcomes[LOADS[0]], PATIENCE_SECONDS)}")
    return Measured(peer.name, outcomes, f"{compared}; {peer.environment.versions()}")


async def measure(questions: Questions, plan: Plan) -> dict[tuple[int, int], Outcome]:
    # Enough for all workers, and nearly every text once: threads, caches and memory are then as in use.
    await load(questions, clients=8, size=DISTINCT_TEXTS // 8, seconds=_WARM_UP_SECONDS)
    outcomes = {}
    for clients, size in LOADS:
        outcomes[clients, size] = await load(questions, clients=clients, size=size, seconds=plan.seconds)
    # Last, because a server may still compute for clients who have hung up.
    clients, size = OVERLOAD
    outcomes[OVERLOAD] = await load(
        questions, clients=clients, size=size, seconds=plan.overload_seconds, patience=plan.patience
    )
    return outcomes


def rows(ours: Measured, peers: Sequence[Measured | NotMeasured]) -> list[Row]:
    """A row for each load and server, those of a load together; then the servers that there are no figures of."""
    measured = [ours, *(peer for peer in peers if isinstance(peer, Measured))]
    found = [load_row(one, ours, asked) for asked in LOADS for one in measured]
    return found + [
        ("any", peer.server, f"not measured: {peer.why}", *[""] * (len(_COLUMNS) - 3))
        for peer in peers
        if isinstance(peer, NotMeasured)
    ]


def load_row(measured: Measured, ours: Measured, asked: tuple[int, int]) -> Row:
    clients, size = asked
    outcome, our_outcome = measured.outcomes[asked], ours.outcomes[asked]
    rate = f"{len(outcome.latencies) / outcome.seconds:.1f} / {outcome.texts / outcome.seconds:.0f}"
    ratios = ("", "") if measured is ours else (faster(our_outcome, outcome), sooner(our_outcome, outcome))
    name = f"{clients} client{'s' * (clients > 1)}, {size} text{'s' * (size > 1)} a request"
    return (name, measured.server, rate, percentiles(outcome.latencies), *ratios, lost(outcome, PATIENCE_SECONDS))


def faster(ours: Outcome, theirs: Outcome) -> str:
    """How many times the texts a second."""
    if not theirs.texts:
        return "-"
    return f"{ours.texts / ours.seconds / (theirs.texts / theirs.seconds):.1f}x"


def sooner(ours: Outcome, theirs: Outcome) -> str:
    """How much of their median latency."""
    if not ours.latencies or not theirs.latencies:
        return "-"
    return f"{statistics.median(ours.latencies) / statistics.median(theirs.latencies):.2f}x"


def lost(outcome: Outcome, patience: float) -> str:
    """What became of the requests that got no answer from a server that had so many seconds for each."""
    parts = [f"{len(outcome.refusals)} x 503 with Retry-After"] if outcome.refusals else []
    for what, count in outcome.others.items():
        late = what.endswith("Timeout")
        parts.append(f"{count} x none within {patience:.0f} s" if late else f"{count} x {what}")
    return ", ".join(parts) or "none"


def overload_line(measured: Measured, plan: Plan) -> str:
    """What a server does with more than it can serve."""
    clients, size = OVERLOAD
    outcome = measured.outcomes[OVERLOAD]
    asked = len(outcome.latencies) + len(outcome.refusals) + outcome.others.total()
    line = (
        f"{measured.server}, asked by {clients} clients with {size} texts a request for {plan.overload_seconds:.0f} s: "
        f"of {asked} requests it answered {len(outcome.latencies)}"
    )
    if len(outcome.latencies) > 1:
        line += f" (p50 / p99 {percentiles(outcome.latencies)})"
    if outcome.refusals:
        line += f", and told {len(outcome.refusals)} when to ask again (503, after {percentiles(outcome.refusals)})"
    others = lost(Outcome(others=outcome.others), plan.patience)
    return f"{line}; not answered otherwise: {others}."


def report(ours: Measured, peers: Sequence[Measured | NotMeasured], plan: Plan, save: bool) -> None:
    title = f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {CORES} cores, {plan.seconds:g} s a measurement"
    found = rows(ours, peers)
    measured = [ours, *(peer for peer in peers if isinstance(peer, Measured))]
    notes = [
        *(f"{one.server}: {one.agreement}." for one in measured),
        *(overload_line(one, plan) for one in measured),
        "Ratios are ours to theirs: of texts a second more is better, of the median latency less.",
    ]
    table = Table(*_COLUMNS, title=title)
    for row in found:
        table.add_row(*row)
    Console().print(table)
    for note in notes:
        Console().print(note, highlight=False)
    if save:
        lines = [f"# Load, beside other servers\n\n{title}. Made by `{as_made('bench-load-peers')}`.\n"]
        lines += [f"| {' | '.join(row)} |" for row in (_COLUMNS, ("---",) * len(_COLUMNS), *found)]
        lines += ["", *(f"- {note}" for note in notes)]
        (ROOT / "benchmarks/load_peers.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
