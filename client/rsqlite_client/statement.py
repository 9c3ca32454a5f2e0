"""What a text of SQL shows without a parser: its first word, its parameters, whether more follows.

Only SQLite knows what a statement does, and the server asks it. Here the text is cut into tokens by
SQLite's rules (comments, quotes, variables), which is enough to bind parameters as sqlite3 does
and to guess the way: a guess that a statement only reads is one that the server checks.
"""

from __future__ import annotations

import re
import sqlite3
from functools import lru_cache

from rsqlite_client.errors import ProgrammingError

_ID = r"A-Za-z0-9_$\x80-\U0010ffff"
_NAME = rf"(?:[{_ID}]|::)+(?:\([^\s)]*\))?"
_COMMENT = r"--[^\n]*|/\*[^*]*(?:\*(?!/)[^*]*)*(?:\*/)?"
_TOKEN = re.compile(
    rf"""{_COMMENT}
    | '[^']*(?:'|\Z) | "[^"]*(?:"|\Z) | `[^`]*(?:`|\Z) | \[[^\]]*(?:\]|\Z)
    | (?P<number>\?\d*)
    | (?P<name>[:@]{_NAME} | (?<![{_ID}])\${_NAME})
    | (?P<end>;)""",
    re.VERBOSE,
)
"""A doubled quote inside quotes ends one token and begins the next, which comes to the same."""
_BLANK = re.compile(rf"(?:[ \t\n\f\r]+|{_COMMENT})*")
_BLANK_OR_END = re.compile(rf"(?:[ \t\n\f\r;]+|{_COMMENT})*")
_WORD = re.compile(r"[A-Za-z]+")

_BEGIN = re.compile(
    r"BEGIN( DEFERRED| IMMEDIATE| EXCLUSIVE)?( TRANSACTION)?", re.IGNORECASE | re.ASCII
)
_COMMIT = re.compile(r"COMMIT( TRANSACTION)?|END TRANSACTION", re.IGNORECASE | re.ASCII)
"""A bare END may be a trigger's."""

_READS = frozenset(("SELECT", "VALUES", "EXPLAIN"))
_DML = frozenset(("INSERT", "UPDATE", "DELETE", "REPLACE"))
_TRANSACTIONAL = frozenset(("BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"))

_COUNTER = re.compile(r"(?<![\w$.])(last_insert_rowid|total_changes|changes)\s*\(\s*\)", re.ASCII)
_COUNTER_ALONE = re.compile(r"select (\w+ ?\( ?\))", re.IGNORECASE | re.ASCII)

_SETTING = re.compile(
    r"pragma (?:main ?\. ?)?(foreign_keys|defer_foreign_keys|recursive_triggers"
    r"|ignore_check_constraints|legacy_alter_table|case_sensitive_like) ?(?:= ?|\( ?)(.+)",
    re.IGNORECASE | re.ASCII,
)
"""PRAGMAs with a value that hold for a connection in SQLite, and for a request at a node."""
_ON = frozenset(("on", "yes", "true", "full", "extra"))

_VARIABLES_MAX = 32_766
"""SQLite's own bound on the number of a parameter."""
_KNOWN_MAX = 512
_KNOWN_CHARS_MAX = 8_192
"""So many texts are remembered, and none that is longer: with literals in it, it comes once."""


