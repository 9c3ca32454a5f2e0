"""The query string of a URL, as rqlite reads it (rqlite.md 2.1, 2.2).

It is read before anything else, so that a bad value is a 400 on every endpoint. Keys are
case-sensitive, the first value of a key wins, and a flag is on when its key is there, whatever its
value (`timings=false` is on).

Added to rqlite's: `min_index` (read at or after this raft index), `typed` (see `typed.py`), and
beside it `compact` and `many` (see `compact.py`).
Accepted without effect: `noparse`, `norwrandom`, `norwtime` (SQL is never rewritten), `bypass`,
`retries` (a forwarded write whose fate is unknown is never sent again).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from rsqlite.errors import RequestError
from rsqlite.request import ReadLevel
from rsqlite.server.durations import parse_duration

_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2}).{0,2}", re.DOTALL)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_INDEX = re.compile(r"\d{1,19}", re.ASCII)
_INDEX_MAX = 2**63 - 1
_LEVELS = {level.name.lower(): level for level in ReadLevel}


@dataclass(frozen=True, slots=True)
class Flags:
    """Everything a query string can say. Durations are seconds, 0 when not given."""

    q: str | None = None
    level: ReadLevel = ReadLevel.WEAK
    freshness_s: float = 0.0
    freshness_strict: bool = False
    timeout_s: float = 0.0
    db_timeout_s: float = 0.0
    linearizable_timeout_s: float = 0.0
    min_index: int = 0
    transaction: bool = False
    timings: bool = False
    pretty: bool = False
    associative: bool = False
    blob_array: bool = False
    qualify_columns: bool = False
    raft_index: bool = False
    typed: bool = False
    compact: bool = False
    many: bool = False
    redirect: bool = False
    queue: bool = False
    noleader: bool = False
    nonvoters: bool = False
    sync: bool = False
    ver: str = ""
    key: str = ""


DEFAULT = Flags()


def parse_flags(query: str) -> Flags:
    """The flags of a raw query string (without `?`); RequestError with rqlite's texts if bad."""
    if not query:
        return DEFAULT
    given = _split(query)
    for name in ("retries", "trailing_logs"):
        if name in given and not _INTEGER.fullmatch(given[name]):
            raise RequestError(f"{name} is not a valid integer")
    if given.get("q") == "":
        raise RequestError("query parameter not set")
    if "freshness_strict" in given and "freshness" not in given:
        raise RequestError("freshness_strict requires freshness to be set")
    for name in ("compact", "many"):
        if name in given and "typed" not in given:
            raise RequestError(f"{name} requires typed to be set")
    return Flags(
        q=given.get("q"),
        level=_LEVELS.get(given.get("level", "").lower(), ReadLevel.WEAK),
        freshness_s=_duration(given, "freshness"),
        freshness_strict="freshness_strict" in given,
        timeout_s=_duration(given, "timeout"),
        db_timeout_s=_duration(given, "db_timeout"),
        linearizable_timeout_s=_duration(given, "linearizable_timeout"),
        min_index=_index(given, "min_index"),
        transaction="transaction" in given,
        timings="timings" in given,
        pretty="pretty" in given,
        associative="associative" in given,
        blob_array="blob_array" in given,
        qualify_columns="qualify_columns" in given,
        raft_index="raft_index" in given,
        typed="typed" in given,
        compact="compact" in given,
        many="many" in given,
        redirect="redirect" in given,
        queue="queue" in given,
        noleader="noleader" in given,
        nonvoters="nonvoters" in given,
        sync="sync" in given,
        ver=given.get("ver", ""),
        key=given.get("key", ""),
    )


def unescape(text: str) -> str:
    """`text` without its percent escapes; RequestError if they are broken or not UTF-8."""
    if "%" in text and (bad := _BAD_ESCAPE.search(text)) is not None:
        raise RequestError(f'invalid URL escape "{bad[0]}"')
    try:
        return unquote_to_bytes(text).decode("utf-8") if "%" in text else _checked(text)
    except UnicodeError as error:
        raise RequestError("the URL is not valid UTF-8") from error


def _checked(text: str) -> str:
    text.encode("utf-8")
    return text


def _split(query: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for part in query.split("&"):
        if not part:
            continue
        if ";" in part:
            raise RequestError("invalid semicolon separator in query")
        key, _, value = part.replace("+", " ").partition("=")
        given.setdefault(unescape(key), unescape(value))
    return given


def _duration(given: dict[str, str], name: str) -> float:
    text = given.get(name)
    if text is None:
        return 0.0
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise RequestError(f"{name} is not a valid duration") from error
    if seconds < 0:
        raise RequestError(f"{name} is not a valid duration: it is negative")
    return seconds


def _index(given: dict[str, str], name: str) -> int:
    text = given.get(name)
    if text is None:
        return 0
    if not _INDEX.fullmatch(text) or int(text) > _INDEX_MAX:
        raise RequestError(f"{name} is not a valid index")
    return int(text)
