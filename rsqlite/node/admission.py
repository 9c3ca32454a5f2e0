"""May this node take part in its cluster? It may if it computes SQL as the cluster does, or as an
upgrade that is declared says (design 5.2).

A node that differs from what it knows cannot tell: an upgrade may have been declared, or have
ended, while it was down, in a part of the log that it has not got yet. Until it knows, it appends
and acknowledges, so that it gets the log, and neither votes nor leads nor applies nor serves.
Meanwhile it asks the others. What is not in the logs of a majority of the voters is not committed:
when so many do not let it in, it is not let in, and the process ends.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rsqlite.errors import ForeignDirectory, RsqliteError, Unavailable
from rsqlite.node.cluster import join_addresses
from rsqlite.raft.quorum import VoteResult, quorum_votes
from rsqlite.raft.types import NodeId

if TYPE_CHECKING:
    from rsqlite.node.engine import Engine

log = logging.getLogger(__name__)

WAITS = (
    "this node computes SQL differently from what it knows of its cluster, and waits for a word of"
    " the others on a declared upgrade"
)


class Admission:
    """That of one node. `sweep` is called a few times a second."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.is_admitted = True
        self._next_question = 0.0
        self._votes: dict[NodeId, bool] = {}
        """Whether the others would let this node in, by the answers to the last questions."""
        self._theirs: frozenset[str] = frozenset()
        """Whom the last one lets in that said no."""

    def __repr__(self) -> str:
        return f"<Admission admitted={self.is_admitted} votes={self._votes}>"

    def look(self) -> None:
        """A configuration may have come, gone, or been committed: what does it say?"""
        engine = self._engine
        core = engine.core
        if core is None or core.is_admitted == self.is_admitted:
            return
        self.is_admitted = core.is_admitted
        if self.is_admitted:
            log.info("this node is let in", extra={"fingerprint": engine.machine.fingerprint})
            engine.applier.hurry()
        else:
            log.warning(
                WAITS,
                extra={
                    "own": engine.machine.fingerprint,
                    "known": sorted(core.configurations.fingerprints),
                },
            )
            self._next_question = 0.0

    def refusal(self) -> RsqliteError:
        """What is answered meanwhile."""
        return Unavailable(WAITS)

    def sweep(self, now: float) -> None:
        """Look, and ask the others if need be."""
        engine = self._engine
        self.look()
        core = engine.core
        if self.is_admitted or core is None or engine.fault is not None:
            return
        if now < self._next_question:
            return
        self._next_question = now + engine.settings.join_interval
        self._votes.clear()
        self._theirs = core.configurations.fingerprints
        self._decide()  # a voter without any other needs nobody's answer
        members = (one.raft_addr for one in engine.members if one.node_id != engine.node_id)
        for address in dict.fromkeys((*members, *join_addresses(engine.settings))):
            engine.network.identify(address, self._identified)

    def _identified(self, value: Mapping[str, Any] | None, error: BaseException | None) -> None:
        engine = self._engine
        if value is None or self.is_admitted or engine.is_stopping or engine.fault is not None:
            return
        try:
            node_id = NodeId(int(value["node_id"]))
            theirs = frozenset(map(str, value["fingerprints"]))
        except (KeyError, TypeError, ValueError):
            return
        if value.get("cluster_id") != engine.cluster_id or node_id == engine.node_id or not theirs:
            return
        self._votes[node_id] = engine.machine.fingerprint in theirs
        if not self._votes[node_id]:
            self._theirs = theirs
        self._decide()

    def _decide(self) -> None:
        engine = self._engine
        core = engine.core
        assert core is not None
        votes = {**self._votes, engine.node_id: False}
        if quorum_votes(core.configuration, votes) is not VoteResult.LOST:
            return
        own, theirs = engine.machine.fingerprint, " or ".join(sorted(self._theirs))
        engine.fail(
            ForeignDirectory(
                "this node computes SQL differently from its cluster (another SQLite version or"
                f" other options): its fingerprint is {own}, and the cluster takes {theirs}. Start"
                " it with the release that the cluster runs; or, if the cluster is to come to this"
                f" one, declare that with the nodes that run: rsqlite upgrade URL --to {own}"
            )
        )
