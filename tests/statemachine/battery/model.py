"""What a case of the SQL battery is: pure data, for any runner (in process, or over HTTP).

A case is a setup (one request of plain statements) and requests, each of one client with a
connection of its own. The rule is the same for all: every node holds the same content, and each
client gets the answers that plain SQLite would give it alone. A statement says only where it
departs from "it succeeds, and answers as plain SQLite does":

- `fails(sql, ..., why=)`: plain SQLite refuses it, with `why` somewhere in its message; the same
  message and code are expected. So a typing error in a case cannot pass as "equal".
- `refused(sql, ..., why=)`: the engine refuses it by design, whatever SQLite would say. `why` is a
  regular expression found in the text of the Failure or StatementRefused; nothing took effect.
- `varies(sql, ...)`: succeeds with values that depend on time, chance or the node; only the shape
  (columns, number of rows, changes) is compared.
- `either(sql, ...)`: plain SQLite's answer and a refusal are both right; all nodes stay equal.

Time and chance are judged in SQL where that is possible: `SELECT count(DISTINCT r) FROM t` has the
same answer everywhere although `r` has not.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class Expect(enum.Enum):
    """How the answer to a statement is judged; see the module's text."""

    PLAIN = "as plain SQLite"
    FAILS = "fails as in plain SQLite"
    REFUSED = "refused by design"
    VARIES = "succeeds, values vary"
    EITHER = "as plain SQLite, or refused"


@dataclass(frozen=True, slots=True)
class Sql:
    """One statement text with its parameters (a tuple, a dict, or None) and its expectation."""

    text: str
    parameters: Any = None
    expect: Expect = Expect.PLAIN
    why: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of one client. `kind` is execute, query or mixed, as the endpoints of `/db/`."""

    statements: tuple[Sql, ...]
    transaction: bool = False
    kind: str = "mixed"
    db_timeout_s: float = 0.0
    commit_fails: str = ""
    """With `transaction`: COMMIT itself fails in plain SQLite, with this in its message. The engine
    reports it in the place of the last statement."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `volatile`: content depends on time or chance, so it is equal on all nodes but not
    equal to that of plain SQLite. `alone`: it looks at or changes something of the whole database,
    so it is not mixed with other cases. `slow`: takes more than a quarter of a second. `fk`: for
    nodes that enforce foreign keys (`-fk`)."""

    theme: str
    name: str
    setup: tuple[Sql, ...]
    requests: tuple[Ask, ...]
    volatile: bool = False
    alone: bool = False
    slow: bool = False
    fk: bool = False

    @property
    def id(self) -> str:
        return f"{self.theme}: {self.name}"


Statement = str | tuple[Any, ...] | Sql
"""A text, a text with its positional parameters (or one dict) behind it, or a `Sql`."""


def _sql(statement: Statement, expect: Expect = Expect.PLAIN, why: str = "") -> Sql:
    if isinstance(statement, Sql):
        return statement
    if isinstance(statement, str):
        return Sql(statement, None, expect, why)
    text, *values = statement
    if len(values) == 1 and isinstance(values[0], dict):
        return Sql(text, values[0], expect, why)
    return Sql(text, tuple(values), expect, why)


def fails(text: str, *values: Any, why: str) -> Sql:
    """A statement that plain SQLite refuses, with `why` in its message."""
    return _sql((text, *values) if values else text, Expect.FAILS, why)


def refused(text: str, *values: Any, why: str) -> Sql:
    """A statement that the engine refuses by design; `why` is a regular expression."""
    return _sql((text, *values) if values else text, Expect.REFUSED, why)


def varies(text: str, *values: Any) -> Sql:
    """A statement that succeeds with values of time, chance or the node."""
    return _sql((text, *values) if values else text, Expect.VARIES)


def either(text: str, *values: Any) -> Sql:
    """A statement that may run as in plain SQLite, or be refused without effect."""
    return _sql((text, *values) if values else text, Expect.EITHER)


def ask(
    *statements: Statement,
    transaction: bool = False,
    kind: str = "mixed",
    db_timeout_s: float = 0.0,
    commit_fails: str = "",
) -> Ask:
    """One request."""
    listed = tuple(_sql(one) for one in statements)
    return Ask(listed, transaction, kind, db_timeout_s, commit_fails)


def together(*statements: Statement, commit_fails: str = "") -> Ask:
    """One request with `transaction`: all of it or nothing."""
    return ask(*statements, transaction=True, commit_fails=commit_fails)


class Theme:
    """Collects the cases of one module; names are unique within it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cases: list[Case] = []

    def case(
        self,
        name: str,
        *requests: Ask | Statement,
        setup: Iterable[Statement] | str = (),
        volatile: bool = False,
        alone: bool = False,
        slow: bool = False,
        fk: bool = False,
    ) -> None:
        """Add a case. A request that is one statement may be written as just that."""
        assert all(one.name != name for one in self.cases), f"{self.name}: {name} is there twice"
        first = (setup,) if isinstance(setup, str) else tuple(setup)
        asks = tuple(one if isinstance(one, Ask) else ask(one) for one in requests)
        self.cases.append(
            Case(self.name, name, tuple(map(_sql, first)), asks, volatile, alone, slow, fk)
        )
