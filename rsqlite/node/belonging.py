"""Whether a node still belongs to its cluster, and who of the others is there.

That it was removed a node cannot tell by itself: it may only be behind. So it asks the others: at
its start, when its configuration has no place for it, when it has heard of no leader for a while,
and now and then (those that a recovery left out may have begun while the others were away). A
committed configuration newer than all it has seen, and without it, is the answer. Where what it has
seen has no place for it either (an image may be older than the entry that let it in), only one that
leads can say.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rsqlite.config import Settings
from rsqlite.errors import RsqliteError
from rsqlite.node.home import Home
from rsqlite.node.introduction import Introduction, read_introduction, removal
from rsqlite.ports import Loop, Network
from rsqlite.raft.core import Raft
from rsqlite.raft.quorum import VoteResult, quorum_votes
from rsqlite.raft.types import Member, is_forced_between

log = logging.getLogger(__name__)

TELL_PAUSE_S = 30.0
"""Pause between two lines about one and the same silence."""

FEW = (
    "no leader: a majority does not answer. Start the missing nodes; if they are lost for good,"
    " `rsqlite recover` lets those that are left go on"
)
MANY = (
    "no leader, though a majority answers. See what the others log: one whose disk hangs, or whose"
    " log is shorter than another's, cannot lead"
)


class Belonging:
    """Of one node."""

    def __init__(
        self,
        *,
        network: Network,
        loop: Loop,
        settings: Settings,
        own: Callable[[], Member],
        cluster_id: Callable[[], str | None],
        core: Callable[[], Raft | None],
        home: Home,
        connect: Callable[[], None],
        removed: Callable[[RsqliteError], None],
    ) -> None:
        """`connect` has the links made anew, to where `address_of` says that the members are;
        `removed` hears that this node belongs to the cluster no more."""
        self._network = network
        self._loop = loop
        self._settings = settings
        self._own = own
        self._cluster_id = cluster_id
        self._core = core
        self._home = home
        self._connect = connect
        self._removed = removed
        self.was_member = False
        """In a committed configuration, here and since the start."""
        self.is_lost = False
        """Others have us as a member, at another address, and nothing from them has come here yet:
        nobody will find us, unless we say where we are."""
        self.seeds: list[str] = []
        """Who may know more than the members that are known."""
        self._found_at: dict[Member, str] = {}
        """Where members are that are not where the configuration in force says: nobody leads who
        could change it."""
        self._denied_since: float | None = None
        """A cluster that has invited us, of which we have nothing yet, does not name us."""
        self._waiting: set[str] = set()
        self._present: set[object] = set()
        """The members that have answered this time."""
        self._is_silent = False
        self._told: tuple[bool, frozenset[str]] | None = None
        self._tells_at = 0.0
        self._is_stopped = False

    def __repr__(self) -> str:
        return f"<Belonging present={self._present}>"

    def stop(self) -> None:
        """Answers count no more."""
        self._is_stopped = True

    def address_of(self, member: Member) -> str:
        """Where to look for a member. A link is made only with who it is meant for."""
        return self._found_at.get(member, member.raft_addr)

    def ask(self, addresses: Sequence[str], *, is_silent: bool = False) -> None:
        """Ask these who they are, and who belongs to their cluster. `is_silent`: nobody has led for
        so long that it is to be told who is missing."""
        self._waiting, self._present, self._is_silent = set(addresses), set(), is_silent
        for address in addresses:
            self._network.identify(address, partial(self._identified, address))

    def _identified(
        self, address: str, value: Mapping[str, Any] | None, error: BaseException | None
    ) -> None:
        core = self._core()
        if self._is_stopped or core is None:
            return
        told = None if value is None else read_introduction(value)
        if value is not None and told is not None and told.cluster_id == self._cluster_id():
            self._present.add(value.get("node_id"))
            self._look_where_it_is(core, value)
            self._look_whether_we_belong(core, told)
        self._waiting.discard(address)
        if not self._waiting and not self._is_stopped and self._is_silent:
            self._tell_who_is_missing(core)

    def _look_whether_we_belong(self, core: Raft, told: Introduction) -> None:
        own, members = self._own(), told.members
        # It may be newer at a lower index: those that forced it did not have all.
        is_forced = is_forced_between(core.current_term, told.committed_term)
        if not members:
            return
        is_fed = core.leader_id is not None and not self.was_member
        if is_fed or str(own.node_id) in members:
            self._denied_since = None  # whoever says no may be behind our own beginning
            known_at = members.get(str(own.node_id), own.raft_addr)
            self.is_lost = known_at != own.raft_addr and not core.configuration.members
            self._home.look_for_twin(members.get(str(own.node_id), ""), lambda: None)
            return
        if self.was_member or core.configuration.member(own.node_id) is not None:
            # What an image says stands where the image ends, not where it was decided.
            is_out = self.was_member and core.configurations.committed.member(own.node_id) is None
            if told.index < core.configurations.index and not (is_forced or is_out):
                return  # it is behind us
        elif not told.is_settled or told.term < core.current_term:
            # We do not know where we came in, so it may be behind that. Who leads is not.
            self.seeds = [told.leader]
            return
        elif not core.configuration.members and not self._is_denied_for_long():
            return
        self._removed(removal(own.label, told))

    def _look_where_it_is(self, core: Raft, value: Mapping[str, Any]) -> None:
        """A member that has moved tells the leader. Where all have moved at once, there is none
        before they have found each other."""
        members = core.configuration.members
        known = next((one for one in members if one.node_id == value.get("node_id")), None)
        address = str(value.get("raft_addr") or "")
        if known is None or known.node_id == self._own().node_id or not address:
            return
        if core.leader_id is not None or self.address_of(known) == address:
            return
        log.warning(
            "a member is at another address",
            extra={"label": known.label, "known": known.raft_addr, "found": address},
        )
        kept = {one: at for one, at in self._found_at.items() if one in members}
        self._found_at = {**kept, known: address}
        self._connect()

    def _is_denied_for_long(self) -> bool:
        """Without an entry we may have no term to tell by whether the leader that says so is one no
        more: it has time to learn it. Were it wrong all the same, we have nothing to lose."""
        now = self._loop.monotonic()
        if self._denied_since is None:
            self._denied_since = now
            log.warning("invited once, and no member of this cluster now")
        patience = (self._settings.join_attempts - 1) * self._settings.join_interval
        return now - self._denied_since >= patience

    def _tell_who_is_missing(self, core: Raft) -> None:
        """Where nobody leads, an operator must learn who would have to come back."""
        if core.leader_id is not None or not core.configuration.members:
            self._told = None
            return
        configuration, own = core.configuration, self._own().node_id
        voters = configuration.voters | configuration.outgoing
        votes = {one: one == own or one in self._present for one in voters}
        members = {one.node_id: f"{one.label} at {one.raft_addr}" for one in configuration.members}
        missing = frozenset(members[one] for one, is_there in votes.items() if not is_there)
        now = self._loop.monotonic()
        is_majority = quorum_votes(configuration, votes) is VoteResult.WON
        found = is_majority, missing
        if is_majority and (self._told is None or not self._told[0]):
            self._tells_at = now + TELL_PAUSE_S  # they will elect one, unless they cannot
        elif found != self._told or now >= self._tells_at:
            self._tells_at = now + TELL_PAUSE_S
            log.error(MANY if is_majority else FEW, extra={"missing": sorted(missing)})
        self._told = found
