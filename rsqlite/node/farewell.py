"""Whether a node whose promises are damaged may become another one.

What it has acknowledged and voted it does not know any more, so it must not take part under its old
number. As another node it can come back, if the others let it in; but its old number still counts
for their majority. Where they cannot do without it (a second one is damaged, or away), it would
take away for good what is needed to mend them. So it waits until one of them leads without it: the
leader counts how often it has found a quorum that answers (check-quorum, thesis 6.2), each time
among what it has heard since the time before. Two such checks after the first one that it told of,
this node, which answers nobody, was in none. No clock is asked, for answers may be late.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from rsqlite.config import Settings
from rsqlite.errors import RsqliteError
from rsqlite.node.cluster import join_addresses
from rsqlite.node.introduction import Introduction, read_introduction, removal
from rsqlite.ports import Loop, Network
from rsqlite.raft.types import Configuration, NodeId, is_forced_between
from rsqlite.storage.directory import Saved

log = logging.getLogger(__name__)

ASK_PAUSE_S = 0.5
"""Pause between two questions."""
TELL_PAUSE_S = 10.0
"""Pause between two lines in the log."""
ADDRESSES_MAX = 256
"""How many are asked at most."""
PROOF_CHECKS = 2
"""Of its quorum that a leader must have made since it was first seen: the one under way then may
count what it had heard of this node before."""

ADVICE = (
    "if they are only late, wait; if a majority of the nodes is damaged or gone, `rsqlite recover`"
    " lets those that are sound go on"
)


class Farewell:
    """Of one node, that has no files open and answers nobody."""

    def __init__(
        self,
        reason: str,
        saved: Saved,
        *,
        own_id: NodeId | None,
        network: Network,
        loop: Loop,
        settings: Settings,
        done: Callable[[RsqliteError | None], None],
    ) -> None:
        """Begin to ask the members of the last known configuration. `done` is called once, when a
        leader goes on without this node; with an error if it was removed. `own_id` is its number,
        as far as it is known."""
        configuration = Configuration.from_bytes(saved.configuration)
        self._reason = reason
        self._cluster_id = configuration.cluster_id
        self._term = saved.term
        self._own_id = own_id
        own = settings.raft_adv_addr or settings.raft_addr
        self._label = settings.node_id or own
        known = [one.raft_addr for one in configuration.members] + join_addresses(settings)
        self._addresses = [one for one in dict.fromkeys(known) if one != own]
        self._network = network
        self._loop = loop
        self._done: Callable[[RsqliteError | None], None] | None = done
        self._first_checks: dict[tuple[str, int], int] = {}
        """By leader and term: how often it had found its quorum when it was first seen."""
        self._answered: set[str] = set()
        self._tells_at = loop.monotonic() + TELL_PAUSE_S
        log.error("%s. Waiting for the others to go on without this node", reason)
        self._ask()

    def __repr__(self) -> str:
        return f"<Farewell waiting={self._done is not None}>"

    def stop(self) -> None:
        """Ask no more, and call nobody."""
        self._done = None

    def _ask(self) -> None:
        if self._done is None:
            return
        now = self._loop.monotonic()
        if now >= self._tells_at:
            self._tells_at = now + TELL_PAUSE_S
            silent = set(self._addresses) - self._answered
            log.error(
                "%s. None of the others leads: %s",
                self._reason,
                ADVICE,
                extra={"answer": sorted(self._answered), "silent": sorted(silent)},
            )
        self._answered.clear()
        for address in self._addresses:
            self._network.identify(address, partial(self._identified, address))
        self._loop.call_later(ASK_PAUSE_S, self._ask)

    def _identified(
        self, address: str, value: Mapping[str, object] | None, error: BaseException | None
    ) -> None:
        told = None if value is None else read_introduction(value)
        if self._done is None or value is None or told is None:
            return
        self._answered.add(address)
        # Those that a recovery left out may lead each other, and their leader is nobody to us.
        is_left_out = is_forced_between(told.committed_term, self._term)
        if told.cluster_id != self._cluster_id or not told.leader or is_left_out:
            return
        if told.leader != value.get("raft_addr"):
            if told.leader not in self._addresses and len(self._addresses) < ADDRESSES_MAX:
                self._addresses.append(told.leader)  # it came after what is known here
            return
        first = self._first_checks.setdefault((told.leader, told.term), told.quorum_checks)
        if told.is_settled and told.quorum_checks - first >= PROOF_CHECKS:
            done, self._done = self._done, None
            done(self._removed(told))

    def _removed(self, told: Introduction) -> RsqliteError | None:
        """What is told to a node that is no member for the leader, which knows the newest members.
        Else None: it is missed."""
        if self._own_id is None or str(self._own_id) in told.members:
            log.warning("the others go on without this node", extra={"leader": told.leader})
            return None
        return removal(self._label, told)
