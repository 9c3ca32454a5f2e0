"""A question to one member, of which the answer counts for that member and for nobody else.

At its address another node may have come to answer: one that was started there by mistake, or that
took it over. What it holds would else be counted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rsqlite.errors import Unavailable
from rsqlite.raft.types import Member

if TYPE_CHECKING:
    from rsqlite.node.engine import Engine

Answer = Callable[[Mapping[str, object]], None]


def ask_member(
    engine: Engine,
    member: Member,
    question: Mapping[str, object],
    answered: Callable[[Mapping[str, Any] | None, BaseException | None], None],
) -> None:
    """Ask it; `answered` gets what it says, or the error if that did not come in time. An answer
    that does not say whose it is comes from an older release, and is believed."""

    def told(value: Mapping[str, Any] | None, error: BaseException | None) -> None:
        if value is not None and value.get("node_id", member.node_id) != member.node_id:
            answered(None, Unavailable(f"another node answers at {member.raft_addr}"))
        else:
            answered(value, error)

    engine.network.ask(
        member.raft_addr,
        {**question, "target": member.node_id},
        told,
        timeout_s=engine.settings.peer_connect_timeout,
    )


def signed(node_id: int, answer: Answer) -> Answer:
    """The same, with who answers."""
    return lambda value: answer({**value, "node_id": node_id})


def is_for(node_id: int, question: Mapping[str, Any]) -> bool:
    """Is this node meant, or whoever is asked?"""
    return bool(question.get("target", node_id) == node_id)
