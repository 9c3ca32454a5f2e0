"""Two logs that differ in what is committed: safety is gone, and the process stops (raft.md rule
18). Somebody put an old copy of a directory back, say, and a majority elected who had not all."""

from __future__ import annotations

from collections.abc import Iterable

from rsqlite.raft.state import RaftState
from rsqlite.raft.types import DividedHistory, Index, NodeId, Term


def check_committed(state: RaftState, leader: NodeId, theirs: Iterable[tuple[Index, Term]]) -> None:
    """DividedHistory if an entry that is committed here is another one at the leader. The entry
    before those of a message counts: it is all there is once our commit index is a match."""
    for index, their_term in theirs:
        term = state.log.term(index) if index <= state.commit_index else None
        if term not in (None, their_term):
            text = f"committed entry {index} is of term {term} here and of term {their_term}"
            raise DividedHistory(f"{text} at leader {leader}")
