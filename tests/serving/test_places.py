"""Where jobs read and write: compressed files, pipes, stores; and quotes that let CSV rows run together."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import make_tiny_release

from tocsin import InputError, Release, ReleaseError, TocsinError, UsageError
from tocsin_serving.batch import JobOptions, dry_run, files, job, plan, score_file
from tocsin_serving.batch.chunks import Chunk
from tocsin_serving.batch.files import FileFormat, format_by_name
from tocsin_serving.batch.records import ReleaseRecord
from tocsin_serving.batch.scoring import scoring

CONTENT = {
    "csv": b'id,text\n1,"An airstrike,\nthen more"\n2,\n3,A protest.\n',
    "jsonl": b'{"id": 1, "text": "An airstrike"}\n{"id": 2, "text": ""}\n{"id": 3, "text": "A protest."}\n',
}


def packed(content: bytes, codec: str | None) -> bytes:
    return content if codec is None else bytes(pa.compress(content, codec=codec, asbytes=True))


def unpacked(path: Path) -> bytes:
    with pa.input_stream(str(path), compression={".gz": "gzip", ".zst": "zstd"}.get(path.suffix)) as stream:
        return bytes(stream.read())


@pytest.mark.parametrize(
    ("name", "kind", "codec"),
    [
        ("a.csv", "csv", None),
        ("A.B.CSV.GZ", "csv", "gzip"),
        ("a.jsonl.zst", "jsonl", "zstd"),
        ("a.parquet", "parquet", None),
        ("a.ndjson.gz", "jsonl", "gzip"),
        ("a.jl", "jsonl", None),
    ],
)
def test_a_name_tells_the_format(name: str, kind: str, codec: str | None) -> None:
    assert format_by_name(name) == FileFormat(kind, codec)


def test_tsv_is_csv_with_tabs_whatever_its_header(tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / "in.tsv"
    source.write_text("text\nAn airstrike, then more.\n")
    assert score_file(source, tmp_path / "out.tsv", release=tiny_release).rows_scored == 1
    assert (tmp_path / "out.tsv").read_text().startswith("text\tevents\t")
    source.write_text("id,text\n1,An airstrike.\n")
    # What is said goes before the name.
    assert score_file(source, tmp_path / "said.tsv", release=tiny_release, delimiter=",").rows_scored == 1
    source.rename(tmp_path / "in.csv")
    with pytest.raises(UsageError, match=r"new\.tsv is tab-separated by its name; call it \.csv"):
        score_file(tmp_path / "in.csv", tmp_path / "new.tsv", release=tiny_release)


@pytest.mark.parametrize("name", ["a.txt", "a.gz", "a.parquet.gz", "csv", ".csv"])
def test_other_names_tell_none(name: str) -> None:
    assert format_by_name(name) is None


@pytest.mark.parametrize("kind", CONTENT)
@pytest.mark.parametrize("read", ["", ".gz", ".zst"])
@pytest.mark.parametrize("write", ["", ".gz", ".zst"])
def test_compression_changes_no_row(kind: str, read: str, write: str, tmp_path: Path, tiny_release: Path) -> None:
    plain, source = tmp_path / f"plain.{kind}", tmp_path / f"in.{kind}{read}"
    plain.write_bytes(CONTENT[kind])
    codec = {"": None, ".gz": "gzip", ".zst": "zstd"}[read]
    # Two members, as tools that compress in parallel write them.
    half = CONTENT[kind].index(b"\n") + 1
    source.write_bytes(packed(CONTENT[kind][:half], codec) + packed(CONTENT[kind][half:], codec))
    expected, target = tmp_path / f"expected.{kind}", tmp_path / f"out.{kind}{write}"
    score_file(plain, expected, release=tiny_release)
    summary = score_file(source, target, release=tiny_release)
    assert (summary.rows_read, summary.rows_scored, summary.rows_rejected) == (3, 2, 1)
    assert unpacked(target) == expected.read_bytes()


@pytest.mark.parametrize("name", ["in.csv.gz", "in.csv.zst"])
def test_a_compressed_file_that_was_cut_off_is_refused(name: str, tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / name
    source.write_bytes(packed(CONTENT["csv"] * 1000, "gzip" if name.endswith("gz") else "zstd")[:-8])
    with pytest.raises(InputError, match=f"{name} cannot be read"):
        score_file(source, tmp_path / "out.csv", release=tiny_release)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    source.write_bytes(CONTENT["csv"])
    with pytest.raises(InputError, match=f"{name} cannot be read"):
        score_file(source, tmp_path / "out.csv", release=tiny_release)


def test_the_same_input_gives_the_same_compressed_bytes(tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(CONTENT["csv"])
    for suffix in (".gz", ".zst"):
        first, second = tmp_path / f"a.csv{suffix}", tmp_path / f"b.csv{suffix}"
        for target in (first, second):
            score_file(source, target, release=tiny_release)
        assert first.read_bytes() == second.read_bytes()


def tocsin_score(*arguments: str, stdin: bytes, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "tocsin.cli.main", "score", *arguments, "--workers", "1"]
    return subprocess.run(command, input=stdin, cwd=cwd, capture_output=True)


def test_pipes_carry_rows_and_stderr_the_rest(tmp_path: Path, tiny_release: Path) -> None:
    (tmp_path / "in.csv").write_bytes(CONTENT["csv"])
    score_file(tmp_path / "in.csv", tmp_path / "expected.csv", release=tiny_release)
    release = ("--release", str(tiny_release))
    done = tocsin_score("-", "-", "--format", "csv", *release, stdin=CONTENT["csv"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "expected.csv").read_bytes()
    reject, counts, *summary = done.stderr.decode().splitlines()
    # As docs/batch.md tells them apart.
    assert [line for line in done.stderr.decode().splitlines() if line.startswith('{"file": ')] == [reject]
    assert json.loads(reject) == {"file": "stdin", "row": 2, "reason": "text is empty", "raw": "2,"}
    assert counts == "stdin: 3 rows read = 2 scored on stdout + 1 rejected on stderr"
    assert any("texts scored" in line for line in summary)

    done = tocsin_score("-", "out.csv.gz", *release, "--format", "csv", stdin=CONTENT["csv"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()) == (tmp_path / "expected.csv").read_bytes()

    done = tocsin_score("-", "-", *release, stdin=b"", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"give --format" in done.stderr


def test_a_pipe_under_a_name_is_refused_with_what_to_do(tmp_path: Path, tiny_release: Path) -> None:
    (tmp_path / "in.csv").write_bytes(CONTENT["csv"])
    os.mkfifo(tmp_path / "pipe.csv")
    for source, target in (("pipe.csv", "out.csv"), ("in.csv", "pipe.csv"), ("-", "pipe.csv")):
        with pytest.raises(UsageError, match=r"pipe\.csv is a pipe.*; use - for stdin or stdout, with --format"):
            plan(tmp_path / source if source != "-" else "-", tmp_path / target, "csv")
    with pytest.raises(UsageError, match="/dev/null is neither a file nor a folder"):
        plan(tmp_path / "in.csv", "/dev/null", "csv")
    command = f"{sys.executable} -m tocsin.cli.main score <(cat in.csv) out.csv --format csv --release {tiny_release}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "is a pipe" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_behind_stdout_is_said_plainly(tmp_path: Path, tiny_release: Path) -> None:
    (tmp_path / "in.csv").write_bytes(CONTENT["csv"])
    command = [sys.executable, "-m", "tocsin.cli.main", "score", "in.csv", "-", "--release", str(tiny_release)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    said = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert "in.csv to stdout: No space left on device. What went to stdout is not complete." in said
    assert "Traceback" not in said
    assert "Exception" not in said


def test_a_disk_that_cannot_be_read_is_said_plainly(
    tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(CONTENT["csv"])
    pairs, options = plan(source, tmp_path / "out.csv"), JobOptions(release=str(tiny_release))

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(job, "open_reader", broken)
    with pytest.raises(TocsinError, match=r"in\.csv to .*out\.csv: Input/output error\. Nothing was scored\."):
        job.run(pairs, options)
    monkeypatch.setattr(dry_run, "open_reader", broken)
    with pytest.raises(TocsinError, match=r"Input/output error\. Nothing was scored\."):
        dry_run.estimate(pairs, options)


@pytest.mark.parametrize("whole", [True, False])
def test_a_release_that_is_replaced_while_workers_start_is_refused(
    whole: bool, tmp_path: Path, tiny_release: Path
) -> None:
    folder = tmp_path / "release"
    shutil.copytree(tiny_release, folder)
    opened = Release.open(folder)
    if whole:
        make_tiny_release(folder, window_tokens=48)
        with pytest.raises(ReleaseError, match="was replaced while the job started"):
            ReleaseRecord.of(opened)
    else:
        (folder / "taxonomy.toml").write_text("")
    chunk = Chunk(None, ["An airstrike hit the market."], np.array([1]), [], 1)
    with (
        pytest.raises(ReleaseError, match="was replaced while the job started" if whole else "taxonomy"),
        scoring(opened, JobOptions().shape, workers=2) as score,
    ):
        list(score([chunk], lambda: iter(())))


def test_parquet_goes_through_pipes(tmp_path: Path, tiny_release: Path) -> None:
    pq.write_table(pa.table({"text": ["An airstrike.", None]}), tmp_path / "in.parquet")
    score_file(tmp_path / "in.parquet", tmp_path / "expected.parquet", release=tiny_release)
    options = ("--format", "parquet", "--release", str(tiny_release))
    done = tocsin_score("-", "-", *options, stdin=(tmp_path / "in.parquet").read_bytes(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "expected.parquet").read_bytes()


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A store that speaks S3, on this machine, with the bucket `news`."""
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("HTTP_PROXY", raising=False)
        patch.delenv("http_proxy", raising=False)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("no_proxy", "127.0.0.1")
        store = fsspec.filesystem("s3", use_listings_cache=False)
        store.mkdir("news")
        yield store
    server.stop()


