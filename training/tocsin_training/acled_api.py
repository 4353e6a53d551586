"""ACLED's API: events of a user's own account into a CSV file, page by page.

The protocol as taken here, for ACLED's documentation (https://acleddata.com/api-documentation/getting-started and
https://apidocs.acleddata.com) could not be tried without an account; the tests speak it with a server of their own:

- A token: ``POST /oauth/token``, a form with ``username`` (the e-mail address), ``password``, ``grant_type=password``,
  ``client_id=acled`` and ``scope=authenticated``; the answer is JSON with ``access_token`` (good for a day),
  ``refresh_token`` (a fortnight) and ``expires_in``. Renewed with ``grant_type=refresh_token``.
- Events: ``GET /api/acled/read`` with ``Authorization: Bearer``, ``_format=json``, ``limit`` (5,000 rows by default)
  and ``page`` from 1; filters ``country``, ``event_type`` (several values: ``Mali:OR:country=Niger``) and
  ``event_date=FIRST|LAST`` with ``event_date_where=BETWEEN``. The answer is JSON with ``status``, ``data`` (a list of
  rows), ``count`` (rows of the page) and ``total_count``; a refusal has ``success`` false or another status, and
  ``message``, ``messages`` or ``error``. Behind the last page comes an empty one.

Nothing is sent but the account and the filters. The password stays in the environment and in memory; tokens, too.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import quote_plus, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import filelock
import urllib3
from pydantic import BaseModel, ConfigDict, ValidationError
from urllib3.util import Retry, Timeout

from tocsin.disk import atomic, sync
from tocsin.errors import InputError, UsageError
from tocsin_training.errors import AcledError

EMAIL, PASSWORD, SERVER = "ACLED_EMAIL", "ACLED_PASSWORD", "TOCSIN_ACLED_URL"
"""Environment variables: the account, and another server than ACLED's, such as a mirror."""

