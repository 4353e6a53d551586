"""The HTTP service: a thin BentoML shell over the library's classifier.

BentoML gives the processes, the routes, the metrics and the packaging. What it does for load is not used: its
middleware stack lets the guard in, which puts an admission ticket beside every request (see desk.py), and the methods
here answer it. A second BentoML service for the model would be a second process and a copy of every text.

Loopback, telemetry and workers are set by ``tocsin serve``; ``bentoml serve tocsin_serving.service:Tocsin`` works too.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

# Before bentoml is imported: it reads the switch then, and worker processes inherit it.
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
# One computing thread a worker; several workers with a pool of tokenizer threads each would trip over each other.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import bentoml
import bentoml.serving
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.context import server_context
from starlette.responses import Response

from tocsin import DocumentPrediction, EventClassifier, Prediction, TocsinError
from tocsin.drift import Profile
from tocsin_serving.admin import RELOAD_PATH, admin_routes
from tocsin_serving.broken import count_from_zero
from tocsin_serving.desk import ADMITTED, Desk, Ticket
from tocsin_serving.drift import References, Window
from tocsin_serving.guard import HEALTH_PATHS, RequestGuard
from tocsin_serving.keys import FILE_VARIABLE, Keyring, open_to_others
from tocsin_serving.open_files import raise_limit_of_open_files
from tocsin_serving.rate_limit import RateLimiter
from tocsin_serving.releases import LOOK_SECONDS, ServedRelease
from tocsin_serving.run_folder import run_folder
from tocsin_serving.schemas import BODIES, SETTINGS, ClassifyRequest, DocumentRequest
from tocsin_serving.settings import RELEASE_VARIABLE
from tocsin_serving.shadow import Shadow
from tocsin_serving.site import PATHS, create_site
from tocsin_serving.traffic import bound_endpoints
from tocsin_serving.watch import UPDATE_SECONDS, Watch

# BentoML's own time limit, which only matters should the guard's fail. It counts from the request's headers.
_BACKSTOP_SECONDS = SETTINGS.body_seconds + SETTINGS.timeout_seconds + 10
# How often BentoML's supervisor looks for workers that have ended, and starts others.
_RESPAWN_SECONDS = 10
# What uvicorn ends with when an application cannot start.
_STARTUP_FAILURE = 3
_OPEN = (
    "No API keys are set: whoever reaches this port may use the service. Make keys with `tocsin key new` and name "
    f"their file in {FILE_VARIABLE}, or let nobody but this machine reach it."
)
_STUCK = "Not ready: the process %d computes no texts any more. Kill it (kill -9), and another takes its place."

# A child of BentoML's logger, for its handlers are the ones a server has.
logger = logging.getLogger("bentoml.tocsin")

Answer = TypeVar("Answer")


class TocsinService:
    """Says which conflict events a news text reports, in ACLED's vocabulary."""

    def __init__(self) -> None:
        self.releases = _served_release()
        window = Window(run_folder() / "drift.sqlite", seconds=SETTINGS.drift_window_seconds)
        self.watch = Watch(window, SETTINGS, References.from_environment())
        self.desk = Desk(self.releases, SETTINGS, seen=self.watch.saw)
        count_from_zero()
        self._tasks: list[asyncio.Task[None]] = []
        self.shadow = Shadow.from_environment()

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Look for a change of release, and watch the answers, from now on."""
        self._warn_if_open()
        await self._tell()
        self._tasks = [
            asyncio.create_task(_every(LOOK_SECONDS, lambda: asyncio.to_thread(self.releases.follow))),
            asyncio.create_task(_every(UPDATE_SECONDS, self._tell)),
        ]

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """Stop looking, and let the computing thread end."""
        for task in self._tasks:
            task.cancel()
        self.desk.queue.close()

    async def __is_ready__(self) -> bool:
        """Whether this worker computes what it is given; BentoML answers /readyz with 503 where it does not.

        A busy worker is ready: taken out of a balancer, it would leave its load to the others.
        """
        ready = self.desk.queue.is_alive(SETTINGS.timeout_seconds)
        if not ready:
            logger.error(_STUCK, os.getpid())
        return ready

    @bentoml.api(input_spec=ClassifyRequest)  # type: ignore[untyped-decorator]
    async def classify(
        self, texts: list[str], scores: bool, top_k: int | None, min_probability: float | None, objective: str
    ) -> list[Prediction]:
        """Classify texts, each on its own. Answers come in the order of the texts."""
        ticket = _ticket()
        answers = await _answered(ticket, self.desk.answer(ticket))
        if self.shadow is not None and ticket.options.as_released and ticket.fault is None:
            self.shadow.offer(ticket.texts, answers)
        return answers

    @bentoml.api(input_spec=DocumentRequest)  # type: ignore[untyped-decorator]
    async def classify_document(
        self, document: str, scores: bool, top_k: int | None, min_probability: float | None, objective: str
    ) -> DocumentPrediction:
        """Cut an article into sentences, classify each and roll them up. Offsets count characters."""
        ticket = _ticket()
        return await _answered(ticket, self.desk.answer_document(ticket))

    def _warn_if_open(self) -> None:
        if open_to_others(KEYRING) and self.watch.first_to_tell(_OPEN):
            logger.warning(_OPEN)

    async def _tell(self) -> None:
        await asyncio.to_thread(self.watch.update, self.releases.classifier.release)


def _served_release() -> ServedRelease:
    """What this worker serves.

    A worker process that cannot load it ends with one line: BentoML, Starlette and uvicorn would each log a traceback,
    each time that the supervisor tries anew.

    :raises TocsinError: it cannot be loaded, and this is no worker process.
    """
    try:
        return ServedRelease(os.environ.get(RELEASE_VARIABLE) or None, run_folder() / "release.json")
    except TocsinError as error:
        if server_context.worker_index is None:
            raise
        logger.critical("This worker cannot start, the next try is made within %d s: %s", _RESPAWN_SECONDS, error)
        logging.shutdown()
        os._exit(_STARTUP_FAILURE)


async def _every(seconds: float, action: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again; what goes wrong is said, and tried again."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await action()
        except Exception:
            logger.exception("Tried again in %.0f s", seconds)


def _ticket() -> Ticket:
    """What the guard made of the request: its texts and options, checked and counted."""
    return ADMITTED.get()


async def _answered(ticket: Ticket, work: Awaitable[Answer]) -> Answer:
    """What the work gives; where it fails, something for BentoML to pass on, in whose place the guard answers.

    BentoML would log the traceback without the request's id, and answer in a form of its own.
    """
    try:
        return await work
    except Exception as error:
        ticket.fault = error
        # BentoML passes a Response on as it is, whatever the method says that it gives.
        return cast("Answer", Response(status_code=500))


def _service() -> TocsinService:
    service: TocsinService = bentoml.get_current_service()
    return service


def _classifier() -> EventClassifier:
    return _service().releases.classifier


def _profile() -> Profile:
    service = _service()
    return service.watch.profile(service.releases.classifier.release)


def keep_metrics_apart() -> None:
    """Have the worker processes' metrics lie in this server's own folder.

    BentoML's is one for all servers of a user, and each empties it when it starts. There is no setting for it.
    """
    BentoMLContainer.prometheus_multiproc_dir.set(str(run_folder() / "metrics"))


def keep_workers_alive() -> None:
    """Have dead worker processes replaced inside containers too.

    BentoML leaves that to the container's orchestrator, which sees one process only: a server that has lost one worker
    of two would run on at half its speed. There is no setting for it.
    """
    bentoml.serving.running_inside_container = lambda: False  # type: ignore[assignment]


KEYRING = Keyring.from_environment()
# Made by the first process that imports this, the supervisor, so that all workers share it.
run_folder()
keep_metrics_apart()
keep_workers_alive()
raise_limit_of_open_files()
bound_endpoints(frozenset({*BODIES, *PATHS, *HEALTH_PATHS, RELOAD_PATH, "/metrics"}))
# Called and not used as a decorator, so that type checkers see what it returns.
Tocsin = bentoml.service(
    name="tocsin",
    workers=SETTINGS.worker_processes,
    traffic={"timeout": _BACKSTOP_SECONDS},
    # It decodes a header before it sends an answer, which so breaks off, and writes paths as they are, line ends too.
    # The guard's log has all of it (request_log.py).
    logging={"access": {"enabled": False}},
    description=TocsinService.__doc__,
)(TocsinService)
Tocsin.mount_asgi_app(
    create_site(
        _classifier,
        lambda: Tocsin.openapi_spec.asdict(),
        _profile,
        extra_routes=admin_routes(lambda: _service().releases),
    ),
    name="site",
)
Tocsin.add_asgi_middleware(
    RequestGuard,
    desk=lambda: _service().desk,
    settings=SETTINGS,
    keyring=KEYRING,
    limiter=lambda: RateLimiter(run_folder() / "rates.sqlite"),
)
