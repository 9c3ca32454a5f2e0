"""A mismatch is a vote, not a verdict (design 6): who is wrong, a replica or the entry?

A replica that computes something else than an entry says stops applying and serving, and asks the
other voters what came of that entry there. If a majority of all voters has applied it as it is,
this replica is the sick one, and gives its database up; an image of theirs takes its place. As long
as they do not say so it goes on as it is: it appends, acknowledges and votes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rsqlite.errors import Divergence
from rsqlite.raft.types import Index, NodeId

if TYPE_CHECKING:
    from rsqlite.node.engine import Engine

log = logging.getLogger(__name__)

ASK_PAUSE_S = 0.5
"""Pause between two rounds of questions."""


def verdict_of(engine: Engine) -> Mapping[str, object]:
    """What this node says of the entries: how far it has applied them, and the one that it computes
    differently, 0 if there is none."""
    applied = engine.machine.applied_index
    differs = applied + 1 if isinstance(engine.fault, Divergence) else 0
    return {"applied": applied, "differs": differs}


class Verdict:
    """Asks the others while this replica differs. `sweep` is called a few times a second."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._next_round = 0.0
        self._agree: set[NodeId] = set()
        """Those that have applied the entry as it is."""
        self._differ: set[NodeId] = set()
        self._is_told = False

    def __repr__(self) -> str:
        return f"<Verdict agree={len(self._agree)} differ={len(self._differ)}>"

    def sweep(self, now: float) -> None:
        """Put the question again, until a majority has answered alike."""
        engine = self._engine
        if not isinstance(engine.fault, Divergence) or now < self._next_round:
            return
        self._next_round = now + ASK_PAUSE_S
        core = engine.core
        assert core is not None
        configuration = core.configuration
        index = Index(engine.machine.applied_index + 1)
        for member in configuration.members:
            if member.node_id != engine.node_id and member.node_id in configuration.voters:
                engine.network.ask(
                    member.raft_addr,
                    {"verdict": index},
                    partial(self._answered, member.node_id, index),
                    timeout_s=engine.settings.peer_connect_timeout,
                )

    def _answered(
        self,
        node_id: NodeId,
        index: Index,
        value: Mapping[str, Any] | None,
        error: BaseException | None,
    ) -> None:
        engine = self._engine
        core = engine.core
        if value is None or core is None or not isinstance(engine.fault, Divergence):
            return
        try:
            applied, differs = int(value["applied"]), int(value["differs"])
        except (KeyError, TypeError, ValueError):
            return
        if differs == index:
            self._differ.add(node_id)
        elif applied >= index:
            self._agree.add(node_id)
        voters = core.configuration.voters
        needed = len(voters) // 2 + 1
        if len(self._agree & voters) >= needed:
            engine.give_up_database(f"{engine.fault}; a majority agrees with the entry")
        elif len(self._differ & voters) + 1 >= needed and not self._is_told:
            self._is_told = True
            log.error(
                "a majority computes something else than the leader: the leader's database must be"
                " wrong; stop that node",
                extra={"index": index, "fault": str(engine.fault)},
            )
