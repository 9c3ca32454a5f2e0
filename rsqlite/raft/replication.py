"""Append, acknowledge, back off, commit: the log from the leader to everybody (paper 5.3, 5.4).

The leader sends while its own disk writes (thesis 10.2.1): its own entry counts only when durable.
Roles do not change here: who must step down is told by `core.step` before anything is dispatched.
"""

from __future__ import annotations

from rsqlite.raft.confirmation import acknowledge_round, ask_followers, send_heartbeat
from rsqlite.raft.history import check_committed
from rsqlite.raft.membership import leave_joint, replicas
from rsqlite.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    TimeoutNow,
)
from rsqlite.raft.progress import Progress, ProgressState
from rsqlite.raft.quorum import quorum_index
from rsqlite.raft.state import RaftState
from rsqlite.raft.types import (
    Configuration,
    Entry,
    EntryId,
    EntryKind,
    Index,
    NodeId,
    Room,
    Term,
)

SMALL_APPEND_BYTES = 64 * 1024
"""Of entries in an append to a follower that has no room."""
DEPARTURE_CHECKS = 2
"""Checks of the quorum (election timeouts) for which a node that left is still told so."""

# -- the leader's log -----------------------------------------------------------------------------


def append_as_leader(
    state: RaftState, kind: EntryKind, data: bytes, configuration: Configuration | None = None
) -> EntryId:
    """Append an entry of this term. It leaves for followers and disk with the next output."""
    entry = Entry(state.current_term, Index(state.log.last_index + 1), kind, data)
    state.append(entry, configuration)
    if data:
        state.uncommitted.append((entry.index, len(data)))
        state.uncommitted_bytes += len(data)
    if configuration is not None:
        follow_configuration(state)
    return EntryId(entry.term, entry.index)


def append_configuration(state: RaftState, configuration: Configuration) -> EntryId:
    """Append a configuration; it is in force from here on."""
    return append_as_leader(state, EntryKind.CONFIGURATION, configuration.to_bytes(), configuration)


def follow_configuration(state: RaftState) -> None:
    """Begin to send to new members. Those that left are sent on until they know that they did, or
    they would campaign for ever (raft.md rule 29); `forget_departed` ends that."""
    members = replicas(state.configuration)
    for node_id in sorted(members):
        if node_id != state.node_id and node_id not in state.progress:
            # From the entry that names it on, so that it is asked at once where its log ends.
            state.progress[node_id] = Progress(state.log.last_index)
    state.departing = {node_id: 0 for node_id in state.progress if node_id not in members}


def forget_departed(state: RaftState) -> None:
    """A check of the quorum passed: stop sending to those that had enough time to learn that they
    left. Heartbeats told them meanwhile, again and again, that it is committed."""
    if state.commit_index < state.configurations.index:
        return
    for node_id in list(state.departing):
        state.departing[node_id] += 1
        if state.departing[node_id] > DEPARTURE_CHECKS:
            del state.departing[node_id], state.progress[node_id]


def advance_commit(state: RaftState) -> None:
    """Commit what a quorum has on disk, if it reaches into this term.

    Entries of earlier terms are never counted: they ride along with the first of ours, or a later
    leader could still overwrite what was called committed (paper 5.4.2, Figure 8; rule 14).
    """
    match_index = {node_id: progress.match_index for node_id, progress in state.progress.items()}
    match_index[state.node_id] = state.log.durable_index
    index = Index(quorum_index(state.configurations.current, match_index))
    if index <= state.commit_index or index < state.term_start_index:
        return
    is_first = state.commit_index < state.term_start_index
    state.commit_to(index)
    if is_first:
        state.leader_reads.first_committed(index)
    configurations = state.configurations
    # C_new follows only a committed C_old,new, whoever appended that one (raft.md rule 27).
    if configurations.current.outgoing and configurations.index <= index:
        append_configuration(state, leave_joint(configurations.current))


# -- the leader's messages ------------------------------------------------------------------------


def prepare_output(state: RaftState) -> None:
    """Before a leader's output is collected: send what followers can take, ask for reads."""
    ask_followers(state)
    reads = state.leader_reads
    last_index = state.log.last_index
    for node_id, progress in state.progress.items():
        is_open = not progress.is_paused and progress.room is not Room.NONE
        if progress.next_index <= last_index and is_open:
            reads.next_round()
            while progress.next_index <= last_index and not progress.is_paused:
                send_append(state, node_id, progress)


