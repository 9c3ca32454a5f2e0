"""ReadIndex: reads that are linearizable without going through the log (thesis 6.4).

A leader may answer a read at index i once a quorum has echoed a round that was handed out after the
read arrived: it was the leader then, so i was at least every commit before. Rounds are a private
counter, never reused within a term, and replies carry the term (raft.md rule 41).

A follower asks the leader on behalf of its readers, one question at a time; reads that come
meanwhile ride the next one. Its counter starts at a random number, or an answer to its previous
life could confirm a read of this one.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from rsqlite.raft.types import Index, NodeId


class Read(NamedTuple):
    """A read that waits on the leader. `source` None: of this node."""

    source: NodeId | None
    context: int
    index: Index  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


class LeaderReads:
    """The reads a leader must confirm. Emptied when leadership ends."""

    def __init__(self) -> None:
        self.round = 0
        """The last round handed out: what every message to followers carries."""
        self.asked_round = 0
        """The round that was sent for reads alone and is not confirmed; 0: none is out."""
        self._early: list[tuple[NodeId | None, int]] = []
        self._arrived: list[Read] = []
        self._rounds: deque[tuple[int, list[Read]]] = deque()

    def __repr__(self) -> str:
        return f"<LeaderReads round={self.round} asked={self.asked_round} waiting={len(self)}>"

    def __len__(self) -> int:
        return len(self._early) + len(self._arrived) + sum(len(reads) for _, reads in self._rounds)

    @property
    def is_waiting(self) -> bool:
        """Whether there are reads that a round must still confirm."""
        return bool(self._arrived or self._rounds)

    def add_early(self, source: NodeId | None, context: int) -> None:
        """A read before the first commit of the term: the commit index may still be behind what
        an earlier leader acknowledged (raft.md rule 40)."""
        self._early.append((source, context))

    def add(self, source: NodeId | None, context: int, index: Index) -> None:
        """A read that came while `index` was committed."""
        self._arrived.append(Read(source, context, index))

    def first_committed(self, index: Index) -> None:
        """The first entry of the term is committed: the early reads count as arriving now."""
        self._arrived.extend(Read(source, context, index) for source, context in self._early)
        self._early.clear()

    def next_round(self) -> None:
        """Messages are about to leave: if reads came since the last did, these confirm them."""
        if self._arrived:
            self.round += 1
            self._rounds.append((self.round, self._arrived))
            self._arrived = []

    def confirmed(self, acknowledged_round: int) -> list[Read]:
        """A quorum has echoed `acknowledged_round`: the reads it answers."""
        if self.asked_round and acknowledged_round >= self.asked_round:
            self.asked_round = 0
        done: list[Read] = []
        while self._rounds and self._rounds[0][0] <= acknowledged_round:
            done += self._rounds.popleft()[1]
        return done

    def drain(self) -> list[tuple[NodeId | None, int]]:
        """Leadership ended: everybody who waited, in order."""
        waiting = [(read.source, read.context) for _, reads in self._rounds for read in reads]
        waiting += [(read.source, read.context) for read in self._arrived]
        waiting += self._early
        self.round = self.asked_round = 0
        self._early, self._arrived = [], []
        self._rounds.clear()
        return waiting


class ForwardedReads:
    """The reads a follower asks its leader about."""

    def __init__(self, first_context: int) -> None:
        self._question = first_context
        self._waiting: list[int] = []
        self._asked: list[int] = []
        self._asked_ticks = 0
        self._resend_ticks = 0

    def __repr__(self) -> str:
        return f"<ForwardedReads asked={len(self._asked)} waiting={len(self._waiting)}>"

    def __len__(self) -> int:
        return len(self._asked) + len(self._waiting)

    def add(self, context: int) -> None:
        self._waiting.append(context)

    def take_question(self) -> int | None:
        """A question to send now, if reads wait and none is out."""
        if self._asked or not self._waiting:
            return None
        self._asked, self._waiting = self._waiting, []
        self._question += 1
        self._asked_ticks = self._resend_ticks = 0
        return self._question

    def answered(self, question: int) -> list[int]:
        """The reads that the answer to `question` is for; none if it is not the one that is out."""
        if not self._asked or question != self._question:
            return []
        done, self._asked = self._asked, []
        return done

    def tick(self, n: int, resend_after: int, fail_after: int) -> tuple[int | None, list[int]]:
        """Time passed: (a question to send again, reads to give up).

        The same question may go twice: whichever copy the leader answers, it saw it after these
        reads had come, because a question's number is never used for others.
        """
        if not self._asked:
            return None, []
        self._asked_ticks += n
        self._resend_ticks += n
        if self._asked_ticks >= fail_after:
            failed, self._asked = self._asked, []
            return None, failed
        if self._resend_ticks >= resend_after:
            self._resend_ticks = 0
            return self._question, []
        return None, []

    def drain(self) -> list[int]:
        """The leader is another one, or unknown: everybody who waited, in order."""
        waiting = self._asked + self._waiting
        self._asked, self._waiting = [], []
        return waiting