ROWS_PER_PAGE = 5000
_ACLED = "https://acleddata.com"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ID = "event_id_cnty"
_RETRIES = 6
_BACKOFF_SECONDS = 1.0
# A server may ask for more patience than people have.
_LONGEST_WAIT_SECONDS = 300
_TIMEOUT = Timeout(connect=20, read=180)
_SAID = 300
"""Characters of a server's message that are shown."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Account:
    """A myACLED account."""

    email: str
    password: str = field(repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """The account that the environment names.

        :raises UsageError: a variable is not set.
        """
        missing = [name for name in (EMAIL, PASSWORD) if not environ.get(name)]
        if missing:
            raise UsageError(
                f"set {' and '.join(missing)} in the environment to your myACLED account; accounts are made at {_ACLED}"
            )
        return cls(environ[EMAIL], environ[PASSWORD])


@dataclass(frozen=True)
class Query:
    """Which events are wanted."""

    countries: tuple[str, ...]
    """None: all that the account may read."""
    first: date
    last: date
    event_types: tuple[str, ...] = ()

    def parameters(self) -> dict[str, str]:
        """The filters as the API takes them.

        :raises UsageError: the days are the wrong way round, or a name is empty.
        """
        if self.first > self.last:
            raise UsageError(f"--from {self.first} is after --to {self.last}")
        filters = {"country": self.countries, "event_type": self.event_types}
        if not all(value.strip() for values in filters.values() for value in values):
            raise UsageError("--country and --event-type take no empty name")
        chosen = {name: _any_of(name, values) for name, values in filters.items() if values}
        return chosen | {"event_date": f"{self.first}|{self.last}", "event_date_where": "BETWEEN"}

    def __str__(self) -> str:
        kinds = f", {' or '.join(self.event_types)}" if self.event_types else ""
        return f"{' or '.join(self.countries) or 'all countries'}{kinds}, {self.first} to {self.last}"


def _any_of(name: str, values: Sequence[str]) -> str:
    return f":OR:{name}=".join(value.strip() for value in values)


@dataclass(frozen=True)
class Page:
    """Rows that came together."""

    rows: list[Row]
    total: int | None
    """Rows of all pages as the server counts them."""


class AcledApi:
    """A session with the API. Answers of 429 and 5xx, lost connections and bodies cut short are asked for again."""

    def __init__(self, account: Account, *, server: str = _ACLED, backoff_seconds: float = _BACKOFF_SECONDS) -> None:
        """:raises UsageError: the password would travel in clear text."""
        parts = urlsplit(server)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise UsageError(f"{SERVER}: {server} must begin with https://, or the password could be read on its way")
        self._account = account
        self._server = server.rstrip("/")
        self._http = _connections(self._server)
        self._retry = Retry(
            total=_RETRIES,
            # A token asked for twice does no harm, so POST may be sent again.
            allowed_methods=None,
            status_forcelist=(429, 500, 502, 503, 504),
            backoff_factor=backoff_seconds,
            retry_after_max=_LONGEST_WAIT_SECONDS,
            raise_on_status=False,
        )
        self._access: str | None = None
        self._refresh: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """A session of the account in the environment.

        :raises UsageError: a variable is not set.
        """
        return cls(Account.from_environment(environ), server=environ.get(SERVER) or _ACLED)

    def page(self, query: Query, number: int, rows: int = ROWS_PER_PAGE) -> Page:
        """One page of events, the first being 1; behind the last one they are empty.

        :raises AcledError: the account or the request is refused, or the server fails again and again.
        """
        if self._access is None:
            self._log_in()
        answer = self._read(query, number, rows)
        if answer.status == 401:
            # The token ran out on the way.
            self._log_in()
            answer = self._read(query, number, rows)
        return _page(answer)

    def _read(self, query: Query, number: int, rows: int) -> urllib3.BaseHTTPResponse:
        fields = {"_format": "json", **query.parameters(), "limit": str(rows), "page": str(number)}
        headers = {"Authorization": f"Bearer {self._access}"}
        return self._send("GET", f"/api/acled/read?{urlencode(fields)}", None, headers)

    def _log_in(self) -> None:
        """A token for the next day: by the refresh token while it holds, else by the password."""
        if self._refresh is not None:
            answer = self._ask_token({"grant_type": "refresh_token", "refresh_token": self._refresh})
            if answer.status == 200:
                self._keep(answer)
                return
        account = {"username": self._account.email, "password": self._account.password}
        answer = self._ask_token({"grant_type": "password", "scope": "authenticated", **account})
        if answer.status in (400, 401, 403):
            # Some servers send back what they were sent.
            said = _message(answer, hidden=(self._account.password, quote_plus(self._account.password)))
            raise AcledError(
                f"ACLED does not let {self._account.email} in ({said}); check {EMAIL} and {PASSWORD}, "
                f"and that you can log in at {_ACLED}"
            )
        if answer.status != 200:
            raise AcledError(f"no token: {_failure(answer)}")
        self._keep(answer)

    def _ask_token(self, fields: dict[str, str]) -> urllib3.BaseHTTPResponse:
        form = urlencode({**fields, "client_id": "acled"})
        return self._send("POST", "/oauth/token", form, {"Content-Type": "application/x-www-form-urlencoded"})

    def _keep(self, answer: urllib3.BaseHTTPResponse) -> None:
        tokens = _json(answer)
        if not isinstance(tokens.get("access_token"), str):
            raise AcledError("ACLED's answer to the login holds no access_token; has its API changed?")
        self._access, self._refresh = tokens["access_token"], tokens.get("refresh_token")

    def _send(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        try:
            return self._http.request(
                method,
                self._server + path,
                body=body,
                headers={"User-Agent": f"tocsin/{version('tocsin')}", "Accept": "application/json", **headers},
                retries=self._retry,
                timeout=_TIMEOUT,
                # The password goes where the user sent it and nowhere else.
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise AcledError(f"{self._server} cannot be reached: {getattr(error, 'reason', None) or error}") from error


def _connections(server: str) -> urllib3.PoolManager:
    """Through the proxy that the environment names, as other programs of the user do."""
    parts = urlsplit(server)
    proxy = getproxies().get(parts.scheme)
    if proxy is None or parts.hostname in _LOOPBACK or proxy_bypass(parts.netloc):
        return urllib3.PoolManager()
    return urllib3.ProxyManager(proxy)


def _page(answer: urllib3.BaseHTTPResponse) -> Page:
    if answer.status == 403:
        raise AcledError(
            f"your account may not read these events ({_message(answer)}); what an account may read by the API depends "
            f"on its access level, see your profile at {_ACLED}"
        )
    if answer.status != 200:
        raise AcledError(_failure(answer))
    body = _json(answer)
    if body.get("success") is False or body.get("status", 200) not in (200, "200"):
        raise AcledError(f"ACLED refuses the request: {_message(answer)}")
    rows = body.get("data")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.get(_ID) for row in rows):
        raise AcledError(f"ACLED's answer holds no rows with {_ID}; has its API changed?")
    total = body.get("total_count")
    return Page(rows, int(str(total)) if str(total).isdigit() else None)


def _failure(answer: urllib3.BaseHTTPResponse) -> str:
    status = answer.status
    if status == 401:
        return f"ACLED does not take its own token ({_message(answer)}); try again later"
    if status == 429:
        return "ACLED still asks for fewer requests (429); wait a while and give the same command again, which goes on"
    if status >= 500:
        return f"ACLED's server fails again and again ({status}); give the same command again later, which goes on"
    if status in range(300, 400):
        return f"ACLED's API has moved to {answer.headers.get('Location', 'an unknown place')}; nothing was sent there"
    return f"ACLED refuses the request ({status}): {_message(answer)}"


def _json(answer: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    try:
        body = json.loads(answer.data)
    except ValueError as error:
        raise AcledError("the answer is not JSON; a network's login page, or another server than ACLED's?") from error
    return body if isinstance(body, dict) else {}


def _message(answer: urllib3.BaseHTTPResponse, hidden: Sequence[str] = ()) -> str:
    """What the server says of a refusal, in short, without what is to be hidden."""
    try:
        body = _json(answer)
    except AcledError:
        body = {}
    said = (body.get(name) for name in ("error_description", "message", "messages", "error", "data"))
    text = next((json.dumps(one) if isinstance(one, list | dict) else str(one) for one in said if one), "")
    for secret in hidden:
        text = text.replace(secret, "***")
    return f"{answer.status}: {text[:_SAID]}" if text else str(answer.status)


@dataclass(frozen=True)
class Downloaded:
    """What came."""

    rows: int
    repeated: int
    """Rows that came on two pages and were taken once."""
    total: int | None
    """Rows as ACLED counts them."""


class _Journal(BaseModel):
    """How far a download is; stands beside the unfinished file and is replaced as a whole after each page."""

    model_config = ConfigDict(extra="forbid")

    query: dict[str, str]
    rows_per_page: int
    columns: tuple[str, ...] = ()
    pages: int = 0
    rows: int = 0
    repeated: int = 0
    total: int | None = None
    recounted: bool = False
    """Whether ACLED counted otherwise on one page than on the one before."""
    bytes: int = 0


def download(
    api: AcledApi,
    query: Query,
    target: Path,
    *,
    overwrite: bool = False,
    rows_per_page: int = ROWS_PER_PAGE,
    told: Callable[[str], None] = lambda line: None,
) -> Downloaded:
    """Write all events of a query into a CSV file, which appears only when it is complete.

    Each page is on disk before the next is asked for, in ``TARGET.part`` with its journal ``TARGET.part.json``; the
    same call later goes on behind the last of them.

    :param overwrite: replace a finished file, and forget an unfinished one.
    :param told: called with a line for people after each page, and where the data changed on the way.
    :raises UsageError: the target exists, is being written, or was begun with another query.
    :raises InputError: there are no such events, or the disk fails.
    :raises AcledError: see ``AcledApi.page``; what came so far is kept.
    """
    wanted = _Journal(query=query.parameters(), rows_per_page=rows_per_page)
    if target.suffix.lower() != ".csv":
        raise UsageError(f"{target} must end in .csv")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists; --overwrite replaces it.")
    try:
        with _Partial.opened(target, wanted, afresh=overwrite) as partial:
            if partial.journal.pages:
                told(f"going on behind page {partial.journal.pages}, {partial.journal.rows:,} events are kept")
            _fetch(api, query, partial, told)
            if not partial.journal.rows:
                raise InputError(
                    f"ACLED has no events for {query}; names must be spelled as ACLED spells them, and an account may "
                    "be limited to some countries or years"
                )
            partial.publish()
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror or error}") from error
    journal = partial.journal
    if journal.repeated or journal.recounted or journal.total not in (None, journal.rows):
        # An event that is deleted moves the others up, and one of them past the page that is asked for next.
        slipped = ", and ACLED's count changed on the way, so that some may have slipped through"
        told(
            f"ACLED's data changed during the download: {journal.rows:,} events came of {journal.total or 'unknown'}, "
            f"{journal.repeated:,} of them twice (kept once){slipped if journal.recounted else ''}. "
            "Download again with --overwrite to be sure of all."
        )
    return Downloaded(journal.rows, journal.repeated, journal.total)


def _fetch(api: AcledApi, query: Query, partial: _Partial, told: Callable[[str], None]) -> None:
    # To an empty page and not to a short one: the server may give fewer rows than were asked for.
    while (page := api.page(query, partial.journal.pages + 1, partial.journal.rows_per_page)).rows:
        partial.append(page)
        journal = partial.journal
        told(f"page {journal.pages}: {journal.rows:,} events{f' of {journal.total:,}' if journal.total else ''}")


class _Partial:
    """An unfinished file and its journal."""

    def __init__(self, target: Path, file: BinaryIO, journal: _Journal, seen: set[str]) -> None:
        self.journal = journal
        self._target = target
        self._file = file
        self._seen = seen

    @classmethod
    @contextmanager
    def opened(cls, target: Path, wanted: _Journal, *, afresh: bool) -> Iterator[Self]:
        """The unfinished file of a target, for this process alone.

        :raises UsageError: another process writes it, or another query began it.
        """
        with _locked(target), _part(target).open("a+b") as file:
            if afresh:
                _journal(target).unlink(missing_ok=True)
            journal = _begun(target, wanted)
            if os.fstat(file.fileno()).st_size < journal.bytes:
                raise UsageError(f"{_part(target)} is shorter than its journal says; --overwrite starts anew.")
            # What a power cut left behind the last page in the journal is asked for again.
            file.truncate(journal.bytes)
            partial = cls(target, file, journal, _ids(file))
            try:
                yield partial
            finally:
                if not partial.journal.pages:
                    _part(target).unlink(missing_ok=True)

    def append(self, page: Page) -> None:
        """Put a page's rows on the disk, and then say so in the journal.

        :raises AcledError: the page came before, or its columns are others than those of the first.
        """
        new = {str(row[_ID]): row for row in page.rows if str(row[_ID]) not in self._seen}
        if not new:
            raise AcledError(f"page {self.journal.pages + 1} holds no new event; has ACLED's paging changed?")
        columns = self.journal.columns or tuple(page.rows[0])
        content = _csv_bytes(columns, list(new.values()), header=not self.journal.columns)
        self._file.write(content)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._seen |= new.keys()
        done = self.journal
        self.journal = done.model_copy(
            update={
                "columns": columns,
                "pages": done.pages + 1,
                "rows": done.rows + len(new),
                "repeated": done.repeated + len(page.rows) - len(new),
                "total": done.total if page.total is None else page.total,
                "recounted": done.recounted or (None not in (done.total, page.total) and done.total != page.total),
                "bytes": done.bytes + len(content),
            }
        )
        self._save()

    def publish(self) -> None:
        """Give the complete file its name."""
        _part(self._target).replace(self._target)
        _journal(self._target).unlink(missing_ok=True)
        sync(self._target.parent)

    def _save(self) -> None:
        with atomic(_journal(self._target)) as file:
            file.write((self.journal.model_dump_json(indent=2) + "\n").encode())


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _journal(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Keep other downloads into a file away.

    By a file of its own and not by the unfinished one: that becomes the target in the end, and whoever had opened it
    before would then hold, and cut to nothing, the finished file.

    :raises UsageError: another process writes it.
    """
    # filelock would make a folder that is not there; whoever mistyped its name wants to know.
    target.parent.stat()
    lock = filelock.FileLock(target.with_name(f"{target.name}.part.lock"))
    try:
        # The system lets go of it when the process ends, however it ends.
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise UsageError(f"{target} is being downloaded by another process") from None
    try:
        yield
    finally:
        # Whoever opened it before holds a lock of no name then, which filelock takes for none.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _begun(target: Path, wanted: _Journal) -> _Journal:
    """The journal of an unfinished download, or the one to begin with."""
    try:
        journal = _Journal.model_validate_json(_journal(target).read_bytes())
    except FileNotFoundError:
        return wanted
    except ValidationError as error:
        raise UsageError(f"{_journal(target)} is damaged; --overwrite starts anew.") from error
    if (journal.query, journal.rows_per_page) != (wanted.query, wanted.rows_per_page):
        asked = ", ".join(f"{name} {value}" for name, value in journal.query.items())
        raise UsageError(f"{target} was begun with another request ({asked}); --overwrite starts anew.")
    return journal


def _ids(file: BinaryIO) -> set[str]:
    """Ids of the events that a file holds; its place is then the end."""
    file.seek(0)
    text = io.TextIOWrapper(file, "utf-8", newline="")
    found = {row[_ID] for row in csv.DictReader(text)}
    # The file is not this function's to close.
    text.detach()
    file.seek(0, os.SEEK_END)
    return found


def _csv_bytes(columns: Sequence[str], rows: Sequence[Row], *, header: bool) -> bytes:
    text = io.StringIO(newline="")
    # As RFC 4180 has it. Before Python 3.13 a carriage return is quoted only where it is part of the line end.
    writer = csv.DictWriter(text, columns, lineterminator="\r\n")
    if header:
        writer.writeheader()
    for row in rows:
        if row.keys() != set(columns):
            other = ", ".join(sorted(row.keys() ^ set(columns)))
            raise AcledError(
                f"event {row[_ID]} has other columns than the first one ({other}); has ACLED's API changed?"
            )
        writer.writerow(row)
    return text.getvalue().encode()
