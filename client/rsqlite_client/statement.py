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
_COMMENT = r"--[^\n]*|/\*.*?(?:\*/|\Z)"
_TOKEN = re.compile(
    rf"""{_COMMENT}
    | '[^']*(?:'|\Z) | "[^"]*(?:"|\Z) | `[^`]*(?:`|\Z) | \[[^\]]*(?:\]|\Z)
    | (?P<number>\?\d*)
    | (?P<name>[:@]{_NAME} | (?<![{_ID}])\${_NAME})
    | (?P<end>;)""",
    re.VERBOSE | re.DOTALL,
)
"""A doubled quote inside quotes ends one token and begins the next, which comes to the same."""
_BLANK = re.compile(rf"(?:[ \t\n\f\r]+|{_COMMENT})*", re.DOTALL)
_BLANK_OR_END = re.compile(rf"(?:[ \t\n\f\r;]+|{_COMMENT})*", re.DOTALL)
_WORD = re.compile(r"[A-Za-z]+")

_BEGIN = re.compile(
    r"BEGIN( DEFERRED| IMMEDIATE| EXCLUSIVE)?( TRANSACTION)?", re.IGNORECASE | re.ASCII
)
_COMMIT = re.compile(r"COMMIT( TRANSACTION)?|END TRANSACTION", re.IGNORECASE | re.ASCII)
"""A bare END may be a trigger's."""

_READS = frozenset(("SELECT", "VALUES", "EXPLAIN"))
_DML = frozenset(("INSERT", "UPDATE", "DELETE", "REPLACE"))
_TRANSACTIONAL = frozenset(("BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"))

_VARIABLES_MAX = 32_766
"""SQLite's own bound on the number of a parameter."""
_KNOWN_MAX = 512
_KNOWN_CHARS_MAX = 8_192
"""So many texts are remembered, and none that is longer: with literals in it, it comes once."""


class Statement:
    """One text of SQL as it is given to `execute`."""

    __slots__ = ("end", "first_word", "has_more", "is_read", "names", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        start = _BLANK_OR_END.match(text)
        position = 0 if start is None else start.end()
        word = _WORD.match(text, position)
        self.first_word = "" if word is None else word[0].upper()
        self.is_read = self.first_word in _READS
        """Ask for it as a read, which the server checks. Set for other texts once an answer has
        told that they only read."""
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
    def is_transactional(self) -> bool:
        return self.first_word in _TRANSACTIONAL

    def _scan(self, position: int) -> None:
        text, names = self.text, self.names
        numbers: dict[str, int] = {}
        for token in _TOKEN.finditer(text, position):
            kind = token.lastgroup
            if kind is None:
                continue
            if kind == "end":
                if not self._is_complete(token.end()):
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

    def _is_complete(self, end: int) -> bool:
        """Does a statement end at this semicolon, or is it one inside of a trigger?"""
        if self.first_word not in ("CREATE", "EXPLAIN"):
            return True
        return sqlite3.complete_statement(self.text[:end])


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


def without_transaction(script: str) -> str:
    """A script that is one transaction in all, as dumps are, without the BEGIN and COMMIT around
    it: it is sent as one. Any other script as it is."""
    tokens = list(_TOKEN.finditer(script))
    ends = [token.start() for token in tokens if token.lastgroup == "end"]
    if len(ends) < 2:
        return script
    if _BLANK.fullmatch(script, ends[-1] + 1) is not None:
        ends.pop()
    first, last = script[: ends[0]], script[ends[-1] + 1 :]
    if _BEGIN.fullmatch(_bare(first)) is None or _COMMIT.fullmatch(_bare(last)) is None:
        return script
    return script[ends[0] + 1 : ends[-1] + 1]


def _bare(text: str) -> str:
    return " ".join(re.sub(_COMMENT, " ", text, flags=re.DOTALL).replace(";", " ").split())
