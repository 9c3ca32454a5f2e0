"""What an operator does to a simulated cluster, and the client that changes its schema.

Members come, go, move, are promoted and are replaced, also while the network is cut, and by an
operator who is wrong about who is dead. All of it is safe at any time: the cluster refuses what is
not.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from rsqlite.errors import RequestError, RsqliteError
from rsqlite.node.changes import Remove, Transfer
from rsqlite.node.engine import Engine

if TYPE_CHECKING:
    from rsqlite.testing.nemesis import Nemesis
    from rsqlite.testing.simulator import Simulation

NODES_MAX = 7
PATIENCE_S = 6.0
"""Of an operator with two nodes of one label; the network is whole again before."""
CARE_S = 1.0
"""How often it is looked whether somebody is a member who should not be."""


class Operator:
    """That of one run."""

    def __init__(self, simulation: Simulation, nemesis: Nemesis, chance: random.Random) -> None:
        self._simulation = simulation
        self._nemesis = nemesis
        self._cluster = simulation.cluster
        self._chance = chance
        self._doubles: dict[tuple[int, int], float] = {}
        """Two nodes of one label, who was taken for dead and who was started in its place, and when
        that is looked at again."""
        self._is_caring = False
        self._dismissed: set[int] = set()
        """Nodes that were started and are not wanted any more."""
        self._moves = 0
        self.kinds: dict[str, Callable[[int, Engine], None]] = {
            "transfer": self._transfer,
            "transfer in turn": self._transfer_in_turn,
            "snapshot": self._snapshot,
            "vacuum": self._vacuum,
            "verify": self._verify,
            "scrub": self._scrub,
            "add": self._add,
            "promote": self._promote,
            "remove": self._remove,
            "replace": self._replace,
            "move": self._move,
            "define": self._define,
        }

    def _transfer(self, number: int, engine: Engine) -> None:
        engine.change_membership(Transfer(), self._simulation.told)

    def _transfer_in_turn(self, number: int, engine: Engine) -> None:
        for turn in range(self._chance.choice((2, 6))):
            name = self._cluster.engines[self._chance.choice(self._simulation.running)]
            assert name is not None
            self._cluster.loop.call_later(0.2 * turn, self._transfer_to, str(name.node_id))

    def _transfer_to(self, name: str) -> None:
        for engine in self._cluster.running():
            if engine.is_leader:
                engine.change_membership(Transfer(name), self._simulation.told)

    def _snapshot(self, number: int, engine: Engine) -> None:
        engine.snapshot(self._simulation.told)

    def _vacuum(self, number: int, engine: Engine) -> None:
        engine.vacuum_all(self._simulation.told, 5.0)

    def _verify(self, number: int, engine: Engine) -> None:
        engine.verify(self._simulation.told, 5.0)

    def _scrub(self, number: int, engine: Engine) -> None:
        try:
            engine.begin_scrub()
        except RsqliteError as error:
            self._simulation.told(error)

    def _add(self, number: int, engine: Engine) -> None:
        if self._simulation.wanted < NODES_MAX:
            # It gives up when nobody lets it in for long, and its supervisor starts it again.
            self._nemesis.excuse(RequestError)
            self._cluster.grow(raft_non_voter=self._chance.random() < 0.3)

    def _promote(self, number: int, engine: Engine) -> None:
        """A read-only node is started with a vote."""
        own = self._cluster.own_settings.get(number, {})
        if own.get("raft_non_voter"):
            own["raft_non_voter"] = False
            self._simulation.crash(number, 0.5)

    def _remove(self, number: int, engine: Engine) -> None:
        if self._simulation.wanted > 3 and not self._doubles:
            self._nemesis.keep_disks()
            gone = self._cluster.engines[self._chance.choice(self._simulation.running)]
            assert gone is not None
            engine.change_membership(Remove(str(gone.node_id)), self._simulation.told)

    def _replace(self, number: int, engine: Engine) -> None:
        """Start another node in the place of one that lives, and cannot be reached."""
        core = engine.core
        if self._doubles or self._simulation.wanted >= NODES_MAX or core is None:
            return
        if len(core.configuration.voters) < 3:
            return  # the others could not have it replaced
        self._nemesis.excuse(RequestError)
        self._nemesis.keep_disks()
        self._nemesis.leave_alone(engine, self._chance.choice((1.0, PATIENCE_S)))
        if self._chance.random() < 0.7:
            self._nemesis.watch(1, voters=True)
            self._nemesis.rest(self._chance.choice((1.0, 3.0)))
        new = self._cluster.grow(node_id=engine.label)
        due = self._cluster.loop.monotonic() + PATIENCE_S
        self._doubles[number, self._cluster.number(new)] = due
        if not self._is_caring:
            self._is_caring = True
            self._care()

    def _care(self) -> None:
        """One of the two stays: the new one if it took the place of the other."""
        self._cluster.loop.call_later(CARE_S, self._care)
        leaders = [engine for engine in self._cluster.running() if engine.is_leader]
        if not leaders:
            return
        now, leader = self._cluster.loop.monotonic(), self._cluster.leader()
        members = {member.node_id for member in leader.members}
        for double in [double for double, due in self._doubles.items() if due <= now]:
            old, new = (self._cluster.engines[number] for number in double)
            if old is None and double[0] in self._simulation.removed:
                del self._doubles[double]
            elif new is not None and old is not None and old.node_id in members:
                self._nemesis.keep_disks()
                if new.node_id in members:
                    leader.change_membership(Remove(str(new.node_id)), self._simulation.told)
                else:
                    self._simulation.dismiss(double[1])
                    self._dismissed.add(new.node_id)
                    del self._doubles[double]
        for node_id in self._dismissed & members:
            leader.change_membership(Remove(str(node_id)), self._simulation.told)

    def _move(self, number: int, engine: Engine) -> None:
        """A node is started at another address, or two at each other's."""
        cluster = self._cluster
        if self._doubles or not self._simulation.is_whole or not self.are_found():
            return
        self._nemesis.keep_disks()
        others = [one for one in self._simulation.running if one != number]
        if others and self._chance.random() < 0.4:
            other = self._chance.choice(others)
            self._simulation.crash(other, 0.5)
            addresses = cluster.addresses[other], cluster.addresses[number]
            cluster.addresses[number], cluster.addresses[other] = addresses
        else:
            self._moves += 1
            cluster.addresses[number] = f"moved{self._moves}:4002"
        self._simulation.crash(number, 0.5)

    def are_found(self) -> bool:
        """All members are where the configuration says."""
        at = {member.node_id: member.raft_addr for member in self._cluster.leader().members}
        return all(
            at.get(engine.node_id) == address
            for engine, address in zip(self._cluster.engines, self._cluster.addresses, strict=True)
            if engine is not None
        )

    def _define(self, number: int, engine: Engine) -> None:
        self._simulation.workload.define(engine)
