"""A replica carries out committed entries, and checks each against what the leader saw.

All entries handed over together share one SQLite transaction and one write of the applied row. The
entry says everything that must be set before a statement (time, random stream, counters); nothing
is judged here that the leader has judged. A difference is not repaired here: the transaction is
rolled back, the entries before are applied again, and `Divergence` says what differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apsw

from rsqlite.errors import Divergence
from rsqlite.raft.types import Configuration, Entry, EntryKind
from rsqlite.statemachine import overruled, results, schema
from rsqlite.statemachine.command import (
    FLAG_FOREIGN_KEYS,
    FLAG_STATISTICS,
    Command,
    decode,
)
from rsqlite.statemachine.connection import Writer
from rsqlite.statemachine.digest import Recorder
from rsqlite.statemachine.replay import Replay, is_about_content
from rsqlite.statemachine.session import (
    Session,
    apply_session,
    defer_foreign_keys,
    restore_session,
)

Applied = tuple[int, int, int]
"""Index, term, and the newest time of an entry."""


_DML = frozenset({"INSERT", "UPDATE", "DELETE", "REPLAC"})
"""First letters of statements that leave the schema as it is."""


class _DivergesAt(Divergence):
    """The entry at this position of a transaction differs; those before it do not."""

    def __init__(self, difference: Divergence, decoded: Decoded, position: int) -> None:
        entry = decoded.entry
        text = f"entry {entry.index} of term {entry.term}: {difference}"
        super().__init__(text, effects=difference.effects, index=entry.index)
        self.position = position


class Decoded:
    """An entry, and its command when it has one."""

    __slots__ = ("command", "entry")

    def __init__(self, entry: Entry, newest_behaviour: int) -> None:
        self.entry = entry
        self.command: Command | None = None
        if entry.kind is EntryKind.COMMAND:
            self.command = decode(entry.data, newest_behaviour)


class Application:
    """Entries in order, from BEGIN to COMMIT."""

    def __init__(
        self,
        writer: Writer,
        recorder: Recorder,
        time_ms: int,
        *,
        overruled: Mapping[int, str],
        is_late: Callable[[], bool],
    ) -> None:
        """`overruled`: what a majority computed (`Divergence.effects`), by the index of an entry
        that says otherwise. `is_late` is asked after each entry, and ends the run when it says
        so."""
        self._writer = writer
        self._recorder = recorder
        self._overruled = overruled
        self._is_late = is_late
        self.time_ms = time_ms
        self.applied: Applied | None = None
        self.configuration: Configuration | None = None
        """The last one among the entries."""
        self.statements = 0
        self.entries = 0
        self.schema_changed = False

    def run(self, entries: Sequence[Decoded]) -> None:
        """`applied` says how far it got, also after Divergence or another NodeFault. A Divergence
        is about the entry right behind that, however late it is."""
        start, stop = 0, len(entries)
        difference: _DivergesAt | None = None
        while start < stop and not (start and self._is_late()):
            end = min(self._end_of_run(entries, start), stop)
            part = entries[start:end]
            try:
                end = start + self._transaction(part)
            except _DivergesAt as found:
                self._abandon(part)
                # Those before it come again, all of them: the vote is on the entry behind those.
                difference, stop = found, start + found.position
                self._is_late = _never
                continue
            except BaseException as error:
                self._abandon(part)
                if isinstance(error, apsw.Error):
                    raise results.commit_fault(error) from error
                raise
            start = end
        if difference is not None:
            raise Divergence(
                str(difference), effects=difference.effects, index=difference.index
            ) from difference

    def _end_of_run(self, entries: Sequence[Decoded], start: int) -> int:
        """The end of the run from `start` that one transaction can hold."""
        end = start + 1
        if not self._is_alone(entries[start]):
            while end < len(entries) and not self._is_alone(entries[end]):
                end += 1
        return end

    def _is_alone(self, decoded: Decoded) -> bool:
        """Session settings are set before BEGIN; what a majority computed otherwise begins anew."""
        return bool(self._session(decoded)) or decoded.entry.index in self._overruled

    def _session(self, decoded: Decoded) -> Session:
        """The settings that the entry brings; whether foreign keys are enforced is one of them
        where this node's own setting is another than its leader's was."""
        command = decoded.command
        if command is None:
            return ()
        session = tuple((name, value) for name, value in command.settings)
        enforces = bool(command.flags & FLAG_FOREIGN_KEYS)
        if enforces != self._writer.settings.fk and "foreign_keys" not in dict(session):
            session = (*session, ("foreign_keys", int(enforces)))
        return session

    def _abandon(self, part: Sequence[Decoded]) -> None:
        self._recorder.discard()
        self._writer.rollback()
        self._writer.shapes.forget()
        restore_session(self._writer, self._session(part[0]))

    def _transaction(self, part: Sequence[Decoded]) -> int:
        """Carry out the entries, or the first of them; how many."""
        writer = self._writer
        session = self._session(part[0])
        if session:
            apply_session(writer, session)
        version = writer.schema_version() if _may_change_schema(part) else None
        writer.budget(None, None)
        writer.entropy.follow()
        writer.watch_rowids(False)
        self._begin(session)
        time_ms, configuration, statements = self.time_ms, None, 0
        for position, decoded in enumerate(part):
            entry, command = decoded.entry, decoded.command
            if command is not None:
                try:
                    self._command(command)
                    self._require_keys()
                except Divergence as difference:
                    if self._overruled.get(entry.index) != difference.effects:
                        raise _DivergesAt(difference, decoded, position) from difference
                    self._as_computed(command, session)
                if command.times:
                    time_ms = max(time_ms, command.times[-1])
                statements += command.statement_count
            elif entry.kind is EntryKind.CONFIGURATION:
                configuration = Configuration.from_bytes(entry.data)
                writer.engine(schema.SET_META, ("configuration", entry.data))
            if self._is_late():
                part = part[: position + 1]
                break
        last = part[-1].entry
        writer.engine(schema.UPDATE_APPLIED, (last.index, last.term, time_ms))
        if version is not None and writer.schema_version() != version:
            self.schema_changed = True
            writer.shapes.forget()
        writer.commit()
        if session:
            restore_session(writer, session)
        self.time_ms = time_ms
        self.statements += statements
        self.entries += len(part)
        self.applied = (last.index, last.term, time_ms)
        if configuration is not None:
            self.configuration = configuration
        return len(part)

    def _begin(self, session: Session) -> None:
        self._writer.begin()
        if session:
            defer_foreign_keys(self._writer, session)

    def _command(self, command: Command) -> None:
        self._writer.behaviour = command.version
        if command.digest_from == 0:
            self._recorder.follow()
        if _is_simple(command):
            self._simply(command)
        else:
            self._statements(command)
        if command.flags & FLAG_STATISTICS:
            self._writer.raise_schema_version()
        if command.digest_from >= 0:
            digest = self._recorder.end_following()
            if digest != command.digest:
                raise Divergence(
                    f"row changes: digest {digest.hex()} here, {command.digest.hex()} on the"
                    " leader",
                    effects=_name_of("digest", digest),
                )

    def _require_keys(self) -> None:
        """Deferred keys without a parent would be found out by COMMIT, which is that of others."""
        if self._writer.has_unresolved_keys():
            raise Divergence(
                "foreign keys are without a parent at the end here, and none on the leader",
                effects=_name_of("keys", 0),
            )

    def _as_computed(self, command: Command, session: Session) -> None:
        """Carry the entry out from the start, whatever it expects: a majority has decided."""

        def begin() -> None:
            self._writer.rollback()
            self._begin(session)

        self._recorder.discard()
        overruled.carry_out(self._writer, command, begin)
        overruled.remember(self._writer, self._overruled)

    def _simply(self, command: Command) -> None:
        """The hot path: statements of one text, one for each request, and one time for all."""
        writer = self._writer
        writer.vfs.set_time(command.times[0])
        sql = command.sqls[0]
        is_alone = not command.counts
        if not is_alone:
            writer.connection.set_last_insert_rowid(0)
        # Compared as a whole: a tenth less than row by row.
        changes, rowids, failure = writer.run_each(
            sql, command.parameters, ticks=-1 if is_alone else None
        )
        if failure is not None and not isinstance(failure, apsw.Error):
            raise failure
        if changes != command.changes or rowids != command.rowids:
            for position, found in enumerate(zip(changes, rowids, strict=True)):
                if found != (command.changes[position], command.rowids[position]):
                    raise self._difference(command, position, 0, found)
        if failure is not None:
            raise self._error(command, len(rowids), failure) from failure

    def _statements(self, command: Command) -> None:
        """Everything the entry can say, one statement after the other."""
        connection = self._writer.connection
        replay = Replay(self._writer, command)
        for position in range(command.statement_count):
            replay.begin(position)
            if position == command.digest_from and position:
                self._recorder.follow()
            code, expected = 0, command.errors.get(position, 0)
            try:
                replay.run(position)
            except apsw.Error as error:
                code = results.extended_code(error)
                if code != expected or not connection.in_transaction:
                    raise self._error(command, position, error) from error
            if (
                code != expected
                or connection.changes() != command.changes[position]
                or connection.last_insert_rowid() != command.rowids[position]
            ):
                raise self._difference(command, position, code)

    def _difference(
        self, command: Command, position: int, code: int, seen: tuple[int, int] | None = None
    ) -> Divergence:
        connection = self._writer.connection
        changes, rowid = seen or (connection.changes(), connection.last_insert_rowid())
        here = (changes, rowid, code)
        there = (
            command.changes[position],
            command.rowids[position],
            command.errors.get(position, 0),
        )
        return Divergence(
            f"statement {position} ({_text(command, position)}): (changes, last rowid, error code)"
            f" is {here} here, {there} on the leader",
            effects=_name_of(position, here),
        )

    def _error(self, command: Command, position: int, error: apsw.Error) -> Exception:
        """A difference if a statement may end so; this node's own fault if not."""
        code = results.extended_code(error)
        fault = results.node_fault(error)
        if fault is not None:
            return fault
        if not is_about_content(self._writer, error):
            return results.commit_fault(error)
        return Divergence(
            f"statement {position} ({_text(command, position)}): {error}"
            f" ({results.code_name(code)}) here, error code"
            f" {command.errors.get(position, 0)} on the leader",
            effects=_name_of(position, code),
        )


def _never() -> bool:
    return False


def _is_simple(command: Command) -> bool:
    return (
        len(command.sqls) == 1
        and len(command.times) == 1
        and (not command.counts or len(command.counts) == 1)
        and not (command.errors or command.resets or command.streams)
        and command.digest_from <= 0
        and "returning" not in command.sqls[0].lower()
    )


def _may_change_schema(part: Sequence[Decoded]) -> bool:
    """False when all that is in it is known to begin as DML does: a superset, told cheaply."""
    for decoded in part:
        command = decoded.command
        if command is not None:
            if command.flags & FLAG_STATISTICS:
                return True
            for sql in command.sqls:
                if sql[:6].upper() not in _DML:
                    return True
    return False


def _text(command: Command, position: int) -> str:
    sql: Any = command.sqls[command.texts[position] if command.texts else 0]
    return sql if len(sql) <= 200 else f"{sql[:200]}..."


def _name_of(*effects: object) -> str:
    return hashlib.blake2b(repr(effects).encode(), digest_size=16).hexdigest()
