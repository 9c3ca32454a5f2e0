"""The statements of an entry, run as its leader ran them: one after the other, each with what must
be set before it."""

from __future__ import annotations

from collections.abc import Iterator

import apsw

from rsqlite.statemachine import results
from rsqlite.statemachine.command import Command
from rsqlite.statemachine.connection import ROWID_MAX, Writer
from rsqlite.statemachine.schema import quoted


class Replay:
    """Everything that an entry can say. `begin` is called for each position in order, and `run` for
    those that are not left out."""

    def __init__(self, writer: Writer, command: Command, *, is_overruled: bool = False) -> None:
        """`is_overruled`: what the leader counted is wrong, unless nothing here says more."""
        self._writer = writer
        self._command = command
        self._is_overruled = is_overruled
        self._returns_rows = ["returning" in sql.lower() for sql in command.sqls]
        self._requests = {first: number for number, (first, _) in enumerate(requests(command))}

    def begin(self, position: int) -> None:
        """A request may begin here: it has a time and counters of its own."""
        number = self._requests.get(position)
        if number is not None:
            writer, times = self._writer, self._command.times
            writer.vfs.set_time(times[number] if len(times) > 1 else times[0])
            writer.connection.set_last_insert_rowid(0)
            writer.counters.start()

    def run(self, position: int) -> None:
        """One statement. Raises SQLite's error as it comes."""
        writer, command = self._writer, self._command
        reset = command.resets.get(position)
        if reset is not None and not (self._is_overruled and self._follows(position, reset)):
            writer.restore_counters(*reset)
        writer.entropy.open(command.streams.get(position))
        place = command.texts[position] if command.texts else 0
        cursor = writer.cursor.execute(command.sqls[place], command.parameters[position])
        if self._returns_rows[place]:
            for _ in cursor:
                pass

    def _follows(self, position: int, reset: tuple[int, int, int]) -> bool:
        """Did the statement before, of the same request, leave the leader's counters so? Then those
        that it left here are right."""
        if position in self._requests:
            return False
        command, before = self._command, position - 1
        return reset[:2] == (command.changes[before], command.rowids[before])


def requests(command: Command) -> Iterator[tuple[int, int]]:
    """Where each request begins and ends."""
    first = 0
    for count in command.counts or [1] * command.statement_count:
        yield first, first + count
        first += count


def is_about_content(writer: Writer, error: apsw.Error) -> bool:
    """May a statement end so on the content that is here? All else is this node's own trouble.

    SQLite says that the disk is full also where a table has no row id left. No entry of a sound
    leader brings that about (`ROWID_MAX`): somebody changed the database behind the node's back.
    """
    code = results.extended_code(error)
    if code & 255 == apsw.SQLITE_FULL:
        return _has_no_id_left(writer)
    return results.is_statement_result(code)


def _has_no_id_left(writer: Writer) -> bool:
    """Only AUTOINCREMENT gives up; other tables look for a free id at random."""
    if not writer.engine("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'"):
        return False
    for name, seq in writer.engine("SELECT name, seq FROM sqlite_sequence"):
        keys = writer.engine("SELECT name FROM pragma_table_info(?) WHERE pk", (name,))
        if seq == ROWID_MAX or any(_has_row(writer, name, key) for (key,) in keys):
            return True
    return False


def _has_row(writer: Writer, table: str, key: str) -> bool:
    sql = f"SELECT 1 FROM {quoted(table)} WHERE {quoted(key)} = ?"
    return bool(writer.engine(sql, (ROWID_MAX,)))
