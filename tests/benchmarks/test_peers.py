"""Other people's runtimes, with scripts of a few lines in place of the real ones, which are gigabytes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import peers
import pytest
from peers import ONNXRUNTIME, PEERS, TORCH, Environment, Peer, Speed
from speed import peer_rows


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """One that counts as installed, with this interpreter."""
    made = Environment("made", ("nothing",))
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(Environment, "python", Path(sys.executable))
    monkeypatch.setattr(Environment, "install", lambda self: None)
    return made


def test_a_peer_is_measured_in_an_interpreter_of_its_own(environment: Environment, tmp_path: Path) -> None:
    found = Peer("a peer", environment, "def run(batch): sum(range(10_000))").measure(tmp_path, ["a text"] * 10)
    assert isinstance(found, Speed), found
    assert found.texts_per_second > 0


def test_what_a_peer_starts_is_ended_after_all_rounds(environment: Environment, tmp_path: Path) -> None:
    note = tmp_path / "note"
    body = f"note = open({str(note)!r}, 'w')\nrun = lambda batch: note.write('run ')\nend = lambda: note.write('end')"
    assert isinstance(Peer("a peer", environment, body).measure(tmp_path, ["a text"]), Speed)
    assert note.read_text() == "run run run run end"


def test_every_peer_with_these_kernels_has_our_versions_of_them() -> None:
    for peer in PEERS:
        assert TORCH in peer.environment.requirements, peer.name
        assert (ONNXRUNTIME in peer.environment.requirements) == ("onnx" in str(peer.environment.requirements[0]))


def test_versions_are_of_what_was_asked_for(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"torch": "1.2", "optimum_onnx": "3", "x": "4"}
    listed = [{"name": name, "version": version} for name, version in installed.items()]
    monkeypatch.setattr(peers, "output", lambda *_: json.dumps(listed))
    made = Environment("made", ("optimum-onnx[onnxruntime]", "torch==1.2"))
    assert made.versions() == "torch 1.2, optimum_onnx 3"


@pytest.mark.parametrize(
    "body",
    [
        "import atexit; atexit.register(print, 'bye'); run = len",
        "import atexit; atexit.register(print, '[1]'); run = len",
        "import os; run = lambda batch: os._exit(0)",
    ],
)
def test_a_peer_that_prints_something_else_at_its_end_has_a_reason(
    body: str, environment: Environment, tmp_path: Path
) -> None:
    found = Peer("a peer", environment, body).measure(tmp_path, ["a text"])
    assert isinstance(found, str)
    assert "printed no speed" in found


def test_a_peer_that_is_not_installed_is_not_measured_unless_asked_and_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    made = Environment("made", ("nothing",))
    monkeypatch.setattr(Environment, "python", Path(sys.executable))
    monkeypatch.setattr(Environment, "_done", tmp_path / ".installed")
    asked: list[str] = []
    monkeypatch.setattr(Environment, "install", lambda self: asked.append(self.name))
    peer = Peer("a peer", made, "run = len")
    found = peer.measure(tmp_path, ["a text"], install=False)
    assert isinstance(found, str)
    assert "not installed; `make bench ARGS=--peers`" in found
    assert asked == []
    assert isinstance(peer.measure(tmp_path, ["a text"], install=True), Speed)
    assert asked == ["made"]
    (tmp_path / ".installed").write_text("nothing")
    assert isinstance(peer.measure(tmp_path, ["a text"], install=False), Speed)


def test_an_environment_of_other_requirements_is_not_there_as_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    made = Environment("made", ("torch==2",))
    assert not made.is_installed
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / ".installed").write_text("torch==1")
    assert not made.is_installed
    (tmp_path / "made" / ".installed").write_text("torch==2")
    assert made.is_installed


def test_every_peer_has_a_row_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    rows = list(peer_rows(tmp_path, ["a text"], 1.0, install=False))
    assert [row[0] for row in rows] == [peer.name for peer in PEERS]
    assert all(row[1] == "not measured" and "ARGS=--peers" in row[2] for row in rows)
