"""Whole nodes on virtual time: `Engine`s over a `Switchboard`, real files and real SQLite.

Nothing runs unless the test advances the clock, and threads are none: a run with the same seed
takes the same decisions. The seed is RSQLITE_TEST_SEED, or 1, and the name of the directory: no
two clusters of a test are alike.
"""

from __future__ import annotations

import dataclasses
import os
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rsqlite.config import MIB, Settings
from rsqlite.errors import DamagedPromises, RsqliteError
from rsqlite.node.changes import Wish
from rsqlite.node.engine import Engine
from rsqlite.node.farewell import Farewell
from rsqlite.raft.types import NodeId
from rsqlite.request import Answer, Outcome, ReadLevel, Request, RequestKind
from rsqlite.statemachine.machine import StateMachine
from rsqlite.testing.frail import CrampedDisk
from rsqlite.testing.loop import ManualLoop, PausableLoop
from rsqlite.testing.network import MemoryNetwork, Switchboard

QUIET = Settings(segment_bytes=1 * MIB, disk_reserve_bytes=0, leader_wait=1.0)


FAREWELL_S = 20.0
"""How long a node whose promises are damaged waits for the others."""


class EngineCluster:
    """`size` nodes that know each other's addresses; `start` forms them into a cluster."""

    def __init__(
        self,
        directory: Path,
        size: int,
        *,
        seed: int = 0,
        disks: Mapping[int, CrampedDisk] | None = None,
        **settings: Any,
    ) -> None:
        self.loop = ManualLoop()
        chosen = os.environ.get("RSQLITE_TEST_SEED", "1")
        self.random = random.Random(f"{chosen} {seed} {directory.name}")
        self.board = Switchboard(self.loop, self.random)
        self.directory = directory
        addresses = [f"node{number}:4002" for number in range(size)]
        base = dataclasses.replace(
            QUIET,
            bootstrap_expect=size if size > 1 else 0,
            join=",".join(addresses) if size > 1 else "",
        )
        self.settings = dataclasses.replace(base, **settings)
        self.addresses = addresses
        self.told: dict[int, str] = {}
        """Where single nodes say that they are, if it is not where they are."""
        self.own_settings: dict[int, dict[str, Any]] = {}
        """What differs for single nodes."""
        self.releases: dict[int, type[StateMachine]] = {}
        """Nodes that compute SQL as another release does."""
        self.engines: list[Engine | None] = [None] * size
        self.networks: list[MemoryNetwork | None] = [None] * size
        self.disks = defaultdict(CrampedDisk) if disks is None else disks
        self.asking: dict[int, tuple[MemoryNetwork, Farewell, Engine]] = {}
        """Those that wait until the others go on without them."""
        self.work_delay_s: Callable[[int], float] = lambda number: 0.0
        """After what time the thread of a node's log begins a piece of work."""
        self.loops: dict[int, PausableLoop] = {}
        """What each node that runs sees of the loop."""
        self.faults: list[tuple[int, BaseException]] = []

    def start(self) -> Engine:
        """Start every node; the leader once there is one that is ready."""
        for number in range(len(self.engines)):
            self.start_node(number)
        return self.wait_leader()

    def grow(self, **settings: Any) -> Engine:
        """Start one more node, that asks to join."""
        return self.start_node(self.plan(**settings))

    def plan(self, **settings: Any) -> int:
        """The number of one more node, that is not started yet and will ask to join."""
        number = len(self.addresses)
        join = ",".join(self.addresses)
        self.addresses.append(f"node{number}:4002")
        self.engines.append(None)
        self.networks.append(None)
        self.own_settings[number] = {"bootstrap_expect": 0, "join": join, **settings}
        return number

    def start_node(self, number: int) -> Engine:
        """Start a node in its directory, new or again. The clock is advanced where it has to wait
        until the others go on without it; DamagedPromises if they do not within `FAREWELL_S`."""
        engine = self.make_engine(number)
        try:
            try:
                engine.open_files()
            except DamagedPromises as damage:
                self._wait_and_give_up(number, engine, damage)
        except BaseException:
            engine.close_files()
            raise
        return self.run_engine(number, engine)

    def _wait_and_give_up(self, number: int, engine: Engine, damage: DamagedPromises) -> None:
        ends: list[RsqliteError | None] = []
        self.ask_to_give_up(number, engine, damage, ends.append)
        end = self.loop.monotonic() + FAREWELL_S
        while not ends:
            if self.loop.monotonic() >= end:
                self.stop_asking(number)
                raise damage
            self.loop.advance(0.005)
        if ends[0] is not None:
            raise ends[0] from damage
        engine.give_up(damage)

    def ask_to_give_up(
        self,
        number: int,
        engine: Engine,
        damage: DamagedPromises,
        done: Callable[[RsqliteError | None], None],
    ) -> None:
        """Let an engine without open files ask the others; `done` once they go on without it."""
        network = self.board.network(
            node_id=NodeId(0),
            address=f"node{number}, which asks and listens to nobody",
            identity=dict,
            cluster_id=lambda: None,
            accept_cluster=lambda *_: False,
            asked=lambda *_: None,
            served=lambda *_: None,
            receive=lambda *_: None,
            opened=lambda node_id: None,
            closed=lambda node_id: None,
        )

        def others_go_on(error: RsqliteError | None) -> None:
            self.asking.pop(number)
            network.stop()
            done(error)

        network.start()
        farewell = engine.ask_to_give_up(damage, network, others_go_on)
        self.asking[number] = network, farewell, engine

    def stop_asking(self, number: int) -> None:
        """As if the process that asks were killed."""
        network, farewell, engine = self.asking.pop(number)
        farewell.stop()
        network.stop()
        engine.close_files()

    def make_engine(self, number: int) -> Engine:
        """The engine of a node, that has no files open yet."""
        delay = partial(self.work_delay_s, number)
        loop = self.loops[number] = PausableLoop(self.loop, delay)
        engine = Engine(
            str(self.directory / f"node{number}"),
            dataclasses.replace(
                self.settings, **{"node_id": f"n{number}", **self.own_settings.get(number, {})}
            ),
            loop=loop,
            disk=self.disks[number],
            random=random.Random(self.random.getrandbits(64)),
            failed=lambda error: self.faults.append((number, error)),
            random_bits=self.random.getrandbits,
        )
        engine.machine_class = self.releases.get(number, StateMachine)
        return engine

    def run_engine(self, number: int, engine: Engine) -> Engine:
        """Let an engine whose files are open take part."""
        address, loop = self.addresses[number], self.loops[number]
        network = self.board.network(
            node_id=engine.node_id,
            address=address,
            identity=engine.identity,
            cluster_id=lambda: engine.cluster_id,
            accept_cluster=lambda *asked: not loop.is_paused and engine.accept_cluster(*asked),
            asked=loop.from_outside(engine.asked),
            served=loop.from_outside(engine.served),
            receive=loop.from_outside(engine.receive),
            opened=lambda node_id: None,
            closed=loop.from_outside(engine.link_closed),
            is_asleep=lambda: loop.is_paused,
        )
        self.engines[number], self.networks[number] = engine, network
        network.start()
        engine.run(
            network, raft_addr=self.told.get(number, address), http_addr=f"node{number}:4001"
        )
        return engine

    def kill(self, number: int) -> None:
        """End a node without hand-over; what is not on its disk is gone."""
        engine, network = self.engines[number], self.networks[number]
        assert engine is not None
        assert network is not None
        self.engines[number] = self.networks[number] = None
        network.stop()
        engine.halt(lambda: None)
        engine.close_files()

    def close(self) -> None:
        """Stop what still runs."""
        for number in tuple(self.asking):
            self.stop_asking(number)
        for number, engine in enumerate(self.engines):
            if engine is not None:
                self.kill(number)

    def running(self) -> list[Engine]:
        """The nodes that run."""
        return [engine for engine in self.engines if engine is not None]

    def until(self, holds: Callable[[], bool], seconds: float = 10.0) -> None:
        """Advance the clock until `holds()`; AssertionError after `seconds` of it."""
        end = self.loop.monotonic() + seconds
        while not holds():
            assert self.loop.monotonic() < end, f"not within {seconds} s"
            self.loop.advance(0.005)

    def wait_leader(self) -> Engine:
        """The node that leads, once it is ready."""
        self.until(lambda: any(engine.is_leader and engine.is_synced for engine in self.running()))
        return self.leader()

    def leader(self) -> Engine:
        """The leader of the highest term."""
        leaders = [engine for engine in self.running() if engine.is_leader]
        return max(leaders, key=lambda engine: engine.core.current_term if engine.core else 0)

    def followers(self) -> list[Engine]:
        """The others."""
        leader = self.leader()
        return [engine for engine in self.running() if engine is not leader]

    def disk(self, engine: Engine) -> CrampedDisk:
        """The disk of a node."""
        return self.disks[self.number(engine)]

    def number(self, engine: Engine) -> int:
        """Its place in `engines`."""
        return self.engines.index(engine)

    def change(self, engine: Engine, wish: Wish, seconds: float = 10.0) -> RsqliteError | None:
        """Wish for a change of the membership, and wait for the answer."""
        answers: list[RsqliteError | None] = []
        engine.change_membership(wish, answers.append)
        self.until(lambda: bool(answers), seconds)
        return answers[0]

    def isolate(self, *group: Engine) -> None:
        """Cut these off from all others, in both directions."""
        for one in group:
            for other in self.running():
                if other not in group:
                    self.board.cut(one.node_id, other.node_id)
                    self.board.cut(other.node_id, one.node_id)

    def ask(self, engine: Engine, request: Request) -> list[Answer]:
        """Submit; the answer appears in the list once it is there."""
        answers: list[Answer] = []
        engine.submit(request, answers.append)
        return answers

    def answer(self, engine: Engine, request: Request, seconds: float = 10.0) -> Answer:
        """Submit and advance the clock until it is answered."""
        answers = self.ask(engine, request)
        self.until(lambda: bool(answers), seconds)
        return answers[0]

    def execute(self, engine: Engine, *sqls: str, **options: Any) -> Outcome:
        """Run statements; they must be answered with an outcome."""
        answer = self.answer(engine, execute(*sqls, **options))
        assert isinstance(answer, Outcome), answer
        return answer

    def rows(
        self, engine: Engine, sql: str, level: ReadLevel = ReadLevel.LINEARIZABLE
    ) -> list[tuple[Any, ...]]:
        """The rows of one query."""
        answer = self.answer(engine, Request(RequestKind.QUERY, [sql], [None], level=level))
        assert isinstance(answer, Outcome), answer
        (result,) = answer.results
        return [tuple(row) for row in result.rows]  # type: ignore[union-attr]


def execute(*sqls: str, **options: Any) -> Request:
    """A request of writing statements without parameters."""
    return Request(RequestKind.EXECUTE, list(sqls), [None] * len(sqls), **options)
