"""Session settings: PRAGMAs that hold for one request and travel in its entry.

A request may begin with them; it is then a batch of its own, and they are set before BEGIN on every
node (inside a transaction some do nothing) and restored after COMMIT or ROLLBACK. Anywhere else in
a request they are refused. In a request with `transaction`, `PRAGMA foreign_keys` does nothing, as
between BEGIN and COMMIT in plain SQLite.
"""

from __future__ import annotations

from collections.abc import Sequence

from rsqlite.statemachine.connection import Writer

Session = tuple[tuple[str, int], ...]
"""Names and values, sorted by name."""

_BASELINE = {
    "recursive_triggers": 0,
    "ignore_check_constraints": 0,
    "legacy_alter_table": 0,
    "case_sensitive_like": 0,
}


def apply_session(writer: Writer, session: Sequence[tuple[str, int]]) -> None:
    """Session settings, before BEGIN: inside a transaction some of them do nothing."""
    for name, value in session:
        if name != "defer_foreign_keys":
            writer.engine(f"PRAGMA {name} = {int(value)}")
    if session:
        writer.shapes.forget()


def defer_foreign_keys(writer: Writer, session: Sequence[tuple[str, int]]) -> None:
    """The one setting that ends with its transaction, so it comes after BEGIN."""
    for name, value in session:
        if name == "defer_foreign_keys":
            writer.engine(f"PRAGMA defer_foreign_keys = {int(value)}")


def restore_session(writer: Writer, session: Sequence[tuple[str, int]]) -> None:
    """After COMMIT or ROLLBACK: as the connection was opened."""
    for name, _ in session:
        if name == "foreign_keys":
            writer.engine(f"PRAGMA foreign_keys = {int(writer.settings.fk)}")
        elif name == "defer_foreign_keys":
            writer.engine("PRAGMA defer_foreign_keys = 0")
        else:
            writer.engine(f"PRAGMA {name} = {_BASELINE[name]}")
    if session:
        writer.shapes.forget()
