"""The download from ACLED's API, against a server of this machine that speaks the protocol; all rows are invented."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tocsin.cli.main import main
from tocsin.errors import InputError, TocsinError, UsageError
from tocsin_training.acled_api import EMAIL, PASSWORD, SERVER, Account, AcledApi, Downloaded, Query, download
from tocsin_training.errors import AcledError

ACCOUNT = Account("analyst@example.org", "s3cret;pass")
QUERY = Query(("Mali",), date(2024, 1, 1), date(2024, 6, 30))
COLUMNS = ("event_id_cnty", "event_date", "event_type", "country", "notes", "fatalities")
Fault = Callable[["Handler"], None]


def event(number: int) -> dict[str, Any]:
    # Half of them with a carriage return and nothing else that asks for quotes.
    notes = f'Residents of village {number} said "armed men" came,\nand went.' if number % 2 else f"Shots\rin {number}."
    return dict(zip(COLUMNS, (f"MLI{number}", "2024-03-05", "Battles", "Mali", notes, number), strict=True))


class Api(ThreadingHTTPServer):
    """What the account may see, and what goes wrong next."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.events = [event(number) for number in range(1, 6)]
        self.faults: deque[Fault | None] = deque()
        """One for each read to come; none lets it pass."""
        self.logins: list[dict[str, str]] = []
        self.reads: list[dict[str, str]] = []
        self.tokens: set[str] = set()
        self.refresh_holds = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        self.server.logins.append(form)
        by_password = (form.get("username"), form.get("password")) == (ACCOUNT.email, ACCOUNT.password)
        by_refresh = self.server.refresh_holds and form.get("refresh_token") in self.server.tokens
        if self.path != "/oauth/token" or form["client_id"] != "acled" or not (by_password or by_refresh):
            # Some servers send back what they were sent.
            self.answer({"error": "invalid_grant", "message": f"no user {body}, {form.get('password')}"}, 400)
            return
        token = f"token{len(self.server.logins)}"
        self.server.tokens = {token, f"refresh-{token}"}
        self.answer({"token_type": "Bearer", "access_token": token, "refresh_token": f"refresh-{token}"})

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        self.server.reads.append(asked)
        fault = self.server.faults.popleft() if self.server.faults else None
        if fault is not None:
            fault(self)
            return
        if self.headers["Authorization"].removeprefix("Bearer ") not in self.server.tokens:
            self.answer({"message": "The access token expired"}, 401)
            return
        first = (int(asked["page"]) - 1) * int(asked["limit"])
        rows = self.server.events[first : first + int(asked["limit"])]
        total = len(self.server.events)
        self.answer({"status": 200, "success": True, "count": len(rows), "total_count": total, "data": rows})

    def answer(self, body: object, status: int = 200, **headers: str) -> None:
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(content))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Tests are quiet."""


def says(status: int, body: object = "", **headers: str) -> Fault:
    return lambda handler: handler.answer(body, status, **headers)


def expire(handler: Handler) -> None:
    handler.server.tokens -= {token for token in handler.server.tokens if not token.startswith("refresh")}
    handler.answer({"message": "The access token expired"}, 401)


def cut_short(handler: Handler) -> None:
    handler.answer('{"data": [', 200, Content_Length="5000")
    handler.close_connection = True


@pytest.fixture
def server() -> Iterator[Api]:
    with Api() as api:
        thread = threading.Thread(target=api.serve_forever, args=(0.01,))
        thread.start()
        yield api
        api.shutdown()
        thread.join()


@pytest.fixture
def fetch(server: Api, tmp_path: Path) -> Callable[..., Downloaded]:
    """Downloads into OUT.csv two events at a time, without waiting between tries."""

    def run(query: Query = QUERY, account: Account = ACCOUNT, **options: Any) -> Downloaded:  # noqa: ANN401
        api = AcledApi(account, server=server.url, backoff_seconds=0)
        return download(api, query, tmp_path / "OUT.csv", rows_per_page=2, **options)

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def whole() -> list[dict[str, str]]:
    return [{name: str(value) for name, value in event(number).items()} for number in range(1, 6)]


def test_every_event_comes_once_and_the_file_only_when_it_is_complete(
    server: Api, fetch: Callable[..., Downloaded], tmp_path: Path
) -> None:
    seen: list[list[str]] = []
    found = fetch(told=lambda line: seen.append(sorted(path.name for path in tmp_path.iterdir())))
    assert found == Downloaded(rows=5, repeated=0, total=5)
    assert rows(tmp_path / "OUT.csv") == whole()
    assert seen == [["OUT.csv.part", "OUT.csv.part.json", "OUT.csv.part.lock"]] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["OUT.csv"]
    assert [read["page"] for read in server.reads] == ["1", "2", "3", "4"]
    (login,) = server.logins
    assert login == {
        "username": ACCOUNT.email,
        "password": ACCOUNT.password,
        "grant_type": "password",
        "client_id": "acled",
        "scope": "authenticated",
    }


def test_the_filters_are_sent_as_acled_takes_them(server: Api, fetch: Callable[..., Downloaded]) -> None:
    fetch(Query(("Mali", "Côte d'Ivoire"), date(2024, 1, 1), date(2024, 6, 30), ("Battles", "Riots")))
    assert server.reads[0] == {
        "_format": "json",
        "country": "Mali:OR:country=Côte d'Ivoire",
        "event_type": "Battles:OR:event_type=Riots",
        "event_date": "2024-01-01|2024-06-30",
        "event_date_where": "BETWEEN",
        "limit": "2",
        "page": "1",
    }


@pytest.mark.parametrize(("refresh_holds", "grants"), [(True, 2), (False, 3)])
def test_a_token_that_runs_out_is_renewed_and_the_password_sent_again_only_if_it_must(
    server: Api, fetch: Callable[..., Downloaded], tmp_path: Path, refresh_holds: bool, grants: int
) -> None:
    server.faults.extend([None, expire])
    server.refresh_holds = refresh_holds
    fetch()
    assert rows(tmp_path / "OUT.csv") == whole()
    assert [login["grant_type"] for login in server.logins] == ["password", "refresh_token", "password"][:grants]


def test_too_many_requests_server_errors_and_cut_answers_are_asked_for_again(
    server: Api, fetch: Callable[..., Downloaded], tmp_path: Path
) -> None:
    server.faults.extend([says(429, Retry_After="0"), says(500), None, cut_short, says(503), None])
    fetch()
    assert rows(tmp_path / "OUT.csv") == whole()
    assert [read["page"] for read in server.reads] == ["1", "1", "1", "2", "2", "2", "3", "4"]


def test_a_download_that_broke_off_goes_on_behind_its_last_page(
    server: Api, fetch: Callable[..., Downloaded], tmp_path: Path
) -> None:
    server.faults.extend([None, *[says(429)] * 7])
    with pytest.raises(AcledError, match=r"429.*same command again"):
        fetch()
    assert not (tmp_path / "OUT.csv").exists()
    # A power cut in the middle of a page.
    with (tmp_path / "OUT.csv.part").open("ab") as part:
        part.write(b"MLI3,2024")
    server.reads.clear()
    told: list[str] = []
    assert fetch(told=told.append).rows == 5
    assert [read["page"] for read in server.reads] == ["2", "3", "4"]
    assert told[0] == "going on behind page 1, 2 events are kept"
    assert rows(tmp_path / "OUT.csv") == whole()


def test_another_request_does_not_go_on_where_one_broke_off(
    server: Api, fetch: Callable[..., Downloaded], tmp_path: Path
) -> None:
    server.faults.extend([None, says(404, {"message": "gone"})])
    with pytest.raises(AcledError, match=r"404.*gone"):
        fetch()
    other = Query(("Niger",), QUERY.first, QUERY.last)
    with pytest.raises(UsageError, match=r"begun with another request \(country Mali.*--overwrite"):
        fetch(other)
    (tmp_path / "OUT.csv.part").write_bytes(b"")
    with pytest.raises(UsageError, match="shorter than its journal"):
        fetch()
    assert fetch(other, overwrite=True).rows == 5
    with pytest.raises(UsageError, match="--overwrite replaces it"):
        fetch()
    assert rows(tmp_path / "OUT.csv") == whole()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (says(403, {"message": "Access denied"}), r"may not read these events \(403: Access denied\).*access level"),
        (says(200, {"success": False, "error": [{"message": "bad filter"}]}), "refuses the request.*bad filter"),
        (says(200, "<html>Please log in to the Wi-Fi</html>"), "not JSON; a network's login page"),
        (says(200, {"status": 200, "data": [{"country": "Mali"}]}), "no rows with event_id_cnty"),
        (says(307, Location="http://127.0.0.1:9/elsewhere"), "moved to http://127.0.0.1:9/elsewhere"),
    ],
)
def test_a_refusal_says_what_to_do_and_leaves_nothing_behind(
    server: Api, fetch: Callable[..., Downloaded], tmp_path: Path, fault: Fault, message: str
) -> None:
    server.faults.append(fault)
    with pytest.raises(AcledError, match=message):
        fetch()
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_password_is_said_and_not_shown(fetch: Callable[..., Downloaded], tmp_path: Path) -> None:
    account = Account(ACCOUNT.email, "hunter;2")
    with pytest.raises(AcledError, match=f"does not let {ACCOUNT.email} in.*{EMAIL} and {PASSWORD}") as caught:
        fetch(account=account)
    assert "***" in str(caught.value)
    assert "hunter" not in str(caught.value) + repr(account)
    assert list(tmp_path.iterdir()) == []


def test_no_events_is_an_error_and_no_empty_file(server: Api, fetch: Callable[..., Downloaded], tmp_path: Path) -> None:
    server.events = []
    with pytest.raises(InputError, match="no events for Mali, 2024-01-01 to 2024-06-30; names must be spelled"):
        fetch()
    assert list(tmp_path.iterdir()) == []


def test_data_that_change_on_the_way_are_told_of(server: Api, fetch: Callable[..., Downloaded], tmp_path: Path) -> None:
    """An event put in front moves the others down, so that one comes on two pages."""

    def moved(line: str) -> None:
        told.append(line)
        if len(told) == 1:
            server.events.insert(0, event(9))

    told: list[str] = []
    assert fetch(told=moved) == Downloaded(rows=5, repeated=1, total=6)
    assert "5 events came of 6, 1 of them twice" in told[-1]
    assert rows(tmp_path / "OUT.csv") == whole()


def test_an_event_that_slips_through_as_another_is_deleted_is_told_of(
    server: Api, fetch: Callable[..., Downloaded], tmp_path: Path
) -> None:
    """The third moves up to the first page before the second is asked for; the counts agree in the end."""

    def deleted(line: str) -> None:
        told.append(line)
        if len(told) == 1:
            del server.events[0]

    server.events.append(event(6))
    told: list[str] = []
    assert fetch(told=deleted) == Downloaded(rows=5, repeated=0, total=5)
    assert [row["event_id_cnty"] for row in rows(tmp_path / "OUT.csv")] == ["MLI1", "MLI2", "MLI4", "MLI5", "MLI6"]
    assert "5 events came of 5" in told[-1] and "may have slipped through" in told[-1]


def test_a_recount_before_a_download_broke_off_is_told_of_in_the_end(
    server: Api, fetch: Callable[..., Downloaded]
) -> None:
    server.events.append(event(6))
    server.faults.extend([None, says(404)])
    with pytest.raises(AcledError):
        fetch()
    del server.events[0]
    told: list[str] = []
    fetch(told=told.append)
    assert "may have slipped through" in told[-1]


def test_two_downloads_into_one_file_refuse_each_other(fetch: Callable[..., Downloaded], tmp_path: Path) -> None:
    def again(_: str) -> None:
        with pytest.raises(UsageError, match="is being downloaded by another process"):
            fetch(overwrite=True)

    assert fetch(told=again) == Downloaded(rows=5, repeated=0, total=5)
    assert rows(tmp_path / "OUT.csv") == whole()
    assert [path.name for path in tmp_path.iterdir()] == ["OUT.csv"]


def test_a_download_that_starts_as_another_ends_does_not_empty_the_finished_file(
    server: Api, fetch: Callable[..., Downloaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens what the first one locks, and locks it only when the first one is done."""
    opened = Path.open

    def overtaken(self: Path, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        file = opened(self, *arguments, **options)
        if self.name == "OUT.csv.part" and not done:
            done.append(self)
            with contextlib.suppress(UsageError):
                fetch()
        return file

    done: list[Path] = []
    server.faults.extend([*[None] * 4, says(404)])
    monkeypatch.setattr(Path, "open", overtaken)
    with contextlib.suppress(TocsinError):
        fetch()
    assert rows(tmp_path / "OUT.csv") == whole()


def test_a_server_that_sends_the_same_page_for_ever_is_found_out(server: Api, fetch: Callable[..., Downloaded]) -> None:
    server.faults.extend([None, says(200, {"status": 200, "data": [event(1), event(2)]})])
    with pytest.raises(AcledError, match="page 2 holds no new event"):
        fetch()


def test_columns_that_change_between_pages_are_refused(server: Api, fetch: Callable[..., Downloaded]) -> None:
    server.faults.extend([None, says(200, {"status": 200, "data": [event(3) | {"tags": ""}]})])
    with pytest.raises(AcledError, match=r"MLI3 has other columns than the first one \(tags\)"):
        fetch()


def test_what_cannot_be_asked_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"set {EMAIL} and {PASSWORD}"):
        AcledApi.from_environment({})
    with pytest.raises(UsageError, match=f"set {PASSWORD} in"):
        AcledApi.from_environment({EMAIL: "a@b.org"})
    with pytest.raises(UsageError, match="must begin with https://"):
        AcledApi.from_environment({EMAIL: "a", PASSWORD: "b", SERVER: "http://acled.example.org"})
    nowhere = AcledApi(ACCOUNT, server="http://127.0.0.1:9", backoff_seconds=0)
    for query, name, message in (
        (Query(("Mali",), date(2024, 2, 1), date(2024, 1, 1)), "OUT.csv", "2024-02-01 is after"),
        (
            Query(("Mali", " "), date(2024, 1, 1), date(2024, 2, 1)),
            "OUT.csv",
            "--country and --event-type take no empty",
        ),
        (QUERY, "OUT.xlsx", r"must end in \.csv"),
    ):
        with pytest.raises(UsageError, match=message):
            download(nowhere, query, tmp_path / name)
    with pytest.raises(AcledError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        download(nowhere, QUERY, tmp_path / "OUT.csv")
    with pytest.raises(TocsinError, match="cannot be written: No such file"):
        download(nowhere, QUERY, tmp_path / "none" / "OUT.csv")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("country", ["Mali", None])
def test_the_command_takes_the_account_from_the_environment(
    country: str | None,
    server: Api,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in ((EMAIL, ACCOUNT.email), (PASSWORD, ACCOUNT.password), (SERVER, server.url)):
        monkeypatch.setenv(name, value)
    wanted = ["--from", "2024-01-01", "--to", "2024-06-30", "--event-type", "Battles"]
    wanted += [] if country is None else ["--country", country]
    monkeypatch.setattr(sys, "argv", ["tocsin", "acled-download", str(tmp_path / "mali.csv"), *wanted])
    with pytest.raises(SystemExit) as done:
        main()
    said = capsys.readouterr()
    assert done.value.code in (None, 0)
    assert rows(tmp_path / "mali.csv") == whole()
    assert "page 1: 5 events of 5" in said.err and "ACLED's terms" in said.err
    assert said.out == "" and ACCOUNT.password not in said.err
    assert server.reads[0].get("country") == country
    with pytest.raises(SystemExit) as again:
        main()
    assert again.value.code == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