class Statement:
    """One text of SQL as it is given to `execute`."""

    __slots__ = ("counter", "end", "first_word", "has_more", "is_read", "names", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        start = _BLANK_OR_END.match(text)
        position = 0 if start is None else start.end()
        word = _WORD.match(text, position)
        self.first_word = "" if word is None else word[0].upper()
        self.is_read = self.first_word in _READS
        """Ask for it as a read, which the server checks. Set for other texts once an answer has
        told that they only read."""
        self.counter = "" if self.first_word == "CREATE" else _counter_in(text)
        """The SQL function used here that counts for a connection. (Triggers use such a function
        for what happens within a statement.)"""
        self.names: list[str | None] = []
        """For each parameter by its number the name it has, with its first character; or None."""
        self.end = len(text)
        """Of the first statement."""
        self.has_more = False
        self._scan(position)

    @property
    def is_dml(self) -> bool:
        """As the sqlite3 module sees it: by the first word. Such statements have a rowcount."""
        return self.first_word in _DML

    @property
    def setting(self) -> str:
        """The name of a PRAGMA that is set for a connection."""
        return setting_of(self.text)[0] if self.first_word == "PRAGMA" else ""

    @property
    def is_transactional(self) -> bool:
        return self.first_word in _TRANSACTIONAL

    @property
    def counter_alone(self) -> str:
        """Of `SELECT changes()`, or the same with another counter, what the column is called."""
        found = _COUNTER_ALONE.fullmatch(_bare(self.text))
        return "" if found is None else found[1]

    def _scan(self, position: int) -> None:
        text, names = self.text, self.names
        numbers: dict[str, int] = {}
        for token in _TOKEN.finditer(text, position):
            kind = token.lastgroup
            if kind is None:
                continue
            if kind == "end":
                if not _is_complete(text, position, token.end()):
                    continue
                self.end = token.end()
                rest = _BLANK.match(text, self.end)
                self.has_more = rest is not None and rest.end() < len(text)
                return
            name = token[0]
            if name == "?":
                names.append(None)
                continue
            if name not in numbers:
                number = int(name[1:]) if kind == "number" else len(names) + 1
                if number > _VARIABLES_MAX:
                    return  # SQLite will say so
                numbers[name] = number
                names.extend([None] * (number - len(names)))
                if names[number - 1] is None:
                    names[number - 1] = name


def statement_of(sql: str) -> Statement:
    """The statement in a text. ProgrammingError or UnicodeError for what SQLite could not take."""
    if len(sql) <= _KNOWN_CHARS_MAX:
        return _known(sql)
    return _checked(sql)


def _checked(sql: str) -> Statement:
    if "\0" in sql:
        raise ProgrammingError("the query contains a null character")
    if not sql.isascii():
        sql.encode("utf-8")
    return Statement(sql)


_known = lru_cache(maxsize=_KNOWN_MAX)(_checked)


def _counter_in(text: str) -> str:
    lower = text.lower()
    if "changes" not in lower and "last_insert_rowid" not in lower:
        return ""
    found = _COUNTER.search(_TOKEN.sub(" ", lower))
    return "" if found is None else found[1]


def statements_of(script: str) -> list[str]:
    """The statements of a script. One that is a transaction in all, as dumps are, loses the BEGIN
    and COMMIT around it: it is sent as one."""
    found = []
    start = 0
    for token in _TOKEN.finditer(script):
        if token.lastgroup == "end" and _is_complete(script, start, token.end()):
            found.append(script[start : token.end()])
            start = token.end()
    found.append(script[start:])
    found = [text for text in found if _BLANK_OR_END.fullmatch(text) is None]
    first = 0
    while first < len(found) and setting_of(found[first])[0]:
        first += 1
    framed = found[first:]
    if (
        len(framed) > 1
        and _BEGIN.fullmatch(_bare(framed[0]))
        and _COMMIT.fullmatch(_bare(framed[-1]))
    ):
        return found[:first] + framed[1:-1]
    return found


def setting_of(text: str) -> tuple[str, bool]:
    """The name of a PRAGMA that is set for a connection, and whether it is switched on."""
    found = _SETTING.fullmatch(_bare(text))
    if found is None:
        return "", False
    value = found[2].rstrip(" )").strip("'\"").lower()
    is_on = value in _ON or (value.isdigit() and int(value) != 0)
    return found[1].lower(), is_on


def _is_complete(text: str, start: int, end: int) -> bool:
    """Does a statement end at this semicolon, or is it one inside of a trigger?"""
    blank = _BLANK_OR_END.match(text, start)
    word = _WORD.match(text, start if blank is None else blank.end())
    if word is None or word[0].upper() not in ("CREATE", "EXPLAIN"):
        return True
    return sqlite3.complete_statement(text[start:end])


def _bare(text: str) -> str:
    return " ".join(re.sub(_COMMENT, " ", text).replace(";", " ").split())
