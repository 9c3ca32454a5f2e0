"""A group of cores in memory: servers with a disk that forgets what was not synced, and what must
hold between them. Scripts move it by hand, the simulation by chance."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rsqlite.raft.core import CoreSettings, Raft
from rsqlite.raft.messages import Message
from rsqlite.raft.output import AppendWork, Output
from rsqlite.raft.quorum import quorum_index
from rsqlite.raft.types import (
    Configuration,
    Entry,
    EntryId,
    EntryKind,
    HardState,
    Index,
    Member,
    Role,
    Upgrade,
)

SETTINGS = CoreSettings(heartbeat_ticks=3, election_ticks=10)


def configuration(
    voters: Iterable[int],
    *,
    outgoing: Iterable[int] = (),
    learners: Iterable[int] = (),
    fingerprint: str = "",
    upgrade: Upgrade | None = None,
) -> Configuration:
    """A configuration of nodes that are called by their numbers."""
    voters, outgoing, learners = set(voters), set(outgoing), set(learners)
    return Configuration(
        members=tuple(
            Member(node_id, f"n{node_id}", "", "")
            for node_id in sorted(voters | outgoing | learners)
        ),
        voters=frozenset(voters),
        outgoing=frozenset(outgoing),
        learners=frozenset(learners),
        fingerprint=fingerprint,
        upgrade=upgrade,
    )


def entries(*terms: int, data: bytes = b"") -> list[Entry]:
    """A log of commands with these terms, as the figures of the paper draw them."""
    return [
        Entry(term, index, EntryKind.COMMAND, data or b"%d@%d" % (index, term))
        for index, term in enumerate(terms, start=1)
    ]


class MemoryLog:
    """A log on a disk that knows what was synced. `first_index` can be raised, as if cut."""

    def __init__(self, log: Sequence[Entry] = (), hard_state: HardState | None = None) -> None:
        self.view = list(log)
        self.durable = list(log)
        self.hard_state = hard_state or HardState(log[-1].term if log else 0)
        self.pending: list[AppendWork] = []
        self.first_index = 1

    @property
    def last_index(self) -> int:
        return len(self.view)

    def term(self, index: int) -> int | None:
        if index == 0:
            return 0
        if not self.first_index - 1 <= index <= len(self.view):
            return None
        return self.view[index - 1].term

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        assert self.first_index <= low <= high <= len(self.view) + 1
        found, size = [], 0
        for entry in self.view[low - 1 : high - 1]:
            size += len(entry.data)
            if found and size > bytes_max:
                break
            found.append(entry)
        return found

    def append(self, work: AppendWork) -> None:
        """The work is given to the disk."""
        _write(self.view, work, len(work.entries))
        self.pending.append(work)

    def sync(self) -> AppendWork:
        """The oldest work becomes durable."""
        work = self.pending.pop(0)
        _write(self.durable, work, len(work.entries))
        if work.hard_state is not None:
            self.hard_state = work.hard_state
        return work

    def power_loss(self, rng: random.Random | None = None) -> None:
        """Unsynced works are lost; with `rng`, some of the oldest may have reached the disk, the
        last of those in part: its hard state first, then its entries in order."""
        if rng is not None and self.pending:
            for _ in range(rng.randrange(len(self.pending) + 1)):
                self.sync()
            if self.pending and rng.random() < 0.5:
                work = self.pending[0]
                if work.hard_state is not None:
                    self.hard_state = work.hard_state
                _write(self.durable, work, rng.randrange(len(work.entries) + 1))
        self.pending.clear()
        self.view = list(self.durable)


def _write(image: list[Entry], work: AppendWork, count: int) -> None:
    if work.truncate_from is not None:
        del image[work.truncate_from - 1 :]
    for entry in work.entries[:count]:
        assert entry.index == len(image) + 1, "a work leaves a gap"
        image.append(entry)


@dataclass
class Database:
    """What applying leaves: the entries, in order, and the configuration among them."""

    initial: Configuration
    applied: list[Entry] = field(default_factory=list)

    @property
    def configuration(self) -> Configuration:
        for entry in reversed(self.applied):
            if entry.kind == EntryKind.CONFIGURATION:
                return Configuration.from_bytes(entry.data)
        return self.initial


class Server:
    """One node: its disk survives a crash, its core does not."""

    def __init__(
        self,
        node_id: int,
        initial: Configuration,
        rng: random.Random,
        *,
        settings: CoreSettings = SETTINGS,
        log: MemoryLog | None = None,
        applied: int = 0,
        fingerprint: str = "",
    ) -> None:
        self.fingerprint = fingerprint
        self.node_id = node_id
        self.settings = settings
        self.random = rng
        self.log = log or MemoryLog()
        self.database = Database(initial, self.log.view[:applied])
        self.to_apply: list[Entry] = []
        self.reads: dict[int, int | None] = {}
        self.raft: Raft | None = None
        self.start()

    @property
    def core(self) -> Raft:
        assert self.raft is not None, f"{self.node_id} is down"
        return self.raft

    def start(self, committed: int = 0) -> None:
        """Begin a life with what the disk holds, and what this process knows still."""
        self.raft = Raft(
            node_id=self.node_id,
            settings=self.settings,
            log=self.log,
            hard_state=self.log.hard_state,
            configuration=self.database.configuration,
            applied=len(self.database.applied),
            random=self.random,
            fingerprint=self.fingerprint,
            committed=Index(committed),
        )

    def crash(self, rng: random.Random | None = None) -> None:
        """Lose everything that was not synced; of the database, with `rng`, some of its end."""
        self.raft = None
        self.log.power_loss(rng)
        self.to_apply.clear()
        if rng is not None and self.database.applied:
            del self.database.applied[rng.randint(0, len(self.database.applied)) :]
        self.reads.clear()

    def apply(self, count: int | None = None) -> None:
        """Bring handed-over entries into the database."""
        batch = self.to_apply[:count]
        if batch:
            del self.to_apply[: len(batch)]
            self.database.applied += batch
            self.core.applied(batch[-1].index)


class Cluster:
    """Servers, the messages between them, and the promises of the whole (paper, Figure 3)."""

    def __init__(
        self,
        voters: Iterable[int],
        seed: int = 0,
        *,
        spare: Iterable[int] = (),
        settings: CoreSettings = SETTINGS,
        initial: Configuration | None = None,
    ) -> None:
        """`spare` servers begin with an empty configuration, waiting to be added. `initial` instead
        of a plain one of the voters."""
        self.random = random.Random(seed)
        self.settings = settings
        self.initial = initial or configuration(voters)
        self.servers: dict[int, Server] = {}
        self.network: list[Message] = []
        self.oracle = Oracle(self)
        for node_id in sorted(self.initial.voters):
            self.add_server(node_id, self.initial)
        for node_id in spare:
            self.add_server(node_id, Configuration())

    def add_server(self, node_id: int, initial: Configuration) -> Server:
        rng = random.Random(self.random.getrandbits(64))
        server = Server(
            node_id, initial, rng, settings=self.settings, fingerprint=self.initial.fingerprint
        )
        self.servers[node_id] = server
        return server

    def __getitem__(self, node_id: int) -> Raft:
        return self.servers[node_id].core

    @property
    def running(self) -> list[Server]:
        return [server for server in self.servers.values() if server.raft is not None]

    @property
    def leaders(self) -> list[Raft]:
        return [s.core for s in self.running if s.core.role is Role.LEADER]

    def poll(self, server: Server) -> list[Output]:
        """Take everything a server has to say; works and messages are queued, not carried out."""
        outputs: list[Output] = []
        is_told = True
        # A leader that commits its own removal steps down within the poll: look before it does.
        self.oracle.looked(server)
        while (output := server.core.poll()) is not None:
            # Whoever polls once after each call, and again if there is more, misses nothing (the
            # driver does).
            assert is_told, f"left behind: {output}"
            is_told = server.core.has_more_committed
            outputs.append(output)
            if output.append is not None:
                self.oracle.appended(output.append, server)
                server.log.append(output.append)
            self.network += output.send
            server.to_apply += output.committed
            for read in output.reads:
                server.reads[read.context] = read.index
            self.oracle.polled(server, output)
        self.oracle.looked(server)
        return outputs

    def sync(self, server: Server, *, tell: bool = True) -> AppendWork:
        """The oldest work of a server becomes durable, its replies leave."""
        work = server.log.sync()
        self.network += work.replies
        if tell:
            server.core.appended(work.token)
        return work

    # -- without faults: what most unit tests want ---------------------------------------------

    def run(self, cut: Iterable[int] = ()) -> None:
        """Poll, sync, apply, deliver until nothing is left. Messages of and to `cut` are lost."""
        cut = set(cut)
        busy = True
        while busy:
            busy = False
            for server in self.running:
                busy |= bool(self.poll(server))
                while server.log.pending:
                    self.sync(server)
                    self.oracle.looked(server)
                    busy = True
                server.apply()
            messages, self.network = self.network, []
            for message in messages:
                busy = True
                target = self.servers.get(message.target)
                if target is None or target.raft is None or {message.source, message.target} & cut:
                    continue
                target.core.step(message)
                self.oracle.looked(target)

    def tick(self, n: int = 1, cut: Iterable[int] = (), only: Iterable[int] | None = None) -> None:
        """Let time pass, one tick at a time, with everything carried out in between."""
        for _ in range(n):
            for server in self.running:
                if only is None or server.node_id in only:
                    server.core.tick()
            self.run(cut)

    def elect(self, node_id: int, cut: Iterable[int] = ()) -> Raft:
        """Make this one the leader."""
        # The others must have given up the old one, or they would not vote.
        quiet = self.settings.election_ticks
        for server in self.running:
            if server.node_id != node_id and server.core.role is not Role.LEADER:
                server.core._state.election_elapsed = quiet
                server.core._state.randomized_election_ticks = 3 * quiet
        self[node_id].campaign()
        self.run(cut)
        assert self[node_id].role is Role.LEADER
        return self[node_id]


class Oracle:
    """Remembers everything that ever happened, and says when it contradicts itself."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.leaders: dict[int, int] = {}
        self.seen: dict[EntryId, tuple[int, EntryKind, bytes]] = {}
        self.committed: list[EntryId] = []
        self.fresh_reads: dict[tuple[int, int], int] = {}
        self.confirmed_reads = 0

    def appended(self, work: AppendWork, server: Server) -> None:
        """Log matching: an entry with the same index and term has the same content and the same
        entry before it, in every log, so all before it are equal too."""
        if not work.entries:
            return
        before = work.entries[0].index - 1
        # The log below may itself be on its way to the disk; it is in `view` by now.
        kept = before if work.truncate_from is None else min(before, work.truncate_from - 1)
        assert kept == before or not before, "a work leaves a gap"
        previous = server.log.view[before - 1].term if before else 0
        for entry in work.entries:
            fact = (previous, entry.kind, entry.data)
            assert self.seen.setdefault(EntryId(entry.term, entry.index), fact) == fact, entry
            previous = entry.term

    def polled(self, server: Server, output: Output) -> None:
        core = server.core
        soft_state = output.soft_state
        if soft_state is not None and soft_state.role is Role.LEADER:
            # Election safety: one leader a term.
            first = self.leaders.setdefault(soft_state.term, server.node_id)
            assert first == server.node_id, f"two leaders in term {soft_state.term}"
            # Leader completeness: everything that was ever committed, anywhere.
            for entry_id in self.committed:
                assert server.log.term(entry_id.index) == entry_id.term, (
                    f"{server.node_id} leads term {soft_state.term} without {entry_id}"
                )
        for entry in output.committed:
            # Only what is on this disk is handed over.
            assert server.log.durable[entry.index - 1] == entry
        for read in output.reads:
            known = self.fresh_reads.get((server.node_id, read.context), 0)
            # Linearizable: at or after everything that was committed when the read came.
            assert read.index is None or read.index >= known, f"stale read on {core!r}"
            self.confirmed_reads += read.index is not None

    def looked(self, server: Server) -> None:
        core = server.core
        commit_index = core.commit_index
        log = core._state.log
        # State machine safety: what one takes for committed, everybody does. Only the new part has
        # to be compared: a core never changes what is committed (its invariant 18).
        checked = getattr(core, "checked", 0)
        for index in range(checked + 1, commit_index + 1):
            entry_id = EntryId(log.term(index), index)
            if index <= len(self.committed):
                assert self.committed[index - 1] == entry_id, f"{core!r} differs at {index}"
            else:
                self._newly_committed(core, entry_id)
                self.committed.append(entry_id)
        core.checked = commit_index  # type: ignore[attr-defined]

    def _newly_committed(self, core: Raft, entry_id: EntryId) -> None:
        """Somebody commits this first: it must be on the disks of a quorum, crashed ones too."""
        assert core.role is Role.LEADER, f"{core!r} knows more than any leader did"
        holds = {}
        for node_id, server in self.cluster.servers.items():
            durable = server.log.durable
            holds[node_id] = (
                1
                if len(durable) >= entry_id.index
                and durable[entry_id.index - 1].term == entry_id.term
                else 0
            )
        # The configuration may have moved on in the same call: of those since, one must agree.
        stack = core._state.configurations._stack
        assert any(quorum_index(one, holds) >= 1 for _, one in stack), (
            f"{entry_id} is committed on {sorted(n for n in holds if holds[n])}"
        )

    def read_begins(self, server: Server, context: int) -> None:
        """A read arrives: it may not miss anything that is committed now."""
        self.fresh_reads[server.node_id, context] = len(self.committed)
