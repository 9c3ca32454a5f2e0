"""Engine: the parts of a node wired together, in callbacks and over ports.

Nothing else knows all the parts. `Node` gives it asyncio, files and sockets.
"""

from __future__ import annotations

import logging
import math
import random
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

from rsqlite.config import Settings
from rsqlite.errors import (
    DamagedDatabase,
    DamagedFile,
    DamagedPromises,
    DiskFault,
    DiskFull,
    Divergence,
    ForeignDirectory,
    NodeFault,
    NotLeader,
    RequestError,
    RsqliteError,
    Stopped,
    Unavailable,
)
from rsqlite.node import recovery
from rsqlite.node.admission import Admission
from rsqlite.node.applier import Applier
from rsqlite.node.changes import Wish
from rsqlite.node.cluster import Discovery, expects_itself, first_configuration
from rsqlite.node.compaction import Compaction, Snapshotted
from rsqlite.node.content import ContentChecks
from rsqlite.node.driver import Driver
from rsqlite.node.farewell import Farewell
from rsqlite.node.findings import Verified
from rsqlite.node.forwarding import FIRST_ID_BITS, Forwarding
from rsqlite.node.hand_back import HandBack
from rsqlite.node.images import Images
from rsqlite.node.installer import Installer, has_others
from rsqlite.node.membership import Granted, Membership
from rsqlite.node.place import Place
from rsqlite.node.questions import is_for, signed
from rsqlite.node.reader import Reader
from rsqlite.node.report import PeerLinks, status_of
from rsqlite.node.scrub import Scrub
from rsqlite.node.space import Space
from rsqlite.node.status import Status
from rsqlite.node.transfer import Transfer
from rsqlite.node.vacuum import Vacuum
from rsqlite.node.vacuums import Vacuumed, Vacuums, answer_to, is_vacuum
from rsqlite.node.verdict import Verdict
from rsqlite.node.writer import Writer
from rsqlite.ports import Disk, Handle, Loop, Network
from rsqlite.raft.core import CoreSettings, Raft
from rsqlite.raft.messages import InstallSnapshot
from rsqlite.raft.output import ReadState
from rsqlite.raft.types import (
    TERM_STEP,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Index,
    Member,
    NodeId,
    Role,
    Room,
    SoftState,
    Term,
)
from rsqlite.request import Done, ReadLevel, Request, RequestKind
from rsqlite.statemachine import results
from rsqlite.statemachine.fingerprint import behaviour_of
from rsqlite.statemachine.generations import remove_oldest
from rsqlite.statemachine.machine import StateMachine
from rsqlite.storage.directory import (
    DataDirectory,
    decide_giving_up,
    give_up_identity,
    lock_directory,
    read_configuration,
)
from rsqlite.storage.finding import REJOIN_ADVICE
from rsqlite.storage.identity import read_identity
from rsqlite.storage.logstore import LogStore
from rsqlite.storage.rewrite import mark, rewrite
from rsqlite.transport.codec import ANSWER, CALL, decode_call

log = logging.getLogger(__name__)

SWEEP_INTERVAL_S = 0.1
"""How often deadlines and free space are looked at."""
REPAIRS_KEPT = 16
"""What was damaged and repaired last is remembered for `/status`."""


class Closable(Protocol):
    def close(self) -> None: ...


