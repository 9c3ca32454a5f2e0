"""A seeded run of a cluster under faults: the whole of it replays from one number.

Messages are lost, repeated and reordered; disks are slow; servers crash and lose what was not
synced; links break one way; leadership is handed over; reads arrive anywhere; the configuration
changes; servers come back with the other fingerprint of a declared upgrade. After every step the
promises of `cluster.Oracle` and of `invariants.py` are checked. At the end faults stop, and the
cluster must come to agree.
"""

from __future__ import annotations

from collections.abc import Callable

from rsqlite.raft.state import CoreSettings
from rsqlite.raft.types import Configuration, Room, Upgrade
from tests.raft.cluster import Cluster, Server, configuration

SETTINGS = CoreSettings(
    heartbeat_ticks=2,
    election_ticks=8,
    inflight_messages_max=3,
    inflight_bytes_max=200,
    append_bytes_max=60,
    committed_bytes_max=60,
    uncommitted_bytes_max=400,
)
NETWORK_MAX = 400
"""Messages under way; more are lost, as from a full queue."""


class Simulation:
    """One run. `counts` says what happened, so that a test can see that it tests something."""

    def __init__(
        self,
        seed: int,
        voters: int,
        *,
        spare: int = 0,
        changes: bool = False,
        faults: bool = True,
        upgrade: bool = False,
    ) -> None:
        ids = range(1, voters + 1)
        self.ids = range(1, voters + spare + 1)
        self.upgrade = Upgrade("newer") if upgrade else None
        self.cluster = Cluster(
            ids,
            seed,
            spare=range(voters + 1, voters + spare + 1),
            settings=SETTINGS,
            initial=self.configuration(list(ids), []),
        )
        self.random = self.cluster.random
        self.broken: set[tuple[int, int]] = set()
        self.counts: dict[str, int] = {}
        self.contexts = 0
        self.proposals = 0
        actions: list[tuple[Callable[[], None], int]] = [
            (self.deliver, 400),
            (self.tick, 24),
            (self.sync, 120),
            (self.apply, 40),
            (self.propose, 40),
            (self.read, 20),
            (self.flush_commit, 4),
        ]
        if faults:
            possible = [
                (self.lose, 12),
                (self.repeat, 12),
                (self.crash, 2),
                (self.break_link, 2),
                (self.isolate, 1),
                (self.transfer, 2),
                (self.close, 4),
                (self.sleep, 1),
                (self.stall, 1),
                (self.change_room, 1),
                (self.sync_untold, 10),
            ]
            # Each run has some of the faults: with all of them nobody leads for long, and what
            # only a long leadership reaches is never seen.
            actions += [one for one in possible if self.random.random() < 0.6]
            actions += [(self.restart, 8), (self.mend, 5)]
        if changes:
            actions.append((self.change, 4))
        self.actions = [action for action, _ in actions]
        self.weights = [weight for _, weight in actions]

    def run(self, steps: int) -> Simulation:
        """Take so many steps, then stop all faults and settle."""
        for action in self.random.choices(self.actions, self.weights, k=steps):
            action()
            self.counts[action.__name__] = self.counts.get(action.__name__, 0) + 1
        self.settle()
        return self

    # -- what may happen ------------------------------------------------------------------------

    def some(self) -> Server | None:
        running = self.cluster.running
        return self.random.choice(running) if running else None

    def acted(self, server: Server) -> None:
        self.cluster.poll(server)
        network = self.cluster.network
        while len(network) > NETWORK_MAX:
            del network[self.random.randrange(len(network))]

    def deliver(self) -> None:
        network = self.cluster.network
        if not network:
            return
        # Mostly in order, sometimes from anywhere.
        position = 0 if self.random.random() < 0.7 else self.random.randrange(len(network))
        message = network.pop(position)
        target = self.cluster.servers.get(message.target)
        if target is None or target.raft is None:
            return
        if (message.source, message.target) in self.broken:
            return
        target.core.step(message)
        self.acted(target)

    def lose(self) -> None:
        network = self.cluster.network
        if network:
            del network[self.random.randrange(len(network))]

    def repeat(self) -> None:
        network = self.cluster.network
        if network:
            network.append(self.random.choice(network))

    def tick(self) -> None:
        # Not all clocks run alike, but nearly.
        for server in self.cluster.running:
            if self.random.random() < 0.9:
                server.core.tick()
                self.acted(server)

    def sleep(self) -> None:
        server = self.some()
        if server is not None:
            server.core.tick(self.random.randrange(40))
            self.acted(server)

    def sync(self) -> None:
        busy = [server for server in self.cluster.running if server.log.pending]
        if busy:
            server = self.random.choice(busy)
            self.cluster.sync(server)
            self.acted(server)

    def sync_untold(self) -> None:
        """Durable, but the core hears of it with the next one."""
        server = self.some()
        if server is not None and len(server.log.pending) > 1:
            self.cluster.sync(server, tell=False)

    def apply(self) -> None:
        busy = [server for server in self.cluster.running if server.to_apply]
        if busy:
            server = self.random.choice(busy)
            server.apply(self.random.randint(1, 4))
            self.acted(server)

    def propose(self) -> None:
        server = self.some()
        if server is None:
            return
        leaders = self.cluster.leaders
        if leaders and self.random.random() < 0.9:
            server = self.cluster.servers[self.random.choice(leaders).node_id]
        data = b"%d" % self.proposals * self.random.choice((1, 1, 5, 25))
        if server.core.propose(data) is not None:
            self.proposals += 1
            self.count("accepted")
        # Sometimes several share an output.
        if self.random.random() < 0.7:
            self.acted(server)

    def read(self) -> None:
        server = self.some()
        if server is None:
            return
        self.contexts += 1
        self.cluster.oracle.read_begins(server, self.contexts)
        server.core.read_index(self.contexts)
        self.acted(server)

    def flush_commit(self) -> None:
        server = self.some()
        if server is not None:
            server.core.flush_commit()
            self.acted(server)

    def transfer(self) -> None:
        for leader in self.cluster.leaders:
            target = self.random.choice([None, *self.ids])
            if leader.transfer_leadership(target):
                self.count("transfers begun")
            self.acted(self.cluster.servers[leader.node_id])

    def change(self) -> None:
        for leader in self.cluster.leaders:
            ids = list(self.ids)
            self.random.shuffle(ids)
            voters = ids[: self.random.randint(1, len(ids))]
            if self.random.random() < 0.7:
                # Mostly by one, so that a quorum is often there.
                voters = sorted(leader.configuration.voters ^ {ids[0]}) or voters
            learners = [one for one in ids if one not in voters and self.random.random() < 0.5]
            if leader.propose_configuration(self.configuration(voters, learners)):
                self.count("changes begun")
            self.acted(self.cluster.servers[leader.node_id])

    def configuration(self, voters: list[int], learners: list[int]) -> Configuration:
        """With an upgrade that is declared, and has reached whom it has."""
        if self.upgrade is None:
            return configuration(voters, learners=learners)
        servers = self.cluster.servers if hasattr(self, "cluster") else {}
        ahead = [one for one, server in servers.items() if server.fingerprint == "newer"]
        upgrade = self.upgrade._replace(members=frozenset(ahead))
        return configuration(voters, learners=learners, fingerprint="older", upgrade=upgrade)

    def crash(self) -> None:
        server = self.some()
        if server is not None:
            server.crash(self.random)
            self.closed(server.node_id)

    def restart(self) -> None:
        down = [server for server in self.cluster.servers.values() if server.raft is None]
        if down:
            server = self.random.choice(down)
            if self.upgrade is not None:
                server.fingerprint = self.random.choice(("older", "newer"))
                self.count(f"starts of the {server.fingerprint}")
            server.start()
            self.acted(server)

    def closed(self, node_id: int) -> None:
        for other in self.cluster.running:
            if other.node_id != node_id and self.random.random() < 0.7:
                other.core.peer_closed(node_id)
                self.acted(other)

    def close(self) -> None:
        """A connection breaks: what was under way on it is lost."""
        server = self.some()
        if server is None:
            return
        other = self.random.choice(self.ids)
        self.cluster.network = [
            message
            for message in self.cluster.network
            if {message.source, message.target} != {server.node_id, other}
        ]
        server.core.peer_closed(other)
        self.acted(server)

    def break_link(self) -> None:
        self.broken.add((self.random.choice(self.ids), self.random.choice(self.ids)))

    def isolate(self) -> None:
        one = self.random.choice(self.ids)
        for other in self.ids:
            self.broken |= {(one, other), (other, one)}

    def mend(self) -> None:
        self.broken.clear()

    def change_room(self) -> None:
        server = self.some()
        if server is not None:
            server.core.room_left(self.random.choice(list(Room)))

    def stall(self) -> None:
        server = self.some()
        if server is not None:
            server.core.disk_stalled(self.random.random() < 0.4)
            self.acted(server)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # -- the end of all faults --------------------------------------------------------------------

    def settle(self) -> None:
        """Everything works again: one leader, one log, everything applied, everybody served."""
        cluster = self.cluster
        self.broken.clear()
        for server in cluster.servers.values():
            if server.raft is None:
                server.start()
            server.core.disk_stalled(False)
            server.core.room_left(Room.AMPLE)
        for _ in range(40 * SETTINGS.election_ticks):
            cluster.tick()
            if self.is_settled():
                return
        raise AssertionError(
            "never settled: " + "; ".join(repr(server.core) for server in cluster.running)
        )

    def is_settled(self) -> bool:
        cluster = self.cluster
        if len(cluster.leaders) != 1:
            return False
        leader = cluster.leaders[0]
        if leader.configuration.is_joint or leader.is_transferring:
            return False
        if leader.commit_index != leader.last_index:
            return False
        members = leader.configuration.voters | leader.configuration.learners
        logs = set()
        for node_id in members:
            server = cluster.servers[node_id]
            if server.core.leader_id != leader.node_id:
                return False
            if server.core.applied_index != leader.last_index:
                return False
            logs.add(tuple(server.log.durable))
        return len(logs) == 1
