"""The only caller of the core: synchronous, step → poll → carry out, in the promised order.

The order within one `Output` (duties of the driver, `raft/__init__.py`): the append is handed to
the log's thread first, so that the disk works while messages leave; then messages that need no
sync; then roles and reads; committed entries last, because applying them may propose the next
batch, whose output is polled in the same pump.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from rsqlite.config import Settings
from rsqlite.ports import Handle, Loop, Network
from rsqlite.raft.core import Raft
from rsqlite.raft.messages import AppendEntries, Heartbeat, InstallSnapshot, Message
from rsqlite.raft.output import AppendWork, Output, ReadState
from rsqlite.raft.types import Configuration, Entry, EntryId, Index, NodeId, Role, SoftState
from rsqlite.storage.logstore import LogStore
from rsqlite.transport.codec import decode_message, encode_message, is_urgent

T = TypeVar("T")

log = logging.getLogger(__name__)

OUTCAST_PAUSE_S = 60.0
"""Pause between two warnings that a node runs which was left out for good."""


class Listener(Protocol):
    """Who hears what the core decided."""

    def role_changed(self, soft_state: SoftState) -> None: ...

    def committed(self, entries: tuple[Entry, ...]) -> None: ...

    def image_offered(self, message: InstallSnapshot) -> None: ...

    def reads_confirmed(self, reads: tuple[ReadState, ...]) -> None: ...

    def log_lost(self, index: Index) -> None: ...

    def fail(self, error: BaseException) -> None: ...


class Driver:
    """Feeds the core with time, messages and completions, and carries out what it decides."""

    def __init__(
        self,
        *,
        core: Raft,
        log: LogStore,
        network: Network,
        loop: Loop,
        settings: Settings,
        listener: Listener,
        takes: Callable[[Sequence[Entry]], bool],
        waits_s: Callable[[], float],
    ) -> None:
        """`takes` says whether the log has room for entries that a leader sends; `waits_s` for how
        long all writes have waited for another disk than the log's."""
        self.core = core
        self._log = log
        self._network = network
        self._loop = loop
        self._settings = settings
        self._listener = listener
        self._takes = takes
        self._waits_s = waits_s
        self._is_pumping = False
        self._is_told = False
        """The core was told something since it was last asked for output."""
        self._is_stopped = False
        self._last_tick = loop.monotonic()
        self._timer: Handle | None = None
        self._flush_timer: Handle | None = None
        self._flushed_commit = core.commit_index
        self._commit_when_armed = core.commit_index
        self.is_write_alone = False
        """Set by the writer: the entry being proposed answers one request, and no other waits."""
        self.lag_max_s = 0.0
        """The longest the loop came late to a tick: what a long callback or a pause costs."""
        self.last_contact_s: dict[int, float] = {}
        self.leader_contact_s = self._last_tick
        self.led_since_s = self._last_tick
        """Of a leader: when it was elected."""
        self.commit_index_met = Index(0)
        """What a leader had committed when this node first heard of it."""
        self.dropped_frames = 0
        self._next_warning = 0.0
        self.refused_appends = 0
        """Left untaken because the log's disk has no room."""

    def __repr__(self) -> str:
        return f"<Driver {self.core.role.value} term={self.core.current_term}>"

    def start(self) -> None:
        """Begin to tick."""
        self._last_tick = self._loop.monotonic()
        self._timer = self._loop.call_later(self._settings.tick, self._on_timer)
        self.pump()

    def stop(self) -> None:
        """No more ticks, messages or output."""
        self._is_stopped = True
        for timer in (self._timer, self._flush_timer):
            if timer is not None:
                timer.cancel()

    def receive(self, source: int, kind: int, payload: bytes | memoryview) -> None:
        """Feed a peer's message. ValueError for bytes that are none, or that lie about where they
        come from: the caller closes that link."""
        if self._is_stopped:
            return
        message = decode_message(kind, payload)
        core = self.core
        if message.source != source or message.target != core.node_id:
            raise ValueError(f"a message from {message.source} on the link of {source}")
        now = self._loop.monotonic()
        # If the host slept, the time that passed counts before what arrived meanwhile, or old
        # acknowledgements would renew a dead lease (raft.md rule 45).
        if now - self._last_tick >= 2 * self._settings.tick:
            self._feed(self._advance, now)
        self.last_contact_s[source] = now
        if source == core.leader_id:
            self.leader_contact_s = now
        if type(message) is AppendEntries:
            self.commit_index_met = self.commit_index_met or message.commit_index
            if message.entries and not self._takes(message.entries):
                self.refused_appends += 1
                return  # as if it had been lost; the leader hears of our room with a heartbeat
        if (
            type(message) is Heartbeat
            and message.source == core.leader_id
            and message.term == core.current_term
            and message.commit_index > core.last_index
        ):
            # A leader tells its follower of no more than what that has acknowledged. It is not
            # answered: who has lost what it said it had counts for no majority.
            self._listener.log_lost(message.commit_index)
            return
        self._feed(core.step, message)

    def propose(self, data: bytes) -> EntryId | None:
        """Append a command if we lead. It leaves for the peers before this returns, or, when
        called from within a pump, as soon as the present output is carried out."""
        return self._feed(self.core.propose, data)

    def propose_configuration(self, configuration: Configuration) -> EntryId | None:
        """Begin to change the configuration to this one, if we lead and it may be changed."""
        return self._feed(self.core.propose_configuration, configuration)

    def offer_image(self, target: NodeId, last: EntryId, image: bytes) -> None:
        """Offer an image to a follower whose next entries are gone here."""
        self._feed(self.core.offer_image, target, last, image)

    def read_index(self, context: int) -> None:
        """Ask for an index to read at; `Listener.reads_confirmed` answers."""
        self._feed(self.core.read_index, context)

    def applied(self, index: Index) -> None:
        """The effects up to `index` are in the database."""
        try:
            self.core.applied(index)
        except Exception as error:  # noqa: BLE001 - see `_feed`
            self._listener.fail(error)
            return
        if self.core.has_more_committed:
            self.pump()  # nothing else comes of it

    def campaign(self) -> None:
        """Stand for election now; for a node that is alone."""
        self._feed(self.core.campaign)

    def peer_closed(self, node_id: int) -> None:
        """The connection of a peer broke."""
        if not self._is_stopped:
            self._feed(self.core.peer_closed, NodeId(node_id))

    def transfer_leadership(self, target: NodeId | None) -> bool:
        """Hand leadership to `target`, or to the follower that has most."""
        return bool(self._feed(self.core.transfer_leadership, target))

    def lead_reluctantly(self) -> None:
        """This node's database is not to be trusted: it leads only if nobody else can."""
        self._feed(self.core.lead_reluctantly)

    def pump(self) -> None:
        """Carry out outputs until there are none. Calls from within go to the outermost one."""
        self._is_told = True
        if self._is_pumping or self._is_stopped:
            return
        self._is_pumping = True
        try:
            while self._is_told and not self._is_stopped:
                self._is_told = False
                output = self.core.poll()
                if output is not None:
                    self._is_told = self.core.has_more_committed
                    self._carry_out(output)
        except Exception as error:  # noqa: BLE001 - see `_feed`
            self._listener.fail(error)
        finally:
            self._is_pumping = False
        if self.core.commit_index != self._flushed_commit and self._flush_timer is None:
            self._arm_flush()

    def _feed(self, tell: Callable[..., T], *args: object) -> T | None:
        """Tell the core something and carry out what follows. Whatever is raised there ends the
        node: a broken promise of our own code, a log that cannot be read, no memory. What was not
        carried out is not handed out again."""
        try:
            answer = tell(*args)
        except Exception as error:  # noqa: BLE001 - as above
            self._listener.fail(error)
            return None
        self.pump()
        return answer

    def _carry_out(self, output: Output) -> None:
        if output.append is not None:
            self._append(output.append)
        for message in output.send:
            self._send(message)
        if output.soft_state is not None:
            if output.soft_state.role is Role.LEADER:
                self.led_since_s = self._loop.monotonic()
            self._listener.role_changed(output.soft_state)
        if output.reads:
            self._listener.reads_confirmed(output.reads)
        if output.image is not None:
            self._listener.image_offered(output.image)
        if output.committed:
            self._listener.committed(output.committed)

    def _append(self, work: AppendWork) -> None:
        def done(error: BaseException | None) -> None:
            if self._is_stopped:
                return  # the listener may be living its next life
            if error is not None:
                self._listener.fail(error)
            else:
                # Only now may the replies leave (thesis 3.8): a vote or an acknowledgement that a
                # power cut can take back would count twice.
                for reply in work.replies:
                    self._send(reply)
                self._feed(self.core.appended, work.token)

        is_leader = self.core.role is Role.LEADER
        self._log.append(
            truncate_from=work.truncate_from,
            entries=work.entries,
            hard_state=work.hard_state,
            done=done,
            # A follower has nothing better to do, nor has a leader whose only client waits for
            # this; any other leader parses and answers meanwhile.
            may_block=not is_leader or self.is_write_alone,
            sends_first=is_leader,
        )

    def _send(self, message: Message) -> None:
        frame = encode_message(message)
        if not self._network.send(message.target, frame, urgent=is_urgent(frame)):
            self.dropped_frames += 1

    def flush_commit(self) -> None:
        """Tell the followers the commit index now, those that were not told yet."""
        self._feed(self.core.flush_commit)

    def _arm_flush(self) -> None:
        """A busy leader's next append carries the commit index; an idle one tells it after a short
        silence, so that followers apply and serve it (performance.md 2.4)."""
        if self.core.role is Role.LEADER:
            self._commit_when_armed = self.core.commit_index
            self._flush_timer = self._loop.call_later(
                self._settings.commit_flush_delay, self._flush_commit
            )

    def _flush_commit(self) -> None:
        self._flush_timer = None
        if self.core.commit_index != self._commit_when_armed:
            self._arm_flush()  # no silence: the appends in between have told it
            return
        self._flushed_commit = self.core.commit_index
        self._feed(self.core.flush_commit)

    def _on_timer(self) -> None:
        self._feed(self._advance, self._loop.monotonic())
        if not self._is_stopped:
            self._timer = self._loop.call_later(self._settings.tick, self._on_timer)

    def _advance(self, now: float) -> None:
        tick = self._settings.tick
        elapsed = now - self._last_tick
        ticks = int(elapsed / tick)
        if ticks < 1:
            return
        self._last_tick += ticks * tick
        self.lag_max_s = max(self.lag_max_s, elapsed - tick)
        self._tell_core_of_stall()
        self.core.tick(ticks)
        outcast = self.core.take_outcast()
        if outcast is not None and now >= self._next_warning:
            self._next_warning = now + OUTCAST_PAUSE_S
            log.error(
                "a node of before the members were forced by peers.json still runs: stop it, empty"
                " its directory, and let it join",
                extra={"node_id": outcast},
            )

    def _tell_core_of_stall(self) -> None:
        """A disk that hangs would leave a leader that looks healthy and blocks everybody (raft.md
        rule 46)."""
        waits_s = max(self._log.oldest_pending_s, self._waits_s())
        self.core.disk_stalled(waits_s > self._settings.raft_election_timeout)
