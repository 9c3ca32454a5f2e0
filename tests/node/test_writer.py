"""The writer alone: what becomes of a batch whose place in the log another one takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from rsqlite.config import Settings
from rsqlite.errors import Fate, LeadershipLost
from rsqlite.node.driver import Driver
from rsqlite.node.writer import Writer
from rsqlite.raft.types import EntryId, Index, Role, Term
from rsqlite.request import Answer, Done, Outcome, Request, RequestKind
from rsqlite.statemachine import StateMachine
from rsqlite.statemachine.batch import Batch
from rsqlite.testing.loop import ManualLoop


class Machine:
    """Every batch takes effect."""

    applied_index = 0

    def speculate(self, requests: list[Request]) -> Batch:
        batch = Batch(len(requests))
        batch.outcomes = [Outcome([]) for _ in requests]
        batch.data = b"x"
        return batch

    def commit(self, entry_id: EntryId, configuration: None, done: Done) -> None:
        done(cast(Any, None))

    def rollback(self, done: Any) -> None:
        done()

    def reclaim(self, done: Any) -> bool:
        return False


def test_a_batch_whose_place_this_node_itself_gives_to_another_is_not_applied() -> None:
    loop, told = ManualLoop(), dict[str, Answer]()
    core = SimpleNamespace(is_ready=True, is_transferring=False, leader_id=None, role=Role.LEADER)
    driver = SimpleNamespace(core=core, is_write_alone=False, pump=lambda: None)
    writer = Writer(
        machine=cast(StateMachine, Machine()),
        loop=loop,
        settings=Settings(),
        resubmit=lambda *_: None,
        on_failed=lambda _: None,
        check_room=lambda _: None,
        is_behind=lambda: False,
    )
    writer.wire(cast(Driver, driver), lambda answer: answer(True), lambda: None)

    def submit(name: str, term: int) -> None:
        core.propose = lambda data: EntryId(Term(term), Index(13))
        request = Request(RequestKind.EXECUTE, [name], [None])
        writer.submit(request, lambda answer: told.setdefault(name, answer), 5.0)
        loop.advance(0.1)

    submit("first", 1)
    writer.lose()  # what was proposed is truncated later, by a leader of another term
    loop.advance(0.1)
    submit("second", 3)
    writer.commit(None, lambda *_: None)
    loop.advance(0.1)
    first = told["first"]
    assert isinstance(first, LeadershipLost)
    assert first.fate is Fate.NOT_APPLIED
    assert isinstance(told["second"], Outcome)
