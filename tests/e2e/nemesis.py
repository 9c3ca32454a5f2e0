"""The faults of an acceptance run: SIGKILL and SIGSTOP of some, most or all nodes, in any order.

Each fault ends with every node running, and the next one comes only when a write was acknowledged
again: a cluster that never recovers is found here, and one that refuses everything does not pass.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from rsqlite.testing.cluster import ClusterError, NodeState, ProcessCluster, ProcessNode
from tests.e2e.clients import Clients

RECOVERY_S = 20.0
"""From the last node's start to the next acknowledged write. Starting Python five times on two
cores is most of it; an election takes one second."""
DOWN_S = (0.2, 2.0)
CALM_S = (0.2, 1.5)
POLL_S = 0.05

Fault = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Nemesis:
    cluster: ProcessCluster
    clients: Clients
    chance: random.Random
    terms: set[int] = field(default_factory=set)
    leaders: set[tuple[int, int]] = field(default_factory=set)
    recoveries_s: list[float] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        """Faults for `seconds`; the four that every run must have come first, in any case."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        first: list[Fault] = [
            self.kill_leader,
            self.kill_all,
            self.pause_leader,
            self.kill_minority,
        ]
        others: list[tuple[Fault, int]] = [
            (self.kill_leader, 3),
            (self.kill_minority, 3),
            (self.kill_majority, 2),
            (self.kill_all, 2),
            (self.pause_leader, 3),
            (self.pause_minority, 2),
            (self.pause_majority, 1),
            (self.pause_and_kill, 2),
            (self.kill_again_and_again, 1),
            (self.terminate_one, 1),
        ]
        await self._wait_for_progress()
        while first or loop.time() < end:
            if first:
                fault = first.pop(0)
            else:
                fault = self.chance.choices(
                    [one for one, _ in others], [weight for _, weight in others]
                )[0]
            await self._note_leader()
            await fault()
            await self._wait_for_progress()
            await asyncio.sleep(self.chance.uniform(*CALM_S))
        await self._note_leader()

    # The faults

    async def kill_leader(self) -> None:
        await self._kill("kill leader", await self._leader(1))

    async def kill_minority(self) -> None:
        await self._kill("kill minority", self._some(self._minority()))

    async def kill_majority(self) -> None:
        await self._kill("kill majority", self._some(self._minority() + 1))

    async def kill_all(self) -> None:
        self._note("kill all", self.cluster.nodes)
        await asyncio.to_thread(self.cluster.kill_all)
        nodes = list(self.cluster.nodes)
        self.chance.shuffle(nodes)
        for node in nodes:
            node.start()
            await self._for_a_while(0.0, 0.3)

    async def pause_leader(self) -> None:
        await self._pause("pause leader", await self._leader(1), 3.0)

    async def pause_minority(self) -> None:
        await self._pause("pause minority", self._some(self._minority()), 3.0)

    async def pause_majority(self) -> None:
        await self._pause("pause majority", self._some(self._minority() + 1), 3.0)

    async def pause_and_kill(self) -> None:
        """A paused leader wakes up in a cluster that went on without it and lost another node."""
        (paused,) = await self._leader(1)
        self._note("pause leader, kill another", [paused])
        paused.pause()
        await self._for_a_while(*DOWN_S)
        others = [node for node in self.cluster.nodes if node is not paused]
        killed = self.chance.choice(others)
        await asyncio.to_thread(killed.kill)
        paused.resume()
        await self._for_a_while(*DOWN_S)
        killed.start()

    async def kill_again_and_again(self) -> None:
        (node,) = self._some(1)
        self._note("kill again and again", [node])
        for _ in range(3):
            await asyncio.to_thread(node.kill)
            node.start()
            await self._for_a_while(0.1, 1.5)

    async def terminate_one(self) -> None:
        (node,) = self._some(1)
        await asyncio.to_thread(node.wait_ready)
        self._note("terminate", [node])
        code = await asyncio.to_thread(node.terminate)
        if code != 0:
            self._violate(f"{node!r} ended with {code} after SIGTERM")
        node.start()

    # What they are made of

    async def _kill(self, name: str, nodes: Sequence[ProcessNode]) -> None:
        self._note(name, nodes)
        for node in nodes:
            await asyncio.to_thread(node.kill)
        await self._for_a_while(*DOWN_S)
        for node in nodes:
            node.start()

    async def _pause(self, name: str, nodes: Sequence[ProcessNode], longest_s: float) -> None:
        self._note(name, nodes)
        for node in nodes:
            node.pause()
        await self._for_a_while(0.5, longest_s)
        for node in nodes:
            node.resume()

    def _minority(self) -> int:
        return (len(self.cluster.nodes) - 1) // 2

    def _some(self, count: int) -> list[ProcessNode]:
        return self.chance.sample(self.cluster.nodes, count)

    async def _leader(self, count: int) -> list[ProcessNode]:
        """The leader and `count` - 1 others."""
        leader = self.cluster.nodes[await asyncio.to_thread(self.cluster.leader)]
        others = [node for node in self.cluster.nodes if node is not leader]
        return [leader, *self.chance.sample(others, count - 1)]

    async def _for_a_while(self, shortest: float, longest: float) -> None:
        await asyncio.sleep(self.chance.uniform(shortest, longest))

    def _note(self, name: str, nodes: Sequence[ProcessNode]) -> None:
        self._check_processes()
        self.clients.history.fault(name, [node.index for node in nodes])

    def _violate(self, text: str) -> None:
        self.clients.history.violate(text)

    def _check_processes(self) -> None:
        """A node that ended on its own has met a fault or broken a promise."""
        for node in self.cluster.nodes:
            assert node.process is not None
            if node.state is NodeState.RUNNING and (code := node.process.poll()) is not None:
                self._violate(f"{node!r} ended by itself with {code}\n{node.log_tail()}")
                node.wait_exit()
                node.start()

    async def _wait_for_progress(self) -> None:
        """Return when one more write is acknowledged, now that all nodes run."""
        self._check_processes()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        before = len(self.clients.ledger.sure)
        while len(self.clients.ledger.sure) <= before:
            if loop.time() - begin > RECOVERY_S:
                logs = "\n".join(node.log_tail() for node in self.cluster.nodes)
                raise ClusterError(f"no write acknowledged for {RECOVERY_S} s\n{logs}")
            self._check_processes()
            await asyncio.sleep(POLL_S)
        self.recoveries_s.append(loop.time() - begin)

    async def _note_leader(self) -> None:
        leader = await asyncio.to_thread(self.cluster.leader)
        status = await asyncio.to_thread(self.cluster.nodes[leader].raft_status)
        self.terms.add(int(status["term"]))
        self.leaders.add((int(status["term"]), leader))