def send_append(
    state: RaftState, node_id: NodeId, progress: Progress, *, is_empty: bool = False
) -> None:
    """Send the next entries, or an empty append that only asks whether the logs agree there. To a
    follower without room only what is small."""
    log = state.log
    settings = state.settings
    next_index = progress.next_index
    prev_index = Index(next_index - 1)
    prev_term = log.term(prev_index)
    if prev_term is None or (next_index < log.first_index and next_index <= log.last_index):
        progress.become_snapshot()
        return
    entries: tuple[Entry, ...] = ()
    last_sent = prev_index
    if not is_empty:
        end = min(log.last_index + 1, next_index + settings.append_entries_max)
        bytes_max = settings.append_bytes_max
        if progress.room is Room.NONE:
            bytes_max = min(bytes_max, SMALL_APPEND_BYTES)
        entries = tuple(log.entries(next_index, Index(end), bytes_max))
        size = 0
        for entry in entries:
            size += len(entry.data)
        if progress.room is Room.NONE and size > SMALL_APPEND_BYTES:
            return
        last_sent = Index(prev_index + len(entries))
        progress.sent(last_sent, size, settings.inflight_messages_max, settings.inflight_bytes_max)
    commit_index = state.commit_index
    progress.told_commit = max(progress.told_commit, min(commit_index, last_sent))
    state.outbox.append(
        AppendEntries(
            state.node_id,
            node_id,
            state.current_term,
            prev_index,
            prev_term,
            entries,
            commit_index,
            state.leader_reads.round,
        )
    )


def heartbeat_due(state: RaftState) -> None:
    """The interval passed: heartbeats, and a look at followers that did not answer an append
    since the last one. The append may be lost, and a follower that is heard again is asked."""
    for node_id, progress in state.progress.items():
        oldest = progress.inflight[0][0] if progress.inflight else Index(0)
        if progress.state is ProgressState.PROBE:
            progress.is_suspect = True
        else:
            progress.is_suspect = oldest > 0 and oldest == progress.oldest_inflight
        progress.oldest_inflight = oldest
        send_heartbeat(state, node_id, progress)


def flush_commit(state: RaftState) -> None:
    """Tell the commit index to everybody who could use it and was not told; to those whose
    acknowledgement is still on its way, as soon as it comes."""
    for node_id, progress in state.progress.items():
        progress.owed_commit = state.commit_index
        if progress.told_commit < min(progress.match_index, state.commit_index):
            send_heartbeat(state, node_id, progress)


def offer_image(state: RaftState, target: NodeId, last: EntryId, image: bytes) -> None:
    """Offer an image to a follower that can be helped by nothing else."""
    progress = state.progress.get(target)
    if progress is not None and progress.state is ProgressState.SNAPSHOT:
        state.send(
            InstallSnapshot(state.node_id, target, state.current_term, last.index, last.term, image)
        )


# -- answers of followers -------------------------------------------------------------------------


def handle_append_reply(state: RaftState, message: AppendEntriesReply) -> None:
    """A follower took an append, or could not: move its window, commit, or back off."""
    progress = state.progress.get(message.source)
    if progress is None:
        return
    progress.is_active = True
    log = state.log
    if message.success:
        if message.match_index > log.last_index:
            # A lie, or it has committed what we do not have. Where our log ends it sees that they
            # differ; now and then, for this may be the answer to that.
            if not progress.is_tried:
                progress.is_tried = True
                progress.become_probe()
                progress.next_index = Index(log.last_index + 1)
                send_append(state, message.source, progress, is_empty=True)
            return
        if progress.acknowledged(message.match_index):
            advance_commit(state)
        if progress.state is ProgressState.SNAPSHOT and message.match_index + 1 >= log.first_index:
            progress.become_probe()
        if progress.told_commit < min(progress.match_index, progress.owed_commit):
            send_heartbeat(state, message.source, progress)
        if state.transfer_target == message.source:
            finish_transfer(state)
    else:
        # The follower skipped its entries of later terms; we skip ours (paper 5.3, end).
        hint = log.last_index_at_most(message.hint_index, message.hint_term)
        progress.refused(message.match_index, Index(hint + 1))
    acknowledge_round(state, progress, message.round)


def handle_heartbeat_reply(state: RaftState, message: HeartbeatReply) -> None:
    """A follower follows us. If it owes an acknowledgement, ask whether the append arrived."""
    progress = state.progress.get(message.source)
    if progress is None:
        return
    progress.heard(message)
    if progress.room is Room.NONE:
        _try(state, message.source, progress)
    elif progress.is_suspect and progress.state is not ProgressState.SNAPSHOT:
        progress.is_suspect = False
        # Without entries: they may be large, and still on their way.
        send_append(state, message.source, progress, is_empty=True)
    acknowledge_round(state, progress, message.round)


def _try(state: RaftState, node_id: NodeId, progress: Progress) -> None:
    """Send a few entries to a follower without room, once between two checks of the quorum: it has
    a little left, for the no-op of a leader and what comes before it, or nobody could lead when
    all are full."""
    if not progress.is_tried and progress.state is not ProgressState.SNAPSHOT:
        progress.is_tried = True
        progress.become_probe()
        if progress.next_index <= state.log.last_index:
            send_append(state, node_id, progress)


