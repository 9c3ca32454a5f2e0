"""Changes of a cluster's membership, one after the other: planned ones, and ones that are broken
into by SIGKILL and SIGSTOP. Each ends when all nodes that belong to the cluster run and agree on
who they are, and when a write was acknowledged after that.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rsqlite.cli.exits import Exit
from rsqlite.testing.cluster import (
    ClusterError,
    NodeState,
    ProcessCluster,
    ProcessNode,
    free_ports,
    wait_until,
)
from tests.e2e.files import last_configuration
from tests.e2e.history import History
from tests.e2e.pulse import Pulse

GAP_MAX_S = 0.8
"""One election timeout, the longest that is drawn with the default settings."""
SETTLE_S = 60.0
CALM_S = (0.3, 1.0)
DOWN_S = (0.1, 2.0)
NODES_MIN, NODES_MAX = 3, 5
SILENT_S = 1.5
"""After so long a node that was killed is known not to answer."""
CHANGES_LINE = '"event":"membership changes"'
LOOK_S = 0.001
STRIKE_S = 10.0
NOTHING_S = 3.0
"""What clients see when nothing is done, for comparison."""
READER = "-raft-non-voter"

Work = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Step:
    """One operation, and what clients saw of it."""

    name: str
    is_planned: bool
    what: str
    at_s: float
    seconds: float
    gap_s: float
    """The longest time without an acknowledged write."""
    unled_s: float
    """The longest time in which no node said that it led, as far as looks ten times a second see
    it."""
    late_s: float
    """How late the process that measures was at most: how busy the machine is."""

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": self.what,
            "at_s": round(self.at_s, 1),
            "seconds": round(self.seconds, 2),
            "gap_s": round(self.gap_s, 3),
            "unled_s": round(self.unled_s, 3),
            "late_s": round(self.late_s, 3),
        }


class Members:
    """Who belongs to the cluster, and what is done about it. `roles`: whether each has a vote."""

    def __init__(
        self,
        cluster: ProcessCluster,
        urls: list[str],
        targets: list[int],
        pulse: Pulse,
        history: History,
        chance: random.Random,
    ) -> None:
        self._cluster = cluster
        self._urls, self._targets = urls, targets
        self._pulse, self._history, self._chance = pulse, history, chance
        self.roles: dict[ProcessNode, bool] = dict.fromkeys(cluster.nodes, True)
        self.steps: list[Step] = []
        self._begin = time.monotonic()
        self._planned: dict[str, Work] = {
            "nothing": self._nothing,
            "add a read-only node": self._add_reader,
            "promote it": self._promote,
            "remove a follower": self._remove_follower,
            "add a voter": self._add_voter,
            "remove the leader": self._remove_leader,
            "hand over to a named node": partial(self._transfer, True),
            "hand over to anybody": partial(self._transfer, False),
            "stop the leader and start it": self._restart_leader,
            "start a node at other ports": self._move,
            "replace all nodes, one by one": self._replace_all,
            "grow to five": self._grow_to_five,
            "back to three": self._back_to_three,
            "leave at a clean stop": self._leave,
        }
        self._interrupted: dict[str, Work] = {
            "kill or pause some": self._hit_some,
            "refuse what leaves no majority": self._refuse,
            "join, and a fault in it": self._join_with_fault,
            "remove, and a fault in it": self._remove_with_fault,
            "replace, and a fault in it": self._replace_with_fault,
            "hand over, and a fault in it": self._transfer_with_fault,
        }

    async def run(self, seconds: float, only: Sequence[str] = ()) -> None:
        """Every operation once, and then any until the time is over."""
        operations = {**self._planned, **self._interrupted}
        names = list(only or operations)
        end = time.monotonic() + seconds
        await self._settle()
        while names or (not only and time.monotonic() < end):
            name = names.pop(0) if names else self._chance.choice(list(operations))
            if self._is_possible(name):
                await self._step(name, operations[name])

    def _is_possible(self, name: str) -> bool:
        voters, nodes = sum(self.roles.values()), len(self.roles)
        if name == "promote it":
            return nodes > voters
        if name.startswith(("remove", "leave")):
            return voters > NODES_MIN
        if name.startswith(("add", "join")):
            return nodes < NODES_MAX
        return True

    async def _step(self, name: str, work: Work) -> None:
        self._history.fault(name, [node.index for node in self.roles])
        begin = time.monotonic()
        what = await work()
        await self._settle()
        end = time.monotonic()
        self.steps.append(
            Step(
                name,
                name in self._planned,
                what,
                begin - self._begin,
                end - begin,
                self._pulse.longest_gap_s(begin, end),
                self._pulse.longest_without_leader_s(begin, end),
                self._pulse.latest_s(begin, end),
            )
        )
        print(json.dumps(self.steps[-1].as_json()), flush=True)
        await asyncio.sleep(self._chance.uniform(*CALM_S))

    # Planned ones

    async def _nothing(self) -> str:
        await asyncio.sleep(NOTHING_S)
        return ""

    async def _add_reader(self) -> str:
        return await self._grow(READER)

    async def _add_voter(self) -> str:
        return await self._grow()

    async def _promote(self) -> str:
        """As the docs have it: it is started again without the flag."""
        node = self._chance.choice([one for one, has_vote in self.roles.items() if not has_vote])
        await self._terminate(node)
        node.options.remove(READER)
        node.start()
        self.roles[node] = True
        return f"node {node.label}"

    async def _remove_follower(self) -> str:
        node = self._chance.choice(
            [one for one in self._voters() if one is not await self._leader()]
        )
        return await self._remove(node, self._any())

    async def _remove_leader(self) -> str:
        leader = await self._leader()
        return await self._remove(leader, leader)

    async def _leave(self) -> str:
        """A node that is stopped for good removes itself."""
        node = self._chance.choice(self._voters())
        await self._terminate(node)
        node.options.append("-raft-cluster-remove-shutdown")
        node.start()
        await self._settle()
        await self._terminate(node)
        self._forget(node)
        return f"node {node.label}"

    async def _transfer(self, is_named: bool) -> str:
        leader = await self._leader()
        others = [one for one in self._voters() if one is not leader]
        target = self._chance.choice(others) if is_named else None
        body = {"id": target.label} if target else None
        via = self._any()
        status, content = await self._request(via, "POST", "/leader", body)
        if status != 200:
            self._violate(f"POST /leader {body} was answered {status}: {content!r}")
        after = await self._leader()
        if after is leader or (target and after is not target):
            self._violate(f"{after!r} leads after {leader!r} handed over to {target!r}")
        return f"from {leader.label} to {after.label}, asked of {via.label}"

    async def _restart_leader(self) -> str:
        leader = await self._leader()
        await self._terminate(leader)
        leader.start()
        return f"node {leader.label}"

    async def _move(self) -> str:
        node = self._any()
        await self._terminate(node)
        node.http_port, node.raft_port = free_ports(2)
        self._mend_words(node)
        node.start()
        self._urls[node.index] = node.http_url
        return f"node {node.label}"

    async def _replace_all(self) -> str:
        for node in self._voters():
            await self._terminate(node)
            await self._replace(node)
            await self._settle()
        return f"{len(self._voters())} nodes"

    async def _grow_to_five(self) -> str:
        count = 0
        while len(self.roles) < NODES_MAX:
            await self._grow()
            count += 1
            if self._chance.random() < 0.5:
                await self._settle()  # else both at once
        return f"{count} more"

    async def _back_to_three(self) -> str:
        gone = []
        while len(self.roles) > NODES_MIN:
            voters = self._voters()
            # Two voters would be no cluster that can lose a disk.
            spare = [one for one in self.roles if len(voters) > NODES_MIN or one not in voters]
            node = self._chance.choice(spare)
            gone.append(await self._remove(node, self._any()))
        return ", ".join(gone)

    # Interrupted ones

    async def _hit_some(self) -> str:
        return await self._hit(await self._victims())

    async def _refuse(self) -> str:
        """Those that would be left must be able to agree, or nothing changes."""
        voters = self._voters()
        leader = await self._leader()
        down = self._chance.sample(
            [one for one in voters if one is not leader], (len(voters) - 1) // 2
        )
        if len(voters) % 2 == 0:
            return "an even number of voters can spare one more"
        for node in down:
            await asyncio.to_thread(node.kill)
        await asyncio.sleep(SILENT_S)
        alive = [one for one in voters if one not in down]
        target, via = self._chance.choice(alive), self._chance.choice(alive)
        before = await self._view(via)
        status, content = await self._request(via, "DELETE", "/remove", {"id": target.label})
        if status != 503 or b"majority" not in content:
            self._violate(f"a removal that leaves no majority: {status} {content!r}")
        if await self._view(via) != before:
            self._violate(f"a refused removal changed {before}")
        for node in down:
            node.start()
        return f"{[one.label for one in down]} down, remove {target.label}"

    async def _join_with_fault(self) -> str:
        at = self._log_ends()
        what = await self._grow()
        new = list(self.roles)[-1]
        # It becomes a learner first. Then the joint configuration gives it its vote.
        hit = await self._hit(await self._victims(new), await self._moment(at, 2))
        return f"{what}; {hit}"

    async def _remove_with_fault(self) -> str:
        if sum(self.roles.values()) <= NODES_MIN:
            await self._grow()
            await self._settle()
        node, via = self._chance.choice(self._voters()), self._any()
        at, victims = self._log_ends(), await self._victims()
        asked = asyncio.create_task(self._try(via, "DELETE", "/remove", {"id": node.label}))
        hit = await self._hit(victims, await self._moment(at, 1))
        await asked
        await asyncio.to_thread(self._insist, node)
        return f"node {node.label}, asked of {via.label}; {hit}"

    async def _replace_with_fault(self) -> str:
        """Only one disk is lost at a time: with two of three, promises end."""
        node = self._chance.choice(self._voters())
        await asyncio.to_thread(node.kill)
        at = self._log_ends()
        await self._replace(node)
        hit = await self._hit(await self._victims(node), await self._moment(at, 2))
        return f"node {node.label}; {hit}"

    async def _transfer_with_fault(self) -> str:
        leader = await self._leader()
        asked = asyncio.create_task(self._try(leader, "POST", "/leader", None))
        hit = await self._hit(await self._victims(), f"{await self._pause(0.05):.3f} s after it")
        await asked
        return f"from {leader.label}; {hit}"

    # What they are made of

    async def _grow(self, *options: str) -> str:
        node = await asyncio.to_thread(self._cluster.grow, *options)
        self._urls.append(node.http_url)
        self._targets.append(node.index)
        self.roles[node] = READER not in options
        return f"node {node.label}"

    async def _remove(self, node: ProcessNode, via: ProcessNode) -> str:
        status, content = await self._request(via, "DELETE", "/remove", {"id": node.label})
        if status != 200:
            self._violate(f"DELETE /remove of {node!r} was answered {status}: {content!r}")
        await asyncio.to_thread(self._see_exit, node)
        return f"node {node.label}, asked of {via.label}"

    def _see_exit(self, node: ProcessNode) -> None:
        code = node.wait_exit(SETTLE_S)
        if code != Exit.REMOVED or "was removed from its cluster" not in node.log_tail():
            self._violate(f"{node!r} ended with {code} when it was removed\n{node.log_tail(5)}")
        self._forget(node)

    def _forget(self, node: ProcessNode) -> None:
        del self.roles[node]
        self._targets.remove(node.index)
        shutil.rmtree(node.directory)

    async def _replace(self, node: ProcessNode) -> None:
        """Its disk is lost; it comes back with the same words, if they are good for anything."""
        former = identity_of(node)
        shutil.rmtree(node.directory)
        self._mend_words(node)
        node.start()
        await asyncio.to_thread(
            wait_until, lambda: identity_of(node) not in (None, former), SETTLE_S, node.log_tail
        )

    def _mend_words(self, node: ProcessNode) -> None:
        """`-join` of a node whose words name nobody any more, but those who left."""
        at = node.options.index("-join") + 1
        others = [one.raft_addr for one in self.roles if one is not node]
        if not set(node.options[at].split(",")) & set(others):
            node.options[at] = ",".join(others)

    async def _terminate(self, node: ProcessNode) -> None:
        code = await asyncio.to_thread(node.terminate)
        if code != Exit.OK:
            self._violate(f"{node!r} ended with {code} after SIGTERM\n{node.log_tail(5)}")

    def _insist(self, node: ProcessNode) -> None:
        """Whatever became of the first wish: it is to be gone."""

        def is_gone() -> bool:
            for other in self._cluster.running():
                if other is node or other not in self.roles:
                    continue
                try:
                    status, _ = other.request("DELETE", "/remove", {"id": node.label})
                except (OSError, http.client.HTTPException):
                    continue
                return status == 200
            return False

        wait_until(is_gone, SETTLE_S, lambda: f"{node!r} to be removed")
        self._see_exit(node)

    async def _victims(self, *others: ProcessNode) -> list[ProcessNode]:
        """Whom a fault hits: often the leader, in the middle of what it does; never a majority but
        by bad luck, when one is down already."""
        running = [node for node in self.roles if node.state is NodeState.RUNNING]
        most = max(1, (len(running) - 1) // 2)
        if self._chance.random() < 0.6:
            leader = await self._leader()
            rest = [node for node in running if node is not leader]
            return [leader, *self._chance.sample(rest, self._chance.randrange(most))]
        if others and self._chance.random() < 0.3:
            return list(others)
        return self._chance.sample(running, self._chance.randint(1, most))

    async def _hit(self, victims: Sequence[ProcessNode], when: str = "") -> str:
        is_kill = self._chance.random() < 0.7
        for node in victims:
            if node.state is NodeState.RUNNING and is_kill:
                node.send_signal(9)
            elif node.state is NodeState.RUNNING:
                node.pause()
        if is_kill:
            for node in victims:
                await asyncio.to_thread(node.wait_exit)
        joint = [node.label for node in victims if is_kill and ends_joint(node)]
        await self._pause(*DOWN_S)
        for node in victims:
            if is_kill:
                node.start()
            else:
                node.resume()
        how = "killed" if is_kill else "paused"
        text = f"{how} {[node.label for node in victims]} {when}".rstrip()
        return f"{text}, {joint} within a joint configuration" if joint else text

    async def _moment(self, at: dict[ProcessNode, int], change: int) -> str:
        """Wait for the moment to strike: a while, or until a leader proposes this configuration,
        counted from when the logs ended there."""
        if self._chance.random() < 0.3:
            return f"{await self._pause(0.0, 0.5):.3f} s after it"
        begin = time.monotonic()
        while time.monotonic() - begin < STRIKE_S:
            if sum(lines_since(node, end) for node, end in at.items()) >= change:
                return f"at change {change}"
            await asyncio.sleep(LOOK_S)
        return "late"

    def _log_ends(self) -> dict[ProcessNode, int]:
        return {node: node.log_path.stat().st_size for node in self.roles}

    async def _pause(self, shortest: float, longest: float | None = None) -> float:
        pause_s = self._chance.uniform(
            *((0.0, shortest) if longest is None else (shortest, longest))
        )
        await asyncio.sleep(pause_s)
        return pause_s

    # How it stands

    async def _settle(self) -> None:
        """Return when all agree on who the members are, all serve, and a write was taken."""
        await asyncio.to_thread(
            wait_until, self._is_settled, SETTLE_S, self._unsettled, self._check_processes
        )
        before = len(self._pulse.acknowledged_s)
        deadline = time.monotonic() + SETTLE_S
        while len(self._pulse.acknowledged_s) <= before:
            if time.monotonic() > deadline:
                raise ClusterError(f"no write was acknowledged\n{self._unsettled()}")
            await asyncio.sleep(LOOK_S)

    def _is_settled(self) -> bool:
        wanted = sorted((node.label, node.raft_addr, vote) for node, vote in self.roles.items())
        return all(node.is_ready() and view_of(node) == wanted for node in self.roles)

    def _unsettled(self) -> str:
        logs = "\n".join(node.log_tail(12) for node in self.roles)
        views = "\n".join(f"{node!r}: {view_of(node)}" for node in self.roles)
        return f"{[node.label for node in self.roles]} to settle\n{views}\n{logs}"

    def _check_processes(self) -> None:
        """No node ends by itself. One that could not join in time may: it is started again."""
        for node in self.roles:
            assert node.process is not None
            if node.state is NodeState.RUNNING and (code := node.process.poll()) is not None:
                node.wait_exit()
                if code != Exit.CLUSTER:
                    self._violate(f"{node!r} ended by itself with {code}\n{node.log_tail()}")
                node.start()

    async def _leader(self) -> ProcessNode:
        return self._cluster.nodes[await asyncio.to_thread(self._cluster.leader)]

    async def _view(self, node: ProcessNode) -> list[tuple[str, str, bool]] | None:
        return await asyncio.to_thread(view_of, node)

    async def _request(
        self, node: ProcessNode, method: str, path: str, body: object
    ) -> tuple[int, bytes]:
        return await asyncio.to_thread(
            partial(node.request, method, path, body, timeout_s=SETTLE_S)
        )

    async def _try(self, node: ProcessNode, method: str, path: str, body: object) -> None:
        """A wish whose answer may be anything, or nothing: somebody is killed meanwhile."""
        try:
            await self._request(node, method, path, body)
        except (OSError, http.client.HTTPException):
            return

    def _voters(self) -> list[ProcessNode]:
        return [node for node, has_vote in self.roles.items() if has_vote]

    def _any(self) -> ProcessNode:
        return self._chance.choice(list(self.roles))

    def _violate(self, text: str) -> None:
        self._history.violate(text)


def view_of(node: ProcessNode) -> list[tuple[str, str, bool]] | None:
    """The members as a node has them; None when it does not say."""
    try:
        nodes = node.call("GET", "/nodes?nonvoters&ver=2")["nodes"]
    except (OSError, http.client.HTTPException, ClusterError):
        return None
    return sorted((one["id"], one["addr"], one["voter"]) for one in nodes)


def identity_of(node: ProcessNode) -> int | None:
    """Its number, if it has one."""
    try:
        return int(json.loads((node.directory / "identity.json").read_text())["node_id"])
    except FileNotFoundError:
        return None


def lines_since(node: ProcessNode, end: int) -> int:
    """How many changes it has proposed since its log ended there."""
    with node.log_path.open("rb") as file:
        file.seek(end)
        return file.read().count(CHANGES_LINE.encode())


def ends_joint(node: ProcessNode) -> bool:
    """Is the last configuration in the log of a node that is down a joint one?"""
    configuration = last_configuration(node.directory)
    return configuration is not None and configuration.is_joint
