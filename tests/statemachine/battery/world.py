"""A leader and its replicas without network and log: what the driver does, in its simplest form.

Each replica has a way to follow that gives it a physical history of its own: entry by entry, with
a restart before each, all entries in one transaction at the end. The leader may speculate on
something else and roll it back before each batch, or hand over to another node.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from pathlib import Path

import apsw

from rsqlite.config import Settings
from rsqlite.errors import RsqliteError
from rsqlite.raft.types import Entry, EntryId, EntryKind, Index, Term
from rsqlite.request import Outcome, ReadLevel, Request, RequestKind
from rsqlite.statemachine import Batch, StateMachine
from rsqlite.statemachine.schema import find_current_database
from rsqlite.testing.loop import ManualLoop
from tests.statemachine.battery.content import content
from tests.statemachine.battery.model import Ask

Answer = Outcome | RsqliteError
TERM = Term(1)
ROUNDS_MAX = 2000

KINDS = {"execute": RequestKind.EXECUTE, "query": RequestKind.QUERY, "mixed": RequestKind.MIXED}


class Way(enum.Enum):
    """How a node follows."""

    LEAD = "leads"
    STEP = "applies each entry when it comes"
    RESTART = "is closed and opened before each entry"
    BUNCH = "applies three entries at a time, in one transaction"
    LAG = "applies everything at the end, in one transaction"


def request(ask: Ask) -> Request:
    """The request that a server would make of it."""
    parameters = [
        list(sql.parameters) if isinstance(sql.parameters, tuple) else sql.parameters
        for sql in ask.statements
    ]
    return Request(
        KINDS[ask.kind],
        [sql.text for sql in ask.statements],
        parameters,
        transaction=ask.transaction,
        level=ReadLevel.NONE,
        db_timeout_s=ask.db_timeout_s,
    )


class Node:
    """One state machine in its directory."""

    def __init__(self, directory: Path, loop: ManualLoop, settings: Settings, way: Way) -> None:
        self.directory = directory
        self.way = way
        self._loop = loop
        self._settings = settings
        self.waiting: list[Entry] = []
        directory.mkdir()
        self.machine = StateMachine.open(str(directory), loop=loop, settings=settings)

    def reopen(self) -> None:
        """Stop and start, as after a restart of the process."""
        self.machine.close()
        self._loop.run()
        self.machine = StateMachine.open(
            str(self.directory), loop=self._loop, settings=self._settings
        )

    def deliver(self, entry: Entry) -> None:
        """A committed entry arrives."""
        self.waiting.append(entry)
        if self.way is Way.LAG or (self.way is Way.BUNCH and len(self.waiting) < 3):
            return
        if self.way is Way.RESTART:
            self.reopen()
        self.catch_up()

    def catch_up(self) -> None:
        """Apply what waits; raises what stops the node."""
        if not self.waiting:
            return
        entries, self.waiting = self.waiting, []
        while entries:
            errors: list[BaseException | None] = []
            before = self.machine.applied_index
            self.machine.apply(entries, errors.append)
            self._loop.run()
            assert len(errors) == 1, f"apply called done {len(errors)} times"
            if errors[0] is not None:
                raise errors[0]
            # It takes as many as the loop has time for.
            assert before < self.machine.applied_index <= entries[-1].index
            entries = [entry for entry in entries if entry.index > self.machine.applied_index]

    def content(self) -> dict[str, list[object]]:
        """What the database holds, read by a plain connection beside the node's own."""
        connection = apsw.Connection(self.database_path, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return content(connection)
        finally:
            connection.close()

    @property
    def database_path(self) -> str:
        """The file that CURRENT names."""
        return find_current_database(str(self.directory))


class WatchedLoop(ManualLoop):
    """Callbacks by hand, but a clock that runs: deadlines of statements are real."""

    def monotonic(self) -> float:
        return time.monotonic()


class World:
    """A leader, its replicas, and the index that counts for all."""

    def __init__(
        self,
        directory: Path,
        ways: Sequence[Way] = (Way.LEAD, Way.STEP),
        *,
        settings: Settings | None = None,
        disturb: Sequence[Ask] = (),
        moving: bool = False,
        in_thread: bool = False,
    ) -> None:
        self.loop = WatchedLoop(wall=time.time())
        settings = settings or Settings()
        self.nodes = [
            Node(directory / f"node{number}", self.loop, settings, way)
            for number, way in enumerate(ways, 1)
        ]
        self.leader = self.nodes[0]
        self.index = 0
        self.entries: list[Entry] = []
        self._disturb = [request(ask) for ask in disturb]
        self.moving = moving
        self._in_thread = in_thread

    def ask(self, asks: Sequence[Ask]) -> tuple[list[Answer], list[int]]:
        """Give the writes to the leader as one batch (more, where it wants that); the answers, and
        the order in which they took place."""
        requests = [request(ask) for ask in asks]
        answers: list[Answer | None] = [None] * len(requests)
        order: list[int] = []
        waiting = list(range(len(requests)))
        for _ in range(ROUNDS_MAX):
            if not waiting:
                break
            self._hand_over()
            machine = self.leader.machine
            if self._in_thread:
                self._long(waiting[0], requests[waiting[0]], answers, order)
                del waiting[0]
                continue
            batch = machine.speculate([requests[i] for i in waiting])
            taken = self._settle(batch, waiting, answers, order)
            long = [waiting[at] for at in batch.over_budget]
            for position in long:
                assert answers[position] is None
                self._long(position, requests[position], answers, order)
            assert taken or long, "a batch took no request"
            waiting = [i for i in waiting if answers[i] is None]
        assert not waiting, "requests were never taken"
        return [one for one in answers if one is not None], order

    def query(self, ask: Ask) -> list[Answer]:
        """The answers of all nodes that are not behind on purpose."""
        answers: list[Answer] = []
        for node in self.nodes:
            if not node.waiting:
                node.machine.query(request(ask), answers.append)
                self.loop.run()
        return answers

    def close(self) -> None:
        """Close all nodes."""
        for node in self.nodes:
            node.machine.close()
            self.loop.run()

    def _long(
        self, position: int, one: Request, answers: list[Answer | None], order: list[int]
    ) -> None:
        batches: list[Batch] = []

        def done(batch: Batch | None, error: BaseException | None) -> None:
            if error is not None:
                raise error
            assert batch is not None
            batches.append(batch)

        self.leader.machine.speculate_long(one, done)
        self.loop.run()
        assert len(batches) == 1
        assert self._settle(batches[0], [position], answers, order) == 1

    def _settle(
        self,
        batch: Batch,
        waiting: list[int],
        answers: list[Answer | None],
        order: list[int],
    ) -> int:
        assert len(batch.outcomes) == len(waiting)
        taken = 0
        for position, outcome in zip(waiting, batch.outcomes, strict=True):
            if outcome is not None:
                answers[position] = outcome
                order.append(position)
                taken += 1
        if batch.data is None:
            assert not self.leader.machine.is_speculating
            return taken
        self.index += 1
        entry = Entry(TERM, Index(self.index), EntryKind.COMMAND, batch.data)
        self.entries.append(entry)
        errors: list[BaseException | None] = []
        self.leader.machine.commit(EntryId(TERM, entry.index), None, errors.append)
        self.loop.run()
        assert errors == [None]
        self.loop.advance(0.01)
        for node in self.nodes:
            if node is not self.leader:
                node.deliver(entry)
        self.leader.machine.maintain()
        self.loop.run()
        return taken

    def _no_op(self) -> None:
        """A new leader begins with an entry that carries nothing."""
        self.index += 1
        entry = Entry(TERM, Index(self.index), EntryKind.NOOP, b"")
        self.entries.append(entry)
        for node in self.nodes:
            node.deliver(entry)
        self.leader.catch_up()

    def _hand_over(self) -> None:
        """What may come before a batch: another leader, and a speculation that is given up."""
        if self.moving:
            turn = (self.nodes.index(self.leader) + 1) % len(self.nodes)
            self.leader = self.nodes[turn]
            self.leader.catch_up()
            self._no_op()
        if self._disturb:
            machine = self.leader.machine
            machine.speculate(self._disturb)
            if machine.is_speculating:
                ended: list[bool] = []
                machine.rollback(lambda: ended.append(True))
                self.loop.run()
                assert ended == [True]