def finish_transfer(state: RaftState) -> None:
    """Tell the target to campaign once it has everything (thesis 3.10)."""
    target = state.transfer_target
    progress = state.progress.get(target) if target is not None else None
    if target is not None and progress and progress.match_index == state.log.last_index:
        state.send(TimeoutNow(state.node_id, target, state.current_term))


# -- the follower ---------------------------------------------------------------------------------


def handle_append_entries(state: RaftState, message: AppendEntries) -> None:
    """Take the leader's entries, or say from where they are needed (paper, Figure 2)."""
    configurations = _configurations(message)
    if configurations is None:
        return
    log = state.log
    prev_index, entries = message.prev_log_index, message.entries
    covered = Index(prev_index + len(entries))
    commit_index = state.commit_index
    if prev_index <= commit_index:
        theirs = [(message.prev_log_index, message.prev_log_term)]
        check_committed(state, message.source, theirs + [(one.index, one.term) for one in entries])
    if prev_index < commit_index:
        # Old news, or the leader does not know what we have: committed entries are the same
        # everywhere, so what is needed begins behind them (raft.md rules 19, 20).
        entries = entries[commit_index - prev_index :]
        covered = max(covered, commit_index)
    elif log.term(prev_index) != message.prev_log_term:
        _refuse(state, message)
        return
    for entry in entries[_already_held(state, entries) :]:
        state.append(entry, configurations.get(entry.index))
    # What this message did not cover may still differ from the leader's log (raft.md rule 16).
    if message.commit_index > commit_index:
        state.commit_to(min(message.commit_index, covered))
    state.send_when_durable(
        AppendEntriesReply(
            state.node_id,
            message.source,
            state.current_term,
            True,
            covered,
            round=message.round,
        ),
        covered,
    )


def _already_held(state: RaftState, entries: tuple[Entry, ...]) -> int:
    """How many of these the log holds; from the first that conflicts on, the log is truncated.

    Only a real conflict shortens it: a late duplicate of a shorter message must not take back
    entries that were acknowledged since (raft.md rule 17).
    """
    log = state.log
    for position, entry in enumerate(entries):
        if entry.index > log.last_index:
            return position
        if log.term(entry.index) != entry.term:
            state.truncate(entry.index)
            return position
    return len(entries)


def handle_install_snapshot(state: RaftState, message: InstallSnapshot) -> None:
    """Take up the offer of an image, unless the log here reaches as far: then say so (rule 34)."""
    if state.log.term(message.last_index) == message.last_term:
        # The same entry, so the same log before it; and what is in an image is committed.
        state.commit_to(message.last_index)
    check_committed(state, message.source, [(message.last_index, message.last_term)])
    if message.last_index > state.commit_index:
        state.image_offer = message
        return
    covered = state.commit_index
    state.send_when_durable(
        AppendEntriesReply(state.node_id, message.source, state.current_term, True, covered),
        covered,
    )


def handle_heartbeat(state: RaftState, message: Heartbeat) -> None:
    """The leader lives; what it says is committed we have, since it knows so."""
    # A commit index beyond our log means that this disk lost what it had acknowledged. Nothing of
    # what is left may be taken for committed then.
    if state.commit_index < message.commit_index <= state.log.last_index:
        state.commit_to(message.commit_index)
    state.send_when_durable(
        HeartbeatReply(
            state.node_id,
            message.source,
            state.current_term,
            message.round,
            state.room,
            state.applied_index,
            state.may_lead,
        )
    )


def _refuse(state: RaftState, message: AppendEntries) -> None:
    log = state.log
    hint_index = log.last_index_at_most(
        min(message.prev_log_index, log.last_index), message.prev_log_term
    )
    state.send_when_durable(
        AppendEntriesReply(
            state.node_id,
            message.source,
            state.current_term,
            False,
            message.prev_log_index,
            hint_index,
            log.term(hint_index) or Term(0),
            message.round,
        )
    )


NO_CONFIGURATIONS: dict[Index, Configuration] = {}


def _configurations(message: AppendEntries) -> dict[Index, Configuration] | None:
    """The configurations among the entries, or None if this is not a piece of any log: peer input
    is checked before it is used."""
    index, term = message.prev_log_index, message.prev_log_term
    if index < 0:
        return None
    configurations = NO_CONFIGURATIONS
    for entry in message.entries:
        index = Index(index + 1)
        if entry.index != index or entry.term < term:
            return None
        term = entry.term
        if entry.kind == EntryKind.CONFIGURATION:
            try:
                decoded = Configuration.from_bytes(entry.data)
            except ValueError:
                return None
            configurations = {**configurations, index: decoded}
    return configurations if term <= message.term else None
