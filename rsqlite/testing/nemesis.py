"""What befalls a simulated cluster. Each run draws which kinds there are, and how often.

Faults are bounded so that the data survives somewhere: a disk is lost, changed or put back only
while all other members are up and have everything. A cluster that does not come back is then a
defect.
"""

from __future__ import annotations

import math
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from rsqlite.config import MIB
from rsqlite.errors import (
    DamagedDatabase,
    DamagedFile,
    DiskFault,
    Divergence,
    NodeFault,
    RemovedFromCluster,
    RequestError,
)
from rsqlite.node.engine import Engine
from rsqlite.raft.core import Raft
from rsqlite.statemachine.vfs import load_checksum_vfs
from rsqlite.testing import receipts
from rsqlite.testing.frail import Fault
from rsqlite.testing.lanes import Weather
from rsqlite.testing.operator import Operator

if TYPE_CHECKING:
    from rsqlite.testing.simulator import Simulation

CHURN = {
    "add": 3,
    "remove": 3,
    "replace": 3,
    "promote": 1,
    "transfer": 1,
    "transfer in turn": 1,
    "split a change": 5,
    "split": 1,
    "isolate": 1,
    "kill": 1,
    "cut the power": 1,
    "pause": 1,
}
"""What befalls a cluster whose members change all the time, and how often each."""
NOISE = "UPDATE words SET noise = 'tampered' WHERE id % 7 = 0"
SICK = {
    "tamper": 9,
    "transfer": 2,
    "isolate": 1,
    "split": 1,
    "kill": 1,
    "cut the power": 1,
    "kill all": 1,
    "pause": 1,
    "bad weather": 1,
}
"""What befalls a cluster one of whose databases is changed behind its back."""
LEADER_SHARE = 0.4
"""Of what befalls a node: so much looks for one that leads."""
REPAIR_S = 5.0
"""Before another disk is lost, the last one has so long to be made good."""


