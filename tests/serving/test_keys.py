"""Keys: made, stored as hashes, found again, counted."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tocsin import UsageError
from tocsin_serving.cli import key
from tocsin_serving.keys import ADDRESS_VARIABLE, FILE_VARIABLE, VARIABLE, Keyring, new_key, open_to_others
from tocsin_serving.rate_limit import RateLimiter


def test_only_the_very_key_is_found() -> None:
    secret, stored = new_key("a")
    keyring = Keyring([stored, new_key("b")[1]])
    assert keyring.find(secret) == stored
    for wrong in ("", "_", "__", secret[:-1], secret + "x", secret.upper(), stored.sha256, f"tocsin_{stored.id}_"):
        assert keyring.find(wrong) is None


def test_known_and_unknown_keys_are_compared_alike_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time itself is not measured: it would be noise. What is said to be constant is asked each time, with as much."""
    secret, stored = new_key("a")
    keyring = Keyring([stored, new_key("b")[1]])
    compared: list[tuple[str, str]] = []
    compare = hmac.compare_digest

    def spy(presented: str, known: str) -> bool:
        compared.append((presented, known))
        return compare(presented, known)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    wrong = f"tocsin_{stored.id}_{'x' * 43}"
    unknown = f"tocsin_{'0' * 12}_{'x' * 43}"
    asked = (secret, wrong, unknown, "no key at all", "")
    assert [keyring.find(one) for one in asked] == [stored, None, None, None, None]
    assert [presented for presented, _ in compared] == [hashlib.sha256(one.encode()).hexdigest() for one in asked]
    assert [known for _, known in compared[:2]] == [stored.sha256] * 2
    assert {len(known) for _, known in compared} == {len(stored.sha256)}
    # None of ours stands in for an unknown one.
    assert {known for _, known in compared[2:]} == {"0" * 64}


def test_the_secret_is_not_stored() -> None:
    secret, stored = new_key("a")
    assert secret.split("_", 2)[2] not in stored.model_dump_json()
    assert len(secret) >= 60


def test_a_key_made_on_the_command_line_opens_the_server_that_reads_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.jsonl"
    runner = CliRunner()
    done = [runner.invoke(key, ["new", name, "--file", str(file), *more]) for name, *more in (("a",), ("b", "--admin"))]
    assert [result.exit_code for result in done] == [0, 0]
    assert file.stat().st_mode & 0o077 == 0
    keyring = Keyring.from_environment({FILE_VARIABLE: str(file)})
    first, second = (keyring.find(result.stdout.strip()) for result in done)
    assert first is not None
    assert second is not None
    assert (first.name, first.admin, second.name, second.admin) == ("a", False, "b", True)


def test_keys_come_from_the_environment_too() -> None:
    secret, stored = new_key("a")
    assert Keyring.from_environment({VARIABLE: stored.model_dump_json()}).find(secret) == stored
    assert not Keyring.from_environment({})


@pytest.mark.parametrize("variable", [VARIABLE, FILE_VARIABLE])
@pytest.mark.parametrize("nothing", ["", "  ", " \n\t\n"])
def test_a_variable_that_is_set_and_holds_no_key_does_not_open_the_service(variable: str, nothing: str) -> None:
    with pytest.raises(UsageError, match=variable) as refused:
        Keyring.from_environment({variable: nothing})
    assert "tocsin key new" in str(refused.value)
    with pytest.raises(UsageError, match=variable):
        Keyring.from_environment({VARIABLE: LINE, FILE_VARIABLE: LINE} | {variable: nothing})


@pytest.mark.parametrize(
    ("address", "open_to_all"), [(None, True), ("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("::1", False)]
)
def test_only_without_keys_and_beyond_loopback_is_the_service_open(address: str | None, open_to_all: bool) -> None:
    environ = {ADDRESS_VARIABLE: address} if address else {}
    assert open_to_others(Keyring(), environ) == open_to_all
    assert not open_to_others(Keyring([new_key("a")[1]]), environ)


LINE = new_key("a")[1].model_dump_json()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no key"),
        (LINE + "\n" + LINE, "given twice"),
        (LINE + "\n{", "line 2"),
        (json.dumps({**json.loads(LINE), "sha256": "my password"}), "sha256"),
        (json.dumps({**json.loads(LINE), "requests_per_minute": 0}), "requests_per_minute"),
        (json.dumps({**json.loads(LINE), "amdin": True}), "amdin"),
    ],
)
def test_a_wrong_key_file_is_refused_by_line_and_never_quoted(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "keys.jsonl"
    file.write_text(content)
    with pytest.raises(UsageError, match=told) as refused:
        Keyring.from_environment({FILE_VARIABLE: str(file)})
    assert "my password" not in str(refused.value)


def test_a_missing_key_file_does_not_open_the_service(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        Keyring.from_environment({FILE_VARIABLE: str(tmp_path / "none")})


def test_a_bucket_empties_and_refills_evenly(tmp_path: Path) -> None:
    now = 1000.0
    limiter = RateLimiter(tmp_path / "rates", clock=lambda: now)
    assert [limiter.seconds_to_wait("a", 4) for _ in range(4)] == [0, 0, 0, 0]
    assert limiter.seconds_to_wait("a", 4) == pytest.approx(15)
    assert limiter.seconds_to_wait("b", 4) == 0
    now += 14.9
    assert limiter.seconds_to_wait("a", 4) > 0
    now += 0.1
    assert limiter.seconds_to_wait("a", 4) == 0
    assert limiter.seconds_to_wait("a", 4) == pytest.approx(15)


def test_a_lock_that_another_holds_keeps_nobody_waiting(tmp_path: Path) -> None:
    limiter = RateLimiter(tmp_path / "rates")
    other = sqlite3.connect(tmp_path / "rates", isolation_level=None)
    with contextlib.closing(other):
        other.execute("BEGIN EXCLUSIVE")
        begun = time.perf_counter()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            limiter.seconds_to_wait("a", 4)
        # Far from the second that it used to be, on a slow machine too.
        assert time.perf_counter() - begun < 0.5
    assert limiter.seconds_to_wait("a", 4) == 0


_COUNT = """
import sys
from pathlib import Path
from tocsin_serving.rate_limit import RateLimiter
limiter = RateLimiter(Path(sys.argv[1]), clock=lambda: 1000.0, lock_seconds=60)
print(sum(limiter.seconds_to_wait("a", 100) == 0 for _ in range(80)))
"""


def test_workers_count_together(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _COUNT, str(tmp_path / "rates")]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sum(int(worker.communicate()[0]) for worker in workers) == 100
