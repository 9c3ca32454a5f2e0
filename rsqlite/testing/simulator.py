"""A cluster of whole nodes under faults, in one thread, on virtual time, from one seed.

`simulate.py` is the command that runs it.

Everything but sockets and HTTP is the real thing: Raft, the log, SQLite, images, membership,
forwarding. Files are real ones too, on a disk that loses what was not synced (`frail.py`), SQLite's
included; give `--directory` in memory.

A run has two phases. While clients work (`workload.py`), the nemesis does its worst (`nemesis.py`):
no answer may be wrong, and no node may end with anything but what the nemesis excuses. Then
everything is made good, and the cluster must be whole again, every request answered, all nodes
equal and every directory clean, within a bound. Equal seeds give equal traces.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rsqlite.config import KIB, MIB
from rsqlite.errors import DamagedPromises, NodeFault, RemovedFromCluster, RsqliteError
from rsqlite.node.engine import Engine
from rsqlite.statemachine.machine import StateMachine
from rsqlite.testing import frailos, frailvfs
from rsqlite.testing.ending import judge, judge_files, read_through, until_verified
from rsqlite.testing.engines import QUIET, EngineCluster
from rsqlite.testing.frail import Died, FrailDisk
from rsqlite.testing.nemesis import Nemesis
from rsqlite.testing.operator import NODES_MAX
from rsqlite.testing.workload import SCHEMA, Workload, Wrong, expect

STEPS = 1000
LAG_MAX = 20
"""Entries that a follower may be behind in a cluster that is whole."""
WHOLE_S = 120.0
"""Virtual seconds that a cluster without faults has to be whole again, and to answer everybody."""
LIVES_MAX = 50
"""A node that starts so often in one run does not come back."""


class Simulation:
    """One run."""

    def __init__(
        self, seed: int, directory: Path, *, size: int | None = None, **settings: int
    ) -> None:
        """`size`: of a cluster to which only happens what its owner does, with these settings."""
        self.seed = seed
        self._chance = chance = random.Random(f"simulation {seed}")
        self.size = chance.choice((1, 3, 3, 3, 3, 5))
        self.has_images = chance.random() < 0.8
        """The log is cut early, so followers that were away need them."""
        self.is_churn = chance.random() < 0.25
        """The members change all the time, and little else happens."""
        self.is_sick = not self.is_churn and self.size > 1 and chance.random() < 0.15
        """One of the databases is changed behind its node's back. (Of an image nobody could tell
        any more who is right.)"""
        if self.is_sick:
            self.has_images = False
        if size is not None:
            self.size = size
            self.has_images = self.is_churn = self.is_sick = False
        self.has_power: bool | None = None
        """When a node ends in the midst of a call; None: as chance has it."""
        kept = {
            "raft_snap": chance.choice((16, 64, 256)),
            "raft_snap_int": 0.1,
            "log_keep_bytes": chance.choice((64, 256)) * KIB,
        }
        self.disks: defaultdict[int, FrailDisk] = defaultdict(FrailDisk)
        self.cluster = EngineCluster(
            directory,
            self.size,
            seed=seed,
            disks=self.disks,
            join_interval=0.5,
            **{
                "log_inline_sync_max": chance.choice((0.0, QUIET.log_inline_sync_max)),
                "segment_bytes": chance.choice((64 * KIB, MIB)),
                "fk": chance.random() < 0.5,
                **(kept if self.has_images else {}),
                **settings,
            },
        )
        self._slowest_s = [chance.choice((0.0, 0.002, 0.02, 0.1)) for _ in range(NODES_MAX)]
        """By node: how long its disk takes at most."""
        self.cluster.work_delay_s = self._work_delay_s
        self.trace: list[str] = []
        self.workload = Workload(chance)
        self.nemesis = Nemesis(self, chance)
        self._starts: dict[int, float] = {}
        """When nodes that are down start again."""
        self.removed: set[int] = set()
        """Nodes that were told that they are no members, or are not wanted any more."""
        self._lives: Counter[int] = Counter()
        self._faults_seen = 0
        self._faults_buried: dict[int, int] = {}
        """By node: so many of all faults are of lives that are over."""

    def _work_delay_s(self, number: int) -> float:
        return self._chance.random() * self._slowest_s[number % NODES_MAX]

    # What the nemesis uses

    def slow_down(self, number: int, slowest_s: float) -> None:
        """Let the disk of a node take so long at most, from now on."""
        self._slowest_s[number % NODES_MAX] = slowest_s

    def say(self, what: str) -> None:
        """A line of the trace."""
        what = what.replace(f"{self.cluster.directory}/", "")
        self.trace.append(f"{self.cluster.loop.monotonic():10.4f} {what}")

    def told(self, *answer: object) -> None:
        """What came of a wish of the operator."""
        self.say(f"told: {', '.join(str(part)[:160] for part in answer)}")

    @property
    def running(self) -> list[int]:
        """The numbers of the nodes that run."""
        engines = enumerate(self.cluster.engines)
        return [number for number, engine in engines if engine is not None]

    @property
    def awake(self) -> list[int]:
        """Those of them that are not paused."""
        return [number for number in self.running if not self.cluster.loops[number].is_paused]

    @property
    def wanted(self) -> int:
        """Nodes that were not removed."""
        return len(self.cluster.addresses) - len(self.removed)

    @property
    def is_whole(self) -> bool:
        """Every node is a member, and has applied what the leader has."""
        leader = self._leader()
        if leader is None or leader.core is None or self.awake != self.running:
            return False
        if self._starts or self.cluster.asking:
            return False
        members = {member.node_id for member in leader.members}
        engines = self.cluster.running()
        return not leader.core.configuration.is_joint and (
            members == {engine.node_id for engine in engines}
            and all(engine.is_synced and engine.fault is None for engine in engines)
            and all(
                leader.machine.applied_index - engine.machine.applied_index < LAG_MAX
                for engine in engines
            )
        )

    @property
    def is_level(self) -> bool:
        """Nobody has more than the others: one that forgets what it acknowledged costs nothing."""
        logs = [engine.log for engine in self.cluster.running()]
        return len({index for log in logs for index in (log.last_index, log.durable_index)}) == 1

    def disk_of(self, path: str) -> FrailDisk | None:
        """Whose disk holds a file."""
        name = os.path.relpath(path, self.cluster.directory).split(os.sep)[0]
        number = name.removeprefix("node")
        return self.disks[int(number)] if number.isdecimal() else None

    def directory_of(self, number: int) -> Path:
        """Where a node has its files."""
        return self.cluster.directory / f"node{number}"

    def join_again(self, number: int) -> None:
        """A node asks the others, as they are now, to take it in at its next start."""
        own = self.cluster.own_settings.setdefault(number, {})
        own.update(bootstrap_expect=0, join=",".join(self.cluster.addresses))

    def start_soon(self, number: int) -> None:
        """Start a node that does not run."""
        self._starts[number] = self.cluster.loop.monotonic()

    def dismiss(self, number: int) -> None:
        """End a node for good."""
        self.say(f"n{number} is not wanted any more")
        self.removed.add(number)
        self._end(number, 0.0)

    def crash(
        self, number: int, pause_s: float, *, has_power: bool = True, is_now: bool = False
    ) -> None:
        """End a process in the midst of something, or `is_now`; it starts again after a pause."""
        for _ in range(0 if is_now else self._chance.choice((0, 0, 5, 30))):
            with self._burying():
                self.cluster.loop.step()
        self._end(number, pause_s, has_power=has_power)

    def _end(self, number: int, pause_s: float, *, has_power: bool = True) -> None:
        engine, network = self.cluster.engines[number], self.cluster.networks[number]
        if engine is None or network is None:
            return
        network.stop()
        self.workload.cut_off(engine)
        self._faults_buried[number] = len(self.cluster.faults)
        disk = self.disks[number]
        disk.kill()
        for part in engine.open_parts:
            if isinstance(part, StateMachine):
                part.leave_wal()
        try:
            self.cluster.kill(number)
        except NodeFault as fault:
            self.say(f"n{number} closed with {fault}")
        # Those who wait are answered on the loop, as a closed connection would tell them.
        self.cluster.loops[number].resume()
        lost = disk.revive(None if has_power else self._chance)
        self.say(f"n{number} ended, {lost} writes lost")
        self._starts[number] = self.cluster.loop.monotonic() + pause_s

    # A run

    def run(self, steps: int = STEPS) -> None:
        """Both phases. `Wrong`, or whatever else a node raised that it must not."""
        self.say(f"{self.size} nodes; {', '.join(self.nemesis.kinds)}")
        self.begin()
        often = 0.3 if self.is_churn else self._chance.choice((0.005, 0.02, 0.05, 0.1, 0.2))
        pauses_s = (0.005, 0.05, 0.1) if self.is_churn else (0.0005, 0.005, 0.02)
        for _ in range(steps):
            self.advance(self._chance.choice(pauses_s))
            for _ in range(self._chance.choice((0, 1, 1, 4))):
                if self.awake:
                    engine = self.cluster.engines[self._chance.choice(self.awake)]
                    assert engine is not None
                    self.workload.operate(engine)
            if self._chance.random() < often:
                self.nemesis.act()
        self.end()

    def begin(self) -> None:
        """Start the nodes, and make the tables."""
        self.cluster.execute(self.cluster.start(), *SCHEMA)

    def end(self) -> None:
        """Make everything good, and judge what is there then."""
        self.nemesis.end()
        self.say(f"everything is made good, after {self.cluster.board.delivered} frames")
        self.until_whole()
        if self.nemesis.has_flipped:
            read_through(self)
        if self.nemesis.has_tampered:
            until_verified(self)
        judge(self.cluster, self.workload)
        self._check_files()

    def advance(self, seconds: float) -> None:
        end = self.cluster.loop.monotonic() + seconds
        while (left := end - self.cluster.loop.monotonic()) > 0:
            with self._burying():
                self.cluster.loop.advance(left)
        now = self.cluster.loop.monotonic()
        while self._faults_seen < len(self.cluster.faults):
            number, error = self.cluster.faults[self._faults_seen]
            self._faults_seen += 1
            if self._faults_seen > self._faults_buried.get(number, 0):
                self._failed(number, error)
        for number in [number for number, due in self._starts.items() if due <= now]:
            del self._starts[number]
            if number not in self.removed:
                self._start(number)

    @contextmanager
    def _burying(self) -> Iterator[None]:
        """Whoever dies in a call is dead for the others as well."""
        try:
            yield
        except Died:
            pass
        for number in self.running:
            if self.disks[number].is_dead:
                pause_s = self._chance.choice((0.05, 0.5, 3.0))
                self._end(number, pause_s, has_power=self._has_power())

    def _has_power(self) -> bool:
        return self._chance.random() < 0.5 if self.has_power is None else self.has_power

    def _failed(self, number: int, error: BaseException) -> None:
        if isinstance(error.__cause__, Died):
            return  # it has ended already
        self.say(f"n{number} failed: {type(error).__name__}: {str(error)[:200]}")
        if not isinstance(error, self.nemesis.excused):
            raise Wrong(f"n{number} failed: {error!r}") from error
        if isinstance(error, RemovedFromCluster):
            self.removed.add(number)
        self._end(number, 0.5, has_power=self.has_power is not False)

    def _start(self, number: int) -> None:
        self._lives[number] += 1
        if number in self.cluster.own_settings:
            self.join_again(number)  # those that it was told of first may all be gone
        engine = self.cluster.make_engine(number)
        try:
            engine.open_files()
        except Died:
            self._died_at_start(number, engine)
        except DamagedPromises as damage:
            self.say(f"n{number} waits for the others: {str(damage)[:200]}")
            others_go_on = partial(self._run, number, engine, damage)
            self.cluster.ask_to_give_up(number, engine, damage, others_go_on)
        except NodeFault as fault:
            self._not_started(number, engine, fault)
        else:
            self._run(number, engine)

    def _run(
        self,
        number: int,
        engine: Engine,
        damage: DamagedPromises | None = None,
        error: RsqliteError | None = None,
    ) -> None:
        try:
            if error is not None:
                raise error
            if damage is not None:
                engine.give_up(damage)
            self.cluster.run_engine(number, engine)
        except Died:
            self._died_at_start(number, engine)
        except NodeFault as fault:
            self._not_started(number, engine, fault)
        else:
            self.say(f"n{number} started as {engine.node_id}")

    def _died_at_start(self, number: int, engine: Engine) -> None:
        if self.cluster.engines[number] is engine:
            self._end(number, 0.5, has_power=self._has_power())
            return
        self._close(number, engine)
        self.disks[number].revive(None if self._has_power() else self._chance)
        self.say(f"n{number} died at its start")
        self._starts[number] = self.cluster.loop.monotonic() + 0.5

    def _close(self, number: int, engine: Engine) -> None:
        try:
            engine.close_files()
        except NodeFault as fault:
            self.say(f"n{number} closed with {fault}")

    def _not_started(self, number: int, engine: Engine, fault: NodeFault) -> None:
        self._close(number, engine)
        self._failed(number, fault)
        expect(self._lives[number] < LIVES_MAX, f"n{number} never starts: {fault}")
        self._starts[number] = self.cluster.loop.monotonic() + 1.0

    def _leader(self) -> Engine | None:
        leaders = [engine for engine in self.cluster.running() if engine.is_leader]
        return self.cluster.leader() if leaders else None

    def until_whole(self) -> None:
        end = self.cluster.loop.monotonic() + WHOLE_S
        times = 0
        while times < 5 or self.workload.waiting:
            expect(self.cluster.loop.monotonic() < end, f"not whole again: {self._picture()}")
            self.advance(0.1)
            times = times + 1 if self.is_whole else 0

    def _picture(self) -> str:
        nodes = [
            f"n{self.cluster.number(one)} {one!r} applied {one.machine.applied_index}"
            f" of {one.core.commit_index if one.core else None}, term"
            f" {one.core.current_term if one.core else None}, fault {one.fault!r},"
            f" members {[member.label for member in one.members]}"
            for one in self.cluster.running()
        ]
        waiting = f"{self.workload.waiting} requests wait, removed {sorted(self.removed)}"
        return "\n".join([waiting, *nodes])

    def _check_files(self) -> None:
        numbers = self.running
        self.cluster.close()
        for number in numbers:
            judge_files(str(self.directory_of(number)))


@contextmanager
def simulation(
    seed: int, root: Path | None = None, *, size: int | None = None, **settings: int
) -> Iterator[Simulation]:
    """A run in a directory of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="rsqlite-sim-", dir=root) as folder:
        directory = Path(folder) / "sim"
        directory.mkdir()
        run = Simulation(seed, directory, size=size, **settings)
        with frailvfs.installed(run.disk_of), frailos.installed(run.disk_of):
            try:
                yield run
            finally:
                run.cluster.close()
