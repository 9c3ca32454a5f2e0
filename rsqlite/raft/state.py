"""RaftState: every mutable field of the core, each with its invariant.

`replication` and `election` are functions over this; `core.Raft` owns the only one. Messages are
not sent but put into an outbox: `send` leaves with the next output, `send_when_durable` waits for
everything the disk has been given or is about to be given.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from rsqlite.raft.log import Log, LogReader
from rsqlite.raft.membership import ConfigurationHistory
from rsqlite.raft.messages import InstallSnapshot, Message
from rsqlite.raft.output import ReadState
from rsqlite.raft.progress import Progress
from rsqlite.raft.reads import ForwardedReads, LeaderReads
from rsqlite.raft.types import (
    NO_INDEX,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Index,
    NodeId,
    Role,
    Room,
    SoftState,
    Term,
    require,
)

RELUCTANCE_TIMEOUTS = 2
"""Election timeouts that a node waits longer where others are to lead before it: all of theirs end
within two, so one of them is elected if one can be."""
CONTEXT_BITS = 62
"""A follower's questions to its leader start at a random number of so many bits."""
SCAN_BYTES = 4 * 1024 * 1024
"""Read at a time when the log is searched for configurations at start."""


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """The bounds of the core; `config.py` says what each is for and where its default lies."""

    heartbeat_ticks: int = 3
    election_ticks: int = 16
    """The timeout is drawn from this to twice this."""
    inflight_messages_max: int = 4
    inflight_bytes_max: int = 8 * 1024 * 1024
    append_bytes_max: int = 1024 * 1024
    append_entries_max: int = 8192
    """Tiny entries are bounded by their number: each costs its head on the wire."""
    committed_bytes_max: int = 4 * 1024 * 1024
    """Entries handed over for applying and not yet applied."""
    uncommitted_bytes_max: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        require(0 < self.heartbeat_ticks < self.election_ticks, "heartbeats must be more frequent")
        require(self.inflight_messages_max > 0, "nothing could be sent")


