"""The digest of an entry's row changes: what counts cannot see.

APSW's `Session` notes, through SQLite's preupdate hook, which rows changed and to what. The digest
hashes these sorted, so that it does not depend on what else the leader tried and took back.
It covers the statements from one position of the entry on: from the first that is at risk, or all
of a sampled entry. Shadow tables of virtual tables are left out (they depend on transaction
boundaries), and so are our own tables and planner statistics. A change of the schema ends what was
covered; the next statement at risk begins anew.
"""

from __future__ import annotations

import hashlib

import apsw

from rsqlite.config import Settings
from rsqlite.statemachine.authorizer import OWN_PREFIX
from rsqlite.statemachine.connection import Writer
from rsqlite.statemachine.journal import Journal

DIGEST_BYTES = 16
LONG_VALUE_BYTES = 4096

Row = tuple[object, ...] | None


class Recorder:
    """The digests of one writer's entries."""

    def __init__(self, writer: Writer, settings: Settings) -> None:
        self._writer = writer
        self._mode = settings.verify_digest
        self._sample = settings.digest_sample
        self._bytes_max = settings.digest_memory_max
        self._entries = 0
        self._journal: Journal | None = None
        self._session: apsw.Session | None = None
        self._from = -1
        self.count = 0
        """Digests made or compared."""

    def begin_leading(self, journal: Journal) -> None:
        """A batch begins whose columns are `journal`."""
        self.discard()
        self._journal = journal
        if self._mode == "never":
            return
        if self._mode == "always" or self._entries % self._sample == 0:
            self._start(0)

    def cover(self) -> None:
        """The next statement is worth a digest."""
        if self._session is None and self._journal is not None and self._mode != "never":
            self._start(self._journal.mark())

    def schema_changes(self) -> None:
        """The next statement changes the schema: a session does not outlive that."""
        self.discard()

    def took_back(self, mark: int) -> None:
        """The statements from position `mark` on are gone, with the savepoint before them."""
        if self._session is None or self._from <= mark:
            return
        # It began after changes that are gone now, and would report their absence as changes.
        self.schema_changes()
        if self._mode == "always":
            self._start(mark)

    def end_leading(self) -> tuple[int, bytes]:
        """The position from which on the digest counts, and the digest; (-1, b"") without one."""
        self._entries += 1
        journal, self._journal = self._journal, None
        session = self._session
        if (
            journal is None
            or session is None
            or self._from >= journal.mark()
            or session.changeset_size > self._bytes_max
        ):
            self.discard()
            return -1, b""
        try:
            return self._from, self._finish()
        except UnicodeDecodeError:
            return -1, b""  # text that is none has no form here; /verify compares it

    def follow(self) -> None:
        """An entry's covered statements begin here, on a replica."""
        self.discard()
        self._writer.refresh_facts()
        self._start(0)

    def end_following(self) -> bytes:
        return self._finish()

    def discard(self) -> None:
        """The transaction is rolled back."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _start(self, position: int) -> None:
        session = apsw.Session(self._writer.connection, "main")
        # Tables without a declared primary key are covered by their rowid.
        session.config(apsw.SQLITE_SESSION_OBJCONFIG_ROWID, 1)
        session.config(apsw.SQLITE_SESSION_OBJCONFIG_SIZE, 1)
        session.table_filter(self._is_covered)
        session.attach()
        self._session = session
        self._from = position

    def _is_covered(self, table: str) -> bool:
        name = table.lower()
        return not (
            name.startswith((OWN_PREFIX, "sqlite_stat"))
            or name in self._writer.shapes.facts.shadows
        )

    def _finish(self) -> bytes:
        session, self._session = self._session, None
        if session is None:
            return b""
        self._writer.guard.is_lifted = True
        try:
            changeset = session.changeset()
        finally:
            self._writer.guard.is_lifted = False
            session.close()
        self.count += 1
        return digest_changes(changeset)


def digest_changes(changeset: bytes) -> bytes:
    """A hash of the changes that does not depend on their order. Long values count by their own
    hash: written out, one of 30 MB takes the loop for seconds, and four times its size."""
    # What is no longer than that has no long value in it.
    form = _brief if len(changeset) > LONG_VALUE_BYTES else repr
    changes = sorted(
        form((change.name, change.op, change.old, change.new))
        for change in apsw.Changeset.iter(changeset)
    )
    text = "\n".join(changes)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def _brief(change: tuple[str, str, Row, Row]) -> str:
    name, op, old, new = change
    return repr((name, op, _brief_row(old), _brief_row(new)))


def _brief_row(row: Row) -> Row:
    return None if row is None else tuple(map(_brief_value, row))


def _brief_value(value: object) -> object:
    if not isinstance(value, bytes | str) or len(value) <= LONG_VALUE_BYTES:
        return value
    data = value if isinstance(value, bytes) else value.encode()
    digest = hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
    return (type(value).__name__, len(value), digest)
