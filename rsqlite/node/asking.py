"""A node without a database asks the leader for an image: its log has all that it needs, so nobody
offers it one unasked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from rsqlite.node.images import Offer
from rsqlite.raft.messages import InstallSnapshot
from rsqlite.raft.types import Index, Member, Term

if TYPE_CHECKING:
    from rsqlite.node.engine import Engine

ASK_PAUSE_S = 0.5
"""Pause between two questions."""


class Asking:
    """One node's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._next_question = 0.0
        self._turn = 0

    def __repr__(self) -> str:
        return f"<Asking next={self._next_question:.3f}>"

    def sweep(self, now: float) -> None:
        """Call while an image is wanted and none is on its way."""
        if now < self._next_question:
            return
        self._next_question = now + ASK_PAUSE_S
        member = self._whom()
        if member is None:
            return
        engine, index = self._engine, self._engine.installer.applied_index

        def answered(value: Mapping[str, Any] | None, error: BaseException | None) -> None:
            if value is None or "image_id" not in value or engine.installer.is_under_way:
                return
            try:
                offer = msgspec.convert(value, type=Offer)
                last_index, last_term = int(value["last_index"]), int(value["last_term"])
            except (msgspec.ValidationError, KeyError, TypeError, ValueError):
                return
            if last_index < engine.installer.applied_index:
                return  # the log here begins behind it
            last = Index(last_index), Term(last_term)
            text = msgspec.json.encode(offer)
            engine.transfer.offered(
                InstallSnapshot(member.node_id, engine.node_id, Term(0), *last, text)
            )

        timeout_s = engine.settings.peer_connect_timeout
        question = {"image": engine.cluster_id, "from": index}
        engine.network.ask(member.raft_addr, question, answered, timeout_s=timeout_s)

    def _whom(self) -> Member | None:
        """The leader. It may be one that what is known here does not name yet: then anybody."""
        engine = self._engine
        if engine.leader is not None:
            return engine.leader if engine.leader.node_id != engine.node_id else None
        others = [one for one in engine.members if one.node_id != engine.node_id]
        self._turn += 1
        return others[self._turn % len(others)] if others else None
