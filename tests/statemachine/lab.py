"""A leader and a replica on a loop by hand, without network and log."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from rsqlite.config import Settings
from rsqlite.errors import RsqliteError
from rsqlite.raft.types import Entry, EntryId, EntryKind, Index, Term
from rsqlite.request import Failure, Outcome, Request, RequestKind, Result, Rows
from rsqlite.statemachine import Batch, StateMachine
from rsqlite.statemachine.vfs import load_checksum_vfs
from rsqlite.testing.loop import ManualLoop

TERM = Term(1)
QUERY = RequestKind.QUERY
SERIES = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c LIMIT {}) "


def ask(
    *sqls: str | tuple[Any, ...],
    transaction: bool = False,
    kind: RequestKind = RequestKind.MIXED,
    **more: Any,
) -> Request:
    """A request; a statement is a text, or a tuple of a text and its parameters."""
    texts = [sql if isinstance(sql, str) else sql[0] for sql in sqls]
    parameters = [None if isinstance(sql, str) else list(sql[1:]) for sql in sqls]
    return Request(kind, texts, parameters, transaction=transaction, **more)


class Lab:
    """`run` gives a batch to the leader and its entry to the replica."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.loop = ManualLoop()
        self.settings = Settings(**settings)
        self.directory = directory
        self.leader = self.open("leader", seed=1)
        self.replica = self.open("replica", seed=2)
        self.entries: list[Entry] = []
        self.last: Batch | None = None

    def open(self, name: str, seed: int = 0) -> StateMachine:
        return StateMachine.open(
            str(self.directory / name),
            loop=self.loop,
            settings=self.settings,
            random=random.Random(seed),
        )

    def close(self) -> None:
        self.leader.close()
        self.replica.close()

    @property
    def next_index(self) -> Index:
        return Index(len(self.entries) + 1)

    def run(self, *requests: Request) -> list[Any]:
        """The outcomes; what was over the budget runs alone, what was not taken runs after."""
        outcomes: list[Any] = [None] * len(requests)
        waiting = list(range(len(requests)))
        while waiting:
            batch = self.leader.speculate([requests[position] for position in waiting])
            self.finish(batch)
            left = []
            for place, position in enumerate(waiting):
                if place in batch.over_budget:
                    outcomes[position] = self.run_long(requests[position])
                elif batch.outcomes[place] is None:
                    left.append(position)
                else:
                    outcomes[position] = batch.outcomes[place]
            assert len(left) < len(waiting), "nothing was taken"
            waiting = left
        return outcomes

    def run_long(self, request: Request) -> Any:
        found: list[tuple[Batch | None, BaseException | None]] = []
        self.leader.speculate_long(request, lambda *answer: found.append(answer))
        self.loop.run()
        ((batch, error),) = found
        if error is not None:
            raise error
        assert batch is not None
        self.finish(batch)
        return batch.outcomes[0]

    def finish(self, batch: Batch) -> None:
        """Commit on the leader, apply on the replica."""
        self.last = batch
        if batch.data is None:
            assert not self.leader.is_speculating
            return
        entry = Entry(TERM, self.next_index, EntryKind.COMMAND, batch.data)
        self.entries.append(entry)
        failed: list[BaseException | None] = []
        self.leader.commit(EntryId(entry.term, entry.index), None, failed.append)
        self.loop.run()
        assert failed == [None]
        self.leader.maintain()
        self.apply(self.replica, [entry])

    def apply(self, machine: StateMachine, entries: list[Entry]) -> None:
        while entries:
            failed: list[BaseException | None] = []
            machine.apply(entries, failed.append)
            self.loop.run()
            (error,) = failed
            if error is not None:
                raise error
            # It takes as many as the loop has time for.
            entries = [entry for entry in entries if entry.index > machine.applied_index]

    def do(self, *sqls: str | tuple[Any, ...], **more: Any) -> list[Result]:
        """One request, and its results."""
        (outcome,) = self.run(ask(*sqls, **more))
        assert isinstance(outcome, Outcome), outcome
        return outcome.results

    def query(self, request: Request, machine: StateMachine | None = None) -> Any:
        found: list[Outcome | RsqliteError] = []
        (machine or self.leader).query(request, found.append)
        self.loop.run()
        (answer,) = found
        return answer

    def rows(self, sql: str) -> list[Any]:
        """What both nodes answer to a read."""
        answers = []
        for machine in (self.leader, self.replica):
            (result,) = self.query(ask(sql, kind=RequestKind.QUERY), machine).results
            assert isinstance(result, Rows), result
            answers.append(result.rows)
        assert answers[0] == answers[1], sql
        return answers[0]


def read(lab: Lab, *sqls: Any, **more: Any) -> list[Any]:
    """The results of a request that only reads."""
    results: list[Any] = lab.query(ask(*sqls, kind=QUERY, **more)).results
    return results


class WatchedVfs(apsw.VFS):
    """The checksummed file system, which tells what is synced. `on_write` hears of every write."""

    def __init__(self) -> None:
        self.name = f"watched-{id(self)}"
        self.synced: list[str] = []
        self.on_write: Callable[[str], None] = lambda name: None
        super().__init__(self.name, load_checksum_vfs())

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _WatchedFile(self, name, flags)


class _WatchedFile(apsw.VFSFile):
    def __init__(self, vfs: WatchedVfs, name: Any, flags: list[int]) -> None:
        super().__init__(load_checksum_vfs(), name, flags)
        self._vfs = vfs
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name).name

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        super().xSync(flags)
        self._vfs.synced.append(self._name)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 - SQLite's name
        super().xWrite(data, offset)
        self._vfs.on_write(self._name)


def flip(path: str | Path, offset: int) -> None:
    """Change a bit of a database that this process has open, or of its WAL: through SQLite's file
    layer, for to close another descriptor would drop the locks."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_MAIN_DB
    file = apsw.VFSFile(apsw.vfs_names()[0], str(path), [flags, 0])
    (byte,) = file.xRead(1, offset)
    file.xWrite(bytes([byte ^ 4]), offset)
    file.xClose()


def refusal(results: list[Result]) -> str:
    """The text of the only result, which is a Failure."""
    (result,) = results
    assert isinstance(result, Failure), result
    return result.message
