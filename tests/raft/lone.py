"""One core, fed by hand: what it says to each message, with its disk under control."""

from __future__ import annotations

import random
from typing import TypeVar

from rsqlite.raft.messages import AppendEntries, Message, RequestVote, RequestVoteReply
from rsqlite.raft.output import AppendWork, ReadState
from rsqlite.raft.state import CoreSettings
from rsqlite.raft.types import Configuration, Entry, HardState, Role, SoftState
from tests.raft.cluster import SETTINGS, MemoryLog, Server, configuration, entries

M = TypeVar("M")


class Lone(Server):
    """Node 1 of a group of which only this node exists."""

    def __init__(
        self,
        *terms: int,
        voters: tuple[int, ...] = (1, 2, 3),
        term: int | None = None,
        vote: int | None = None,
        applied: int = 0,
        settings: CoreSettings = SETTINGS,
        initial: Configuration | None = None,
        fingerprint: str = "",
    ) -> None:
        log = entries(*terms)
        hard_state = HardState(term if term is not None else (terms or (0,))[-1], vote)
        super().__init__(
            1,
            initial or configuration(voters),
            random.Random(5),
            settings=settings,
            log=MemoryLog(log, hard_state),
            applied=applied,
            fingerprint=fingerprint,
        )
        self.left: list[Message] = []
        """Messages that may have left by now."""
        self.waiting: list[Message] = []
        """Messages that wait for the disk."""
        self.read_states: list[ReadState] = []
        self.soft_states: list[SoftState] = []
        self.handed: list[Entry] = []

    def poll(self) -> None:
        while (output := self.core.poll()) is not None:
            self.left += output.send
            self.handed += output.committed
            self.read_states += output.reads
            if output.soft_state is not None:
                self.soft_states.append(output.soft_state)
            if output.append is not None:
                self.log.append(output.append)
                self.waiting += output.append.replies

    def sync(self) -> None:
        """Everything given to the disk is durable."""
        while self.log.pending:
            self.sync_one()

    def sync_one(self) -> AppendWork:
        work = self.log.sync()
        for reply in work.replies:
            self.waiting.remove(reply)
            self.left.append(reply)
        self.core.appended(work.token)
        self.poll()
        return work

    def step(self, *messages: Message) -> None:
        for message in messages:
            self.core.step(message)
        self.poll()

    def step_and_sync(self, *messages: Message) -> None:
        self.step(*messages)
        self.sync()

    def take(self, kind: type[M]) -> list[M]:
        """The messages of a kind that left since they were taken last; all others are dropped."""
        found = [message for message in self.left if isinstance(message, kind)]
        self.left.clear()
        return found

    def tick(self, n: int = 1) -> None:
        for _ in range(n):
            self.core.tick()
            self.poll()

    def apply_all(self) -> None:
        if self.handed and self.core.applied_index < self.handed[-1].index:
            self.core.applied(self.handed[-1].index)
            self.poll()

    def lead(self, voters: tuple[int, ...] = (2, 3)) -> None:
        """Win an election with the votes of these."""
        self.core.campaign()
        self.poll()
        if self.core.role is Role.PRE_CANDIDATE:
            asked = self.core.current_term + 1
            self.step(*(RequestVoteReply(one, 1, asked, True, True) for one in voters))
        self.sync()
        if self.core.role is Role.CANDIDATE:
            term = self.core.current_term
            self.step(*(RequestVoteReply(one, 1, term, True) for one in voters))
        assert self.core.role is Role.LEADER
        self.sync()

    def append(
        self,
        *terms: int,
        prev: tuple[int, int] = (0, 0),
        term: int | None = None,
        commit: int = 0,
        source: int = 2,
        round_: int = 0,
    ) -> AppendEntries:
        """An append of commands with these terms behind `prev` (index, term)."""
        index, prev_term = prev
        return AppendEntries(
            source,
            1,
            term if term is not None else (terms or (prev_term,))[-1],
            index,
            prev_term,
            tuple(entries(*[1] * index, *terms)[index:]),
            commit,
            round_,
        )


def request_vote(
    term: int,
    last: tuple[int, int] = (0, 0),
    *,
    source: int = 2,
    pre_vote: bool = False,
    transfer: bool = False,
) -> RequestVote:
    """A request to node 1; `last` is (index, term) of the candidate's log."""
    return RequestVote(source, 1, term, last[0], last[1], pre_vote, transfer)
