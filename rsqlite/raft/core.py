"""Raft, the only door to the core: tick, step, propose, appended, applied, poll.

It decides nothing itself.
"""

from __future__ import annotations

import random

from rsqlite.raft import confirmation, dispatch, election, invariants, outbox, replication
from rsqlite.raft.log import LogReader
from rsqlite.raft.membership import ConfigurationHistory, check_target, enter_joint
from rsqlite.raft.messages import (
    Message,
)
from rsqlite.raft.output import Output, ReadState
from rsqlite.raft.progress import ProgressView
from rsqlite.raft.state import CoreSettings, RaftState
from rsqlite.raft.types import (
    Configuration,
    EntryId,
    EntryKind,
    HardState,
    Index,
    NodeId,
    Role,
    Room,
    Term,
    require,
)

__all__ = ["CoreSettings", "Raft"]


class Raft:
    """One node of a Raft group. The package's docstring numbers the duties of its driver."""

    checks_every_step = False  # all of `invariants.py` after every call: tests switch it on

    def __init__(
        self,
        *,
        node_id: NodeId,
        settings: CoreSettings,
        log: LogReader,
        hard_state: HardState,
        configuration: Configuration,
        applied: Index,
        random: random.Random,
        fingerprint: str = "",
        committed: Index = Index(0),  # noqa: B008 - an integer
    ) -> None:
        """`configuration` is the database's, at `applied`. All that is in `log` is durable now.
        `fingerprint` is how this node computes SQL. `committed`: what an earlier core of this
        process, on the same log, has learned to be committed; it need not wait for a leader to
        learn it again."""
        self._state = RaftState(
            node_id=node_id,
            settings=settings,
            log=log,
            hard_state=hard_state,
            configuration=configuration,
            applied=applied,
            random=random,
            fingerprint=fingerprint,
        )
        self._state.commit_to(min(committed, self._state.log.last_index))
        self._before = invariants.look(self._state) if self.checks_every_step else None

    def __repr__(self) -> str:
        state = self._state
        return (
            f"<Raft {state.node_id} {state.role.value} term={state.current_term} "
            f"leader={state.leader_id} commit={state.commit_index} applied={state.applied_index} "
            f"{state.log!r}>"
        )

    # -- what there is to see -----------------------------------------------------------------
    @property
    def node_id(self) -> NodeId:
        return self._state.node_id

    @property
    def role(self) -> Role:
        return self._state.role

    @property
    def current_term(self) -> Term:
        return self._state.current_term

    @property
    def voted_for(self) -> NodeId | None:
        return self._state.voted_for

    @property
    def leader_id(self) -> NodeId | None:
        return self._state.leader_id

    @property
    def commit_index(self) -> Index:
        return self._state.commit_index

    @property
    def applied_index(self) -> Index:
        return self._state.applied_index

    @property
    def last_index(self) -> Index:
        return self._state.log.last_index

    @property
    def durable_index(self) -> Index:
        return self._state.log.durable_index

    @property
    def configuration(self) -> Configuration:
        """The one in force: of the last configuration entry, committed or not."""
        return self._state.configuration

    @property
    def configurations(self) -> ConfigurationHistory:
        """The one in force with its index, and the one that is committed; to look at only."""
        return self._state.configurations

    @property
    def may_change_configuration(self) -> bool:
        """Whether `propose_configuration` would be taken now."""
        return self._state.may_change_configuration

    @property
    def is_admitted(self) -> bool:
        """Whether a configuration that is known here lets this node's fingerprint in."""
        return self._state.is_admitted

    @property
    def is_reluctant(self) -> bool:
        """Whether other voters are to lead rather than this node, if one of them can."""
        return self._state.is_reluctant

    @property
    def is_unfit(self) -> bool:
        """Whether this node's database can serve nobody."""
        return self._state.is_unfit

    @property
    def is_ready(self) -> bool:
        """Whether this node leads and has applied everything that was committed before it did."""
        state = self._state
        return state.role is Role.LEADER and state.applied_index >= state.term_start_index

    @property
    def is_transferring(self) -> bool:
        return self._state.transfer_target is not None

    @property
    def quorum_checks(self) -> int:
        """How often a leader has found since its election that a quorum answers: once in each
        election timeout, and in what it has heard since the time before."""
        return self._state.quorum_checks

    @property
    def uncommitted_bytes(self) -> int:
        return self._state.uncommitted_bytes

    def progress(self) -> tuple[ProgressView, ...]:
        """The followers as a leader sees them; empty for others."""
        return tuple(one.view(node_id) for node_id, one in sorted(self._state.progress.items()))

    # -- what happens to it -------------------------------------------------------------------

    def tick(self, n: int = 1) -> None:
        """`n` ticks of the host's clock passed. A host that slept feeds them before messages."""
        state = self._state
        # In pieces: whoever slept through two checks of the quorum must not pass both on what was
        # heard before (raft.md rule 45). More than two change nothing.
        period = state.settings.election_ticks
        n = min(n, 3 * period)
        while n > 0:
            piece = min(n, period)
            n -= piece
            if state.role is Role.LEADER:
                election.tick_leader(state, piece)
            else:
                election.tick_follower(state, piece)
        self._check()

    def step(self, message: Message) -> None:
        """A peer's message arrived. Whatever it says, this does not raise, unless it proves that
        committed entries differ."""
        dispatch.step(self._state, message)
        self._check()

    def appended(self, token: int) -> None:
        """Append work `token` is durable, and so is all before it. Late or repeated is fine."""
        state = self._state
        require(token <= state.token, "work {} was never handed out", token)
        log = state.log
        durable_index = log.durable_index
        log.completed(token)
        claims = state.hard_state_claims
        while claims and claims[0][0] <= token:
            state.hard_state_durable = claims.popleft()[1]
        if state.role is Role.LEADER:
            if log.durable_index > durable_index:
                replication.advance_commit(state)
        elif state.is_hard_state_durable:
            election.vote_durable(state)
        self._check()

    def applied(self, index: Index) -> None:
        """The effects of everything up to `index` are in the database."""
        state = self._state
        require(
            state.applied_index <= index <= state.commit_index_handed,
            "applied {} after {}, of {} handed over",
            index,
            state.applied_index,
            state.commit_index_handed,
        )
        state.applied_index = index
        unapplied = state.unapplied
        while unapplied and unapplied[0][0] <= index:
            state.unapplied_bytes -= unapplied.popleft()[1]
        self._check()

    def peer_closed(self, node_id: NodeId) -> None:
        """The connection of a peer broke. If it was our leader, a pre-vote starts early."""
        election.peer_closed(self._state, node_id)
        self._check()

    def take_outcast(self) -> NodeId | None:
        """Who spoke since this was last asked, in a term before the members were forced, and is
        none of them: the host should tell somebody. It was not listened to."""
        outcast, self._state.outcast = self._state.outcast, None
        return outcast

    def disk_stalled(self, is_stalled: bool) -> None:
        """An fsync is outstanding longer than the election timeout, or no longer is. A leader that
        cannot write must not look healthy (raft.md rule 46)."""
        self._state.is_disk_stalled = is_stalled
        if is_stalled:
            self._step_down()

    def lead_reluctantly(self) -> None:
        """This node's database can serve nobody, until there is another core. It leads no more,
        unless nobody else comes to: it may be alone with entries that the others need."""
        self._state.is_unfit = True
        self._step_down()

    def _step_down(self) -> None:
        state = self._state
        if state.role is not Role.FOLLOWER:
            election.become_follower(state, state.current_term, None)
            self._check()

    def room_left(self, room: Room) -> None:
        """What this node's disk still takes: followers tell their leader."""
        self._state.room = room

    # -- what is asked of it ------------------------------------------------------------------

    def propose(self, data: bytes, kind: EntryKind = EntryKind.COMMAND) -> EntryId | None:
        """Append an entry of the state machine's. None: we do not lead, or hand over, or too much
        is uncommitted."""
        state = self._state
        if state.role is not Role.LEADER or state.transfer_target is not None:
            return None
        uncommitted = state.uncommitted_bytes
        if uncommitted and uncommitted + len(data) > state.settings.uncommitted_bytes_max:
            return None
        entry_id = replication.append_as_leader(state, kind, data)
        self._check()
        return entry_id

    def propose_configuration(self, configuration: Configuration) -> EntryId | None:
        """Begin to change the configuration to this one; the joint form in between is entered and
        left here. None: not now (`may_change_configuration`: without its gates two leaders could
        change the same base to disjoint majorities). ValueError: no cluster could end in it."""
        check_target(configuration)
        state = self._state
        if not state.may_change_configuration:
            return None
        entry_id = replication.append_configuration(
            state, enter_joint(state.configuration, configuration)
        )
        self._check()
        return entry_id

    def read_index(self, context: int) -> None:
        """Ask for an index to read at; `Output.reads` answers with the same context, or with the
        index None when nobody can confirm one."""
        confirmation.read_index(self._state, None, context)
        self._check()

    def transfer_leadership(self, target: NodeId | None) -> bool:
        """Hand leadership to `target`, or to who has most; whether that was begun. Given up after
        an election timeout."""
        is_begun = election.transfer(self._state, target)
        self._check()
        return is_begun

    def offer_image(self, target: NodeId, last: EntryId, image: bytes) -> None:
        """Offer an image that holds everything up to `last` to a follower in the state `snapshot`;
        nothing for any other. Offer it again until it is out of that state."""
        if self._state.role is Role.LEADER:
            replication.offer_image(self._state, target, last, image)

    def campaign(self) -> None:
        """Do not wait for the election timeout. A node that is alone leads after one fsync."""
        if self._state.role is not Role.LEADER:
            election.campaign(self._state)
            self._check()

    def flush_commit(self) -> None:
        """Tell the commit index to followers that were not told yet; nothing if all were."""
        if self._state.role is Role.LEADER:
            replication.flush_commit(self._state)

    # -- what is to be done -------------------------------------------------------------------

    @property
    def has_more_committed(self) -> bool:
        """There are entries that `poll` has not handed out for `committed`; it does as soon as
        enough of those before them are applied."""
        state = self._state
        return min(state.commit_index, state.log.durable_index) > state.commit_index_handed

    def poll(self) -> Output | None:
        """What became due since the last poll, at once but for the committed entries; or None."""
        state = self._state
        if state.role is Role.LEADER:
            replication.prepare_output(state)
            election.step_down_if_removed(state)
        else:
            question = state.forwarded_reads.take_question()
            if question is not None:
                confirmation.send_question(state, question)
        append = outbox.append_work(state)
        committed = outbox.committed(state)
        soft_state = outbox.soft_state(state)
        image, state.image_offer = state.image_offer, None
        if not (append or committed or soft_state or image or state.outbox or state.read_states):
            return None
        send: tuple[Message, ...] = ()
        if state.outbox:
            send = tuple(state.outbox)
            state.outbox.clear()
        reads: tuple[ReadState, ...] = ()
        if state.read_states:
            reads = tuple(state.read_states)
            state.read_states.clear()
        self._check()
        return Output(soft_state, append, send, committed, reads, image)

    def _check(self) -> None:
        if self.checks_every_step:
            now = invariants.look(self._state)
            if self._before is not None:
                invariants.check_step(self._before, now)
            invariants.check_state(self._state)
            self._before = now
