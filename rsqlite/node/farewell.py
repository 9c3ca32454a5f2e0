"""Whether a node whose promises are damaged may become another one.

What it has acknowledged and voted it does not know any more, so it must not take part under its old
number. As another node it can come back, if the others let it in; but its old number still counts
for their majority. Where they cannot do without it (a second one is damaged, or away), it would
take away for good what is needed to mend them. So it waits until one of them leads without it:
twice seen leading in one term, so far apart that it has looked in between whether it has a majority
(check-quorum, thesis 6.2), while this node answered nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from rsqlite.config import Settings
from rsqlite.node.cluster import join_addresses
from rsqlite.node.introduction import read_introduction
from rsqlite.ports import Loop, Network
from rsqlite.raft.types import Configuration, Term

log = logging.getLogger(__name__)

ASK_PAUSE_S = 0.5
"""Pause between two questions."""
TELL_PAUSE_S = 10.0
"""Pause between two lines in the log."""
ADDRESSES_MAX = 256
"""How many are asked at most."""
PROOF_TIMEOUTS = 3
"""Election timeouts between the two sights of a leader. It looks at its majority once in each."""

ADVICE = (
    "if they are only late, wait; if a majority of the nodes is damaged or gone, `rsqlite recover`"
    " lets those that are sound go on"
)


class Farewell:
    """Of one node, that has no files open and answers nobody."""

    def __init__(
        self,
        reason: str,
        configuration: Configuration,
        *,
        network: Network,
        loop: Loop,
        settings: Settings,
        done: Callable[[], None],
    ) -> None:
        """Begin to ask the members of the last known configuration. `done` is called once, when a
        leader goes on without this node."""
        self._reason = reason
        self._cluster_id = configuration.cluster_id
        self._addresses = [one.raft_addr for one in configuration.members]
        self._addresses += join_addresses(settings)
        self._network = network
        self._loop = loop
        self._proof_s = PROOF_TIMEOUTS * settings.raft_election_timeout
        self._done: Callable[[], None] | None = done
        self._seen_at: dict[tuple[str, Term], float] = {}
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
        for address in dict.fromkeys(self._addresses):
            self._network.identify(address, partial(self._identified, address))
        self._loop.call_later(ASK_PAUSE_S, self._ask)

    def _identified(
        self, address: str, value: Mapping[str, object] | None, error: BaseException | None
    ) -> None:
        told = None if value is None else read_introduction(value)
        if self._done is None or value is None or told is None:
            return
        self._answered.add(address)
        if told.cluster_id != self._cluster_id or not told.leader:
            return
        if told.leader != value.get("raft_addr"):
            if told.leader not in self._addresses and len(self._addresses) < ADDRESSES_MAX:
                self._addresses.append(told.leader)  # it came after what is known here
            return
        now = self._loop.monotonic()
        leads = told.leader, Term(told.term)
        if now - self._seen_at.setdefault(leads, now) >= self._proof_s:
            done, self._done = self._done, None
            log.warning("the others go on without this node", extra={"leader": told.leader})
            done()
