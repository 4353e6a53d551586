"""API keys: who may call the service.

A key is ``tocsin_ID_SECRET`` with 256 random bits of secret; only its SHA-256 is stored. A slow password hash protects
secrets that people choose and that can be guessed; a random one of this length cannot be, and a slow hash would let
anyone keep the service busy with wrong keys (OWASP, Password Storage Cheat Sheet, and the practice of code hosts).

Without keys the service is open and ``/admin`` is off. A variable that is there and holds no key is a mistake, such as
an unset name in a Compose file or an empty secret, and never taken for "no keys".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import Headers

from tocsin import UsageError

FILE_VARIABLE = "TOCSIN_API_KEYS_FILE"
VARIABLE = "TOCSIN_API_KEYS"
ADDRESS_VARIABLE = "TOCSIN_ADDRESS"
"""Where the service listens, as `tocsin serve` tells its workers."""
_PREFIX = "tocsin"
# What an unknown id is compared with, so that it takes as long as a known one.
_NO_DIGEST = "0" * 64
_REMEDY = "make one with `tocsin key new`, or unset the variable to serve without keys"


class ApiKey(BaseModel):
    """What is stored of a key: one line of JSON in the key file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=100, description="whose it is, for the log")
    id: str = Field(pattern=r"^[0-9a-f]{12}$", description="public part, by which it is found")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the whole key")
    admin: bool = Field(default=False, description="may call /admin")
    requests_per_minute: int | None = Field(default=None, ge=1, description="none for no limit")


def new_key(name: str, *, admin: bool = False, requests_per_minute: int | None = None) -> tuple[str, ApiKey]:
    """A fresh key, which is shown once and never stored, and what to store of it."""
    key_id = secrets.token_hex(6)
    key = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
    stored = ApiKey(name=name, id=key_id, sha256=_digest(key), admin=admin, requests_per_minute=requests_per_minute)
    return key, stored


def append(file: Path, line: str) -> None:
    """Add a stored key to a key file, which only its owner may read when it is made here.

    :raises UsageError: the file cannot be written.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
            stream.write(line + "\n")
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}") from error


class Keyring:
    """The keys of a server, fixed at its start."""

    def __init__(self, keys: Sequence[ApiKey] = ()) -> None:
        self._keys = {key.id: key for key in keys}

    def __bool__(self) -> bool:
        return bool(self._keys)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Keys of the file that TOCSIN_API_KEYS_FILE names and of TOCSIN_API_KEYS, which holds such lines itself.

        :raises UsageError: naming the file or variable and the line at fault; also where one is set and holds no key.
        """
        keys = []
        if (lines := environ.get(VARIABLE)) is not None:
            keys += _at_least_one(_parse(lines, VARIABLE), VARIABLE)
        if (path := environ.get(FILE_VARIABLE)) is not None:
            if not path.strip():
                raise UsageError(f"{FILE_VARIABLE} is set but names no file; {_REMEDY}")
            keys += _at_least_one(_parse(_read(Path(path)), path), f"{FILE_VARIABLE}: {path}")
        ids = [key.id for key in keys]
        if twice := {key_id for key_id in ids if ids.count(key_id) > 1}:
            raise UsageError(f"API keys: the id {min(twice)} is given twice; every key has its own line once")
        return cls(keys)

    def find(self, presented: str) -> ApiKey | None:
        """The key that was presented, if it is one of these. Takes as long for a wrong one as for a right one."""
        parts = presented.split("_", 2)
        stored = self._keys.get(parts[1]) if len(parts) == 3 else None
        same = hmac.compare_digest(_digest(presented), stored.sha256 if stored else _NO_DIGEST)
        return stored if same else None


def open_to_others(keyring: Keyring, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether people on other machines may use the service without a key.

    `bentoml serve`, which containers run, does not tell where it listens; unless told otherwise that is everywhere.
    """
    address = environ.get(ADDRESS_VARIABLE)
    return not keyring and (address is None or not ip_address(address).is_loopback)


def presented_key(headers: Headers, *, password: bool) -> str | None:
    """The key of a request: a bearer token, the header X-API-Key, or a password.

    :param password: take HTTP Basic too, which browsers send by themselves, even for requests other pages cause.
    """
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic" and password:
        return _password(value.strip())
    return headers.get("x-api-key")


def _password(value: str) -> str | None:
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def _at_least_one(keys: list[ApiKey], source: str) -> list[ApiKey]:
    if not keys:
        raise UsageError(f"{source} holds no key; {_REMEDY}")
    return keys


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"{FILE_VARIABLE}: {path}: cannot be read: {reason}") from error


def _parse(text: str, source: str) -> list[ApiKey]:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    return [_parse_line(line, f"{source}, line {number}") for number, line in lines]


def _parse_line(line: str, place: str) -> ApiKey:
    try:
        return ApiKey.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "not a line of JSON"
        # Never with the line itself: someone may have put a key there.
        raise UsageError(f"{place}: {field}: {first['msg']}; `tocsin key new` prints such lines") from None