class RaftState:
    """All there is to one node of the group, in memory."""

    __slots__ = (
        "applied_index",
        "commit_index",
        "commit_index_handed",
        "configurations",
        "current_term",
        "departing",
        "election_elapsed",
        "fingerprint",
        "forwarded_reads",
        "hard_state_claims",
        "hard_state_durable",
        "hard_state_handed",
        "hard_state_version",
        "heartbeat_elapsed",
        "image_offer",
        "is_disk_stalled",
        "is_leader_closed",
        "is_transfer_campaign",
        "is_unfit",
        "leader_id",
        "leader_reads",
        "log",
        "node_id",
        "outbox",
        "outbox_when_durable",
        "outcast",
        "progress",
        "quorum_checks",
        "random",
        "randomized_election_ticks",
        "read_states",
        "role",
        "room",
        "settings",
        "soft_state_told",
        "term_start_index",
        "token",
        "transfer_elapsed",
        "transfer_target",
        "unapplied",
        "unapplied_bytes",
        "uncommitted",
        "uncommitted_bytes",
        "voted_for",
        "votes",
    )

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
        fingerprint: str,
    ) -> None:
        self.node_id = node_id
        self.fingerprint = fingerprint
        self.settings = settings
        self.random = random
        self.log = Log(log)
        require(applied <= self.log.last_index, "the database is ahead of the log: {}", applied)
        require(
            self.log.last_term <= hard_state.term,
            "the log is of term {}, the hard state of {}",
            self.log.last_term,
            hard_state.term,
        )

        # Persistent (paper, Figure 2).
        self.current_term: Term = hard_state.term
        """Never goes down."""
        self.voted_for: NodeId | None = hard_state.voted_for
        """Once set, stays for the term."""
        self.hard_state_version = 0
        """Counts changes of the two above; equal to `hard_state_durable` when they are on disk."""
        self.hard_state_handed = 0
        self.hard_state_durable = 0
        self.hard_state_claims: deque[tuple[int, int]] = deque()
        """(token, version) of the works under way."""

        # Volatile.
        self.role = Role.FOLLOWER
        self.leader_id: NodeId | None = None
        """Whom we follow in this term; ourselves if we lead."""
        self.commit_index: Index = applied
        """Never goes down, never over the last index."""
        self.commit_index_handed: Index = applied
        """What the driver was given to apply; at most min(commit, durable)."""
        self.applied_index: Index = applied
        """What the driver says is in the database; at most what it was given."""
        self.unapplied: deque[tuple[Index, int]] = deque()
        """(last index, bytes) of what was handed over and is not applied."""
        self.unapplied_bytes = 0
        self.configurations = _restored(configuration, applied, log)
        self._begin_life()

    def _begin_life(self) -> None:
        """What a restart forgets."""
        # Time, in ticks.
        self.election_elapsed = 0
        """Since the leader was heard, a vote was granted, or a campaign began; of a leader: since
        it last checked its quorum."""
        self.heartbeat_elapsed = 0
        self.randomized_election_ticks = 0
        self.is_leader_closed = False
        """The connection of our leader broke, and it was not heard since."""
        self.is_disk_stalled = False
        self.is_unfit = False
        """Its database can serve nobody."""
        self.room = Room.AMPLE
        """Of our own disk."""

        # Candidate.
        self.votes: dict[NodeId, bool] = {}
        """By voter, the first answer counts (raft.md rule 5)."""
        self.is_transfer_campaign = False
        """The leader asked for this campaign; cleared with it (raft.md rule 9)."""

        # Leader.
        self.progress: dict[NodeId, Progress] = {}
        """Everybody who is sent the log but ourselves."""
        self.departing: dict[NodeId, int] = {}
        """Those in `progress` that left the configuration: checks of the quorum since."""
        self.term_start_index = Index(0)
        """The no-op of this term: only from here on are acknowledgements counted (rule 14)."""
        self.transfer_target: NodeId | None = None
        self.transfer_elapsed = 0
        """Since that one was chosen."""
        self.quorum_checks = 0
        """How often a quorum was found to answer, since this node leads."""
        self.uncommitted: deque[tuple[Index, int]] = deque()
        self.uncommitted_bytes = 0
        self.leader_reads = LeaderReads()
        self.forwarded_reads = ForwardedReads(self.random.getrandbits(CONTEXT_BITS))

        # Outboxes.
        self.token = 0
        self.outbox: list[Message] = []
        self.outbox_when_durable: list[Message] = []
        self.read_states: list[ReadState] = []
        self.image_offer: InstallSnapshot | None = None
        """The last one that was not handed out."""
        self.outcast: NodeId | None = None
        """Who spoke in a term before the members were forced, and is none of them."""
        self.soft_state_told = SoftState(self.role, self.current_term, None)
        self.draw_election_ticks()

    @property
    def configuration(self) -> Configuration:
        return self.configurations.current

    @property
    def is_admitted(self) -> bool:
        """Whether this node computes SQL as its cluster does, or as an upgrade that is declared
        (design 5.2). Else it neither votes nor campaigns."""
        return self.configurations.accepts(self.node_id, self.fingerprint)

    @property
    def is_reluctant(self) -> bool:
        """Whether others are to lead before this node. Its database can serve nobody, and it leads
        only lest others that lack entries of its log can neither. Or it is upgraded, and a voter is
        not: it makes entries that the older ones understand, but what SQLite computed the older one
        has to compute again."""
        upgrade = self.configuration.upgrade
        return self.is_unfit or (
            upgrade is not None
            and self.fingerprint == upgrade.target
            and bool(self.configuration.older_voters - {self.node_id})
        )

    @property
    def is_promotable(self) -> bool:
        """Whether this node may campaign: a voter, whose disk answers (raft.md rules 10, 13, 46).

        Also one that its latest configuration has left out, as long as that is not committed:
        it may hold the longest log, and then nobody else can be elected. Its own vote does not
        count (thesis 4.2.2).
        """
        return (
            not self.is_disk_stalled
            and self.is_admitted
            and self.configurations.is_voter_in_any(self.node_id)
        )

    @property
    def may_lead(self) -> bool:
        """What a leader cannot know by itself of a voter: its disk answers, its database is good,
        and it computes SQL as it should. Only to one that may lead it hands over."""
        return not (self.is_disk_stalled or self.is_unfit) and self.is_admitted

    @property
    def may_change_configuration(self) -> bool:
        """Both gates (raft.md rule 24): something of this term is committed, and so is the last
        configuration."""
        return (
            self.role is Role.LEADER
            and self.transfer_target is None
            and self.commit_index >= self.term_start_index
            and self.configurations.index <= self.commit_index
            and not self.configuration.outgoing
        )

    @property
    def is_in_lease(self) -> bool:
        """Whether a leader was heard so recently that nobody else should be voted for
        (thesis 4.2.3)."""
        return (
            self.leader_id is not None
            and not self.is_leader_closed
            and self.election_elapsed < self.settings.election_ticks
        )

    @property
    def is_hard_state_durable(self) -> bool:
        return self.hard_state_durable == self.hard_state_version

    def draw_election_ticks(self) -> None:
        """A new timeout between once and twice the election timeout (paper 5.2)."""
        ticks = self.settings.election_ticks
        self.randomized_election_ticks = ticks + self.random.randrange(ticks)

    def set_vote(self, term: Term, voted_for: NodeId | None) -> None:
        """Change term and vote together: one record on disk (raft.md rule 2)."""
        require(term >= self.current_term, "term {} after {}", term, self.current_term)
        require(
            term > self.current_term or self.voted_for in (None, voted_for),
            "second vote in term {}",
            term,
        )
        if (term, voted_for) != (self.current_term, self.voted_for):
            self.current_term = term
            self.voted_for = voted_for
            self.hard_state_version += 1

    def send(self, message: Message) -> None:
        """Leaves with the next output, before any fsync."""
        self.outbox.append(message)

    def send_when_durable(self, message: Message, index: Index = NO_INDEX) -> None:
        """Leaves once term and vote as they are now, and the log up to `index`, are on disk
        (raft.md rule 1)."""
        if self.hard_state_durable == self.hard_state_version and index <= self.log.durable_index:
            self.outbox.append(message)
        else:
            self.outbox_when_durable.append(message)

    def append(self, entry: Entry, configuration: Configuration | None = None) -> None:
        """Add an entry; a configuration is in force at once (thesis 4.1). `configuration` is the
        entry's, if it holds one."""
        self.log.append(entry)
        if configuration is not None:
            self.configurations.appended(entry.index, configuration)

    def truncate(self, first_removed: Index) -> None:
        """Take back entries and the configurations among them (raft.md rule 25)."""
        require(self.role is not Role.LEADER, "a leader never truncates its log")
        self.log.truncate(first_removed, self.commit_index)
        self.configurations.truncated(first_removed)

    def commit_to(self, index: Index) -> None:
        """Raise the commit index to `index`; it never goes down."""
        if index <= self.commit_index:
            return
        require(index <= self.log.last_index, "commit {} over {}", index, self.log.last_index)
        self.commit_index = index
        self.configurations.committed_to(index)
        uncommitted = self.uncommitted
        while uncommitted and uncommitted[0][0] <= index:
            self.uncommitted_bytes -= uncommitted.popleft()[1]

    def fail_forwarded_reads(self) -> None:
        """The leader that was asked is not the leader any more, or not known."""
        for context in self.forwarded_reads.drain():
            self.read_states.append(ReadState(context, None))


def _restored(configuration: Configuration, applied: Index, log: LogReader) -> ConfigurationHistory:
    """The history at start: the database's configuration, then those in the log above it."""
    history = ConfigurationHistory(configuration, applied)
    low = Index(applied + 1)
    while low <= log.last_index:
        entries = log.entries(low, Index(log.last_index + 1), SCAN_BYTES)
        require(bool(entries), "the log has no entry at {}", low)
        for entry in entries:
            if entry.kind is EntryKind.CONFIGURATION:
                history.appended(entry.index, Configuration.from_bytes(entry.data))
        low = Index(entries[-1].index + 1)
    return history
