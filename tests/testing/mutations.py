"""Bugs that Raft and SQLite-over-Raft implementations have had, to be put back one at a time.

Each is the smallest change of one file that brings the bug back. `hunt.py` makes the changes in a
copy of the package and lets the simulator find them; one that it does not find means that it lacks
a fault, a workload or an oracle. The numbers in the names are those of nobody: the words say what
the bug is.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """Replace `before`, which is there once, by `after` in a file of `rsqlite/`."""

    name: str
    path: str
    before: str
    after: str


MUTATIONS = (
    # Votes and terms
    Mutation(
        "a vote is not stored",
        "raft/outbox.py",
        "hard_state = HardState(state.current_term, state.voted_for)",
        "hard_state = HardState(state.current_term, None)",
    ),
    Mutation(
        "answers leave before term and vote are stored",
        "raft/state.py",
        "if self.hard_state_durable == self.hard_state_version and index <=",
        "if index <=",
    ),
    Mutation(
        "two votes in a term",
        "raft/election.py",
        "or (state.voted_for is None and state.leader_id is None)",
        "or state.leader_id is None",
    ),
    Mutation(
        "votes are counted by answer, not by voter",
        "raft/election.py",
        "state.votes.setdefault(message.source, message.granted)",
        "state.votes[NodeId(message.source + len(state.votes))] = message.granted",
    ),
    Mutation(
        "a vote for a shorter log",
        "raft/election.py",
        "and state.log.is_up_to_date(message.last_log_index, message.last_log_term)",
        "and message.last_log_term >= state.log.last_term",
    ),
    Mutation(
        "the log's length counts before its term",
        "raft/log.py",
        "return (last_term, last_index) >= (self.last_term, self.last_index)",
        "return (last_index, last_term) >= (self.last_index, self.last_term)",
    ),
    Mutation(
        "a candidate's own vote counts before it is stored",
        "raft/election.py",
        "    _request_votes(state, pre_vote=False)\n",
        "    state.votes[state.node_id] = True\n    _request_votes(state, pre_vote=False)\n",
    ),
    Mutation(
        "a pre-vote raises the term",
        "raft/dispatch.py",
        "            if message.pre_vote:\n                return True\n",
        "",
    ),
    Mutation(
        "the election timeout is drawn once",
        "raft/state.py",
        "self.randomized_election_ticks = ticks + self.random.randrange(ticks)",
        "self.randomized_election_ticks = ticks",
    ),
    # Log and commit
    Mutation(
        "entries of earlier terms are committed by counting",
        "raft/replication.py",
        "if index <= state.commit_index or index < state.term_start_index:",
        "if index <= state.commit_index:",
    ),
    Mutation(
        "a follower commits what the leader's message did not cover",
        "raft/replication.py",
        "state.commit_to(min(message.commit_index, covered))",
        "state.commit_to(min(message.commit_index, log.last_index))",
    ),
    Mutation(
        "a heartbeat commits what the follower may hold differently",
        "raft/confirmation.py",
        "commit_index = min(progress.match_index, state.commit_index)",
        "commit_index = min(progress.next_index - 1, state.commit_index)",
    ),
    Mutation(
        "every append truncates the log",
        "raft/replication.py",
        "        if log.term(entry.index) != entry.term:\n"
        "            state.truncate(entry.index)\n"
        "            return position\n"
        "    return len(entries)",
        "        if log.term(entry.index) != entry.term:\n"
        "            state.truncate(entry.index)\n"
        "            return position\n"
        "    if entries and entries[-1].index < log.last_index:\n"
        "        state.truncate(Index(entries[-1].index + 1))\n"
        "    return len(entries)",
    ),
    Mutation(
        "an append is taken behind an entry of another term",
        "raft/replication.py",
        "elif log.term(prev_index) != message.prev_log_term:",
        "elif log.term(prev_index) is None:",
    ),
    Mutation(
        "acknowledged before the sync",
        "raft/replication.py",
        "            covered,\n"
        "            round=message.round,\n"
        "        ),\n"
        "        covered,\n"
        "    )",
        "            covered,\n"
        "            round=message.round,\n"
        "        ),\n"
        "        min(covered, state.commit_index),\n"
        "    )",
    ),
    Mutation(
        "the leader counts itself before its sync",
        "raft/replication.py",
        "match_index[state.node_id] = state.log.durable_index",
        "match_index[state.node_id] = state.log.last_index",
    ),
    Mutation(
        "a sync that ends late counts for what has replaced its entries",
        "raft/log.py",
        "        for claim in self._claims:\n            claim[1] = min(claim[1], keep)\n",
        "",
    ),
    Mutation(
        "a follower acknowledges all it has",
        "raft/replication.py",
        "    covered = Index(prev_index + len(entries))\n    commit_index = state.commit_index\n",
        "    covered = max(Index(prev_index + len(entries)), log.last_index)\n"
        "    commit_index = state.commit_index\n",
    ),
    Mutation(
        "learners count for the majority",
        "raft/quorum.py",
        "    index = majority_index(configuration.voters, acknowledged)\n",
        "    index = majority_index(configuration.voters | configuration.learners, acknowledged)\n",
    ),
    # Reads
    Mutation(
        "reads before the leader's first commit",
        "raft/confirmation.py",
        "if state.commit_index < state.term_start_index:",
        "if state.commit_index < 0:",
    ),
    Mutation(
        "an echo from before the read confirms it",
        "raft/reads.py",
        "            self.round += 1\n            self._rounds.append((self.round, self._arrived))",
        "            self._rounds.append((self.round, self._arrived))",
    ),
    Mutation(
        "a leader confirms its reads alone",
        "raft/confirmation.py",
        "for read in reads.confirmed(quorum_index(state.configuration, rounds)):",
        "for read in reads.confirmed(reads.round):",
    ),
    Mutation(
        "a linearizable read does not wait for its index",
        "node/reader.py",
        "elif (wanted := max(index, Index(request.min_index))) <= self._readable_index():",
        "elif (wanted := Index(request.min_index)) <= self._readable_index():",
    ),
    Mutation(
        "a leader that slept passes the check of its majority",
        "raft/election.py",
        "        if not _quorum_is_active(state):\n",
        "        if not _quorum_is_active(state) and False:\n",
    ),
    # Membership. (A change before anything of the term is committed does no harm here: a
    # configuration that is not committed is refused by the other gate, and all changes are joint.)
    Mutation(
        "the second change before the first is committed",
        "raft/state.py",
        "            and self.configurations.index <= self.commit_index\n"
        "            and not self.configuration.outgoing\n",
        "",
    ),
    Mutation(
        "no joint configuration",
        "raft/membership.py",
        "    if target.voters == current.voters:\n        return target\n",
        "    return target\n",
    ),
    Mutation(
        "only the new half of a joint configuration votes",
        "raft/quorum.py",
        "    incoming = majority_votes(configuration.voters, votes)\n"
        "    if not configuration.outgoing:",
        "    incoming = majority_votes(configuration.voters, votes)\n    if True:",
    ),
    Mutation(
        "only the new half of a joint configuration commits",
        "raft/quorum.py",
        "    if configuration.outgoing:\n        return min(index,",
        "    if False:\n        return min(index,",
    ),
    Mutation(
        "the joint configuration is left before it is committed",
        "raft/replication.py",
        "if configurations.current.outgoing and configurations.index <= index:",
        "if configurations.current.outgoing:",
    ),
    Mutation(
        "a truncation takes one configuration back at most",
        "raft/membership.py",
        "while len(self._stack) > 1 and self._stack[-1][0] >= first_removed:",
        "if len(self._stack) > 1 and self._stack[-1][0] >= first_removed:",
    ),
    Mutation(
        "a leader that was removed goes on counting itself",
        "raft/election.py",
        "    if is_voter(configurations.current, state.node_id):\n        return\n",
        "    return\n",
    ),
    # Images
    Mutation(
        "an image leaves a log that differs from it",
        "node/installer.py",
        "        if is_reset(self._engine.log, installed):\n            reset(None)",
        "        if True:\n            reset(None)",
    ),
    Mutation(
        "an image's index counts before its data",
        "raft/replication.py",
        "    if message.last_index > state.commit_index:\n"
        "        state.image_offer = message\n"
        "        return\n"
        "    covered = state.commit_index\n",
        "    covered = max(message.last_index, state.commit_index)\n"
        "    if message.last_index > state.commit_index:\n"
        "        state.image_offer = message\n",
    ),
    Mutation(
        "the configuration of an image is ignored",
        "node/installer.py",
        "        return self._engine.machine.configuration\n",
        "        saved = self._engine.directory.saved_configuration()\n"
        "        if saved is not None:\n"
        "            return Configuration.from_bytes(saved)\n"
        "        return self._engine.machine.configuration\n",
    ),
    # The database
    Mutation(
        "the applied index is not in the transaction",
        "statemachine/apply.py",
        "        writer.engine(schema.UPDATE_APPLIED, (last.index, last.term, time_ms))\n"
        "        if version is not None",
        "        if version is not None",
    ),
    Mutation(
        "the log is cut before the database has its entries for good",
        "node/compaction.py",
        "            self._checkpointed + 1,\n",
        "            Index(self._machine().applied_index + 1),\n",
    ),
    Mutation(
        "an error of the database is swallowed",
        "node/applier.py",
        "        if error is None:\n"
        "            self._on_applied(index)\n"
        "            return\n"
        "        if isinstance",
        "        if True:\n"
        "            self._on_applied(index)\n"
        "            return\n"
        "        if isinstance",
    ),
    Mutation(
        "a follower computes with a time of its own",
        "statemachine/apply.py",
        "writer.vfs.set_time(command.times[0])",
        "writer.vfs.set_time(self.time_ms)",
    ),
    # A sick node
    Mutation(
        "an overruled transaction takes effect by halves",
        "statemachine/overruled.py",
        "frozenset(command.transactions)",
        "frozenset()",
    ),
    Mutation(
        "an overruled entry leaves keys without a parent",
        "statemachine/overruled.py",
        "if not is_kept or writer.has_unresolved_keys():",
        "if not is_kept:",
    ),
    Mutation(
        "what ends the transaction takes strangers' requests with it",
        "statemachine/overruled.py",
        "        skipped.add(ended)\n",
        "        skipped.update(range(command.statement_count))\n",
    ),
    Mutation(
        "an overruled statement sees the counters of the sick leader",
        "statemachine/overruled.py",
        "Replay(writer, command, is_overruled=True)",
        "Replay(writer, command)",
    ),
    Mutation(
        "a sick leader goes on when it was overruled",
        "node/verdict.py",
        "        elif engine.fault is None:\n            engine.give_up_database",
        "        elif False:\n            engine.give_up_database",
    ),
    # The disk
    Mutation(
        "damage is taken for a torn tail",
        "storage/recovery.py",
        "        elif rest.rest is Rest.DAMAGED:\n",
        "        elif False:\n",
    ),
    Mutation(
        "the durable mark is not looked at",
        "storage/recovery.py",
        "if self._mark_offset >= 0 and self._chain_at_mark != mark.chain:",
        "if False:",
    ),
    Mutation(
        "a sync that failed is tried again",
        "storage/writer.py",
        "        if error is not None:\n"
        "            self._failure = error\n"
        "            return\n"
        "        self._noted()",
        "        self._noted()",
    ),
    Mutation(
        "a node with damaged promises keeps its number",
        "storage/directory.py",
        "_GIVEN_UP = (IDENTITY_NAME, LOG_NAME, DATABASE_NAME, RAFT_NAME)",
        "_GIVEN_UP = (LOG_NAME, DATABASE_NAME, RAFT_NAME)",
    ),
    Mutation(
        "two of three give up what they are",
        "node/farewell.py",
        "        if told.is_settled and told.quorum_checks - first >= PROOF_CHECKS:\n",
        "        if told.is_settled:\n",
    ),
    Mutation(
        "the log is not synced",
        "storage/writer.py",
        "        self._file.sync()\n        self._noted()\n",
        "        self._noted()\n",
    ),
)