def test_a_job_reads_from_and_writes_to_a_store(tmp_path: Path, tiny_release: Path, s3: Any) -> None:  # noqa: ANN401
    table = pa.table({"text": ["An airstrike.", None, "A protest."]})
    pq.write_table(table, tmp_path / "c.parquet")
    (tmp_path / "a.csv").write_bytes(CONTENT["csv"])
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(CONTENT["jsonl"]))
    for name in ("a.csv", "b.jsonl.gz", "c.parquet"):
        s3.put_file(str(tmp_path / name), f"news/in/deep/{name}")
        score_file(tmp_path / name, tmp_path / f"here.{name.partition('.')[2]}", release=tiny_release)
    options = JobOptions(release=str(tiny_release), work_dir=tmp_path / "work")
    summaries = job.run(plan("s3://news/in", "s3://news/out"), options)
    assert [summary.rows_rejected for summary in summaries] == [1, 1, 1]
    assert sorted(s3.find("news/out")) == sorted(
        f"news/out/deep/{name}{end}"
        for name in ("a.csv", "b.jsonl.gz", "c.parquet")
        for end in ("", ".manifest.json", ".rejects.jsonl")
    )
    for name in ("a.csv", "b.jsonl.gz", "c.parquet"):
        here = tmp_path / f"here.{name.partition('.')[2]}"
        assert s3.cat_file(f"news/out/deep/{name}") == here.read_bytes()
    assert list((tmp_path / "work").rglob("*")) == [] or not any((tmp_path / "work").glob("*/*"))
    assert [pair.source.name for pair in plan("s3://news/in/**/*.csv", "s3://news/again")] == ["a.csv"]
    with pytest.raises(UsageError, match=r"s3://news/out/deep/a\.csv.* exists; --overwrite"):
        score_file("s3://news/in/deep/a.csv", "s3://news/out/deep/a.csv", release=tiny_release)