class Nemesis:
    """That of one run."""

    def __init__(self, simulation: Simulation, chance: random.Random) -> None:
        self._simulation = simulation
        self._cluster = simulation.cluster
        self._chance = chance
        self._copies: dict[int, Path] = {}
        self._alone: dict[Engine, float] = {}
        """Until when nodes are to be cut off."""
        self._next_loss = self._next_act = 0.0
        self._watches = 0
        self.done: Counter[str] = Counter()
        self.has_tampered = self.has_flipped = False
        self.excused: tuple[type[NodeFault] | type[RequestError], ...] = (RemovedFromCluster,)
        """What nodes may end with."""
        self.operator = Operator(simulation, self, chance)
        self._kinds: dict[str, Callable[[int, Engine], None]] = {
            "kill": self._kill,
            "cut the power": self._cut_power,
            "kill all": self._kill_all,
            "pause": self._pause_node,
            "stall": self._stall,
            "set the clock": self._set_clock,
            "die in a call": self._die_in_call,
            "fail a call": self._fail_call,
            "fill the volume": self._fill,
            "isolate": self._isolate,
            "cut one way": self._cut_one_way,
            "split": self._split,
            "split a change": self._split_a_change,
            "bad weather": self._change_weather,
            "wipe": self._wipe,
            "put back": self._put_back,
            "flip a bit": self._flip,
            "tamper": self._tamper,
            **self.operator.kinds,
        }
        self._weather = Weather()
        """When there is no other."""
        if simulation.is_churn:
            self._weights = {kind: CHURN.get(kind, 0) for kind in self._kinds}
            # So slow that a change can be cut off before anybody has heard of it.
            self._weather = Weather(delay_max_s=chance.choice((1e-4, 0.01, 0.05)))
            self._cluster.board.weather = self._weather
        elif simulation.is_sick:
            self._weights = {kind: SICK.get(kind, 0) for kind in self._kinds}
        else:
            self._weights = {kind: chance.choice((0, 0, 1, 3)) for kind in self._kinds}

    @property
    def kinds(self) -> list[str]:
        """Those of this run."""
        return [kind for kind, weight in self._weights.items() if weight]

    def act(self) -> None:
        """Do one thing, of the kinds that there are."""
        running = self._simulation.awake
        if not running or not any(self._weights.values()):
            return
        if self._cluster.loop.monotonic() < self._next_act:
            return
        (kind,) = self._chance.choices(list(self._weights), weights=list(self._weights.values()))
        number = self._chance.choice(running)
        leaders = [one for one in running if self._leads(one)]
        if leaders and self._chance.random() < LEADER_SHARE:
            number = self._chance.choice(leaders)
        engine = self._cluster.engines[number]
        assert engine is not None
        self._say(f"{kind}: n{number}")
        self._kinds[kind](number, engine)

    def _leads(self, number: int) -> bool:
        engine = self._cluster.engines[number]
        return engine is not None and engine.is_leader

    def end(self) -> None:
        """Everything that can be made good is."""
        self._alone.clear()
        self._cluster.board.heal()
        self._cluster.board.weather = Weather()
        for disk in self._simulation.disks.values():
            disk.spare()
        for number, loop in self._cluster.loops.items():
            loop.resume()
            loop.wall_offset_s = 0.0
            self._simulation.slow_down(number, 0.0)

    def _say(self, what: str) -> None:
        self.done[what.partition(":")[0]] += 1
        self._simulation.say(what)

    def excuse(self, *errors: type[NodeFault] | type[RequestError]) -> None:
        self.excused = tuple({*self.excused, *errors})

    def _later(self, seconds: Iterable[float], work: Callable[[], object]) -> None:
        self._cluster.loop.call_later(self._chance.choice(tuple(seconds)), work)

    # Processes

    def _kill(self, number: int, engine: Engine) -> None:
        self._simulation.crash(number, self._pause())

    def _cut_power(self, number: int, engine: Engine) -> None:
        self._simulation.crash(number, self._pause(), has_power=False)

    def _kill_all(self, number: int, engine: Engine) -> None:
        has_power = self._chance.random() < 0.5
        for each in self._simulation.running:
            self._simulation.crash(each, self._pause(), has_power=has_power)

    def _die_in_call(self, number: int, engine: Engine) -> None:
        self._simulation.disks[number].inject(Fault(self._chance.choice((1, 3, 10, 30, 100))))

    def _pause_node(self, number: int, engine: Engine) -> None:
        loop = self._cluster.loops[number]
        loop.pause()
        self._later((0.1, 0.6, 3.0), loop.resume)

    def _stall(self, number: int, engine: Engine) -> None:
        self._simulation.slow_down(number, self._chance.choice((0.1, 0.6, 3.0)))
        self._later((0.3, 2.0), lambda: self._simulation.slow_down(number, 0.0))

    def _set_clock(self, number: int, engine: Engine) -> None:
        self._cluster.loops[number].wall_offset_s = self._chance.choice(
            (-3600.0, -1.0, 1.0, 3600.0)
        )

    def _pause(self) -> float:
        return self._chance.choice((0.05, 0.5, 3.0))

    # Disks

    def _fail_call(self, number: int, engine: Engine) -> None:
        self.excuse(DiskFault)
        at = self._chance.choice((1, 3, 10, 30))
        self._simulation.disks[number].inject(Fault(at, "fail"))

    def _fill(self, number: int, engine: Engine) -> None:
        disk = self._simulation.disks[number]
        disk.free[self._chance.choice(("log", "db"))] = self._chance.choice((0, MIB))
        self._later((0.5, 3.0), disk.free.clear)

    def keep_disks(self) -> None:
        """For some time: the members change, and those who stay must have everything."""
        self._next_loss = max(self._next_loss, self._cluster.loop.monotonic() + REPAIR_S)

    def _may_lose(self) -> bool:
        """Can the data of one node be lost, and nothing else?"""
        now = self._cluster.loop.monotonic()
        if now < self._next_loss or not self._simulation.is_whole:
            return False
        core = self._cluster.leader().core
        if core is None or len(core.configuration.voters) < 3:
            return False
        self._next_loss = now + REPAIR_S
        # It comes back as another node, or is told that it was replaced.
        self.excuse(DamagedFile, RequestError)
        return True

    def _wipe(self, number: int, engine: Engine) -> None:
        if self._may_lose():
            self._simulation.crash(number, self._pause())
            shutil.rmtree(self._simulation.directory_of(number))
            self._simulation.join_again(number)

    def _put_back(self, number: int, engine: Engine) -> None:
        directory = self._simulation.directory_of(number)
        copy = self._copies.get(number)
        if copy is None:
            self._simulation.crash(number, self._pause())
            self._copies[number] = copy = directory.with_suffix(".copy")
            shutil.copytree(directory, copy)
        elif self._may_lose() and self._simulation.is_level:
            self._simulation.crash(number, self._pause(), is_now=True)
            shutil.rmtree(directory)
            self._copies.pop(number).rename(directory)

    def _flip(self, number: int, engine: Engine) -> None:
        if not self._may_lose():
            return
        self.excuse(DamagedDatabase)
        self.has_flipped = True
        self._simulation.crash(number, self._pause())
        directory = self._simulation.directory_of(number)
        files = sorted(
            path
            for path in directory.rglob("*")
            if path.is_file() and path.stat().st_size and "quarantine" not in path.parts
        )
        path = self._chance.choice(files)
        data = bytearray(path.read_bytes())
        at = self._chance.randrange(len(data))
        data[at] ^= 1 << self._chance.randrange(8)
        path.write_bytes(data)
        self._say(f"flipped: byte {at} of {path.relative_to(directory)}")

    def _tamper(self, number: int, engine: Engine) -> None:
        """Change rows behind a node's back, page checksums and all. What it answers is wrong until
        somebody notices, so they are rows that nobody reads before the end. Who is right cannot be
        told any more where others copied it: once in a run, the last loss, and no images."""
        copies = any(each.installer.origin.is_copy for each in self._cluster.running())
        if self._simulation.has_images or copies or not self._may_lose():
            return
        self.change_rows(engine)

    def change_rows(self, engine: Engine) -> None:
        """Behind its back."""
        sql = self._chance.choice((NOISE, *receipts.TAMPERINGS))
        connection = apsw.Connection(engine.machine.path, vfs=load_checksum_vfs())
        try:
            connection.execute(sql)
        except (apsw.BusyError, apsw.SQLError) as error:
            self._say(f"changed nothing: {error}")  # a transaction is open, or it has no tables yet
            self._next_loss = 0.0
        else:
            self._say(f"changed rows: {engine.label}, {sql}")
            self.excuse(DamagedDatabase, Divergence)
            self.has_tampered, self._next_loss = True, math.inf
        finally:
            connection.close()

    # The network

    def _isolate(self, number: int, engine: Engine) -> None:
        self._cluster.isolate(engine)
        self._later((0.3, 2.0, 5.0), self._cluster.board.heal)

    def _cut_one_way(self, number: int, engine: Engine) -> None:
        other = self._cluster.engines[self._chance.choice(self._simulation.running)]
        assert other is not None
        self._cluster.board.cut(engine.node_id, other.node_id)
        self._later((0.3, 2.0, 5.0), self._cluster.board.heal)

    def _split(self, number: int, engine: Engine) -> None:
        """Into two groups; this node's may be its own alone."""
        others = [one for one in self._cluster.running() if one is not engine]
        self._part([engine, *self._chance.sample(others, self._chance.randint(0, len(others)))])

    def _part(self, group: list[Engine]) -> None:
        """Cut these off from all others, for a while."""
        self._cluster.isolate(*group)
        self._later((0.3, 2.0, 5.0), self._cluster.board.heal)

    def _split_a_change(self, number: int, engine: Engine) -> None:
        if self._watches < 2:
            self.watch(self._chance.choice((1, 2, 3)), voters=self._chance.random() < 0.3)

    def watch(self, times: int, *, voters: bool, looks: int = 2000) -> None:
        """As soon as a leader has members (or `voters`) that are not committed, leave it with some
        of them; do so with the next change as well, so many `times`."""
        self._watches += 1
        self._watch(times, voters, looks)

    def _watch(self, times: int, voters: bool, looks: int) -> None:
        if not looks or not times:
            self._watches -= 1
            return
        for engine in self._cluster.running():
            if engine.core is not None and engine.is_leader and _is_changing(engine.core, voters):
                self._say(f"split in a change: {engine.label}")
                if _is_changing(engine.core, voters=True):
                    self._alone.clear()
                self._cluster.board.heal()
                if self._chance.random() < 0.5:
                    # Those who are new have heard nothing but of this change.
                    configurations = engine.core.configurations
                    new = configurations.current.voters - configurations.committed.voters
                    running = self._cluster.running()
                    self._part([one for one in running if one is engine or one.node_id in new])
                else:
                    self._split(self._cluster.number(engine), engine)
                times, pause_s = times - 1, 0.7
                break
        else:
            looks, pause_s = looks - 1, 0.002
        self._cluster.loop.call_later(pause_s, self._watch, times, voters, looks)

    def rest(self, seconds: float) -> None:
        """Nothing new befalls anybody meanwhile."""
        self._next_act = self._cluster.loop.monotonic() + seconds

    def leave_alone(self, engine: Engine, seconds: float) -> None:
        """Keep a node cut off, whatever is healed, until a change is split."""
        self._alone[engine] = self._cluster.loop.monotonic() + seconds
        self._keep_alone(engine)

    def _keep_alone(self, engine: Engine) -> None:
        if self._cluster.loop.monotonic() < self._alone.get(engine, 0.0):
            self._cluster.isolate(engine)
            self._cluster.loop.call_later(0.05, self._keep_alone, engine)
        elif self._alone.pop(engine, None) is not None:
            self._cluster.board.heal()

    def _change_weather(self, number: int, engine: Engine) -> None:
        board = self._cluster.board
        board.weather = Weather(
            delay_max_s=self._chance.choice((1e-4, 1e-2, 0.1)),
            loss=self._chance.choice((0.0, 0.01, 0.1)),
            bytes_per_s=self._chance.choice((float("inf"), 1e6)),
        )
        self._later((0.3, 2.0, 5.0), lambda: setattr(board, "weather", self._weather))


def _is_changing(core: Raft, voters: bool) -> bool:
    """Whether the last configuration (one of other voters) may still be taken back."""
    known = core.configurations
    if voters and known.current.voters == known.committed.voters:
        return False
    return known.current.is_joint or known.index > core.commit_index
