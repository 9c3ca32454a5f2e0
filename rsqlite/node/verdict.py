"""A mismatch is a vote, not a verdict (design 6): who is wrong, a replica or the entry?

A replica that computes something else than an entry says stops applying and serving, and asks the
other voters what came of that entry there. What a quorum of the voters has computed is right,
whatever the entry says:

- they agree with the entry: this replica is the sick one, and gives its database up;
- they computed what this one did: the leader that made the entry is the sick one. This replica goes
  on, with what it computed, and remembers in its database that the entry was overruled;
- no quorum has said the same: it stays as it is. It appends, acknowledges and votes.

Who is asked, and holds what the entry says, learns by this that it is in doubt: it puts the
question as well, and if a quorum computed something else it stops at once, also as the leader, and
gives its database up. An image of the others takes its place.

What came with an image was computed by its sender: who holds it has no vote of its own, or one sick
node and its copy would be a majority of three; nor has it on what it computed from that, until a
check of the contents has found all alike (`content.py`). What a quorum has overruled is another
matter; who holds that may say so.

Who holds an overruled entry tells every member of it, until that holds the same, also one that was
away when the others decided: as the leader that made the entry was, if it died of what it died of.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rsqlite.errors import Divergence
from rsqlite.node.questions import ask_member
from rsqlite.raft.quorum import quorum_choice
from rsqlite.raft.types import Index, Member, NodeId

if TYPE_CHECKING:
    from rsqlite.node.engine import Engine

log = logging.getLogger(__name__)

ASK_PAUSE_S = 0.5
"""Pause between two rounds of questions."""
TELL_PAUSE_S = 1.0
"""Pause between two rounds of telling members what was overruled. As long may one that comes back
serve what it holds."""
TOLD_MAX = 64
"""The newest entries that were overruled are told: far fewer than are remembered, for who has come
further may have forgotten older ones, and would take them for right."""
DOUBTS_MAX = 8
"""So many entries are in doubt here at a time, the newest; who asks for another asks again."""
DECIDED_KEPT = 64
AS_IT_SAYS = ""
"""The vote of who has applied the entry and found what it expects."""


class Verdict:
    """One node's. `sweep` is called a few times a second."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._next_round = 0.0
        self._votes: dict[Index, dict[NodeId, str]] = {}
        """What came on the other nodes of each entry that is in doubt, those asked for first in
        front."""
        self._next_telling = 0.0
        self._knows: dict[Index, set[NodeId]] = {}
        """Who has answered for an entry that was overruled here; of the newest `TOLD_MAX`."""
        self._decided: deque[Index] = deque(maxlen=DECIDED_KEPT)
        """Entries that are in doubt no more: or the questions of two nodes, each of which puts its
        own when it is asked, would never end."""

    def __repr__(self) -> str:
        return f"<Verdict votes={self._votes}>"

    def vote(self, index: Index) -> str | None:
        """What this node computed for the entry; None when it has not come to it, or holds what
        another one computed, or made its own of that."""
        installed, overruled = (
            self._engine.installer.origin.installed,
            self._engine.machine.overruled,
        )
        is_copied = installed is not None and (installed.is_copy or index <= installed.last_index)
        return None if is_copied and index not in overruled else self._held(index)

    def _held(self, index: Index) -> str | None:
        """What this node's database holds of the entry; None when it has not come to it."""
        engine = self._engine
        if isinstance(engine.fault, Divergence) and index == engine.fault.index:
            return engine.fault.effects
        if engine.refuses:
            return None
        known = AS_IT_SAYS if index <= engine.machine.applied_index else None
        # Just decided: this node may have to wait for a leader before it can apply it.
        return engine.machine.overruled.get(index, known)

    def asked(self, index: object) -> Mapping[str, object]:
        """Somebody differs from the entry at `index`: the answer to it. This node puts the same
        question, if its database holds that entry."""
        if type(index) is not int or index < 1:
            return {"error": "RequestError", "text": "the index of an entry is a number"}
        held = self._held(Index(index))
        is_divergent = isinstance(self._engine.fault, Divergence)
        if held is not None and not is_divergent and index not in self._decided:
            self._doubt(Index(index))
        return {"vote": self.vote(Index(index))}

    def _doubt(self, index: Index) -> None:
        self._votes.setdefault(index, {})
        while len(self._votes) > DOUBTS_MAX:
            del self._votes[next(iter(self._votes))]

    def sweep(self, now: float) -> None:
        """Put the question again, until a quorum has answered alike."""
        engine = self._engine
        if isinstance(engine.fault, Divergence):
            self._doubt(Index(engine.fault.index))
        if now >= self._next_telling:
            self._next_telling = now + TELL_PAUSE_S
            self._tell()
        if not self._votes or now < self._next_round:
            return
        self._next_round = now + ASK_PAUSE_S
        core = engine.core
        assert core is not None
        configuration = core.configuration
        voters = configuration.voters | configuration.outgoing
        for member in configuration.members:
            if member.node_id != engine.node_id and member.node_id in voters:
                for index in list(self._votes):
                    self._ask(member, index, self._answered)

    def _tell(self) -> None:
        """Ask each of those for whom it is not known that they hold what is held here, of one entry
        at a time."""
        engine = self._engine
        if engine.core is None or engine.fault is not None or engine.refuses:
            return
        newest = sorted(map(Index, engine.machine.overruled))[-TOLD_MAX:]
        self._knows = {one: self._knows.get(one, set()) for one in newest}
        for member in engine.core.configuration.members:
            left = [one for one, knows in self._knows.items() if member.node_id not in knows]
            if left and member.node_id != engine.node_id:
                self._ask(member, left[0], self._told)

    def _ask(
        self, member: Member, index: Index, voted: Callable[[NodeId, Index, str], None]
    ) -> None:
        def answered(value: Mapping[str, Any] | None, error: BaseException | None) -> None:
            vote = None if value is None else value.get("vote")
            if isinstance(vote, str):
                voted(member.node_id, index, vote)

        ask_member(self._engine, member, {"verdict": index}, answered)

    def _told(self, node_id: NodeId, index: Index, vote: str) -> None:
        if index in self._knows and vote == self._engine.machine.overruled.get(index):
            self._knows[index].add(node_id)
            self._next_telling = 0.0  # it is there: the next entry follows

    def _answered(self, node_id: NodeId, index: Index, vote: str) -> None:
        if index in self._votes:
            self._votes[index][node_id] = vote
            self._decide(index)

    def _decide(self, index: Index) -> None:
        engine = self._engine
        core, held, own = engine.core, self._held(index), self.vote(index)
        if core is None or held is None or engine.is_stopping:
            return
        votes = dict(self._votes[index])
        if own is not None:
            votes[engine.node_id] = own
        chosen = quorum_choice(core.configuration, votes)
        if chosen is None:
            return
        is_divergent = isinstance(engine.fault, Divergence)
        if isinstance(engine.fault, Divergence) and engine.fault.index != index:
            return  # it has stopped for something else since
        self._decided.append(index)
        del self._votes[index]
        self._next_round = 0.0  # the next entry may be in doubt as well
        if chosen == held:
            if is_divergent:
                log.error(
                    "an entry is overruled: a majority computed something else than its leader",
                    extra={"index": index, "fault": str(engine.fault)},
                )
                engine.installer.go_on_with(index, held)
        elif is_divergent:
            engine.give_up_database(f"{engine.fault}; a majority computed something else")
        elif engine.fault is None:
            engine.give_up_database(f"entry {index}: a majority computed something else")
