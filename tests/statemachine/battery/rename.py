"""Gives the tables of a case other names, so that two cases fit into one database.

Names are replaced as words, wherever they stand: in strings and comments too, which changes a case
a little, but for the engine and for plain SQLite alike.
"""

from __future__ import annotations

import re
from dataclasses import replace

from tests.statemachine.battery.model import Ask, Case, Sql

_MADE = re.compile(
    r"\bCREATE\s+(?:UNIQUE\s+|VIRTUAL\s+|TEMP\s+|TEMPORARY\s+)?(?:TABLE|VIEW|INDEX|TRIGGER)\s+"
    r"(?:IF\s+NOT\s+EXISTS\s+)?(?:main\.)?([A-Za-z]\w*)",
    re.IGNORECASE,
)


def renamed(case: Case, prefix: str) -> Case | None:
    """The case with other names, or None if its names cannot be told (quoted, or parameters)."""
    texts = [sql.text for ask in (Ask(case.setup), *case.requests) for sql in ask.statements]
    if any(isinstance(sql.parameters, dict) for ask in case.requests for sql in ask.statements):
        return None
    if any(len(text) > 20_000 or "sqlite_" in text for text in texts):
        return None
    names = {name for text in texts for name in _MADE.findall(text)}
    names -= {"IF", "TRIGGER", "TABLE", "AFTER", "BEFORE"}
    if not names:
        return None
    pattern = re.compile(r"\b(" + "|".join(sorted(names, key=len, reverse=True)) + r")\b", re.I)

    def change(sql: Sql) -> Sql:
        return replace(sql, text=pattern.sub(rf"{prefix}\1", sql.text))

    return replace(
        case,
        setup=tuple(map(change, case.setup)),
        requests=tuple(
            replace(ask, statements=tuple(map(change, ask.statements))) for ask in case.requests
        ),
    )