class Engine:
    """A node as callbacks over ports: whatever runs it (`Node`, a simulator) brings loop, disk
    and network. `open_files`, then `run(network, …)`, in the end `halt` and `close_files`."""

    machine: StateMachine
    """The database; another object after an image was installed."""
    machine_class = StateMachine
    """Opens them; a test takes one that computes as another release does."""

    def __init__(
        self,
        path: str,
        settings: Settings,
        *,
        loop: Loop,
        disk: Disk,
        random: random.Random,
        failed: Callable[[BaseException], None],
        random_bits: Callable[[int], int] = secrets.randbits,
    ) -> None:
        """`random_bits` makes what must be like nothing else: the node's id, the cluster's id."""
        self.path = path
        self.settings = settings
        self.loop = loop
        self.disk = disk
        self._random = random
        self._random_bits = random_bits
        self._run = f"{random_bits(64):016x}"
        self._failed = failed
        self.started_at = loop.monotonic()
        self.fault: BaseException | None = None
        self.core: Raft | None = None
        self.driver: Driver | None = None
        self.is_stopping = False
        self._is_open = False
        self.installer = Installer(self)
        self.admission = Admission(self)
        self.hand_back = HandBack(self)
        self.verdict = Verdict(self)
        self.content = ContentChecks(self)
        self.vacuum = Vacuum(self)
        self.vacuums = Vacuums(self)
        self.scrub = Scrub(self)
        self.space = Space(self)
        self._unsaved: tuple[Index, bytes] | None = None
        """The last configuration, for which there was no room, and where in the log the first one
        was: without the database only the log would have it, and who may lead would not be known.
        """
        self._discovery: Discovery | None = None
        self._sweep_timer: Handle | None = None
        self._led_term: Term | None = None
        self._takes_writes = False
        self._synced_at = -math.inf
        self._watchers: list[Callable[[], None]] = []
        self.open_parts: list[Closable] = []
        self.repairs: deque[str] = deque(maxlen=REPAIRS_KEPT)
        """What was found damaged in this life of the node, and did not end it."""

    def __repr__(self) -> str:
        role = self.core.role.value if self.core is not None else "no cluster"
        return f"<{type(self).__name__} {self.path} {role}>"

    # ------------------------------------------------------------------ start and stop

    def open_files(self) -> None:
        """Lock the directory, recover the log, open the database; raises `NodeFault` with a text
        that says what to do. `DamagedPromises`: nothing is open, and whoever runs the node may
        `ask_to_give_up`."""
        try:
            self._open_with_room()
        except DamagedDatabase:
            raise
        except DiskFault:
            mark(self.path)
            raise
        except DamagedFile as damage:
            # The log, or who this node is: nothing that it has acknowledged or voted can be
            # trusted.
            if not self.settings.raft_addr or not has_others(self.path, self.disk):
                raise
            self.close_files()
            if recovery.read_peers(peers := recovery.peers_path(self.path)) is not None:
                raise DamagedFile(
                    f"{damage}. {peers} cannot be followed here: what this node has is not known."
                    " Name the sound nodes only, on those; then remove that file and start again"
                ) from damage
            holding = ExitStack()  # of the directory: nobody else may begin here meanwhile
            holding.callback(lock_directory(self.path, self.disk))
            self.open_parts.append(holding)
            # What it advises is for a node that nobody takes back by itself.
            raise DamagedPromises(str(damage).removesuffix(f". {REJOIN_ADVICE}")) from damage

    def ask_to_give_up(
        self,
        damage: DamagedPromises,
        network: Network,
        done: Callable[[RsqliteError | None], None],
    ) -> Farewell:
        """Wait until the others go on without this node; `done` may then `give_up`, unless it is
        told that they had it removed. The network is used to ask only."""
        saved = read_configuration(self.path, self.disk)
        assert saved is not None
        return Farewell(
            str(damage),
            saved,
            own_id=self._former_id(Configuration.from_bytes(saved.configuration)),
            network=network,
            loop=self.loop,
            settings=self.settings,
            done=done,
        )

    def _former_id(self, configuration: Configuration) -> NodeId | None:
        """Who this node is, if its identity can be read; else who it was by its label."""
        try:
            identity = read_identity(self.path, self.disk)
        except (DamagedFile, FileNotFoundError):
            label = self.settings.node_id
            known = [one.node_id for one in configuration.members if one.label == label]
            return known[0] if len(known) == 1 else None
        return None if identity.cluster_id is None else NodeId(identity.node_id)

    def give_up(self, damage: DamagedPromises) -> None:
        """Set identity, log and database aside, and open the files as another node, which the
        others are asked to take back. `NodeFault` as from `open_files`."""
        self.close_files()
        place = give_up_identity(self.path, self.disk, str(damage))
        self.repaired(f"identity given up: {damage}", place=place)
        self._open_with_room()

    def _open_with_room(self) -> None:
        try:
            self._open_files()
        except DiskFull as full:
            self.close_files()
            if not self.space.ballast.release():
                raise
            log.error("disk full: the ballast is given up for this start: %s", full)
            self._open_files()

    def _open_files(self) -> None:
        settings = self.settings
        self.directory = DataDirectory.open(
            self.path, disk=self.disk, label=settings.node_id, random_bits=self._random_bits
        )
        self.open_parts.append(self.directory)
        if rewrite(self.path):
            log.warning("the log was written again, after a disk fault")
        if self.directory.lacks_configuration:
            self.repaired(f"{self.directory.configuration_path} is damaged; the log has it as well")
        self.log = LogStore.open(
            self.directory.log_path,
            disk=self.disk,
            loop=self.loop,
            settings=settings,
            node_id=self.node_id,
            held=self.installer.held_index,
        )
        self.open_parts.append(self.log)
        for one in self.log.left_behind:
            self.repaired(
                f"{one.path} at byte {one.offset or 0}: {one.what}; the log begins behind it"
            )
        self.installer.open_database()
        known = self.installer.configuration.fingerprint
        if known and behaviour_of(known) > self.machine.newest_behaviour:
            raise ForeignDirectory(
                f"the cluster of {self.path} is of a newer release ({known}), whose entries this"
                f" one ({self.machine.fingerprint}) cannot carry out: start the release that the"
                " cluster runs"
            )

    def close_files(self) -> None:
        """Close what `open_files` opened, last opened first."""
        self.scrub.close()
        fault: NodeFault | None = None
        while self.open_parts:
            try:
                self.open_parts.pop().close()
            except NodeFault as error:
                fault = fault or error
        if fault is not None and self.fault is None:
            raise fault

    def run(self, network: PeerLinks, *, raft_addr: str, http_addr: str) -> None:
        """Go on in our cluster, or find one, or be one."""
        self.network = network
        self.raft_addr = raft_addr
        self.http_addr = http_addr
        self._make_parts()
        self._is_open = True
        self.begin()
        self._sweep_timer = self.loop.call_later(SWEEP_INTERVAL_S, self._sweep)
        log.info(
            "node started",
            extra={"node_id": self.node_id, "label": self.label, "cluster_id": self.cluster_id},
        )

    def halt(self, done: Callable[[], None]) -> None:
        """Answer everybody and come to rest; `done` is called when no thread uses the database."""
        self.is_stopping = True
        if self._discovery is not None:
            self._discovery.stop()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self.place.stop()
        self.images.stop()
        self.transfer.stop()
        self.compaction.stop(Stopped("the node is stopping"))
        self.membership.stop(Stopped("the node is stopping"))
        self.content.stop(Stopped("the node is stopping"))
        self.vacuum.cancel("the node is stopping")
        self.scrub.stop()
        self.vacuums.stop(Stopped("the node is stopping"))
        self.forwarding.stop()
        self.writer.stop()
        self.reader.stop()
        self.applier.is_stopped = True
        if self.driver is not None:
            self.driver.stop()
        self.machine.rollback(done)

    def _make_parts(self) -> None:
        settings = self.settings
        self.make_machine_parts()
        self.forwarding = Forwarding(
            network=self.network,
            loop=self.loop,
            settings=settings,
            leader=lambda: self.leader,
            submit=self.submit,
            serve=self._serve_forwarded,
            is_leader=lambda: self.is_leader,
            tell_commit=self._tell_commit,
            when_applied=lambda *arguments: self.reader.when_applied(*arguments),
            first_id=self._random_bits(FIRST_ID_BITS),
        )
        self.membership = Membership(
            network=self.network,
            loop=self.loop,
            settings=settings,
            own=lambda: self.place.own_member(),
            fingerprint=self.machine.fingerprint,
            leader=lambda: self.leader,
        )
        self.place = Place(
            network=self.network,
            loop=self.loop,
            settings=settings,
            own=self.own_member,
            fingerprint=self.machine.fingerprint,
            cluster_id=lambda: self.cluster_id,
            run=self._run,
            core=lambda: self.core,
            connect=self._connect_members,
            failed=self.fail,
        )
        self.images = Images(
            self.directory.images_path,
            machine=lambda: self.machine,
            loop=self.loop,
            settings=settings,
            address=self.raft_addr,
            first_index=lambda: self.log.first_index,
            has_room=self.installer.has_room,
            offer=self.installer.offer,
        )
        self.transfer = Transfer(
            self.directory.incoming_path,
            network=self.network,
            loop=self.loop,
            settings=settings,
            cluster_id=lambda: self.cluster_id,
            room_bytes=self.installer.room_bytes,
            give_way=lambda missing: remove_oldest(self.directory.quarantine_path, missing),
            arrived=self.installer.arrived,
        )
        self.compaction = Compaction(
            log=self.log,
            settings=settings,
            machine=lambda: self.machine,
            images_need=lambda: self.images.keeps_from,
            copy_needs=lambda: self.vacuum.keeps_from,
            configuration_needs=lambda: None if self._unsaved is None else self._unsaved[0],
            is_short=lambda: self.space.is_short_of_log,
        )

    def make_machine_parts(self) -> None:
        """Those that hold the database, made anew when another one is installed."""
        settings = self.settings
        self.reader = Reader(machine=self.machine, loop=self.loop, settings=settings)
        self.writer = Writer(
            machine=self.machine,
            loop=self.loop,
            settings=settings,
            resubmit=self._resubmit,
            on_failed=self.fail,
            check_room=self.space.refusal,
            is_behind=lambda: self.applier.is_behind,
        )
        self.applier = Applier(
            machine=self.machine,
            writer=self.writer,
            loop=self.loop,
            settings=settings,
            on_applied=self._applied,
            on_failed=self.fail,
            on_check=self.content.reached,
            may_apply=lambda: self.admission.is_admitted,
            on_full=self.space.database_full,
            on_readable=self.reader.applied,
        )

    def change_machine(self, machine: StateMachine) -> StateMachine:
        """Go on with another database, as far as the one in use; the answer is that one, whose
        reads may still run. Nobody may be writing."""
        old, self.machine = self.machine, machine
        old.retire()
        self.reader.use(machine)
        self.writer.use(machine)
        self.applier.use(machine)
        return old

    def hold_writes(self) -> None:
        """Begin no batch, and apply nothing of others, until `release_writes`."""
        self.writer.is_held = self.applier.is_held = True

    def _held_s(self) -> float:
        """For how long writes have waited for the disk to name another database."""
        vacuum = self.vacuum
        return self.loop.monotonic() - vacuum.replacing_since if vacuum.replacing else 0.0

    def release_writes(self) -> None:
        """Go on, unless this node has come to its end."""
        self.writer.is_held = self.applier.is_held = False
        if self.fault is None and not self.is_stopping:
            self.writer.schedule()
            self.applier.advance()

    @property
    def is_writing(self) -> bool:
        """A transaction is open, or something has the write slot."""
        return self.writer.holds_slot or self.applier.is_busy

    def begin(self) -> None:
        if self.installer.resume():
            return
        if self.cluster_id is None and self.log.last_index > 0:
            # A crash between the first entry and the identity: the entry knows the cluster.
            first = Configuration.from_bytes(self.log.entries(Index(1), Index(2), 1)[0].data)
            self.directory.set_cluster(first.cluster_id)
        # Of a start; one that somebody writes beside a running node is for its next.
        peers_path = recovery.peers_path(self.path)
        peers = None if self.core is not None else recovery.read_peers(peers_path)
        if self.cluster_id is not None:
            if peers is None:
                self._start_core()
            else:
                self._force_configuration(peers)
        elif peers is not None:
            self.fail(
                RequestError(
                    f"{peers_path} says who a cluster consists of, and this node is in none:"
                    " remove it"
                )
            )
        elif (saved := self.directory.saved_configuration()) is not None:
            # It gave its identity up: the others take it back as another node.
            self.place.come_back(Configuration.from_bytes(saved))
        elif self.settings.bootstrap_expect > 1:
            if not self.settings.join:
                log.warning("no -join: this node waits to be found by the others")
            self._discovery = Discovery(
                own=self.own_member(),
                fingerprint=self.machine.fingerprint,
                settings=self.settings,
                network=self.network,
                loop=self.loop,
                begin=self._bootstrap,
                join=self.place.join,
                failed=self.fail,
            )
            self._discovery.start()
        elif self.settings.join and not expects_itself(self.settings, self.raft_addr):
            self.place.join()
        else:
            self._bootstrap([self.own_member()])

    def _force_configuration(self, peers: list[recovery.Peer]) -> None:
        """The operator says who is left (`recovery.py`). Those of them that went on already are
        followed: to force once more could take back what they have acknowledged."""
        if self.installer.is_without_database:
            raise RequestError("the database of this node is lost: recover another node")
        machine = self.machine
        current, term = recovery.latest_configuration(
            self.log, machine.configuration, machine.applied_index
        )
        configuration = recovery.forced(current, self.own_member(), peers)
        if configuration == current and term >= TERM_STEP:
            self._forced(None)  # it was written, and then the process ended
            return
        recovery.ask_others(
            self.network,
            self.loop,
            # Also those that are to be left out: they may be a majority.
            recovery.addresses_of(configuration, current, without=self.node_id),
            own_id=self.node_id,
            cluster_id=configuration.cluster_id,
            last_term=self.log.term(self.log.last_index) or Term(0),
            timeout_s=self.settings.peer_connect_timeout,
            done=lambda others: self._force(configuration, others),
        )

    def _force(self, configuration: Configuration, others: recovery.Others) -> None:
        if self.is_stopping or self.fault is not None:
            return
        if others.went_on:
            log.info("the others went on already, as peers.json says")
            self._forced(None)
            return
        if others.leader:
            self.fail(
                RequestError(
                    f"the node at {others.leader} leads this cluster: a majority is there, and"
                    f" nothing is forced. Remove {recovery.peers_path(self.path)}, and start again"
                )
            )
            return
        entry, hard_state = recovery.forcing_entry(self.log, configuration)
        log.warning(
            "the members are forced by peers.json",
            extra={"index": entry.index, "members": [one.label for one in configuration.members]},
        )
        self.log.append(
            truncate_from=None, entries=(entry,), hard_state=hard_state, done=self._forced
        )

    def _forced(self, error: BaseException | None) -> None:
        if self.is_stopping or self.fault is not None:
            return
        try:
            if error is not None:
                raise error
            recovery.finish(self.path)
        except (NodeFault, OSError) as fault:
            self.fail(fault)
            return
        self._start_core()

    def _bootstrap(self, members: list[Member]) -> None:
        """Write the first configuration, then the cluster's id, then begin. A crash in between
        leaves an entry without identity, which the next start completes."""
        configuration = first_configuration(
            members,
            fingerprint=self.machine.fingerprint,
            cluster_id=f"{self._random_bits(128):032x}",
        )
        entry = Entry(Term(1), Index(1), EntryKind.CONFIGURATION, configuration.to_bytes())

        def written(error: BaseException | None) -> None:
            if self.is_stopping or self.fault is not None:
                return
            if error is not None:
                self.fail(error)
                return
            try:
                self.directory.set_cluster(configuration.cluster_id)
            except NodeFault as fault:
                self.fail(fault)
                return
            log.info("cluster formed", extra={"cluster_id": configuration.cluster_id})
            self._start_core()

        self.log.append(
            truncate_from=None, entries=(entry,), hard_state=HardState(Term(1)), done=written
        )

    def _start_core(self) -> None:
        settings = self.settings
        tick = settings.tick
        committed = Index(0) if self.core is None else self.core.commit_index
        self.core = Raft(
            node_id=self.node_id,
            settings=CoreSettings(
                heartbeat_ticks=max(1, round(settings.raft_heartbeat / tick)),
                election_ticks=max(3, round(settings.raft_election_timeout / tick)),
                inflight_messages_max=settings.inflight_messages_max,
                inflight_bytes_max=settings.inflight_bytes_max,
                append_bytes_max=settings.append_bytes_max,
                append_entries_max=settings.append_entries_max,
                committed_bytes_max=settings.committed_bytes_max,
                uncommitted_bytes_max=settings.uncommitted_bytes_max,
            ),
            log=self.log,
            hard_state=self.log.hard_state,
            configuration=self.installer.configuration,
            applied=self.installer.applied_index,
            random=self._random,
            fingerprint=self.machine.fingerprint,
            committed=committed,
        )
        self.admission.look()
        self.driver = Driver(
            core=self.core,
            log=self.log,
            network=self.network,
            loop=self.loop,
            settings=settings,
            listener=self,
            takes=self.space.takes,
            waits_s=self._held_s,
        )
        self.reader.wire(self.driver, self.applier.hurry, lambda: self.applier.readable_index)
        self.writer.wire(self.driver, self.reader.confirm, self._slot_freed)
        self.membership.wire(self.driver)
        self._connect_members()
        configuration = self.core.configurations.committed.to_bytes()
        if not self.installer.is_without_database and (
            self.core.configuration.members
            and configuration != self.directory.saved_configuration()
        ):
            self._save_configuration(configuration)
        self.content.began(self.log.last_index)
        self.driver.start()
        self.place.core_started()
        self.installer.core_started()
        if self.core.configuration.voters == {self.node_id}:
            self.driver.campaign()

    # ------------------------------------------------------------------ what the node knows

    @property
    def node_id(self) -> NodeId:
        return NodeId(self.directory.identity.node_id)

    @property
    def label(self) -> str:
        return self.directory.identity.label or self.raft_addr or "1"

    @property
    def cluster_id(self) -> str | None:
        return self.directory.identity.cluster_id

    @property
    def is_leader(self) -> bool:
        return self.core is not None and self.core.role is Role.LEADER

    @property
    def leader(self) -> Member | None:
        """Whom this node follows, itself included; None while nobody is known."""
        core = self.core
        if core is None or core.leader_id is None:
            return None
        return core.configuration.member(core.leader_id)

    @property
    def members(self) -> tuple[Member, ...]:
        return () if self.core is None else self.core.configuration.members

    @property
    def is_synced(self) -> bool:
        """A leader is known, and what it is known to have committed is applied here, or was a
        heartbeat ago: a busy follower is always a few milliseconds behind."""
        core = self.core
        if core is None or core.leader_id is None or self.fault is not None:
            return False
        if core.role is Role.LEADER:
            return core.is_ready
        if self.machine.applied_index >= core.commit_index:
            return True
        return self.loop.monotonic() - self._synced_at < self.settings.raft_heartbeat

    def own_member(self) -> Member:
        """This node as a configuration would name it."""
        return Member(self.node_id, self.label, self.raft_addr, self.http_addr)

    def identity(self) -> Mapping[str, object]:
        """What this node tells anybody who asks who it is."""
        # Of what is committed: what is not may be taken back.
        history = None if self.core is None else self.core.configurations
        members = () if history is None else history.committed.members
        return {
            **self.own_member()._asdict(),
            "run": self._run,
            "cluster_id": self.cluster_id,
            "fingerprint": self.machine.fingerprint,
            "fingerprints": [] if history is None else sorted(history.fingerprints),
            "members": {str(member.node_id): member.raft_addr for member in members},
            "term": 0 if self.core is None else self.core.current_term,
            "leader": "" if self.leader is None else self.leader.raft_addr,
            "configuration_index": 0 if history is None else history.committed_index,
            "committed_term": 0
            if self.core is None
            else self.log.term(self.core.commit_index) or 0,
            "quorum_checks": 0 if self.core is None else self.core.quorum_checks,
            # We lead, and there is none that is newer: who is not in it is in none.
            "is_settled": self.core is not None and self.core.may_change_configuration,
        }

    @property
    def refuses(self) -> bool:
        """Nothing can be asked of this node's database now."""
        return self.installer.refuses or not self.admission.is_admitted

    def status(self) -> Status:
        """A picture of everything, taken now."""
        return status_of(self)

    # ------------------------------------------------------------------ requests

    def submit(self, request: Request, done: Done) -> None:
        """Serve a request; `done` gets its outcome or the reason why there is none, exactly once,
        possibly before this returns."""
        if self.fault is not None or self.is_stopping or self.refuses:
            done(self._stopped())
            return
        self.writer.commit_now()  # before anything is read after the answer to it
        if (
            request.level is ReadLevel.NONE
            and request.kind is RequestKind.QUERY
            and not (request.freshness_s or request.timeout_s)
            and request.min_index <= self.machine.applied_index
        ):
            self.reader.reads += 1
            self.machine.query(request, done)
            return
        deadline = self.loop.monotonic() + (request.timeout_s or self.settings.request_timeout)
        try:
            writes = request.kind is RequestKind.EXECUTE or (
                request.kind is RequestKind.MIXED and not self._only_reads(request)
            )
        except NodeFault as fault:
            self.fail(fault)
            done(self._stopped())
            return
        if writes:
            if is_vacuum(request):
                timeout_s = deadline - self.loop.monotonic()
                self.vacuums.submit(lambda *answer: done(answer_to(*answer)), timeout_s)
                return
            if self.is_leader:
                self.writer.submit(request, done, deadline)
            else:
                self.forwarding.submit(request, done, deadline)
            return
        if request.timeout_s:
            # A read in a thread is stopped by its own clock.
            request.db_timeout_s = min(request.db_timeout_s or math.inf, request.timeout_s)
        level = request.level
        if level is ReadLevel.AUTO:
            core = self.core
            is_voter = core is not None and self.node_id in core.configuration.voters
            level = ReadLevel.WEAK if is_voter else ReadLevel.NONE
            request.level = level
        if level is ReadLevel.WEAK:
            core = self.core
            if core is None or core.role is not Role.LEADER:
                self.forwarding.submit(request, done, deadline)
                return
            if not core.is_ready or self.space.is_database_full:
                # It leads, but has not applied everything that it or its predecessors acknowledged.
                request.level = ReadLevel.LINEARIZABLE
        self.reader.submit(request, done, deadline)

    def may_read_aside(self, level: ReadLevel) -> bool:
        """May a thread read the database file by itself now, and have what this level promises?
        Asked on that thread: nothing is changed here, and no more than attributes are looked at."""
        if self.fault is not None or self.is_stopping or self.installer.refuses:
            return False
        if self.writer.is_ahead_of_file or not self.machine.may_read_beside:
            return False
        core = self.core
        if level is ReadLevel.WEAK:
            is_behind = core is None or not core.is_ready or self.space.is_database_full
            return core is not None and core.role is Role.LEADER and not is_behind
        return level is ReadLevel.NONE

    def change_membership(self, wish: Wish, granted: Granted, timeout_s: float = 0.0) -> None:
        """See to a wish of an operator; `granted` is called once, with the error if there is one.
        The wish to hand leadership over counts as fulfilled when this node leads no more."""
        if self.fault is not None or self.is_stopping:
            granted(self._stopped())
            return
        self.membership.submit(wish, granted, timeout_s)

    def snapshot(self, done: Snapshotted, timeout_s: float = 0.0) -> None:
        """Make a checkpoint now and cut the log behind it; `done` is called once."""
        if self.fault is not None or self.is_stopping or self.installer.is_under_way:
            done(False, self._stopped())
            return
        now = self.loop.monotonic()
        self.compaction.snapshot(now, timeout_s or self.settings.request_timeout, done)

    def verify(self, done: Verified, timeout_s: float = 0.0) -> None:
        """Have the contents of all nodes compared as of one index; `done` is called once."""
        if self.fault is not None or self.is_stopping or self.refuses:
            done(None, self._stopped())
            return
        self.content.verify(done, timeout_s)

    def vacuum_all(self, done: Vacuumed, timeout_s: float = 0.0) -> None:
        """Have the databases of all nodes written anew, one after the other; `done` is called
        once."""
        if self.fault is not None or self.is_stopping or self.refuses:
            done(None, self._stopped())
            return
        self.vacuums.submit(done, timeout_s)

    def begin_scrub(self) -> None:
        """Begin to read through all that is on the disk, unless that goes on already; an error when
        it cannot be done. `status` tells how far it is."""
        if self.core is None and not (self.fault or self.is_stopping or self.refuses):
            raise Unavailable("this node has no cluster yet")
        if self.fault is not None or self.is_stopping or self.core is None:
            raise self._stopped()
        self.scrub.begin()

    def _only_reads(self, request: Request) -> bool:
        """In doubt it writes: what takes longer to look at than the loop has time for is run by the
        leader's writer, in a thread, which finds the same."""
        classify, clock = self.machine.classify, self.loop.monotonic
        ends = clock() + self.settings.read_loop_time_max
        return all(classify(sql, ends) is True and clock() < ends for sql in request.sqls)

    def _serve_forwarded(self, request: Request, done: Done) -> None:
        """A request that another node sent because it believes that we lead."""
        if not self.is_leader:
            core = self.core
            leader_id = core.leader_id if core is not None else None
            done(NotLeader(leader_id=leader_id))
            return
        self.submit(request, done)

    def _tell_commit(self) -> None:
        if self.driver is not None:
            self.driver.flush_commit()

    def _resubmit(self, request: Request, done: Done, deadline: float) -> None:
        """Send a request again that was certainly not applied."""
        left = deadline - self.loop.monotonic()
        if self.fault is not None or self.is_stopping:
            done(self._stopped())
        elif request.is_forwarded and not self.is_leader:
            done(NotLeader())
        elif left <= 0:
            done(Unavailable("no leader took the request in time"))
        else:
            request.timeout_s = left
            self.submit(request, done)

    def _stopped(self) -> RsqliteError:
        if isinstance(self.fault, RsqliteError):
            return self.fault
        if self.refuses and not self.is_stopping:
            refuser = self.installer if self.installer.refuses else self.admission
            return refuser.refusal()
        return Stopped("the node is stopping" if self.fault is None else str(self.fault))

    # ------------------------------------------------------------------ what the parts tell

    def role_changed(self, soft_state: SoftState) -> None:
        """From the driver. Every change of term rolls back the speculation before anything else
        is applied (design 4)."""
        leads = soft_state.role is Role.LEADER
        if self._led_term is not None and (not leads or soft_state.term != self._led_term):
            self.writer.lose()
        self._led_term = soft_state.term if leads else None
        self._takes_writes = False
        log.info(
            "role changed",
            extra={
                "role": soft_state.role.value,
                "term": soft_state.term,
                "leader": soft_state.leader_id,
            },
        )
        if leads:
            self.applier.hurry()
        if soft_state.leader_id is not None:
            self.forwarding.leader_changed()
        self.loop.call_soon(self.membership.advance)
        self._tell_watchers()

    def committed(self, entries: tuple[Entry, ...]) -> None:
        """From the driver."""
        is_urgent = self.is_leader or self.reader.is_waiting_for_index
        configuration: bytes | None = None
        for entry in entries:
            if entry.kind is EntryKind.CONFIGURATION:
                configuration = entry.data
        if configuration is not None:
            self.admission.look()  # before it applies what comes after the end of an upgrade
        self.applier.committed(entries, is_urgent=is_urgent)
        if configuration is not None:
            self._connect_members()
            self._save_configuration(configuration)
            self.place.configuration_committed()
            self.loop.call_soon(self.membership.advance)

    def _save_configuration(self, data: bytes) -> None:
        try:
            known = 0 if self.core is None else self.log.term(self.core.commit_index) or 0
            self.directory.save_configuration(data, max(known, self.machine.applied_term))
            self._unsaved = None
        except DiskFull as full:
            log.warning("%s; it is saved when there is room", full)
            index = self.core.configurations.committed_index if self.core else Index(0)
            self._unsaved = (self._unsaved[0] if self._unsaved else index, data)
        except NodeFault as fault:
            self.fail(fault)

    def log_lost(self, index: Index) -> None:
        """From the driver: the leader knows of entries that this node had on its disk, and they are
        not there. An old copy of the directory was put back, say; votes may be missing as well. The
        next start comes back as another node."""
        reason = (
            f"this node had acknowledged entries up to {index}, and its log ends at"
            f" {self.log.last_index}: an old copy of the data directory was put back, or the disk"
            " lost what it had synced"
        )
        try:
            decide_giving_up(self.path, self.disk, reason)
        except NodeFault as fault:
            self.fail(fault)
            return
        self.fail(DamagedFile(reason))

    def image_offered(self, message: InstallSnapshot) -> None:
        """From the driver."""
        if not self.installer.is_under_way:
            self.transfer.offered(message)

    def reads_confirmed(self, reads: tuple[ReadState, ...]) -> None:
        """From the driver."""
        self.reader.confirmed(reads)

    def _applied(self, index: Index) -> None:
        assert self.driver is not None
        self.driver.applied(index)
        if index >= self.driver.core.commit_index:
            self._synced_at = self.loop.monotonic()
        self.reader.applied(index)
        if not self._takes_writes and self.core is not None and self.core.is_ready:
            # Everything before our no-op is applied: what waited for that may begin.
            self._takes_writes = True
            self.writer.schedule()
        try:
            self.machine.maintain()
        except NodeFault as fault:
            self.fail(fault)
        if self._watchers:
            self._tell_watchers()

    def _slot_freed(self) -> None:
        self.applier.advance()
        self._tell_watchers()  # a stop waits for it

    def receive(self, source: int, kind: int, payload: bytes | memoryview) -> None:
        """From the network; ValueError makes it close that link."""
        if self.driver is None:
            return
        if kind == CALL:
            self.forwarding.called(source, *decode_call(payload))
        elif kind == ANSWER:
            self.forwarding.answered(source, *decode_call(payload))
        else:
            self.driver.receive(source, kind, payload)

    def asked(
        self, question: Mapping[str, Any], answer: Callable[[Mapping[str, object]], None]
    ) -> None:
        """From the network: a question of another node."""
        answer = signed(self.node_id, answer)
        if not is_for(self.node_id, question):
            text = f"node {self.node_id} answers here, and another one is asked"
            answer({"error": "Unavailable", "text": text, "fate": "NOT_APPLIED"})
        elif self._is_open and "image" in question:
            if question["image"] != self.cluster_id or self.refuses or self.fault is not None:
                answer({"error": "Unavailable", "text": "no image can be had here now"})
            else:
                self.images.asked(question.get("from"), answer)
        elif self._is_open and "verdict" in question:
            answer(self.verdict.asked(question["verdict"]))
        elif self._is_open and "content" in question:
            self.content.asked(question, answer)
        elif self._is_open and "vacuum" in question:
            self.vacuums.asked(question, answer)
        elif self._is_open:
            self.membership.asked(question, answer)
        else:
            answer({"error": "Stopped", "text": "the node is starting", "leader": ""})

    def served(self, name: str, answer: Callable[[bytes | None], None]) -> None:
        """From the network: a part of an image is fetched. Not of a database that is in doubt: it
        and its copy would be two of a majority."""
        if self._is_open and not self.is_stopping and self.fault is None:
            self.images.serve(name, answer)
        else:
            answer(None)

    def link_closed(self, node_id: int) -> None:
        if self.driver is not None and not self.is_stopping:
            self.forwarding.link_closed(node_id)
            self.driver.peer_closed(node_id)

    def accept_cluster(self, cluster_id: str, source: int) -> bool:
        """An invitation while this node has no cluster: take the first one, for ever."""
        if self.cluster_id is not None:
            return self.cluster_id == cluster_id
        if self.is_stopping or not self._is_open:
            return False
        if self.place.cluster_id not in ("", cluster_id):
            return False
        if self.settings.bootstrap_expect < 2 and not self.place.joins:
            return False
        if self._discovery is not None:
            self._discovery.stop()
        try:
            self.directory.set_cluster(cluster_id)
        except NodeFault as fault:
            self.fail(fault)
            return False
        log.info("cluster found", extra={"cluster_id": cluster_id, "from": source})
        self._start_core()
        return True

    def _connect_members(self) -> None:
        self.network.connect(
            {
                member.node_id: self.place.address_of(member)
                for member in self.members
                if member.node_id != self.node_id
            }
        )

    def or_fail(self, work: Callable[[], None]) -> None:
        """Do what nobody waits for, and without which this is no node: what it raises ends it."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the loop would log it, and nobody would hear
            self.fail(results.node_fault(error) or error)

    def _sweep(self) -> None:
        self.or_fail(self._sweep_all)
        fault = self.log.failure or self.machine.fault
        if fault is not None:
            self.fail(fault)
        if self.fault is None or isinstance(self.fault, Divergence):
            self._sweep_timer = self.loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    def _sweep_all(self) -> None:
        now = self.loop.monotonic()
        self.writer.sweep(now)
        self.reader.sweep(now)
        self.forwarding.sweep(now)
        self.membership.sweep(now)
        self.place.sweep(now)
        if self.core is not None and not self.installer.is_under_way:
            self.admission.sweep(now)
            self.hand_back.sweep(now)
            self.installer.sweep(now)
            self.transfer.sweep(now)
            self.verdict.sweep(now)
            self.content.sweep(now)
            self.vacuum.sweep(now)
            self.vacuums.sweep(now)
            self.scrub.sweep(now)
            self.images.sweep(now, self.core)
            self.compaction.sweep(now)
        self.space.sweep(now)
        if self._unsaved is not None and self.space.room is Room.AMPLE:
            self._save_configuration(self._unsaved[1])
        self.machine.look_at_checksums()

    def fail(self, error: BaseException) -> None:
        """The node cannot go on (an I/O error, damage, a broken invariant). Nothing is retried:
        it answers everybody and asks its owner to stop it. A replica that diverged only stops
        applying and serving; it still appends, acknowledges and votes (design 6)."""
        is_over = self.fault is not None and not isinstance(self.fault, Divergence)
        if is_over or self.is_stopping or (self.fault and isinstance(error, Divergence)):
            return
        self.fault = error = results.node_fault(error) or error
        if isinstance(error, DiskFault):
            mark(self.path)
        self.scrub.stop()
        self.fault = error = self.installer.note(error)
        told = {"fault": str(error), "kind": type(error).__name__}
        if isinstance(error, DamagedDatabase):
            told["database"] = self.machine.path  # SQLite does not say which
        log.error("node failed", extra=told)
        fault = error if isinstance(error, RsqliteError) else NodeFault(str(error))
        self.writer.stop()
        self.reader.stop(fault)
        if isinstance(error, Divergence):
            if self.driver is not None:
                self.driver.lead_reluctantly()
            self._tell_watchers()
            return
        self._end(error)

    def repaired(self, what: str, **details: object) -> None:
        """Something was damaged; it is mended, or will be by the others."""
        log.error(what, extra=details)
        self.repairs.append(what)

    def give_up_database(self, reason: str) -> None:
        """The others agree that this node's database is wrong: it ends, and its next start has that
        one set aside and another one fetched. Its own log would do for a page that was damaged, and
        not for SQL that is computed otherwise here."""
        log.error("the database is given up", extra={"reason": reason})
        self.fault = self.installer.note(DamagedDatabase(reason), wants_image=True)
        self._end(self.fault)

    def _end(self, error: BaseException) -> None:
        """Stop everything, and ask the owner to stop this node."""
        for part in self.open_parts:
            if isinstance(part, StateMachine):
                part.leave_wal()
        self.place.stop()
        self.compaction.stop(Stopped(str(error)))
        self.membership.stop(Stopped(str(error)))
        self.content.stop(Stopped(str(error)))
        self.vacuums.stop(Stopped(str(error)))
        self.forwarding.stop()
        self.applier.is_stopped = True
        if self.driver is not None:
            self.driver.stop()
        self._failed(error)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` whenever the role, the applied index or the fault may have changed; the
        answer ends that."""
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    def _tell_watchers(self) -> None:
        for callback in list(self._watchers):
            callback()