@pytest.mark.parametrize("looked_through", [True, False])
def test_damaged_files_in_a_store_are_left_out_as_those_here(
    looked_through: bool,
    tmp_path: Path,
    tiny_release: Path,
    s3: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found beforehand, or only while it is read: as if they had been damaged in between."""
    here, store = tmp_path / "in", f"s3://news/damaged-{looked_through}"
    here.mkdir()
    for name in ("a.csv", "d.csv"):
        (here / name).write_bytes(CONTENT["csv"])
    (here / "b.csv.gz").write_bytes(gzip.compress(CONTENT["csv"] * 5000)[:-20])
    pq.write_table(pa.table({"text": [f"An airstrike {number}." for number in range(5000)]}), here / "c.parquet")
    content = bytearray((here / "c.parquet").read_bytes())
    content[1000:3000] = bytes(2000)
    (here / "c.parquet").write_bytes(content)
    for path in here.iterdir():
        s3.put_file(str(path), f"{store}/in/{path.name}")
    if not looked_through:
        monkeypatch.setattr(job.Reading, "check", lambda reading: None)
    options = JobOptions(release=str(tiny_release), work_dir=tmp_path / "work")
    local = job.run(plan(here, tmp_path / "out"), options)
    remote = job.run(plan(f"{store}/in", f"{store}/out"), options)
    told = [str(summary.failure).replace(f"{store}/in", str(here)) for summary in remote]
    assert told == [str(summary.failure) for summary in local]
    assert [summary.failure is None for summary in remote] == [True, False, False, True]
    assert all("cannot be read" in told[number] for number in (1, 2))
    assert [vars(one)["tally"] for one in remote] == [vars(one)["tally"] for one in local]
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.suffix != ".json"}
    made = (name for name in s3.find(f"{store}/out") if not name.endswith(".manifest.json"))
    assert {Path(name).name: s3.cat_file(name) for name in made}.keys() == written.keys()
    assert all(s3.cat_file(f"{store}/out/{name}") == written[name] for name in ("a.csv", "d.csv"))


def test_an_upload_that_fails_leaves_nothing_and_is_resumed(
    tmp_path: Path,
    tiny_release: Path,
    s3: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of an upload in several parts, the second breaks off."""
    source, target = tmp_path / "in.csv", "s3://news/big/out.csv"
    source.write_text("id,text\n" + "".join(f"{n},airstrike {'x' * 30_000}{n}\n" for n in range(400)))
    monkeypatch.setattr(files, "_UPLOAD_PART_BYTES", 5 * 1024 * 1024)
    real = type(s3)._call_s3
    parts = 0

    async def broken(self: Any, method: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        nonlocal parts
        parts += method == "upload_part"
        if method == "upload_part" and parts == 2:
            raise ConnectionError("the line is down")
        return await real(self, method, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(TocsinError, match="the line is down"):
        patch.setattr(type(s3), "_call_s3", broken)
        score_file(source, target, release=tiny_release, work_dir=tmp_path / "work")
    assert parts >= 2
    assert [name for name in s3.find("news/big") if name.endswith("out.csv")] == []
    assert s3.call_s3("list_multipart_uploads", Bucket="news").get("Uploads", []) == []
    score_file(source, target, release=tiny_release, work_dir=tmp_path / "work", resume=True)
    score_file(source, tmp_path / "here.csv", release=tiny_release)
    assert s3.cat_file("news/big/out.csv") == (tmp_path / "here.csv").read_bytes()


def test_a_store_without_its_package_or_bucket_is_said_plainly(tmp_path: Path, s3: Any) -> None:  # noqa: ANN401
    with pytest.raises(InputError, match=r"s3://news/nothing\.csv: no such file"):
        plan("s3://news/nothing.csv", tmp_path / "out.csv")
    with pytest.raises(TocsinError, match=r"bogus://a/in\.csv"):
        plan("bogus://a/in.csv", tmp_path / "out.csv")


def test_any_fsspec_store_will_do(tmp_path: Path, tiny_release: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/in.csv", CONTENT["csv"])
    summary = score_file("memory://in.csv", "memory://out/out.csv", release=tiny_release, work_dir=tmp_path)
    assert summary.rows_rejected == 1
    assert sorted(Path(name).name for name in store.find("/out")) == [
        "out.csv",
        "out.csv.manifest.json",
        "out.csv.rejects.jsonl",
    ]


@pytest.mark.parametrize(
    ("lines", "raw", "read"),
    [
        (['1,"Army shelled town', "2,more", '3,"quoted, text"', "4,fine"], slice(0, 3), ["4"]),
        (['"Army shelled,1', '"More text",2', "fine,3"], slice(0, 2), ["3"]),
        (['1,"open', '2,"two', 'lines"', "3,fine"], slice(0, 2), ["3"]),
    ],
)
def test_rows_that_a_stray_quote_joins_are_rejected_with_their_lines(
    lines: list[str], raw: slice, read: list[str], tmp_path: Path, tiny_release: Path
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    header = "id,text" if lines[0][0].isdigit() else "text,id"
    source.write_text("\n".join([header, *lines]) + "\n")
    score_file(source, target, release=tiny_release)
    with target.open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == read
    first, *_ = [json.loads(line) for line in Path(f"{target}.rejects.jsonl").read_text().splitlines()]
    assert first["raw"] == "\n".join(lines[raw])
    assert f"a quote opened in lines 2 to {1 + raw.stop} closes in the middle of a cell" in first["reason"]


def test_a_delimiter_in_quotes_in_the_header_misleads_nobody(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text('"a;b;c;d",text\n1,fine\n')
    assert score_file(source, target, release=tiny_release).rows_scored == 1


def test_rejects_hold_rows_as_they_stood(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(b'id,text\n"1" ,\r\n2,fine\n')
    score_file(source, target, release=tiny_release)
    assert json.loads(Path(f"{target}.rejects.jsonl").read_bytes())["raw"] == '"1" ,'
