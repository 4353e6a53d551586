"""The same scoring on Ray: workers of one thread each, on every machine of a cluster or on this one alone.

Files are read and written where the command runs. The cluster reads each file too, there, cut into the same chunks:
what a machine that dies takes with it can so be made again, only texts travel to the workers, and only the added
columns come back. A chunk is scored as a whole and answers come in order, hence an output that is byte for byte the
local engine's.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

# Read by Ray when it starts: no telemetry, and its own log in its own files instead of on the terminal.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.exceptions import RayError

from tocsin import EventClassifier, InputError, ReleaseError, TocsinError, UsageError
from tocsin.release import LAYOUT, Release
from tocsin_serving.batch.chunks import Answers, Chunk
from tocsin_serving.batch.columns import Shape
from tocsin_serving.batch.records import package_versions
from tocsin_serving.batch.scoring import ChunkScorer, ReadChunks, ScoreChunks, Scored
from tocsin_serving.batch.tally import Tally

# Shared memory of a cluster of this machine alone: the release and the chunks in the making.
_LOCAL_STORE_BYTES = 512 * 1024 * 1024
_RAYS_ADVICE = "\nFailed to apply UDF transform"
# What identifies a chunk on its way through the cluster.
_KEY_FIELDS = (
    pa.field("file", pa.int32()),
    pa.field("chunk", pa.int64()),
    # SHA-256 of the texts.
    pa.field("digest", pa.string()),
    # Why the file breaks off in place of this chunk; none where it does not.
    pa.field("fault", pa.string()),
)
_TO_SCORE = pa.schema(
    [
        *_KEY_FIELDS,
        pa.field("texts", pa.large_list(pa.large_string())),
        pa.field("numbers", pa.large_list(pa.int64())),
    ]
)
_SCORED = pa.schema(
    [
        *_KEY_FIELDS,
        # An Arrow stream, because labels' scores are a map, which does not travel in lists.
        pa.field("columns", pa.large_binary()),
        pa.field("parents", pa.large_list(pa.int64())),
        pa.field("tally", pa.string()),
    ]
)

Key = tuple[int, int, str]


@contextmanager
def ray_scoring(
    release: Release,
    shape: Shape,
    expected: Sequence[ReadChunks],
    *,
    address: str | None,
    workers: int | None,
    cascade: bool = False,
) -> Iterator[ScoreChunks]:
    """A function that scores the chunks of one file after the other on Ray; see `scoring` for one machine.

    :param expected: what will be scored, in order; files that turn out otherwise are scored all the same.
    :param address: of a cluster that this machine is part of; none starts one of this machine alone.
    :param workers: of one CPU each; none for as many as there are CPUs.
    :raises TocsinError: the cluster cannot be reached.
    """
    checked = Release.open(release.folder)
    with _connected(address, workers), _plain_errors():
        packed = PackedRelease.of(checked, cascade=cascade)
        with closing(_Files(expected, lambda files: _pipeline(files, packed, shape, workers))) as files:
            yield files.score


class _Files:
    """Scores one file after the other, as many as can be in one dataset: each dataset starts its workers anew."""

    def __init__(
        self, expected: Sequence[ReadChunks], dataset: Callable[[Sequence[ReadChunks]], ray.data.Dataset]
    ) -> None:
        self._expected = list(expected)
        self._dataset = dataset
        self._coming: deque[tuple[int, ReadChunks]] = deque()
        """Files of the dataset that runs, with their numbers in it."""
        self._answers: Generator[tuple[Key, Answers], None, None] | None = None

    def score(self, chunks: Iterable[Chunk], read: ReadChunks) -> Scored:
        """Chunks with their answers.

        :param chunks: as they are read here.
        :param read: as the cluster reads them.
        """
        if self._answers is None or not self._coming or self._coming[0][1] != read:
            self.close()
            # An output may be found finished, or further on, only once its turn has come.
            rest = self._expected[self._expected.index(read) :] if read in self._expected else [read]
            self._coming.extend(enumerate(rest))
            self._answers = _answers(self._dataset(rest))
        number, _ = self._coming.popleft()
        try:
            yield from _paired(number, chunks, self._answers)
        except (InputError, UsageError):
            # Another file's answers do not come behind these.
            self.close()
            raise

    def close(self) -> None:
        """End the dataset that runs."""
        self._coming.clear()
        if self._answers is not None:
            self._answers.close()


class PackedRelease:
    """A release as it travels: its files in the object store, unpacked and checked once per machine."""

    def __init__(
        self,
        name: str,
        digest: str,
        files: Any,  # noqa: ANN401  a reference to the files' content
        *,
        cascade: bool = False,
    ) -> None:
        self.cascade = cascade
        """Whether it is to be loaded as a cascade."""
        self._name = name
        self._digest = digest
        self._files = files

    @classmethod
    def of(cls, release: Release, *, cascade: bool = False) -> PackedRelease:
        """Put a checked release into the object store."""
        files = {name: (release.folder / name).read_bytes() for name in release.files}
        digest = sha256(files[LAYOUT.manifest]).hexdigest()
        return cls(release.name, digest, ray.put(files), cascade=cascade)

    def unpack(self, parent: Path) -> Path:
        """The release's folder on this machine; whoever comes first makes it, complete or not at all.

        :raises ReleaseError: another release lies there. Its files are checked against the manifest on loading.
        """
        folder = parent / f"{self._name}-{self._digest[:16]}"
        if not folder.is_dir():
            self._write(folder)
        manifest = folder / LAYOUT.manifest
        if not manifest.is_file() or sha256(manifest.read_bytes()).hexdigest() != self._digest:
            raise ReleaseError(f"{folder} on {os.uname().nodename} is not the release that was sent; delete it")
        return folder

    def _write(self, folder: Path) -> None:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            for name, content in ray.get(self._files).items():
                (unfinished / name).write_bytes(content)
            unfinished.rename(folder)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            # Where it is there now, a neighbour was faster.
            if not folder.is_dir():
                raise


def unpack_folder() -> Path:
    """Where this user's releases are unpacked on a worker's machine; they stay for the next job."""
    return Path(tempfile.gettempdir()) / f"tocsin-{os.getuid()}"


def _pipeline(
    files: Sequence[ReadChunks], release: PackedRelease, shape: Shape, workers: int | None
) -> ray.data.Dataset:
    """Files to answers as a dataset of which a row is a chunk, so that Ray never cuts or joins one.

    :param workers: at most; none for as many as there are CPUs, those of machines that join later among them.
    """
    dataset: ray.data.Dataset = ray.data.read_datasource(
        _ChunkSource(files),
        override_num_blocks=len(files),
        # Reading is next to nothing beside scoring and must not wait for a CPU that scoring holds.
        num_cpus=0,
        # Files are where the command runs.
        label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()},
    ).map_batches(
        _Worker,
        fn_constructor_args=(release, shape, package_versions()),
        batch_size=None,
        batch_format="pyarrow",
        # The pool shrinks when it runs idle, which frees a CPU for a worker that died and starts anew; it grows while
        # there is work and a free CPU.
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers or _cluster_cpus()),
        num_cpus=1,
    )
    dataset.context.enable_progress_bars = False
    dataset.context.execution_options.preserve_order = True
    # In bytes: a block is never larger than one row.
    dataset.context.target_max_block_size = 1
    return dataset


class _ChunkSource(ray.data.Datasource):
    """Files, each read in a task of its own, which Ray repeats when what it gave is lost."""

    def __init__(self, files: Sequence[ReadChunks]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._files = files

    def get_read_tasks(self, parallelism: int, *_: object, **__: object) -> list[ray.data.ReadTask]:
        """A task per file."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [
            ray.data.ReadTask(_reading(number, read), unknown, schema=_TO_SCORE)
            for number, read in enumerate(self._files)
        ]

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known before the files have been read."""
        return None


def _reading(file: int, read: ReadChunks) -> Callable[[], Iterator[pa.Table]]:
    def rows() -> Iterator[pa.Table]:
        number = -1
        try:
            for number, chunk in enumerate(read()):
                yield _row(*_key(file, number, chunk), None, chunk.texts, chunk.numbers)
        except InputError as error:
            # Told in its place: raised here, it would end the files before this one, too.
            yield _row(file, number + 1, "", str(error), [], [])

    return rows


def _row(*values: object) -> pa.Table:
    row = dict(zip(_TO_SCORE.names, ([value] for value in values), strict=True))
    return pa.table(row, schema=_TO_SCORE)


def _key(file: int, number: int, chunk: Chunk) -> Key:
    return file, number, sha256("\0".join(chunk.texts).encode()).hexdigest()


class _Worker:
    """An actor that scores chunks in one thread."""

    def __init__(self, release: PackedRelease, shape: Shape, versions: dict[str, str]) -> None:
        """:param versions: on the machine with the command."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self._differences = version_differences(versions, package_versions())
        self._score = ChunkScorer(EventClassifier.load(release.unpack(unpack_folder()), cascade=release.cascade), shape)

    def __call__(self, chunks: pa.Table) -> pa.Table:
        """Rows of `_TO_SCORE` to rows of `_SCORED`.

        :raises TocsinError: this machine's answers could differ from the others'.
        """
        # Raised here, for what a constructor raises comes back as text.
        if self._differences:
            raise TocsinError(
                f"{os.uname().nodename} has other versions than the machine with the command: "
                f"{', '.join(self._differences)}. The output could differ from one machine's; install the same."
            )
        return pa.Table.from_pylist([self._scored(row) for row in chunks.to_pylist()], schema=_SCORED)

    def _scored(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["fault"] is not None:
            return {name: row.get(name) for name in _SCORED.names}
        texts = row["texts"]
        answers = self._score(Chunk(None, texts, np.array(row["numbers"], dtype=np.int64), [], len(texts)))
        return {
            **{field.name: row[field.name] for field in _KEY_FIELDS},
            "columns": _packed(answers.columns),
            "parents": answers.parents,
            "tally": answers.tally.to_json(),
        }


def version_differences(here: dict[str, str], there: dict[str, str]) -> list[str]:
    """What another machine has otherwise, in words."""
    return [
        f"{name} {there.get(name)} (here {version})" for name, version in here.items() if there.get(name) != version
    ]


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _answers(dataset: ray.data.Dataset) -> Generator[tuple[Key, Answers], None, None]:
    """Every chunk's answers in order, as the cluster makes them.

    :raises InputError: a file breaks off where the cluster reads it.
    """
    batches: Iterable[pa.Table] = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
    # Told apart where they arise: the job goes by the kind of error.
    with _plain_errors():
        for batch in batches:
            for row in batch.to_pylist():
                if row["fault"] is not None:
                    raise InputError(row["fault"])
                columns = pa.ipc.open_stream(row["columns"]).read_all()
                tally = Tally.from_json(row["tally"])
                answers = Answers(columns, np.array(row["parents"], dtype=np.intp), tally)
                yield (row["file"], row["chunk"], row["digest"]), answers


def _paired(file: int, chunks: Iterable[Chunk], answers: Iterator[tuple[Key, Answers]]) -> Scored:
    """A file's chunks as read here, with the answers to them as read in the cluster.

    :raises InputError: they do not belong together.
    """
    # A file before this one that had more chunks in the cluster than here leaves the answers to them behind.
    own = ((key, answer) for key, answer in answers if key[0] >= file)
    for number, chunk in enumerate(chunks):
        key, answer = next(own, (None, None))
        if answer is None or key != _key(file, number, chunk):
            raise InputError(
                f"The answers to rows {chunk.numbers[:1]} and following belong to other texts: "
                "the input changed while the job ran. No output was written; start again."
            )
        yield chunk, answer


@contextmanager
def _plain_errors() -> Iterator[None]:
    """An error of ours comes back as it was raised in the cluster, Ray's own as a message.

    :raises TocsinError: always, in place of Ray's errors.
    """
    try:
        yield
    except RayError as error:
        ours = _our_error(error)
        if ours is not None:
            raise ours from None
        raise TocsinError(
            f"The job failed on Ray: {_in_short(error)}. No output was written; "
            "--resume goes on with the rows that are kept."
        ) from error


def _our_error(error: BaseException | None) -> TocsinError | None:
    # Ray wraps what a task raised into classes that also derive from it, and adds advice on its own settings.
    while error is not None and (isinstance(error, RayError) or not isinstance(error, TocsinError)):
        error = getattr(error, "cause", None) or error.__cause__
    return error and type(error)(str(error).partition(_RAYS_ADVICE)[0])


def _in_short(error: RayError) -> str:
    """What went wrong, without the traceback that Ray puts before it."""
    lines = [line.strip() for line in str(error).partition(_RAYS_ADVICE)[0].splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _cluster_cpus() -> int:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(1, int(resources.get("CPU", 1)))


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep what SIGTERM does here: Ray would end the process without a word."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _connected(address: str | None, workers: int | None) -> Iterator[None]:
    """A cluster to work on; one that this process is connected to already is used and left as it is."""
    if ray.is_initialized():
        yield
        return
    if address is not None and address.startswith("ray://"):
        raise UsageError(
            f"{address}: files are read where the command runs, so run it on a machine of the cluster, directly "
            "(--ray-address auto) or with `ray job submit`."
        )
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    own: dict[str, Any] = {"num_cpus": workers, "object_store_memory": _LOCAL_STORE_BYTES, "include_dashboard": False}
    given = own if address is None else {}
    try:
        with _own_sigterm():
            ray.init(address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **given)
    except Exception as error:
        # A start that takes too long is to Ray an error of no kind of its own.
        raise TocsinError(f"No Ray cluster to work on at {address or 'this machine'}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()
