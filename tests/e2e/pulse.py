"""The pulse of a cluster: a write every few milliseconds through another node each time, whatever
became of those before, and a read that must not go back; and who says that it leads.

So the longest time between two acknowledged writes is the time in which nobody could be written to,
give or take a few milliseconds, however many clients are stuck.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.e2e.api import Api
from tests.e2e.history import History, Outcome

CREATE = "CREATE TABLE pulse(n INTEGER PRIMARY KEY)"
INSERT = "INSERT INTO pulse(n) VALUES(?)"
HIGHEST = "SELECT max(n) FROM pulse"
BEAT_S = 0.02
LOOK_S = 0.1
READ_EVERY = 4
UNDER_WAY_MAX = 200
LOOK_TIMEOUT_S = 1.0
STALL_S, STALLS_MAX = 0.6, 100


@dataclass(slots=True)
class Pulse:
    """Beats until `stop` is set. `targets` are the positions of the nodes that are asked now."""

    api: Api
    history: History
    targets: list[int]
    seed: int
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    acknowledged_s: list[float] = field(default_factory=list)
    """When each write was acknowledged, in order."""
    sure: set[int] = field(default_factory=set)
    maybe: set[int] = field(default_factory=set)
    leads: list[tuple[float, bool]] = field(default_factory=list)
    """Whether somebody said that he led, and when that was asked."""
    stalls: list[dict[str, Any]] = field(default_factory=list)
    """What all nodes said of themselves when there was a leader and no write was acknowledged."""
    late: list[tuple[float, float]] = field(default_factory=list)
    """When, and how much, this process itself came too late: it had to wait for the machine."""
    reads: int = 0
    _next: int = 0
    _highest: int = 0
    """Every linearizable read that begins now must see at least this."""

    async def run(self) -> None:
        """Until `stop`; then until all have their answers."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat(group))
            group.create_task(self._look())

    def longest_gap_s(self, begin: float, end: float) -> float:
        """The longest time between two acknowledged writes that touches these moments."""
        times = self.acknowledged_s
        low = max(0, bisect_left(times, begin) - 1)
        inside = [at for at in times[low:] if at <= end] + [end]
        return max((b - a for a, b in itertools.pairwise(inside)), default=end - begin)

    def longest_without_leader_s(self, begin: float, end: float) -> float:
        """The longest time between two looks at which somebody said that he led, with one between
        them at which nobody did."""
        longest, since, is_unled = 0.0, begin, False
        for at, is_led in self.leads:
            if begin <= at <= end:
                if is_led and is_unled:
                    longest = max(longest, at - since)
                since, is_unled = (at, False) if is_led else (since, True)
        return longest

    def latest_s(self, begin: float, end: float) -> float:
        """How late this process was at most: what is longer is no fault of the cluster's."""
        return max((late_s for at, late_s in self.late if begin <= at <= end), default=0.0)

    def write(self, path: Path) -> None:
        """When each write was acknowledged and who led, by the wall clock of the nodes' logs."""
        offset = time.time() - time.monotonic()
        content = {
            "acknowledged": [round(at + offset, 4) for at in self.acknowledged_s],
            "leads": [(round(at + offset, 4), is_led) for at, is_led in self.leads],
            "stalls": self.stalls,
        }
        path.write_text(json.dumps(content))

    def problems(self, numbers: Sequence[int]) -> list[str]:
        """What is wrong with a table that holds these."""
        there = set(numbers)
        found = []
        if lost := self.sure - there:
            found.append(f"{len(lost)} acknowledged beats are missing: {sorted(lost)[:10]}")
        if alien := there - self.sure - self.maybe:
            found.append(f"{len(alien)} beats that were refused are there: {sorted(alien)[:10]}")
        return found

    async def _beat(self, group: asyncio.TaskGroup) -> None:
        chance = random.Random(f"{self.seed}-pulse")
        under_way: set[asyncio.Task[None]] = set()
        while not self.stop.is_set():
            if self.targets and len(under_way) < UNDER_WAY_MAX:
                self._next += 1
                if self._next % READ_EVERY == 0:
                    work = self._read(chance.choice(self.targets))
                else:
                    work = self._write(self.targets[self._next % len(self.targets)], self._next)
                task = group.create_task(work)
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            begin = time.monotonic()
            await asyncio.sleep(BEAT_S)
            now = time.monotonic()
            if (late_s := now - begin - BEAT_S) > BEAT_S:
                self.late.append((now, late_s))

    async def _write(self, node: int, number: int) -> None:
        answer = await self.api.write(node, "/db/execute", [[INSERT, number]])
        if answer.outcome is Outcome.OK and not answer.sql_errors:
            self.acknowledged_s.append(time.monotonic())
            self.sure.add(number)
            self._highest = max(self._highest, number)
        elif answer.outcome is Outcome.INFO:
            self.maybe.add(number)

    async def _read(self, node: int) -> None:
        least = self._highest
        rows = await self.api.read(node, "level=linearizable", HIGHEST)
        if rows is None:
            return
        self.reads += 1
        highest = rows[0][0] or 0
        if highest < least:
            self.history.violate(f"node {node} read {highest}, {least} was there before")
        self._highest = max(self._highest, highest)

    async def _look(self) -> None:
        while not self.stop.is_set():
            begin = time.monotonic()
            said = await asyncio.gather(*(self._says(node) for node in list(self.targets)))
            is_led = any(one and one["raft"]["state"] == "Leader" for one in said)
            self.leads.append((begin, is_led))
            silent_s = begin - self.acknowledged_s[-1] if self.acknowledged_s else 0.0
            if is_led and silent_s > STALL_S and len(self.stalls) < STALLS_MAX:
                self.stalls.append({"at": time.time(), "silent_s": silent_s, "nodes": said})
            await asyncio.sleep(max(0.0, begin + LOOK_S - time.monotonic()))

    async def _says(self, node: int) -> dict[str, Any] | None:
        timeout = aiohttp.ClientTimeout(total=LOOK_TIMEOUT_S)
        try:
            url = f"{self.api.urls[node]}/status?key=store"
            async with self.api.session.get(url, timeout=timeout) as response:
                status: dict[str, Any] = await response.json()
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            return None
        return status
